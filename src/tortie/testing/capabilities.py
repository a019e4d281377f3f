"""What this machine offers to tests, found by trying it, each feature at most once a process.

A test says what it needs (``@pytest.mark.needs("netns", "bird")``); a feature that is missing is an error with a remedy,
never a skip: a suite that is green because it did not run has proved nothing.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

Lane = Literal["none", "kernel device", "BPF", "QEMU"]
"""Where a test runs: in the process alone; on this kernel's own devices and sockets; on BPF programs that stand in for a
device this kernel lacks; on a stock Debian kernel under QEMU."""

LANES: tuple[Lane, ...] = ("none", "kernel device", "BPF", "QEMU")
CNI_PLUGINS = Path("/usr/lib/cni")
"""Where Debian's containernetworking-plugins stand."""

_SETUP = "run: make setup"
_ROOT = "run the tests as root: make test does"


class Feature(NamedTuple):
    """``missing`` says why the feature is not there; empty when it is."""

    name: str
    lane: Lane
    missing: str
    remedy: str


class Missing(Exception):
    """A test needs what this machine does not offer."""

    def __init__(self, feature: Feature) -> None:
        super().__init__(feature)
        self.feature = feature

    def __str__(self) -> str:
        return f"this test needs {self.feature.name}: {self.feature.missing}; {self.feature.remedy}"


class _Probe(NamedTuple):
    lane: Lane
    look: Callable[[], str]
    remedy: str


def _run(*command: str) -> str:
    """Empty when the command succeeds, else why not."""
    if not shutil.which(command[0]):
        return f"there is no program {command[0]}"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    return (done.stderr.strip() or f"{command[0]} ended with status {done.returncode}").splitlines()[-1]


def _root() -> str:
    return "" if os.geteuid() == 0 else f"the user is {os.geteuid()}"


def _in_netns(*command: str) -> Callable[[], str]:
    return lambda: _root() or _run("unshare", "--net", *command)


def _device(*kind: str) -> Callable[[], str]:
    return _in_netns("ip", "link", "add", "probe", "type", *kind)


def _programs(*names: str) -> Callable[[], str]:
    def look() -> str:
        absent = [name for name in names if not shutil.which(name)]
        return f"there is no program {', '.join(absent)}" if absent else ""

    return look


def _cni_plugins() -> str:
    absent = [
        n for n in ("ptp", "host-local", "portmap", "bandwidth") if not os.access(CNI_PLUGINS / n, os.X_OK)
    ]
    return f"{CNI_PLUGINS} has no {', '.join(absent)}" if absent else ""


def _bpf() -> str:
    """Load the smallest program there is: ``r0 = 0; exit`` as a socket filter (bpf(2), BPF_PROG_LOAD)."""
    if problem := _root():
        return problem
    numbers = {"x86_64": 321, "aarch64": 280}
    machine = os.uname().machine
    if machine not in numbers:
        return f"the number of bpf(2) on {machine} is not known here"
    program = ctypes.create_string_buffer(
        struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)
    )
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = ctypes.create_string_buffer(
        struct.pack("<IIQQ", 1, 2, ctypes.addressof(program), ctypes.addressof(licence)), 128
    )
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.syscall(numbers[machine], 5, attributes, len(attributes))
    if descriptor < 0:
        return f"bpf(2): {os.strerror(ctypes.get_errno())}"
    os.close(descriptor)
    return ""


def _bird() -> str:
    if problem := _programs("bird", "birdc")():
        return problem
    done = subprocess.run(["bird", "--version"], capture_output=True, text=True, timeout=30, check=False)
    said = (done.stdout + done.stderr).strip()
    return "" if said.startswith("BIRD version 2") else f"{said or 'bird'} is not BIRD 2"


_KERNEL = "load the kernel's module for it, or run on another kernel"
_PROBES: Mapping[str, _Probe] = {
    "root": _Probe("kernel device", _root, _ROOT),
    "netns": _Probe("kernel device", _in_netns("true"), _ROOT),
    "veth": _Probe("kernel device", _device("veth"), _KERNEL),
    "bridge": _Probe("kernel device", _device("bridge"), _KERNEL),
    "vxlan": _Probe("kernel device", _device("vxlan", "id", "7", "dstport", "4789"), _KERNEL),
    "ipip": _Probe("kernel device", _device("ipip", "local", "192.0.2.1"), _KERNEL),
    "nftables": _Probe("kernel device", _in_netns("nft", "add", "table", "inet", "probe"), _SETUP),
    "conntrack": _Probe("kernel device", _in_netns("conntrack", "-L"), _SETUP),
    "bird": _Probe("kernel device", _bird, _SETUP),
    "etcd": _Probe("kernel device", _programs("etcd", "etcdctl"), _SETUP),
    "containerd": _Probe("kernel device", _programs("containerd", "ctr", "runc"), _SETUP),
    "cni-plugins": _Probe("kernel device", _cni_plugins, _SETUP),
    "fping": _Probe("kernel device", _programs("fping"), _SETUP),
    "tcpdump": _Probe("kernel device", _programs("tcpdump"), _SETUP),
    "iperf3": _Probe("kernel device", _programs("iperf3"), _SETUP),
    "openssl": _Probe("none", _programs("openssl"), _SETUP),
    "gcc": _Probe("none", _programs("gcc"), _SETUP),
    "bpf": _Probe("BPF", _bpf, _ROOT),
    "qemu": _Probe("QEMU", _programs("qemu-system-x86_64", "busybox"), _SETUP),
}

FEATURES: frozenset[str] = frozenset(_PROBES)


@cache
def feature(name: str) -> Feature:
    """Probe one feature. Raises `KeyError` for a name that is not in `FEATURES`."""
    probe = _PROBES[name]
    return Feature(name, probe.lane, probe.look(), probe.remedy)


def require(*names: str) -> None:
    """Raises `Missing` for the first feature that is not there."""
    for name in names:
        found = feature(name)
        if found.missing:
            raise Missing(found)


def lane_of(*names: str) -> Lane:
    """The farthest lane that these features lead to."""
    lanes: list[Lane] = ["none", *(_PROBES[name].lane for name in names)]
    return max(lanes, key=LANES.index)
