"""Build hook: compiles the static CNI shim into the package (``tortie/cni/bin/tortie-cni``).

Everything else stands in ``pyproject.toml``. The compiler is ``$CC`` or ``musl-gcc`` (Debian: ``musl-tools``):
a static program of glibc asks the CPU dozens of questions before it begins, and in a virtual machine these take
longer than all that the shim does.
"""

import os
import shlex
import subprocess
from pathlib import Path

from setuptools import Command, Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

SOURCE = Path("native/tortie-cni.c")
TARGET = Path("tortie/cni/bin/tortie-cni")
FLAGS = ["-std=gnu11", "-Os", "-s", "-static", "-Wall", "-Wextra", "-Werror"]


class BuildShim(Command):
    """Compile ``native/tortie-cni.c``; into ``src/`` when the installation is editable."""

    description = "compile the static CNI shim"
    user_options = []
    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        target = self._target()
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_suffix(f".{os.getpid()}")
        compiler = shlex.split(os.environ.get("CC", "musl-gcc"))
        try:
            subprocess.run([*compiler, *FLAGS, "-o", str(scratch), str(SOURCE)], check=True)
            scratch.chmod(0o755)
            scratch.replace(target)
        finally:
            scratch.unlink(missing_ok=True)

    def _target(self) -> Path:
        return Path("src" if self.editable_mode else self.build_lib) / TARGET

    def get_source_files(self) -> list[str]:
        return [str(SOURCE)]

    def get_outputs(self) -> list[str]:
        return [str(self._target())]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class Build(build):
    sub_commands = [*build.sub_commands, ("build_shim", None)]


class PlatformWheel(bdist_wheel):
    """Any Python 3, but this machine's kind only: the shim is machine code."""

    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", super().get_tag()[2])


class PlatformDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        return True


setup(
    cmdclass={"build": Build, "build_shim": BuildShim, "bdist_wheel": PlatformWheel},
    distclass=PlatformDistribution,
)
