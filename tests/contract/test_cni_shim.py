"""The shim's side of the bargain, held against an agent that the test plays: ``tortie.cni.frames`` over a Unix socket."""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tortie.cni import frames
from tortie.cni.frames import DelegateEnd, Forwarded, Frame
from tortie.cni.install import shim

RESULT = b'{"cniVersion": "1.0.0", "ips": []}\n'


class Conversation:
    """The agent's end of one connection, blocking, with a bound on each wait."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(20)
        self._connection = connection
        self._decoder = frames.Decoder()
        self._frames: list[Frame] = []
        self.descriptors = array.array("i")

    def frame(self) -> Frame:
        while not self._frames:
            data, ancillary, _, _ = self._connection.recvmsg(65536, socket.CMSG_SPACE(64))
            for level, kind, payload in ancillary:
                assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
                self.descriptors.frombytes(payload)
            if not data:
                raise EOFError
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    def request(self) -> tuple[Forwarded, bytes]:
        first, second = self.frame(), self.frame()
        assert (first.kind, second.kind) == (frames.REQUEST, frames.CONFIG)
        return frames.decode_request(first.payload), second.payload

    def delegate(self, command: str, plugin: str) -> DelegateEnd:
        self.send(frames.encode_delegate(command, plugin))
        answer = self.frame()
        assert answer.kind == frames.DELEGATE_END
        return frames.decode_delegate_end(answer.payload)

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def is_closed_by_peer(self) -> bool:
        try:
            return self._connection.recv(1) == b""
        except ConnectionResetError:  # it left something of ours unread
            return True


@contextmanager
def agent(path: Path, play: Callable[[Conversation], None]) -> Iterator[None]:
    """Listens at ``path`` and plays one conversation; what goes wrong in it fails the test."""
    problems: list[BaseException] = []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.settimeout(20)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        try:
            connection, _ = listener.accept()
            with connection:
                play(Conversation(connection))
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join(30)
        listener.close()
    assert not thread.is_alive()
    if problems:
        raise problems[0]


class Ended:
    def __init__(self, status: int, stdout: bytes, seconds: float) -> None:
        self.status = status
        self.stdout = stdout
        self.seconds = seconds

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.stdout)
        return document


@pytest.fixture
def call(run_dir: Path) -> Callable[..., Ended]:
    """Runs the shim as a runtime does, with a configuration that names the test's own socket."""

    def run(
        command: str | None = "ADD", *, config: dict[str, Any] | bytes | None = None, **env: str
    ) -> Ended:
        document = config if isinstance(config, dict) else {}
        data = (
            config
            if isinstance(config, bytes)
            else json.dumps(
                {
                    "cniVersion": "1.0.0",
                    "name": "net",
                    "socket": str(run_dir / "cni.sock"),
                    "agentWaitSeconds": 0.3,
                }
                | document
            ).encode()
        )
        variables = env if command is None else {"CNI_COMMAND": command} | env
        started = time.monotonic()
        done = subprocess.run(
            [shim()], input=data, stdout=subprocess.PIPE, env=variables, timeout=30, check=False
        )
        return Ended(done.returncode, done.stdout, time.monotonic() - started)

    return run


