"""Which datastore, and opening it.

The choice, the first that says something: the argument (``--datastore``), the environment's ``TORTIE_DATASTORE``, ``datastore``
in the configuration file, `DEFAULT_URL`. The file is the one that was named, or ``TORTIE_CONFIG``, or `DEFAULT_CONFIG`::

    datastore = "etcd://10.0.0.1:2379,10.0.0.2:2379"
    [etcd]
    ca_file = "/etc/tortie/ca.pem"      # cert_file, key_file, user, password_file likewise

A password in a URL never appears in a text that we write: see `redacted`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from tortie.datastore.keyvalue import KeyValue
from tortie.datastore.store import Store
from tortie.errors import UsageError
from tortie.resources.shape import is_object

DEFAULT_URL = "sqlite:///var/lib/tortie/tortie.db"
DEFAULT_CONFIG = Path("/etc/tortie/tortie.toml")
ETCD_PORT = 2379
LEAST_HISTORY = 100
_FORMS = "write sqlite:///path/to/file.db or etcd://host:2379,host:2379"
_SETTINGS = ("datastore", "etcd", "agent")
_ETCD_PARAMETERS = ("ca_file", "cert_file", "key_file", "user", "password_file")


def open_store(url: str | None = None, *, config: str | None = None, make: bool = True) -> Store:
    """The datastore as typed resources. Nothing is reached before the first call. ``make``: an SQLite file that is not there is
    made then; who only asks does not want one. Raises `UsageError`."""
    from tortie.datastore.kv_store import KeyValueStore

    return KeyValueStore(open_keyvalue(url, config=config, make=make))


def open_keyvalue(url: str | None = None, *, config: str | None = None, make: bool = True) -> KeyValue:
    """The datastore as bytes. See `open_store`."""
    settings = _read_config(config)
    chosen = _choose(url, settings)
    scheme, separator, rest = chosen.partition("://")
    if not separator:
        raise UsageError(f"the datastore {redacted(chosen)!r} is no URL: {_FORMS}")
    address, _, query = rest.partition("?")
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    if scheme == "sqlite":
        return _sqlite(address, parameters, make=make)
    if scheme == "etcd":
        return _etcd(address, parameters, settings)
    if scheme == "etcd+unix":
        return _etcd(address, parameters, settings, unix=True)
    raise UsageError(f"the datastore {redacted(chosen)!r} has an unknown scheme: {_FORMS}")


def chosen_url(url: str | None = None, *, config: str | None = None) -> str:
    """The URL that `open_store` would open, for showing: without its password."""
    return redacted(_choose(url, _read_config(config)))


def redacted(url: str) -> str:
    """The URL without its password, also where it is none."""
    scheme, separator, rest = url.rpartition("://")
    credentials, at, address = rest.rpartition("@")
    if not at:
        return url
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{separator}{user}{':***' if colon else ''}@{address}"


def _choose(url: str | None, settings: Mapping[str, Any]) -> str:
    configured = settings.get("datastore")
    if configured is not None and not isinstance(configured, str):
        raise UsageError(f"datastore in the configuration file is {configured!r}, not a URL in quotes")
    return url or os.environ.get("TORTIE_DATASTORE") or configured or DEFAULT_URL


def _read_config(config: str | None) -> Mapping[str, Any]:
    named = config or os.environ.get("TORTIE_CONFIG")
    path = Path(named) if named else DEFAULT_CONFIG
    try:
        settings = tomllib.loads(path.read_text())
    except FileNotFoundError:
        if named:
            raise UsageError(f"the configuration file {path} does not exist") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the configuration file {path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the configuration file {path} is not TOML: {error}") from error
    for name in settings:
        if name not in _SETTINGS:
            raise UsageError(f"the configuration file {path}: {name} is none of {', '.join(_SETTINGS)}")
    return settings


def _known(parameters: Mapping[str, str], names: tuple[str, ...], what: str) -> None:
    for name in parameters:
        if name not in names:
            known = f"known are {', '.join(names)}"
            if "@" in name:  # what stands before it may be the end of a password, and is not shown
                raise UsageError(f"{what}: a ? within a password is written %3F; of parameters, {known}")
            raise UsageError(f"{what}: unknown parameter {name!r}; {known}")


def _sqlite(address: str, parameters: Mapping[str, str], *, make: bool) -> KeyValue:
    from tortie.datastore.sqlite.key_value import SqliteKeyValue
    from tortie.datastore.sqlite.schema import SqliteOptions

    _known(parameters, ("synchronous", "history"), "sqlite")
    path = Path(unquote(address))
    if not path.is_absolute() or not path.name:
        raise UsageError(
            f"{redacted(f'sqlite://{address}')} names no file by its whole path: write sqlite:///path/to/file.db"
        )
    synchronous = parameters.get("synchronous", "normal")
    if synchronous not in ("normal", "full"):
        raise UsageError(f"sqlite: synchronous={synchronous} is neither normal nor full")
    history = parameters.get("history", "5000")
    if not history.isdecimal() or int(history) < LEAST_HISTORY:
        raise UsageError(f"sqlite: history={history} is not a number of revisions from {LEAST_HISTORY} up")
    if not make and _is_absent(path):
        raise UsageError(
            f"there is no datastore at {path}: an agent makes it, or the first resource that is applied; "
            "--datastore names another"
        )
    return SqliteKeyValue(
        SqliteOptions(path, synchronous="full" if synchronous == "full" else "normal", history=int(history))
    )


def _is_absent(path: Path) -> bool:
    """Of what cannot be looked at, opening it says why."""
    try:
        path.lstat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def _etcd(
    address: str, parameters: Mapping[str, str], config: Mapping[str, Any], *, unix: bool = False
) -> KeyValue:
    """``unix``: the address is the path of a socket, as a lab's etcd offers one."""
    # The one door to protobuf: what runs on SQLite never loads it.
    from tortie.datastore.etcd.key_value import EtcdKeyValue
    from tortie.datastore.etcd.options import EtcdOptions

    _known(parameters, (*_ETCD_PARAMETERS, "tls"), "etcd")
    settings: dict[str, str] = {}
    table: Any = config.get("etcd", {})
    if not is_object(table):
        raise UsageError("etcd in the configuration file is no table: write [etcd] above its settings")
    for name, value in table.items():
        if name not in _ETCD_PARAMETERS or not isinstance(value, str):
            raise UsageError(
                f"[etcd] in the configuration file: {name} is none of {', '.join(_ETCD_PARAMETERS)}"
            )
        settings[name] = value
    settings.update(parameters)
    credentials, at, hosts = address.rpartition("@")
    user, _, password = credentials.partition(":") if at else ("", "", "")
    user, password = unquote(user) or settings.get("user", ""), unquote(password)
    if not password and settings.get("password_file"):
        try:
            password = Path(settings["password_file"]).read_text().strip()
        except OSError as error:
            raise UsageError(
                f"the password file {settings['password_file']} cannot be read: {error.strerror}"
            ) from error
    endpoints = (
        (f"unix:{address}",)
        if unix
        else tuple(_endpoint(host.strip()) for host in hosts.rstrip("/").split(","))
    )
    return EtcdKeyValue(
        EtcdOptions(
            endpoints=endpoints,
            user=user,
            password=password,
            tls=settings.get("tls", "") in ("true", "1", "yes"),
            ca_file=settings.get("ca_file", ""),
            cert_file=settings.get("cert_file", ""),
            key_file=settings.get("key_file", ""),
        )
    )


def _is_port(text: str) -> bool:
    return text.isdecimal() and len(text) <= 5 and 0 < int(text) < 65536


def _endpoint(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(ETCD_PORT)
    if not host or "/" in host or (":" in host and not host.startswith("[")) or not _is_port(port):
        raise UsageError(f"etcd: {text!r} is no host:port ({_FORMS}; an IPv6 address stands in brackets)")
    return f"{host}:{port}"
