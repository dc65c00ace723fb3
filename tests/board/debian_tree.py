"""A folder with another Debian in it, for tests that need its Python, and wheels from the index."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import limen

HOOKS = "/usr/share/mmdebstrap/hooks/merged-usr"
MIRROR = "http://deb.debian.org/debian"
PACKAGES = "base-files,coreutils,dash,bash,python3,ca-certificates,libstdc++6"
# glibc 2.36 of Bookworm runs them all; pip takes a tag literally, so each is named.
TAGS = ("2_34", "2_28", "2_27", "2_26", "2_24", "2_17")
SITE = "/opt/site"


class MirrorError(Exception):
    """Debian's mirror or the package index gave nothing: no fault of what is tested."""


def missing(*tools: str) -> str | None:
    """What this machine lacks to make and enter a tree, in a sentence; None where nothing."""
    for tool in ("mmdebstrap", "chroot", *tools):
        if shutil.which(tool) is None:
            return f"{tool} is not installed: see docs/testing.md"
    if os.geteuid() != 0:
        return "a chroot needs root"
    return None


def make_tree(tree: Path, release: str, architecture: str, packages: Sequence[str] = ()) -> None:
    """Extract Debian's files, without running anything of theirs. MirrorError where it cannot."""
    done = subprocess.run(
        [
            *("mmdebstrap", f"--architectures={architecture}", "--variant=extract", "--mode=root"),
            *(f"--hook-dir={HOOKS}", f"--include={','.join((PACKAGES, *packages))}"),
            *(release, tree, f"deb {MIRROR} {release} main"),
        ],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode != 0:
        raise MirrorError(f"no {architecture} tree from {MIRROR}: {done.stderr.strip()[-300:]}")
    (tree / "proc").mkdir(exist_ok=True)
    (tree / "opt").mkdir(exist_ok=True)


def install_wheels(
    tree: Path, python: str, architecture: str, wanted: Sequence[str], site: str = SITE
) -> None:
    """Install wheels of another platform into the tree. AssertionError where one does not exist."""
    tag = "cp" + python.replace(".", "")
    target = tree / site.lstrip("/")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:"),
            *("--disable-pip-version-check", "--no-compile", "--target", target),
            *(f"--platform=manylinux_{version}_{architecture}" for version in TAGS),
            *(f"--platform=manylinux2014_{architecture}", f"--python-version={python}"),
            *("--implementation=cp", f"--abi={tag}", "--abi=abi3", "--abi=none", *wanted),
        ],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    if "No matching distribution" in done.stderr:
        raise AssertionError(f"a wheel for Python {python} is missing: {done.stderr[-1000:]}")
    if done.returncode != 0:
        raise MirrorError(f"no wheels from the package index: {done.stderr[-300:]}")
    # Byte code by a Python of the same version costs seconds; by an emulated one, a minute.
    here = "{}.{}".format(*sys.version_info)
    compiler = sys.executable if python == here else shutil.which(f"python{python}")
    if compiler is not None:
        parts = [target / name for name in ("numpy", "cv2", "scipy", "limen", "pydantic", "typer")]
        subprocess.run(
            [compiler, "-m", "compileall", "-qq", *(str(part) for part in parts if part.exists())],
            capture_output=True,
            check=False,  # a help only
        )


@contextlib.contextmanager
def entered(tree: Path) -> Iterator[None]:
    """The tree with /proc; not /sys, with which qemu 7.2 crashes in both runtimes."""
    subprocess.run(["mount", "--bind", "/proc", tree / "proc"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", tree / "proc"], check=True)


def run_python(
    tree: Path,
    *arguments: str,
    path: Sequence[str] = (SITE,),
    timeout_s: float,
    **environment: str,
) -> str:
    """Run the tree's Python; its stdout. AssertionError, with its stderr, where it fails."""
    done = subprocess.run(
        [shutil.which("chroot") or "chroot", tree, "/usr/bin/python3", *arguments],
        env={
            "HOME": "/root",
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": ":".join(path),
            "PYTHONDONTWRITEBYTECODE": "1",  # each tree lives for one test
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-3000:]}"
    return done.stdout


def built_wheel(folder: Path) -> Path:
    """The wheel of the source tree that these tests are part of, which is the version under test."""
    root = Path(__file__).resolve().parents[2]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, root],
        check=True,
    )
    (wheel,) = folder.glob(f"limen-{limen.__version__}-*.whl")
    return wheel
