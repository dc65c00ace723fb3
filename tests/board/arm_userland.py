"""An ARM board's userland on another machine: Debian's arm64 files, PyPI's aarch64 wheels, qemu-user.

It exercises what a board installs and computes, not how fast: emulation is 10 to 300 times slower.
Needs root (chroot), `qemu-user-static`, `binfmt-support`, `mmdebstrap` and a network.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import limen

HOOKS = "/usr/share/mmdebstrap/hooks/merged-usr"
MIRROR = "http://deb.debian.org/debian"
PACKAGES = "base-files,coreutils,dash,bash,python3,ca-certificates,libstdc++6"
# glibc 2.36 of Bookworm runs them all; pip takes a tag literally, so each is named.
TAGS = ("2_34", "2_28", "2_27", "2_26", "2_24", "2_17")
SITE, SECOND_RUNTIME = "/opt/site", "/opt/onnx"


@dataclass(frozen=True)
class Release:
    """A Debian release as Raspberry Pi OS is made of it, and the numpy that its picamera2 wants."""

    name: str
    python: str
    numpy: str


BOOKWORM = Release("bookworm", "3.11", "numpy<2")
TRIXIE = Release("trixie", "3.13", "numpy>=2")


class MirrorError(Exception):
    """Debian's mirror or the package index gave nothing: no fault of what is tested."""


def missing() -> str | None:
    """What this machine lacks to run an arm64 userland, in a sentence; None where nothing."""
    for tool in ("qemu-aarch64-static", "mmdebstrap", "chroot"):
        if shutil.which(tool) is None:
            return (
                f"{tool} is not installed: apt install qemu-user-static binfmt-support mmdebstrap"
            )
    if os.geteuid() != 0:
        return "a chroot needs root"
    _mount_binfmt()
    if not Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists():
        return "binfmt_misc has no qemu-aarch64: update-binfmts --enable qemu-aarch64"
    return None


def _mount_binfmt() -> None:
    """After a start without an init system nobody has: as the README of binfmt-support does."""
    if Path("/proc/sys/fs/binfmt_misc/register").exists() or not shutil.which("update-binfmts"):
        return
    for command in (
        ("mount", "-t", "binfmt_misc", "binfmt_misc", "/proc/sys/fs/binfmt_misc"),
        ("update-binfmts", "--enable", "qemu-aarch64"),
    ):
        subprocess.run(command, capture_output=True, check=False)


@contextlib.contextmanager
def board(tree: Path, release: Release, wheel: Path) -> Iterator[Board]:
    """An ARM userland in `tree` with the base package's wheels, gone from the mounts afterwards."""
    _debian(tree, release)
    _install(tree / SITE.lstrip("/"), release, [str(wheel), release.numpy])
    made = Board(tree)
    # Not /sys: with it qemu 7.2 crashes in both runtimes.
    (tree / "proc").mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", "/proc", tree / "proc"], check=True)
    try:
        yield made
    finally:
        subprocess.run(["umount", tree / "proc"], check=True)


@dataclass(frozen=True)
class Board:
    """A tree that one can run programs in."""

    tree: Path

    def add_onnxruntime(self, release: Release) -> None:
        """Beside the base package, so that it can be told whether it is there."""
        _install(self.tree / SECOND_RUNTIME.lstrip("/"), release, ["--no-deps", "onnxruntime"])

    def python(self, *arguments: str, path: Sequence[str] = (SITE,), timeout_s: float) -> str:
        """Run Python in the tree; its stdout. AssertionError, with its stderr, where it fails."""
        environment = {
            "HOME": "/root",
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": ":".join(path),
            "PYTHONDONTWRITEBYTECODE": "1",  # each tree lives for one test
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        done = subprocess.run(
            ["chroot", self.tree, "/usr/bin/python3", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-3000:]}"
        return done.stdout


def _debian(tree: Path, release: Release) -> None:
    source = f"deb {MIRROR} {release.name} main"
    done = subprocess.run(
        [
            *("mmdebstrap", "--architectures=arm64", "--variant=extract", "--mode=root"),
            *(f"--hook-dir={HOOKS}", f"--include={PACKAGES}", release.name, tree, source),
        ],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode != 0:
        raise MirrorError(f"no arm64 tree from {MIRROR}: {done.stderr.strip()[-300:]}")


def _install(site: Path, release: Release, wanted: list[str]) -> None:
    tag = "cp" + release.python.replace(".", "")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:"),
            *("--disable-pip-version-check", "--no-compile", "--target", site),
            *(f"--platform=manylinux_{version}_aarch64" for version in TAGS),
            *("--platform=manylinux2014_aarch64", f"--python-version={release.python}"),
            *("--implementation=cp", f"--abi={tag}", "--abi=abi3", "--abi=none", *wanted),
        ],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    if "No matching distribution" in done.stderr:
        raise AssertionError(f"a wheel for {release.python} is missing: {done.stderr[-1000:]}")
    if done.returncode != 0:
        raise MirrorError(f"no aarch64 wheels from the package index: {done.stderr[-300:]}")
    # Byte code by a Python of the same version costs seconds; by the emulated one, a minute.
    compiler = shutil.which(f"python{release.python}")
    if compiler is not None:
        parts = [site / name for name in ("numpy", "cv2", "scipy", "limen", "pydantic", "typer")]
        subprocess.run(
            [compiler, "-m", "compileall", "-qq", *(str(part) for part in parts if part.exists())],
            check=False,  # a help only
        )


def built_wheel(folder: Path) -> Path:
    """The wheel of the source tree that these tests are part of, which is the version under test."""
    root = Path(__file__).resolve().parents[2]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, root],
        check=True,
    )
    (wheel,) = folder.glob(f"limen-{limen.__version__}-*.whl")
    return wheel
