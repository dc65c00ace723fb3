"""Pictures of things and of two people, and embeddings of scikit-learn's digits."""

import json
from pathlib import Path

import numpy as np
import pytest

from limen.errors import LimenError
from limen.images import encode_jpeg, read_picture

datasets = pytest.importorskip("sklearn.datasets", reason="needs the extra 'uses'")


@pytest.fixture(scope="session")
def limen():
    """The command line in this process, as `main` runs it; its exit code is checked.

    Returns the JSON document, the lines on stdout, or for code 2 the sentence.
    """
    from typer.testing import CliRunner

    from limen.cli.main import app

    def run(*arguments: object, code: int | tuple[int, ...] = 0):
        words = [str(word) for word in arguments]
        done = CliRunner().invoke(app, words, env={"COLUMNS": "160"}, prog_name="limen")
        if isinstance(done.exception, LimenError):
            assert code == 2, f"{words}\n{done.exception}"
            return str(done.exception)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        allowed = code if isinstance(code, tuple) else (code,)
        assert done.exit_code in allowed, f"{words}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout) if "--json" in words else done.stdout

    return run


@pytest.fixture(scope="session")
def digits():
    """Embeddings (n, 16) of digits 0 to 9 by linear discriminants fitted on others; labels (n,)."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    source = datasets.load_digits()
    fit = np.arange(len(source.target)) % 2 == 0
    model = LinearDiscriminantAnalysis(n_components=9).fit(source.data[fit], source.target[fit])
    found = model.transform(source.data[~fit]).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True), source.target[~fit]


@pytest.fixture(scope="session")
def digits_file(digits, tmp_path_factory):
    """The digits as a file from elsewhere."""
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    embeddings, label = digits
    names = np.array([f"digit-{row:04d}" for row in range(len(label))])
    np.savez(path, embedding=embeddings, label=label, name=names)
    return path


@pytest.fixture(scope="session")
def shots():
    """Pictures by name: three shots of an astronaut, two of an admiral, and things."""
    data = pytest.importorskip("skimage.data", reason="scikit-image carries a picture of a person")
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib carries another")
    astronaut = data.astronaut()[:320, 60:400]
    hopper = read_picture(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    found = {}
    for number, gain in enumerate((1.0, 0.8, 1.15)):
        found[f"eileen/{number}.jpg"] = np.clip(astronaut * gain, 0, 255).astype(np.uint8)
    for number, gain in enumerate((1.0, 0.85)):
        found[f"grace/{number}.jpg"] = np.clip(hopper * gain, 0, 255).astype(np.uint8)
    found["things/coffee.jpg"] = data.coffee()
    return found


@pytest.fixture
def album(shots, tmp_path):
    """Those shots in folders, and a file that is no picture."""
    folder = tmp_path / "album"
    for name, image in shots.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode_jpeg(image, 92))
    (folder / "things" / "broken.jpg").write_bytes(b"\xff\xd8 not really")
    return folder
