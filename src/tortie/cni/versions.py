"""The versions of the CNI specification, and what changed where."""

from __future__ import annotations

from typing import NamedTuple

from tortie.cni.errors import CNIError, Code

SUPPORTED = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
INSTALLED = "1.0.0"
"""What our conflist says: Debian's plugins and containerd speak no newer one."""


class SpecVersion(NamedTuple):
    major: int
    minor: int
    patch: int

    @staticmethod
    def parse(text: str) -> SpecVersion:
        """Raises `CNIError` with code 1 for what is no version."""
        parts = text.split(".")
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
            raise CNIError(
                Code.INCOMPATIBLE_VERSION, f"cniVersion: {text} is not a version such as {INSTALLED}"
            )
        return SpecVersion(int(parts[0]), int(parts[1]), int(parts[2]))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def has_check(self) -> bool:
        return self >= (0, 4, 0)

    @property
    def has_gc_and_status(self) -> bool:
        return self >= (1, 1, 0)

    @property
    def marks_families(self) -> bool:
        """An address in a result says ``"version": "4"`` beside itself."""
        return self < (1, 0, 0)

    @property
    def has_mtus(self) -> bool:
        """A result tells the MTU of interfaces and more about routes."""
        return self >= (1, 1, 0)
