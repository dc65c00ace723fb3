"""The golden inputs on ARM: Debian's userland and the board's wheels, under emulation.

Skipped where qemu-user or mmdebstrap is missing, or where the machine may not chroot. It exercises
the ARM wheels, not a board's speed, and needs a network for Debian and the package index.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from limen.bundle import parse_bundle
from limen.sealing import write_bundle

HOOKS = "/usr/share/mmdebstrap/hooks/merged-usr"
MIRROR = "deb http://deb.debian.org/debian trixie main"
PACKAGES = "base-files,coreutils,dash,bash,python3,ca-certificates,libstdc++6"
TAGS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
WHEELS = (
    *("numpy>=2", "opencv-python-headless>=4.10,<4.12", "ai-edge-litert", "onnxruntime"),
    *("pydantic", "cryptography", "pillow", "scipy"),
)
REPLAY = """
import dataclasses, json, platform, sys
sys.path[:0] = ["/opt/site"]
from limen.bundle import open_bundle
from limen.conformance import replay
print(json.dumps({
    "machine": platform.machine(),
    "graphs": [dataclasses.asdict(r) for r in replay(open_bundle("/opt/golden.limen"))],
}))
"""


def _needed() -> str | None:
    for tool in ("qemu-aarch64-static", "mmdebstrap", "chroot"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    if os.geteuid() != 0:
        return "a chroot needs root"
    if not Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists():
        return "binfmt_misc has no qemu-aarch64 (update-binfmts --enable qemu-aarch64)"
    return None


def _run(*arguments: str | Path, timeout_s: int = 900) -> str:
    done = subprocess.run(
        [str(a) for a in arguments], capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _golden_bundle(path: Path) -> None:
    """The shipped bundle with golden inputs as this machine answers them."""
    from importlib import resources

    from limen.export.gate import golden_of
    from limen.export.graphs import BuiltGraph

    content = (resources.files("limen.models") / "default.limen").read_bytes()
    shipped = parse_bundle(content, "shipped")
    manifest = shipped.manifest
    parts = {part.path: bytes(shipped.part(part.path)) for part in manifest.parts()}
    if manifest.golden is None:
        graphs = [
            BuiltGraph(g.path, g.runtime, g.precision, bytes(shipped.part(g.path)))
            for g in manifest.graphs
        ]
        made, entry = golden_of(graphs, manifest.input.px)
        manifest = manifest.model_copy(update={"golden": entry})
        parts[entry.path] = made
    write_bundle(path, manifest, parts)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_arm_wheels_under_emulation_conform(tmp_path: Path) -> None:
    missing = _needed()
    if missing is not None:
        pytest.skip(missing)
    pytest.importorskip("onnxruntime")
    tree = tmp_path / "tree"
    made = subprocess.run(
        [
            *("mmdebstrap", "--architectures=arm64", "--variant=extract", "--mode=root"),
            *(f"--hook-dir={HOOKS}", f"--include={PACKAGES}", "trixie", str(tree), MIRROR),
        ],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"Debian's mirror gave no tree: {made.stderr.strip().splitlines()[-1]}")
    site = tree / "opt" / "site"
    _run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:"),
        *(f"--platform={tag}_aarch64" for tag in TAGS),
        *("--python-version=3.13", "--implementation=cp", "--abi=cp313", "--abi=abi3"),
        *("--abi=none", "--target", site, *WHEELS),
    )
    import limen

    shutil.copytree(Path(limen.__file__).parent, site / "limen")
    _golden_bundle(tree / "opt" / "golden.limen")
    (tree / "opt" / "replay.py").write_text(REPLAY)
    (tree / "proc").mkdir(exist_ok=True)
    _run("mount", "--bind", "/proc", tree / "proc")  # not /sys: qemu 7.2 crashes in the runtimes
    try:
        said = _run("chroot", tree, "/usr/bin/python3.13", "/opt/replay.py", timeout_s=2400)
    finally:
        _run("umount", tree / "proc")
    found = json.loads(said.splitlines()[-1])
    print(found)
    assert found["machine"] == "aarch64"
    assert {graph["outcome"] for graph in found["graphs"]} == {"conforms"}
    assert np.isfinite([graph["distance"] for graph in found["graphs"]]).all()
    assert all(graph["decisions"] >= 20 and graph["changed"] == 0 for graph in found["graphs"])
