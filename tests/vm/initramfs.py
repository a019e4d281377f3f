"""An initramfs made of files of this machine and modules of a fetched kernel: cpio "newc", written here.

Format: the kernel's ``Documentation/driver-api/early-userspace/buffer-format.rst``.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs run /run
mkdir -p /run/netns
for module in $(cat /modules); do insmod "$module" || echo "cannot load $module"; done
echo "@@BEGIN"
sh /job 2>&1
echo "@@EXIT $?"
poweroff -f
"""


class Initramfs:
    """Collects files, then `write`s them. Later files of the same name win."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[int, bytes]] = {}
        for folder in ("dev", "proc", "sys", "run", "tmp", "root", "bin"):
            self._folder(f"/{folder}")

    def text(self, path: str, content: str, *, executable: bool = False) -> None:
        self._put(path, stat.S_IFREG | (0o755 if executable else 0o644), content.encode())

    def program(self, name: str) -> None:
        """A program of this machine with the libraries it is linked to. Raises `FileNotFoundError`."""
        found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
        if found is None:
            raise FileNotFoundError(f"there is no program {name}; run: make setup")
        self._copy(Path(found), f"/usr/bin/{name}" if name != "busybox" else "/bin/busybox")
        linked = subprocess.run(["ldd", found], capture_output=True, text=True, check=False).stdout
        for library in re.findall(r"(/\S+)", linked):
            self._copy(Path(library), library)

    def made(self, program: Path) -> None:
        """One that was made for the job, linked statically."""
        self._copy(program, f"/usr/bin/{program.name}")

    def modules(self, root: Path, version: str, names: Iterable[str]) -> None:
        """Kernel modules and what they depend on, in the order of loading."""
        folder = root / "lib/modules" / version
        needs: dict[str, list[str]] = {}
        by_name: dict[str, str] = {}
        for line in (folder / "modules.dep").read_text().splitlines():
            path, _, dependencies = line.partition(":")
            needs[path] = dependencies.split()
            by_name[Path(path).name.split(".")[0].replace("-", "_")] = path
        builtin = (folder / "modules.builtin").read_text()
        order: list[str] = []

        def want(path: str) -> None:
            for dependency in needs[path]:
                want(dependency)
            if path not in order:
                order.append(path)

        for name in names:
            if name in by_name:
                want(by_name[name])
            elif f"/{name}.ko" not in builtin.replace("-", "_"):
                raise FileNotFoundError(f"kernel {version} has no module {name}")
        for path in order:
            self._copy(folder / path, f"/lib/modules/{version}/{path}")
        self.text("/modules", "".join(f"/lib/modules/{version}/{path}\n" for path in order))

    def write(self, target: Path, job: str) -> None:
        """With the script ``job``, run by sh in the guest; its exit code is the machine's."""
        self.text("/init", INIT, executable=True)
        self.text("/job", job)
        with target.open("wb") as out:
            for number, (path, (mode, data)) in enumerate(sorted(self._entries.items()), 1):
                out.write(_entry(path.lstrip("/"), mode, data, number))
            out.write(_entry("TRAILER!!!", 0, b"", 0))

    def _copy(self, source: Path, target: str) -> None:
        self._put(
            target, stat.S_IFREG | (0o755 if os.access(source, os.X_OK) else 0o644), source.read_bytes()
        )

    def _put(self, path: str, mode: int, data: bytes) -> None:
        self._folder(str(Path(path).parent))
        self._entries[path] = (mode, data)

    def _folder(self, path: str) -> None:
        if path != "/" and path not in self._entries:
            self._folder(str(Path(path).parent))
            self._entries[path] = (stat.S_IFDIR | 0o755, b"")


def _entry(name: str, mode: int, data: bytes, number: int) -> bytes:
    encoded = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)
