"""The conversation between the shim and the agent: frames over a Unix stream socket. The agent's end, without I/O.

A frame is 4 bytes length of the payload (big endian), 1 byte type, payload. The shim sends ``Q`` (request; the network
namespace's descriptor rides on its first byte) and ``C`` (configuration), the agent answers with any number of ``D``
(run this delegated plugin), each answered by ``E`` (its end), and one ``R`` (result), which ends the conversation.
``native/tortie-cni.c`` is the other end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from tortie.cni.errors import CNIError, Code

REQUEST: Final = b"Q"
CONFIG: Final = b"C"
DELEGATE: Final = b"D"
DELEGATE_END: Final = b"E"
RESULT: Final = b"R"

MAX_PAYLOAD_BYTES: Final = 4 << 20
HEADER: Final = struct.Struct(">Ic")


class Frame(NamedTuple):
    kind: bytes
    payload: bytes


class Forwarded(msgspec.Struct, frozen=True):
    """Frame ``Q``: the CNI_ variables, and whether CNI_NETNS was a network namespace (else why not)."""

    env: Mapping[str, str]
    netns_passed: bool = False
    netns_error: str = ""


class DelegateEnd(NamedTuple):
    """Frame ``E``: how a delegated plugin ended (128 + signal when killed, 127 when it could not run) and its stdout."""

    status: int
    stdout: bytes


def encode(kind: bytes, payload: bytes) -> bytes:
    """One frame. Raises `ValueError` beyond `MAX_PAYLOAD_BYTES`."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a frame of {len(payload)} bytes is larger than {MAX_PAYLOAD_BYTES}")
    return HEADER.pack(len(payload), kind) + payload


def encode_delegate(command: str, plugin: str) -> bytes:
    """Ask the shim to run ``plugin`` (a name in CNI_PATH, no path) with CNI_COMMAND set to ``command``."""
    return encode(DELEGATE, command.encode() + b"\0" + plugin.encode())


def encode_result(status: int, stdout: bytes) -> bytes:
    """End the conversation: what the shim prints, and its exit status (0 or 1)."""
    return encode(RESULT, struct.pack(">I", status) + stdout)


def decode_request(payload: bytes) -> Forwarded:
    """Read frame ``Q``. The variables are bytes of the runtime's choice: what is no UTF-8 becomes U+FFFD."""
    try:
        return msgspec.json.decode(payload.decode(errors="replace"), type=Forwarded)
    except msgspec.MsgspecError as error:
        raise CNIError(
            Code.IO_FAILURE, f"the CNI shim sent an unreadable request: {error}; run: tortie cni install"
        ) from error


def decode_delegate_end(payload: bytes) -> DelegateEnd:
    """Read frame ``E``."""
    if len(payload) < 4:
        raise CNIError(
            Code.IO_FAILURE,
            "the CNI shim sent an unreadable end of a delegated plugin; run: tortie cni install",
        )
    return DelegateEnd(int.from_bytes(payload[:4], "big"), payload[4:])


class Decoder:
    """Bytes in, whole frames out. Holds at most one unfinished frame."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take what arrived and yield each frame that is now complete. Raises `CNIError` for what is no frame."""
        self._held += data
        while len(self._held) >= HEADER.size:
            length, kind = HEADER.unpack_from(self._held)
            if length > MAX_PAYLOAD_BYTES or kind not in (REQUEST, CONFIG, DELEGATE, DELEGATE_END, RESULT):
                raise CNIError(
                    Code.IO_FAILURE,
                    "what came over the CNI socket is no frame of ours; run: tortie cni install",
                )
            end = HEADER.size + length
            if len(self._held) < end:
                return
            payload = bytes(self._held[HEADER.size : end])
            del self._held[:end]
            yield Frame(kind, payload)