def plugin_in(folder: Path, name: str, body: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


# ---- handing over ------------------------------------------------------------------------------------------------


def test_the_request_arrives_whole_with_the_namespace(call: Callable[..., Ended], run_dir: Path) -> None:
    seen: list[Any] = []

    def play(conversation: Conversation) -> None:
        seen.append(conversation.request())
        seen.append(os.fstat(conversation.descriptors[0]).st_ino)
        os.close(conversation.descriptors[0])
        conversation.send(frames.encode_result(0, RESULT))

    with agent(run_dir / "cni.sock", play):
        ended = call(
            CNI_CONTAINERID="c1",
            CNI_IFNAME="eth0",
            CNI_NETNS="/proc/self/ns/net",
            CNI_ARGS='A="\\\n',
            HOME="/",
        )
    assert (ended.status, ended.stdout) == (0, RESULT)
    (forwarded, config), inode = seen
    assert forwarded == Forwarded(
        env={
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": "c1",
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": "/proc/self/ns/net",
            "CNI_ARGS": 'A="\\\n',
        },
        netns_passed=True,
    )
    assert json.loads(config)["name"] == "net"
    assert inode == Path("/proc/self/ns/net").stat().st_ino


@pytest.mark.parametrize(
    ("netns", "error"),
    [
        ("/run/netns/tt-is-not-there", "No such file or directory"),
        ("/etc/passwd", "not a network namespace"),
        ("", "CNI_NETNS is not set"),
    ],
)
def test_a_namespace_that_is_gone_is_passed_on_as_gone(
    call: Callable[..., Ended], run_dir: Path, netns: str, error: str
) -> None:
    seen: list[Forwarded] = []

    def play(conversation: Conversation) -> None:
        seen.append(conversation.request()[0])
        assert not conversation.descriptors
        conversation.send(frames.encode_result(0, b""))

    with agent(run_dir / "cni.sock", play):
        ended = call("DEL", CNI_CONTAINERID="c1", CNI_NETNS=netns)
    assert (ended.status, ended.stdout) == (0, b"")
    assert (seen[0].netns_passed, seen[0].netns_error) == (False, error)


def test_bytes_that_are_no_text_arrive_as_replacement(run_dir: Path) -> None:
    seen: list[Forwarded] = []

    def play(conversation: Conversation) -> None:
        seen.append(conversation.request()[0])
        conversation.send(frames.encode_result(0, b""))

    with agent(run_dir / "cni.sock", play):
        config = json.dumps({"socket": str(run_dir / "cni.sock")}).encode()
        env = {b"CNI_COMMAND": b"DEL", b"CNI_ARGS": b"A=\xff\xc3\xa4"}
        subprocess.run([shim()], input=config, env=env, check=True, timeout=30)
    assert seen[0].env["CNI_ARGS"] == "A=\N{REPLACEMENT CHARACTER}ä"


def test_a_large_configuration_and_a_large_answer_pass(call: Callable[..., Ended], run_dir: Path) -> None:
    filler = "x" * 900_000
    answer = b"y" * 3_000_000
    seen: list[str] = []

    def play(conversation: Conversation) -> None:
        seen.append(json.loads(conversation.request()[1])["filler"])
        conversation.send(frames.encode_result(0, answer))

    with agent(run_dir / "cni.sock", play):
        ended = call(config={"filler": filler})
    assert ended.stdout == answer
    assert seen == [filler]


def test_the_agents_error_is_printed_and_ends_with_one(call: Callable[..., Ended], run_dir: Path) -> None:
    def play(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(frames.encode_result(1, b'{"code": 101}'))

    with agent(run_dir / "cni.sock", play):
        ended = call()
    assert (ended.status, ended.stdout) == (1, b'{"code": 101}')


# ---- delegated plugins -------------------------------------------------------------------------------------------


def test_a_delegated_plugin_gets_the_configuration_and_its_own_command(
    call: Callable[..., Ended], run_dir: Path
) -> None:
    plugin_in(run_dir / "bin", "ipam", 'echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_PATH"; cat')
    ends: list[DelegateEnd] = []

    def play(conversation: Conversation) -> None:
        config = conversation.request()[1]
        ends.append(conversation.delegate("ADD", "ipam"))
        ends.append(conversation.delegate("DEL", "ipam"))
        conversation.send(frames.encode_result(0, config))

    path = f"/nowhere::{run_dir}/bin"
    with agent(run_dir / "cni.sock", play):
        ended = call("ADD", CNI_CONTAINERID="c9", CNI_PATH=path)
    assert ends == [DelegateEnd(0, f"{what} c9 {path}\n".encode() + ended.stdout) for what in ("ADD", "DEL")]


@pytest.mark.parametrize(
    ("body", "status"),
    [("echo '{\"code\": 7}'; exit 3", 3), ("echo '{\"code\": 7}'; kill -TERM $$", 128 + 15)],
)
def test_a_delegated_plugins_failure_is_told(
    call: Callable[..., Ended], run_dir: Path, body: str, status: int
) -> None:
    plugin_in(run_dir / "bin", "ipam", body)
    ends: list[DelegateEnd] = []

    def play(conversation: Conversation) -> None:
        conversation.request()
        ends.append(conversation.delegate("ADD", "ipam"))
        conversation.send(frames.encode_result(1, b""))

    with agent(run_dir / "cni.sock", play):
        call(CNI_PATH=str(run_dir / "bin"))
    assert ends == [DelegateEnd(status, b'{"code": 7}\n')]


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        ("absent", "the IPAM plugin absent is not in CNI_PATH /nowhere"),
        ("../evil", "ipam.type: ../evil is not the name of a plugin"),
        ("..", "ipam.type: .. is not the name of a plugin"),
        ("", "ipam.type:  is not the name of a plugin"),
    ],
)
def test_a_plugin_that_cannot_run_is_a_cni_error(
    call: Callable[..., Ended], run_dir: Path, plugin: str, message: str
) -> None:
    ends: list[DelegateEnd] = []

    def play(conversation: Conversation) -> None:
        conversation.request()
        ends.append(conversation.delegate("ADD", plugin))
        conversation.send(frames.encode_result(1, b""))

    with agent(run_dir / "cni.sock", play):
        call(CNI_PATH="/nowhere")
    assert ends[0].status == 127
    assert json.loads(ends[0].stdout)["msg"] == message


