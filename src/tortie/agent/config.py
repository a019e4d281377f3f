"""What the agent is told before it can ask the datastore: who it is, where the datastore is, and where its files are.

Sources, the first that says something wins: the command line, the environment, the table ``[agent]`` of the configuration file
(TOML, the environment's names as keys; ``datastore`` above it is for every command), the defaults. Names are Calico's where it
has one (``NODENAME``, ``HOSTNAME``, ``FELIX_LOGSEVERITYSCREEN``). Everything else comes from the datastore (FelixConfiguration)
and may change while the agent runs: see `refresh`.
"""

from __future__ import annotations

import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from tortie.admin.fleet import DEFAULT_RUN_DIR, socket_in
from tortie.datastore.open import DEFAULT_CONFIG
from tortie.errors import UsageError
from tortie.observe.log import LEVELS

STATE_DIR = Path("/var/lib/tortie")
MOST_NODE_NAME = 253


@dataclass(frozen=True)
class AgentPaths:
    """Every file of one agent. ``run`` is forgotten with the machine's next start, ``state`` is not."""

    run: Path = DEFAULT_RUN_DIR
    state: Path = STATE_DIR

    @property
    def cni_socket(self) -> Path:
        return self.run / "cni.sock"

    @property
    def admin_socket(self) -> Path:
        return socket_in(self.run)

    @property
    def lock(self) -> Path:
        """Held by the one agent of this node; its content is the holder's pid."""
        return self.run / "agent.lock"

    @property
    def bird_configuration(self) -> Path:
        return self.run / "bird.conf"

    @property
    def bird_control(self) -> Path:
        return self.run / "bird.ctl"

    @property
    def sandboxes(self) -> Path:
        """Which container has which network namespace."""
        return self.run / "sandboxes"


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """``environment`` is what bootstrap reads further (``IP``, ``CALICO_IPV4POOL_CIDR``, …): file and environment together."""

    node: str
    datastore: str | None = None
    """None: what the configuration file says, or the default."""
    file: str | None = None
    paths: AgentPaths = field(default_factory=AgentPaths)
    log_level: str = ""
    """Empty: FelixConfiguration's ``logSeverityScreen`` decides, by default info."""
    log_format: str = "text"
    health_host: str = "localhost"
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    hang_calculation_after_seconds: float | None = None
    """For tests: block the calculation (Felix: DebugSimulateCalcGraphHangAfter)."""
    hang_dataplane_after_seconds: float | None = None


def load(
    environment: Mapping[str, str], *, file: str | None = None, options: Mapping[str, str] | None = None
) -> AgentConfig:
    """The configuration from all sources; ``options`` are the command line's, under the environment's names.

    Raises `UsageError` naming the variable, its value and what to write instead.
    """
    named = file or environment.get("TORTIE_CONFIG")
    said = {**_read_file(named), **environment, **{k: v for k, v in (options or {}).items() if v}}
    level = (said.get("TORTIE_LOG_LEVEL") or said.get("FELIX_LOGSEVERITYSCREEN") or "").lower()
    if level and level not in LEVELS:
        raise UsageError(f"TORTIE_LOG_LEVEL {level!r} is no log level: use one of {', '.join(LEVELS)}")
    log_format = said.get("TORTIE_LOG_FORMAT") or "text"
    if log_format not in ("text", "json"):
        raise UsageError(f"TORTIE_LOG_FORMAT {log_format!r} is neither text nor json")
    return AgentConfig(
        node=_node_name(said),
        datastore=said.get("TORTIE_DATASTORE"),
        file=named,
        paths=AgentPaths(
            Path(said.get("TORTIE_RUN_DIR") or DEFAULT_RUN_DIR),
            Path(said.get("TORTIE_STATE_DIR") or STATE_DIR),
        ),
        log_level=level,
        log_format=log_format,
        health_host=said.get("FELIX_HEALTHHOST") or "localhost",
        environment=said,
        hang_calculation_after_seconds=_seconds(said, "FELIX_DEBUGSIMULATECALCGRAPHHANGAFTER"),
        hang_dataplane_after_seconds=_seconds(said, "FELIX_DEBUGSIMULATEDATAPLANEHANGAFTER"),
    )


def _node_name(said: Mapping[str, str]) -> str:
    # Calico takes NODENAME as it is, the others in lower case.
    sources = {
        "NODENAME": said.get("NODENAME", "").strip(),
        "HOSTNAME": said.get("HOSTNAME", "").strip().lower(),
        "the host's name": socket.gethostname().lower(),
    }
    source, node = next((source, node) for source, node in sources.items() if node)
    if len(node) > MOST_NODE_NAME or not _is_name(node):
        raise UsageError(
            f"{source} {node!r} cannot be a node's name: use at most {MOST_NODE_NAME} lower-case letters, digits, "
            "dashes and dots, a letter or digit first and last"
        )
    return node


def _is_name(text: str) -> bool:
    return (
        bool(text)
        and all(char.isascii() and (char.islower() or char.isdigit() or char in "-.") for char in text)
        and text[0] not in "-."
        and text[-1] not in "-."
    )


def _seconds(said: Mapping[str, str], name: str) -> float | None:
    text = said.get(name)
    if not text:
        return None
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        raise UsageError(f"{name} {text!r} is no number of seconds") from None
    return seconds


def _read_file(named: str | None) -> dict[str, str]:
    path = Path(named) if named else DEFAULT_CONFIG
    try:
        whole = tomllib.loads(path.read_text())
    except FileNotFoundError:
        if not named:
            return {}
        raise UsageError(f"the configuration file {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the configuration file {path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the configuration file {path} is not TOML: {error}") from None
    table: object = whole.get("agent", {})
    if not isinstance(table, dict):
        raise UsageError(f"agent in {path} is no table: write [agent] above its settings")
    said: dict[str, str] = {}
    for key, value in cast("dict[str, object]", table).items():
        if not isinstance(value, str | int | float):
            raise UsageError(f"{path}: agent.{key}: expected a plain value")
        said[key] = str(value).lower() if isinstance(value, bool) else str(value)
    return said
