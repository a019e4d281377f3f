"""Reads the resources of ``-f``: files, folders and standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tortie.errors import InvalidDocument, InvalidResource, UsageError

if TYPE_CHECKING:
    from tortie.resources.resource import Resource

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "(stdin)"
MOST_BYTES = 32 * 1024 * 1024
"""A larger file is no configuration: it is refused before it fills the memory."""


def read_files(
    files: Sequence[str], *, recursive: bool, namespace: str, allow_unknown: bool
) -> list[Resource[Any]]:
    """Every resource of the files, validated.

    Raises `InvalidDocument` with the findings of all files, `UsageError` for a file that cannot be read.
    """
    from tortie.resources.reading import read, refuse_duplicates

    resources: list[Resource[Any]] = []
    findings: list[InvalidResource] = []
    for name, path in _named(files, recursive):
        try:
            resources += read(_text(name, path), name, namespace=namespace, allow_unknown=allow_unknown)
        except InvalidDocument as error:
            findings.extend(error.findings)
    try:
        refuse_duplicates(resources)
    except InvalidDocument as error:
        findings.extend(error.findings)
    if findings:
        raise InvalidDocument(findings)
    if not resources:
        raise UsageError(f"there is no resource in {', '.join(files)}")
    return resources


def _named(files: Sequence[str], recursive: bool) -> Iterator[tuple[str, Path | None]]:
    """Each file by its name; None is standard input."""
    for each in files:
        if each == "-":
            yield STDIN, None
            continue
        if not each:
            raise UsageError("-f is given an empty name: name a file, a folder, or - for standard input")
        path = Path(each)
        if path.is_dir():
            inside = sorted(path.rglob("*") if recursive else path.iterdir())
            yield from (
                (str(found), found) for found in inside if found.suffix in SUFFIXES and found.is_file()
            )
        else:
            yield each, path


def _text(name: str, path: Path | None) -> str:
    """Raises `InvalidDocument` for what is no text that could be read, `UsageError` for what cannot be opened."""
    if path is None:
        return _decoded(name, sys.stdin.buffer)
    try:
        with path.open("rb") as file:
            return _decoded(name, file)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _decoded(name: str, file: BinaryIO) -> str:
    read = file.read(MOST_BYTES + 1)
    if len(read) > MOST_BYTES:
        raise _unreadable(name, f"is larger than {MOST_BYTES // 1024**2} MiB: split it")
    try:
        return read.decode()
    except UnicodeDecodeError as error:
        line = read.count(b"\n", 0, error.start) + 1
        raise _unreadable(f"{name}:{line}", "is not text in UTF-8") from None


def _unreadable(place: str, why: str) -> InvalidDocument:
    return InvalidDocument([InvalidResource("(document)", None, why, "", place)])
