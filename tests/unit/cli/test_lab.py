"""``tortie lab``: its arguments."""

from __future__ import annotations

import click
import pytest

from tortie.cli import lab
from tortie.errors import UsageError


@pytest.mark.parametrize(
    ("typed", "name", "output", "place", "argv"),
    [
        ("node1 -- ip -o link", "tortie", None, "node1", "ip -o link"),
        ("node1 ip -o link", "tortie", None, "node1", "ip -o link"),
        ("--lab x node1 -- echo --lab y -- z", "x", None, "node1", "echo --lab y -- z"),
        ("node1 --lab x echo --lab y -- z", "x", None, "node1", "echo --lab y -- z"),
        ("node1 --lab=x -o json -- true", "x", "json", "node1", "true"),
        ("-o yaml ns/pod --help-me", "tortie", None, "", ""),
    ],
)
def test_exec_takes_its_own_options_and_leaves_the_commands(
    monkeypatch: pytest.MonkeyPatch, typed: str, name: str, output: str | None, place: str, argv: str
) -> None:
    monkeypatch.delenv("TORTIE_LAB", raising=False)
    if not place:
        with pytest.raises(click.UsageError, match="No such option"):
            lab.exec_.make_context("exec", typed.split())
        return
    taken = lab.exec_.make_context("exec", typed.split()).params
    assert (taken["lab_name"], taken["output"], taken["place"], taken["argv"]) == (
        name,
        output,
        place,
        tuple(argv.split()),
    )


def test_every_command_takes_lab_and_output() -> None:
    commands = {**lab.command.commands, **lab.pod.commands}
    for name, command in commands.items():
        if isinstance(command, click.Group) or command.hidden:
            continue
        options = {text for param in command.params for text in param.opts}
        assert {"--lab", "-o"} <= options, name


@pytest.mark.parametrize(
    "text", ["web", "web:tcp", ":tcp:80", "web:icmp:80", "web:tcp:x", "web:tcp:²", "a:tcp:1:2"]
)
def test_what_is_no_port_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="write NAME:tcp:80"):
        lab.ports(text)