def test_a_stuck_plugin_is_ended_and_the_runtime_told(call: Callable[..., Ended], run_dir: Path) -> None:
    plugin_in(run_dir / "bin", "ipam", f"echo $$ >{run_dir}/pid; exec sleep 600")

    def play(conversation: Conversation) -> None:
        conversation.request()
        assert conversation.delegate("ADD", "ipam") == DelegateEnd(128 + 9, b"")
        assert conversation.is_closed_by_peer()

    with agent(run_dir / "cni.sock", play):
        ended = call(config={"agentTimeoutSeconds": 0.5}, CNI_PATH=str(run_dir / "bin"))
    assert (ended.status, ended.document["code"]) == (1, 11)
    with pytest.raises(ProcessLookupError):
        os.kill(int((run_dir / "pid").read_text()), 0)


# ---- an agent that is away, late or something else ---------------------------------------------------------------


def test_an_absent_agent_is_waited_for_and_then_named(call: Callable[..., Ended], run_dir: Path) -> None:
    ended = call("ADD", config={"cniVersion": "0.4.0"})
    assert 0.3 <= ended.seconds < 5
    assert ended.status == 1
    assert (ended.document["cniVersion"], ended.document["code"]) == ("0.4.0", 11)
    assert f"the Tortie agent does not answer at {run_dir}/cni.sock" in ended.document["msg"]


