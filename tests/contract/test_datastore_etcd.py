"""The etcd client in trouble: members that die, stop or forget, credentials, certificates."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.contract.datastore_servers import (
    EtcdServer,
    client,
    closing,
    etcdctl,
    put,
    retried,
    take,
    to_the_end,
)
from tortie.datastore.etcd.key_value import EtcdKeyValue
from tortie.datastore.etcd.options import EtcdOptions
from tortie.datastore.open import open_keyvalue
from tortie.errors import AccessDenied, HistoryGone, StoreUnavailable, UsageError


@pytest.fixture
def server() -> Iterator[EtcdServer]:
    with EtcdServer() as server:
        yield server


@pytest.fixture
def trio() -> Iterator[Sequence[EtcdServer]]:
    servers = [EtcdServer(name=name) for name in ("m1", "m2", "m3")]
    cluster = ",".join(f"{server.name}=http://127.0.0.1:{server.peer_port}" for server in servers)
    token = servers[0].directory.name
    try:
        for server in servers:
            server.cluster = cluster
            server.arguments = ["--initial-cluster-token", token]
            server.start()
        for server in servers:
            server.wait()
        yield servers
    finally:
        for server in servers:
            server.close()


async def test_nobody_there_is_unavailable_soon_and_names_the_endpoint(server: EtcdServer) -> None:
    server.kill()
    async with closing(client(server)) as store:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=server.endpoint):
            await store.get("/a")
        assert time.monotonic() - began < 5


async def test_a_watch_ends_when_etcd_dies_and_resumes_after_its_restart(server: EtcdServer) -> None:
    async with closing(client(server)) as store:
        first = await put(store, "/w/a", b"1")
        async with store.watch("/w/", after=first - 1) as events:
            assert [change.value for change in await take(events, 1)] == [b"1"]
            server.kill()
            with pytest.raises(StoreUnavailable):
                await to_the_end(events)
        server.start()
        server.wait()
        await retried(store, "/w/a", b"2", 5)
        await put(store, "/w/a", b"3")
        async with store.watch("/w/", after=first) as events:
            assert [change.value for change in await take(events, 2)] == [b"2", b"3"]


async def test_a_stopped_etcd_is_noticed_in_seconds(server: EtcdServer) -> None:
    async with closing(client(server)) as store:
        revision = await put(store, "/w/a")
        async with store.watch("/w/", after=revision) as events:
            server.signal(signal.SIGSTOP)
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await to_the_end(events)
            assert time.monotonic() - began < 15
        with pytest.raises(StoreUnavailable):
            await store.get("/w/a")
        server.signal(signal.SIGCONT)
        await retried(store, "/w/b", b"back", 5)


async def test_a_quiet_watch_lives_as_long_as_etcd_does(server: EtcdServer) -> None:
    async with closing(client(server)) as store:
        revision = await put(store, "/w/a")
        async with store.watch("/w/", after=revision) as events:
            waiting = asyncio.ensure_future(take(events, 1))
            await asyncio.sleep(5)  # twice the silence that would be its end
            assert not waiting.done()
            await put(store, "/w/late")
            assert (await waiting)[0].key == "/w/late"


async def test_compacted_history_is_gone(server: EtcdServer) -> None:
    async with closing(client(server)) as store:
        first = await put(store, "/w/a")
        last = [await put(store, "/w/a") for _ in range(5)][-1]
        etcdctl(server, "compaction", str(last))
        with pytest.raises(HistoryGone):
            async with store.watch("/w/", after=first) as events:
                await take(events, 1)
        async with store.watch("/w/", after=last) as events:
            await put(store, "/w/b")
            assert len(await take(events, 1)) == 1


async def test_a_scan_whose_revision_is_compacted_midway_says_so(server: EtcdServer) -> None:
    async with closing(client(server)) as store:
        for n in range(4):
            await put(store, f"/w/{n}")
        pages = store.scan("/w/", page_size=2)
        assert len((await anext(pages)).entries) == 2
        etcdctl(server, "compaction", str(await put(store, "/other")))
        with pytest.raises(HistoryGone):
            await anext(pages)


async def test_an_event_as_large_as_etcd_takes_arrives_whole(server: EtcdServer) -> None:
    async with closing(client(server)) as store:
        revision = await put(store, "/w/a")
        values = {f"/w/{n}": bytes([n]) * 300_000 for n in range(4)}
        async with store.watch("/w/", after=revision) as events:
            await store.commit(expect={}, put=values)
            batch = await anext(events)
        assert {change.key: change.value for change in batch.changes} == values


async def test_a_request_that_etcd_refuses_is_no_outage(server: EtcdServer) -> None:
    async with closing(client(server)) as store:
        with pytest.raises(Exception, match="request is too large") as raised:
            await put(store, "/a", b"x" * 2_000_000)
        assert not isinstance(raised.value, StoreUnavailable)


# ---- several members ----


async def test_a_dead_member_costs_no_request_its_success(trio: Sequence[EtcdServer]) -> None:
    async with closing(client(*trio)) as store:
        await retried(store, "/a", b"1", 10)
        trio[0].kill()
        await retried(store, "/a", b"2", 5)  # what was under way when it died is not known: one may fail
        for n in range(20):
            await put(store, "/a", str(n).encode())
    async with closing(client(*trio)) as fresh:
        # The dead one is the first of the list.
        assert (await fresh.get("/a")).value == b"19"
        await put(fresh, "/a", b"20")


async def test_a_watch_moves_to_a_living_member_and_loses_nothing(trio: Sequence[EtcdServer]) -> None:
    async with closing(client(*trio)) as watcher, closing(client(trio[1], trio[2])) as writer:
        after = await retried(writer, "/w/start", b"", 10)
        expected = [str(n).encode() for n in range(60)]
        seen: list[bytes | None] = []

        async def follow() -> None:
            nonlocal after
            while len(seen) < len(expected):
                with contextlib.suppress(StoreUnavailable):
                    async with watcher.watch("/w/", after=after) as events:
                        async for batch in events:
                            seen.extend(change.value for change in batch.changes)
                            after = batch.revision
                            if len(seen) >= len(expected):
                                return
                await asyncio.sleep(0.05)

        task = asyncio.create_task(follow())
        for n, value in enumerate(expected):
            entry = None
            with contextlib.suppress(Exception):
                entry = await writer.get("/w/a")
            await retried(writer, "/w/a", value, 10) if entry is None or entry.value != value else None
            if n == 20:
                trio[0].kill()
            await asyncio.sleep(0.02)
        async with asyncio.timeout(20):
            await task
        assert list(dict.fromkeys(seen)) == expected


async def test_a_member_without_its_peers_is_left(trio: Sequence[EtcdServer]) -> None:
    async with closing(client(trio[0])) as alone:
        revision = await retried(alone, "/w/a", b"1", 10)
        async with alone.watch("/w/", after=revision) as events:
            trio[1].kill()
            trio[2].kill()
            with pytest.raises(StoreUnavailable):
                await to_the_end(events)
        with pytest.raises(StoreUnavailable):
            await put(alone, "/w/a", b"2")


# ---- who we are ----


@pytest.fixture
def guarded(server: EtcdServer) -> EtcdServer:
    """An etcd with users: root, and cat, who may see and write /cat/ alone."""
    server.kill()
    server.arguments = ["--auth-token-ttl", "2"]
    server.start()
    server.wait()
    for command in (
        "user add root:secret",
        "role add root",
        "user grant-role root root",
        "user add cat:m%eow",
        "role add cats",
        "role grant-permission --prefix=true cats readwrite /cat/",
        "user grant-role cat cats",
        "auth enable",
    ):
        etcdctl(server, *command.split())
    return server


async def test_a_user_with_a_password(guarded: EtcdServer) -> None:
    async with closing(open_keyvalue(f"etcd://cat:m%25eow@{guarded.endpoint}")) as store:
        revision = await put(store, "/cat/a", b"1")
        async with store.watch("/cat/", after=revision - 1) as events:
            assert len(await take(events, 1)) == 1
        with pytest.raises(AccessDenied):
            await store.get("/dog/a")
        with pytest.raises(AccessDenied):
            async with store.watch("/dog/", after=revision) as events:
                await take(events, 1)


async def test_a_token_that_expires_is_renewed(guarded: EtcdServer) -> None:
    async with closing(client(guarded, user="cat", password="m%eow")) as store:
        revision = await put(store, "/cat/a")
        guarded.kill()
        guarded.start()
        guarded.wait()  # simple tokens do not survive the restart
        await retried(store, "/cat/a", b"2", 5)
        guarded.kill()
        guarded.start()
        guarded.wait()
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(StoreUnavailable):
                    async with store.watch("/cat/", after=revision) as events:
                        assert len(await take(events, 1)) >= 1
                        break
                await asyncio.sleep(0.1)


@pytest.mark.parametrize(("user", "password"), [("cat", "wrong"), ("nobody", "x"), ("", "")])
async def test_bad_credentials_are_denied_and_the_password_not_shown(
    guarded: EtcdServer, user: str, password: str
) -> None:
    async with closing(client(guarded, user=user, password=password)) as store:
        with pytest.raises(AccessDenied) as raised:
            await store.get("/cat/a")
        assert guarded.endpoint in str(raised.value)
        assert not password or password not in str(raised.value).replace("nobody", "")
        with pytest.raises(AccessDenied):
            async with store.watch("/cat/", after=1) as events:
                await take(events, 1)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, a server's and a client's certificate, and those of a stranger."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    (folder / "server.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    (folder / "client.ext").write_text("extendedKeyUsage=clientAuth\n")
    for authority in ("ca", "stranger"):
        subject = ("-subj", f"/CN={authority}")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl("req", "-x509", *curve, *subject, "-keyout", f"{authority}.key", "-out", f"{authority}.pem")
    for name in ("server", "client"):
        request = ("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *request)
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", f"{name}.ext")
        openssl("x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.pem", "-days", "2")
    return folder


@pytest.fixture
def tls_server(certificates: Path) -> Iterator[EtcdServer]:
    files = ("--cert-file", certificates / "server.pem", "--key-file", certificates / "server.key")
    demand = ("--client-cert-auth", "--trusted-ca-file", certificates / "ca.pem")
    with EtcdServer(scheme="https", arguments=[str(part) for part in (*files, *demand)]) as server:
        yield server


async def test_tls_with_a_client_certificate(tls_server: EtcdServer, certificates: Path) -> None:
    files = f"ca_file={certificates}/ca.pem&cert_file={certificates}/client.pem&key_file={certificates}/client.key"
    async with closing(open_keyvalue(f"etcd://{tls_server.endpoint}?{files}")) as store:
        revision = await put(store, "/a", b"sealed")
        assert (await store.get("/a")).value == b"sealed"
        async with store.watch("/", after=revision - 1) as events:
            assert len(await take(events, 1)) == 1


async def test_tls_with_a_stranger_or_without_a_certificate_fails_and_says_so(
    tls_server: EtcdServer, certificates: Path
) -> None:
    own = {"cert_file": str(certificates / "client.pem"), "key_file": str(certificates / "client.key")}
    cases: tuple[dict[str, str], ...] = (
        {"ca_file": str(certificates / "stranger.pem"), **own},
        {"ca_file": str(certificates / "ca.pem")},
        {},
    )
    for case in cases:
        async with closing(client(tls_server, **case)) as store:
            with pytest.raises(StoreUnavailable, match=tls_server.endpoint):
                await store.get("/a")


async def test_a_missing_certificate_file_is_named(tmp_path: Path) -> None:
    for options in ({"ca_file": str(tmp_path / "none.pem")}, {"cert_file": str(tmp_path / "c.pem")}):
        store = EtcdKeyValue(EtcdOptions(endpoints=("127.0.0.1:1",), **options))  # type: ignore[arg-type]
        async with closing(store):
            with pytest.raises(UsageError, match=r"none\.pem|key_file"):
                await store.get("/a")
