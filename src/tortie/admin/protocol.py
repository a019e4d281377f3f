"""What goes over the admin socket: one JSON object a line, a request up, an answer down, any number of them in turn.

``{"op": "status", "args": {}}`` is answered by ``{"ok": true, "result": …}``, or by ``{"ok": false, "error": "…", "kind": "…"}``
with the error's text and the name of its class.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tortie import errors

MOST_REQUEST_BYTES = 1 << 20
MOST_ANSWER_BYTES = 64 << 20


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """One question. ``op`` is the operation's name, ``args`` its named arguments."""

    op: str
    args: dict[str, Any] = {}


class Answer(msgspec.Struct, omit_defaults=True):
    """``result`` when ``ok``, else ``error`` in words and the ``kind`` of error."""

    ok: bool
    result: Any = None
    error: str = ""
    kind: str = ""


class AgentRefused(errors.TortieError):
    """The agent answered with an error; ``kind`` is the name of the error on its side."""

    def __init__(self, op: str, error: str, kind: str = "") -> None:
        super().__init__(op, error, kind)
        self.op = op
        self.error = error
        self.kind = kind

    def __str__(self) -> str:
        return self.error or f"the agent refused {self.op}"


encode = msgspec.json.Encoder(enc_hook=str).encode
decode_request = msgspec.json.Decoder(Request).decode
decode_answer = msgspec.json.Decoder(Answer).decode
