"""A stock Debian kernel under QEMU that runs one script and powers off. No disk, no network, nothing left behind."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.vm.initramfs import Initramfs

CACHE = Path(__file__).parents[2] / ".cache/vm"
PROGRAMS = ("busybox", "ip", "nft")
APPEND = "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on tsc=reliable no_timer_check"


class Ran(NamedTuple):
    """``status`` is the script's exit code, None when the guest did not come to its end; ``output`` what it printed."""

    status: int | None
    output: str


def kernel() -> str:
    """The fetched kernel's version. Raises `FileNotFoundError` with what to do."""
    ready = CACHE / "ready"
    if not ready.is_file():
        raise FileNotFoundError(
            "the stock kernel of the QEMU lane has not been fetched; run: tools/fetch-kernel"
        )
    return ready.read_text().strip()


def run(
    job: str,
    *,
    modules: Iterable[str] = (),
    programs: Iterable[str] = PROGRAMS,
    made: Iterable[Path] = (),
    timeout_seconds: float = 90,
) -> Ran:
    """Boot, run ``job`` as root with ``modules`` loaded, power off. ``made``: programs of its own, linked statically."""
    version = kernel()
    image = Initramfs()
    for program in programs:
        image.program(program)
    for path in made:
        image.made(path)
    image.modules(CACHE / "root", version, modules)
    # busybox's shell would take its own applets before programs of the same name.
    prelude = "".join(f'{name}() {{ /usr/bin/{name} "$@"; }}\n' for name in programs if name != "busybox")
    with tempfile.TemporaryDirectory(prefix="tt-vm-") as folder:
        archive = Path(folder, "initramfs.cpio")
        image.write(archive, prelude + job)
        try:
            done = subprocess.run(
                _command(archive),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            return Ran(None, _text(late.stdout or b""))
    said = _text(done.stdout) + _text(done.stderr)
    ended = re.search(r"^@@EXIT (\d+)$", said, re.MULTILINE)
    body = said.partition("@@BEGIN\n")[2].partition("@@EXIT")[0]
    return Ran(int(ended[1]), body) if ended else Ran(None, said)


def _command(archive: Path) -> list[str]:
    # Emulated: slower than KVM by seconds, but the same everywhere, also inside a virtual machine.
    # fmt: off
    return [
        "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "512",
        "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
        "-kernel", str(CACHE / "vmlinuz"), "-initrd", str(archive), "-append", APPEND,
    ]
    # fmt: on


def _text(data: bytes) -> str:
    return data.decode(errors="replace").replace("\r\n", "\n")