def test_a_socket_that_nobody_serves_is_as_good_as_none(call: Callable[..., Ended], run_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        stale.bind(str(run_dir / "cni.sock"))
    ended = call()
    assert (ended.status, ended.document["code"]) == (1, 11)
    assert ended.document["details"] == "connect: Connection refused"


def test_an_absent_agent_makes_status_not_available(call: Callable[..., Ended]) -> None:
    ended = call("STATUS", config={"agentWaitSeconds": 30})
    assert (ended.status, ended.document["code"]) == (1, 50)
    assert ended.seconds < 5


def test_an_agent_that_comes_in_time_serves(call: Callable[..., Ended], run_dir: Path) -> None:
    ended: list[Ended] = []
    waiting = threading.Thread(target=lambda: ended.append(call(config={"agentWaitSeconds": 20})))
    waiting.start()
    time.sleep(0.2)  # the shim is already there; whether it is does not matter to what follows

    def play(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(frames.encode_result(0, RESULT))

    with agent(run_dir / "cni.sock", play):
        waiting.join(30)
    assert [(e.status, e.stdout) for e in ended] == [(0, RESULT)]


def test_a_slow_agent_has_a_bound(call: Callable[..., Ended], run_dir: Path) -> None:
    def play(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(frames.encode_result(0, RESULT)[:3])
        assert conversation.is_closed_by_peer()

    with agent(run_dir / "cni.sock", play):
        ended = call(config={"agentTimeoutSeconds": 0.4})
    assert 0.4 <= ended.seconds < 5
    assert (ended.status, ended.document["code"]) == (1, 11)
    assert "gave no answer within 0.4 s" in ended.document["msg"]


@pytest.mark.parametrize("sent", [b"", frames.encode_result(0, RESULT)[:-1]])
def test_an_agent_that_dies_is_told_as_that(call: Callable[..., Ended], run_dir: Path, sent: bytes) -> None:
    def play(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(sent)

    with agent(run_dir / "cni.sock", play):
        ended = call()
    assert (ended.status, ended.document["code"]) == (1, 11)
    assert "hung up" in ended.document["msg"]


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        frames.HEADER.pack(2, b"R") + b"xx",
        frames.HEADER.pack(3, b"D") + b"ADD",
        frames.HEADER.pack(8, b"D") + b"add\0ipam",
        frames.HEADER.pack(9, b"D") + b"ADD\0ip\0am",
        frames.HEADER.pack(0, b"Z"),
    ],
)
def test_something_else_at_the_socket_is_refused(
    call: Callable[..., Ended], run_dir: Path, sent: bytes
) -> None:
    def play(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(sent)
        assert conversation.is_closed_by_peer()

    with agent(run_dir / "cni.sock", play):
        ended = call()
    assert (ended.status, ended.document["code"]) == (1, 5)
    assert f"{run_dir}/cni.sock" in ended.document["msg"]


def test_an_agent_that_refuses_before_it_has_read_all_is_heard(
    call: Callable[..., Ended], run_dir: Path
) -> None:
    def play(conversation: Conversation) -> None:
        conversation.send(frames.encode_result(1, b'{"code": 11}'))
        conversation.frame()

    with agent(run_dir / "cni.sock", play):
        ended = call(config={"filler": "x" * 900_000})
    assert ended.status == 1
    assert ended.document["code"] == 11


# ---- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "code", "message"),
    [
        (b"", 6, "is empty"),
        (b"[]", 6, "not an object"),
        (b'{"name": "x",}', 6, "at byte 13"),
        (b'{"name": "x"} {}', 6, "something follows"),
        (b'{"socket": 7}', 7, "socket: is not a path"),
        (b'{"socket": ""}', 7, "socket: is not a path"),
        (b'{"socket": "a\\u0000b"}', 7, "socket: is not a path"),
        (b'{"socket": "' + b"s" * 108 + b'"}', 7, "socket: is not a path of 1 to 107 bytes"),
        (b'{"agentWaitSeconds": "5"}', 7, "agentWaitSeconds: is not a number from 0 to 3600"),
        (b'{"agentTimeoutSeconds": -1}', 7, "agentTimeoutSeconds"),
        (b'{"filler": "' + b"x" * (1 << 20) + b'"}', 7, "larger than 1 MiB"),
        (b'{"a": ' + b"[" * 100_000, 6, "nested too deeply"),
    ],
)
def test_a_malformed_configuration_is_refused(
    call: Callable[..., Ended], config: bytes, code: int, message: str
) -> None:
    ended = call("ADD", config=config)
    assert (ended.status, ended.document["code"]) == (1, code)
    assert message in ended.document["msg"]


def test_without_a_command_it_says_what_it_is(call: Callable[..., Ended]) -> None:
    ended = call(None)
    assert (ended.status, ended.document["code"]) == (1, 4)
    assert "CNI_COMMAND is not set" in ended.document["msg"]


@pytest.mark.parametrize("config", [b"", b'{"cniVersion": "1.0.0"}'])
def test_version_needs_no_agent(call: Callable[..., Ended], config: bytes) -> None:
    ended = call("VERSION", config=config)
    assert ended.status == 0
    assert ended.document == {
        "cniVersion": "1.0.0",
        "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    }
