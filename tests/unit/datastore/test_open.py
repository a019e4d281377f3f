"""Which datastore is chosen, how its URL is read, and what is never shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tortie.datastore import open as opening
from tortie.datastore.etcd.key_value import EtcdKeyValue
from tortie.datastore.etcd.options import EtcdOptions
from tortie.datastore.open import chosen_url, open_keyvalue, redacted
from tortie.datastore.sqlite.key_value import SqliteKeyValue
from tortie.datastore.sqlite.schema import SqliteOptions
from tortie.errors import UsageError


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TORTIE_DATASTORE", raising=False)
    monkeypatch.delenv("TORTIE_CONFIG", raising=False)
    monkeypatch.setattr(opening, "DEFAULT_CONFIG", tmp_path / "none.toml")


def sqlite_options(url: str) -> SqliteOptions:
    store = open_keyvalue(url)
    assert isinstance(store, SqliteKeyValue)
    return store._options


def etcd_options(url: str, config: str | None = None) -> EtcdOptions:
    store = open_keyvalue(url, config=config)
    assert isinstance(store, EtcdKeyValue)
    return store._options


def test_the_argument_comes_before_the_environment_before_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert chosen_url() == "sqlite:///var/lib/tortie/tortie.db"
    (tmp_path / "none.toml").write_text('datastore = "sqlite:///default.db"')
    assert chosen_url() == "sqlite:///default.db"
    (tmp_path / "tortie.toml").write_text('datastore = "sqlite:///named.db"')
    monkeypatch.setenv("TORTIE_CONFIG", str(tmp_path / "tortie.toml"))
    assert chosen_url() == "sqlite:///named.db"
    assert chosen_url(config=str(tmp_path / "none.toml")) == "sqlite:///default.db"
    monkeypatch.setenv("TORTIE_DATASTORE", "sqlite:///environment.db")
    assert chosen_url() == "sqlite:///environment.db"
    assert chosen_url("sqlite:///argument.db") == "sqlite:///argument.db"


def test_sqlite_urls() -> None:
    assert sqlite_options("sqlite:///a/b%20c.db") == SqliteOptions(Path("/a/b c.db"))
    assert sqlite_options("sqlite:///a.db?synchronous=full&history=900") == SqliteOptions(
        Path("/a.db"), synchronous="full", history=900
    )


def test_etcd_urls() -> None:
    assert etcd_options("etcd://a,b:1,[::1],[fd00::1]:5") == EtcdOptions(
        endpoints=("a:2379", "b:1", "[::1]:2379", "[fd00::1]:5")
    )
    options = etcd_options("etcd://us%40er:p%3Aw%40d@a:1?ca_file=/ca.pem")
    assert (options.user, options.password, options.ca_file) == ("us@er", "p:w@d", "/ca.pem")
    assert options.secure
    assert not etcd_options("etcd://a").secure
    assert etcd_options("etcd://a?tls=true").secure


def test_the_file_says_what_the_url_does_not(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    config = tmp_path / "tortie.toml"
    config.write_text(f'[etcd]\nca_file = "/ca"\nuser = "u"\npassword_file = "{tmp_path}/password"\n')
    options = etcd_options("etcd://a", str(config))
    assert (options.ca_file, options.user, options.password) == ("/ca", "u", "secret")
    options = etcd_options("etcd://v:w@a?ca_file=/other", str(config))
    assert (options.ca_file, options.user, options.password) == ("/other", "v", "w")


def test_a_misspelt_setting_does_not_lead_to_the_default_datastore(tmp_path: Path) -> None:
    config = tmp_path / "tortie.toml"
    config.write_text('dataztore = "etcd://a"\n')
    with pytest.raises(UsageError, match="dataztore is none of datastore, etcd, agent"):
        open_keyvalue(config=str(config))
    config.write_text('datastore = "etcd://a"\n[agent]\nIP = "none"\n[etcd]\nuser = "u"\n')
    assert etcd_options("", str(config)).user == "u"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("/var/lib/x.db", "write sqlite:///"),
        ("mysql://u:hidden@x", "unknown scheme"),
        ("sqlite://relative.db", "whole path"),
        ("sqlite:///", "names no file"),
        ("sqlite:///a.db?mode=ro", "unknown parameter 'mode'"),
        ("sqlite:///a.db?synchronous=off", "synchronous=off"),
        ("sqlite:///a.db?history=much", "history=much"),
        ("sqlite:///a.db?history=99", "from 100 up"),
        ("etcd://", "no host:port"),
        ("etcd://u:hidden@a:x", "'a:x' is no host:port"),
        ("etcd://::1:2379", "brackets"),
        ("etcd://a:99999", "'a:99999' is no host:port"),
        ("etcd://a:0", "'a:0' is no host:port"),
        ("etcd://u:hidden@a/path", "no host:port"),
        ("etcd://a?password_file=/none/there", "/none/there cannot be read"),
        ("etcd://a?cacert=/x", "unknown parameter 'cacert'"),
        ("u:hidden@a:1", "write sqlite:///"),
        ("etcd://u:p?hidden@a:1", "written %3F"),
        ("sqlite://u:hidden@a/b.db", "whole path"),
    ],
)
def test_a_bad_url_is_refused_with_its_part_and_without_its_password(url: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        open_keyvalue(url)
    assert said in str(raised.value)
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("datastore = ", "is not TOML"),
        ("datastore = 5", "is 5, not a URL"),
        ("etcd = 5", "no table"),
        ("[etcd]\nport = 5", "port is none of"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "tortie.toml"
    config.write_text(text)
    url = "etcd://a" if "etcd" in text else None
    with pytest.raises(UsageError, match=said):
        open_keyvalue(url, config=str(config))


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        open_keyvalue(config=str(tmp_path / "missing.toml"))


def test_passwords_are_never_shown() -> None:
    assert redacted("etcd://u:p@ss@a:1,b") == "etcd://u:***@a:1,b"
    assert redacted("etcd://u@a") == "etcd://u@a"
    assert redacted("sqlite:///a.db") == "sqlite:///a.db"
    assert redacted("u:p@a:1") == "u:***@a:1"
    assert "hidden" not in chosen_url("etcd://u:hidden@a")
    assert "hidden" not in repr(open_keyvalue("etcd://u:hidden@a"))
    assert "hidden" not in repr(etcd_options("etcd://u:hidden@a"))


def test_protobuf_is_loaded_for_etcd_alone() -> None:
    script = (
        "import sys\n"
        "from tortie.datastore.open import open_store\n"
        "open_store('sqlite:///tmp/a.db')\n"
        "assert 'google.protobuf' not in sys.modules\n"
        "open_store('etcd://a')\n"
        "assert 'google.protobuf' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
