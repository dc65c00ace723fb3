"""What a board gets: the built wheel alone, its size, and that it works on both numpys."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MAX_MEGABYTES = 460
ROOT = Path(__file__).resolve().parents[2]

CHECK = """
import json, sys
import numpy as np
import limen
bundle = limen.open_bundle()
crop = np.random.default_rng(0).integers(0, 256, (1, 112, 112, 3), dtype=np.uint8)
finder = bundle.detector()
finder.detect(np.zeros((480, 640, 3), np.uint8))
embedding = bundle.embedder().embed(crop)
import limen.device.runtime, limen.device.calibration, limen.calibration.calibrate, limen.cli.main
print(json.dumps({
    "numpy": np.__version__,
    "norm": float(np.linalg.norm(embedding)),
    "head": embedding[0, :4].round(5).tolist(),
    "torch": "torch" in sys.modules,
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", out, ROOT], check=True
    )
    (path,) = out.glob("limen-*.whl")
    return path


@pytest.fixture(scope="module")
def embeddings() -> dict[str, list[float]]:
    return {}


@pytest.mark.parametrize("numpy", ["numpy<2", "numpy>=2"])
def test_the_base_install_is_small_and_works(wheel, numpy, tmp_path, embeddings) -> None:
    site = tmp_path / "site"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"),
            *("--target", site, str(wheel), numpy),
        ],
        check=True,
    )
    # What the wheels hold; byte code, which Python makes again by itself, is not counted.
    megabytes = sum(p.stat().st_size for p in site.rglob("*") if p.is_file()) / 1e6
    print(f"base install with {numpy}: {megabytes:.0f} MB")
    assert megabytes < MAX_MEGABYTES
    installed = {p.name.split("-")[0].lower() for p in site.glob("*.dist-info")}
    assert not installed & {"torch", "onnxruntime", "onnx", "jax"}
    # -S and -I: nothing of the environment that runs the tests can be imported.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(site)!r}){CHECK}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["numpy"].startswith("1." if numpy == "numpy<2" else "2.")
    assert result["norm"] == pytest.approx(1, abs=1e-5)
    assert result["torch"] is False
    embeddings[numpy] = result["head"]
    if len(embeddings) == 2:
        first, second = embeddings.values()
        assert first == pytest.approx(second, abs=1e-4)
