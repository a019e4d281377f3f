"""Debian's containerd and runc, with folders, a socket and an image of their own. No registry is asked."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import subprocess
import tarfile
from pathlib import Path

from tests.cni_node import until

IMAGE = "tortie.test/busybox:1"
_APPLETS = ("cat", "ip", "nc", "ping", "ping6", "sh", "sleep", "wget")
_CRI = "io.containerd.grpc.v1.cri"
_SNAPSHOTTERS = [f"io.containerd.snapshotter.v1.{name}" for name in ("aufs", "btrfs", "devmapper", "zfs")]


class Containerd:
    """One daemon. `ctr` runs in the node's network namespace, with ``/opt/cni/bin`` and ``/etc/cni/net.d`` of its own,
    which are what it looks at."""

    def __init__(self, directory: Path, node: str, bin_dir: Path, conf_dir: Path) -> None:
        self._directory = directory
        self._socket = directory / "containerd.sock"
        self._node = node
        self._conf_dir = conf_dir
        self._process: subprocess.Popen[bytes] | None = None
        self._bin_dir = directory / "plugins"
        shutil.copytree(bin_dir, self._bin_dir)
        for plugin in ("bandwidth", "loopback", "portmap"):
            (self._bin_dir / plugin).symlink_to(f"/usr/lib/cni/{plugin}")
        # Written once: a file that grows anew under a program that has just mapped it ends that program (SIGBUS).
        self._etc = directory / "etc"
        (self._etc / "cni/net.d").mkdir(parents=True)
        for name in ("protocols", "services", "ld.so.cache"):
            shutil.copy(Path("/etc") / name, self._etc)

    def start(self) -> None:
        """Bring it up with the image. Raises `AssertionError` when it does not come."""
        config = self._directory / "config.toml"
        disabled = json.dumps([_CRI, *_SNAPSHOTTERS])
        config.write_text(
            f'version = 2\nroot = "{self._directory}/root"\nstate = "{self._directory}/state"\n'
            f'disabled_plugins = {disabled}\n[grpc]\naddress = "{self._socket}"\n'
        )
        log = self._directory / "containerd.log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(["containerd", "-c", str(config)], stdout=out, stderr=out)
        until(self._socket.exists, 20, "containerd does not start", log)
        image = self._directory / "image.tar"
        image.write_bytes(_image())
        self.ctr("images", "import", "--snapshotter", "native", str(image))

    def close(self) -> None:
        """End what runs, then the daemon."""
        if self._process is None:
            return
        for name in self.ctr("tasks", "list", "-q").split():
            subprocess.run(
                self._command("tasks", "kill", "-s", "KILL", name), capture_output=True, check=False
            )
        self._process.terminate()
        self._process.wait(20)

    def run(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """A container on the node's CNI network, in the foreground: when it ends, so does its network."""
        return subprocess.Popen(
            self._command("run", "--rm", "--cni", "--snapshotter", "native", IMAGE, name, *command),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def inside(self, name: str, *command: str) -> str:
        """Run a command in a container."""
        return self.ctr("tasks", "exec", "--exec-id", f"e{abs(hash(command))}", name, *command)

    def kill(self, name: str) -> None:
        self.ctr("tasks", "kill", "-s", "KILL", name)

    def ctr(self, *arguments: str) -> str:
        """Raises `AssertionError` with what it said."""
        done = subprocess.run(self._command(*arguments), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"ctr {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def _command(self, *arguments: str) -> list[str]:
        script = (
            "mount -t tmpfs none /opt && mkdir -p /opt/cni/bin && mount --bind $1 /opt/cni/bin"
            " && mount --bind $4 /etc && mount --bind $2 /etc/cni/net.d"
            ' && node=$3 && shift 4 && exec nsenter --net=/run/netns/$node ctr "$@"'
        )
        places = [str(self._bin_dir), str(self._conf_dir), self._node, str(self._etc)]
        inside = ["unshare", "--mount", "sh", "-c", script, "sh", *places]
        return [*inside, "-a", str(self._socket), *arguments]


def _image() -> bytes:
    """An OCI archive of one layer: a static busybox."""
    layer = _tar(
        {"bin/busybox": Path("/usr/bin/busybox").read_bytes()}, {f"bin/{a}": "busybox" for a in _APPLETS}
    )
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    config = _json(
        {
            "architecture": machine,
            "os": "linux",
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    oci = "application/vnd.oci.image"
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{oci}.manifest.v1+json",
            "config": _described(config, f"{oci}.config.v1+json"),
            "layers": [_described(layer, f"{oci}.layer.v1.tar")],
        }
    )
    described = _described(manifest, f"{oci}.manifest.v1+json")
    described["annotations"] = {"io.containerd.image.name": IMAGE}
    index = _json({"schemaVersion": 2, "manifests": [described]})
    blobs = {f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in (layer, config, manifest)}
    return _tar({"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": index, **blobs}, {})


def _tar(files: dict[str, bytes], links: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return out.getvalue()


def _described(blob: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def _json(document: object) -> bytes:
    return json.dumps(document).encode()
