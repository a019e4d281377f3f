from __future__ import annotations

from pathlib import Path

import pytest

from tortie.agent.config import load
from tortie.errors import UsageError


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tortie.toml"
    file.write_text(
        '[agent]\nNODENAME = "from-file"\nTORTIE_RUN_DIR = "/run/file"\nTORTIE_STATE_DIR = "/state/file"\nIP = "none"\n'
    )
    environment = {"NODENAME": "from-environment", "TORTIE_RUN_DIR": "/run/environment"}
    config = load(environment, file=str(file), options={"NODENAME": "from-option"})
    assert config.node == "from-option"
    assert config.paths.run == Path("/run/environment")
    assert config.paths.state == Path("/state/file")
    assert config.environment["IP"] == "none"


def test_hostname_is_taken_in_lower_case_and_nodename_as_it_is() -> None:
    assert load({"HOSTNAME": "Node-A.Example"}).node == "node-a.example"
    with pytest.raises(UsageError, match="NODENAME 'Node-A' cannot be a node's name"):
        load({"NODENAME": "Node-A"})


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"NODENAME": "n" * 254}, "cannot be a node's name"),
        ({"NODENAME": "a", "TORTIE_LOG_LEVEL": "loud"}, "'loud' is no log level"),
        ({"NODENAME": "a", "TORTIE_LOG_FORMAT": "xml"}, "neither text nor json"),
        ({"NODENAME": "a", "FELIX_DEBUGSIMULATECALCGRAPHHANGAFTER": "soon"}, "is no number of seconds"),
    ],
)
def test_a_bad_value_is_named(environment: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load(environment)


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(UsageError, match=f"{missing} does not exist"):
        load({"NODENAME": "a"}, file=str(missing))
    for text in ("agent = 1", "a = [b", "[agent]\nA = [1]"):
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(UsageError, match=r"bad\.toml"):
            load({"NODENAME": "a"}, file=str(tmp_path / "bad.toml"))
