"""An embedder of something else than faces: scikit-learn's handwritten digits, by `limen train`."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train'")
pytest.importorskip("pytorch_metric_learning", reason="needs the extra 'train'")
datasets = pytest.importorskip("sklearn.datasets")

from limen.calibration.rates import equal_error_rate  # noqa: E402
from limen.calibration.scores import mated_and_non_mated  # noqa: E402
from limen.images import letterbox  # noqa: E402
from limen.train.checkpoint import load_checkpoint  # noqa: E402
from limen.train.networks.family import build_network  # noqa: E402
from limen.train.pictures import part_by_hash  # noqa: E402
from limen.train.validation import to_input  # noqa: E402

TRAINED_ON, HELD_OUT = 40, 30  # pictures a digit


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder of PNGs by digit, and pictures (n, 28, 28, 3) and digits of others like them.

    The folder's names send 0, 1 and 8 to validation and report; the others are trained on.
    """
    folder, source = tmp_path_factory.mktemp("digits"), datasets.load_digits()
    crops, labels = [], []
    for digit in range(10):
        for number, image in enumerate(source.images[source.target == digit]):
            grey = cv2.resize((image * 255 / 16).astype(np.uint8), (32, 32))
            if number < TRAINED_ON:
                (folder / str(digit)).mkdir(exist_ok=True)
                cv2.imwrite(str(folder / str(digit) / f"{number:03d}.png"), grey)
            elif number < TRAINED_ON + HELD_OUT and part_by_hash(str(digit)) == "fit":
                crops.append(letterbox(np.repeat(grey[:, :, None], 3, 2), 28))
                labels.append(digit)
    return folder, np.stack(crops), np.array(labels)


def embed(network, crops):
    with torch.no_grad():
        return torch.nn.functional.normalize(network.eval()(to_input(crops))).numpy()


def equal_error(embeddings, labels) -> float:
    return equal_error_rate(*mated_and_non_mated(embeddings, labels))


def recall_at_1(embeddings, labels) -> float:
    cosine = embeddings @ embeddings.T
    np.fill_diagonal(cosine, -1)
    return float((labels[cosine.argmax(1)] == labels).mean())


def test_an_embedder_of_digits_tells_pictures_apart_that_it_has_not_seen(digits, tmp_path) -> None:
    folder, crops, labels = digits
    command = [sys.executable, "-m", "limen.cli.main", "train", "glyphs", "--threads", "1"]
    done = subprocess.run(
        [*command, "--data", str(folder), "--out", str(tmp_path), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["identities"] == 2  # validated on digits of no training picture
    saved = load_checkpoint(tmp_path / "last.pt")
    found = embed(saved.network(), crops)
    assert equal_error(found, labels) < 0.10
    assert recall_at_1(found, labels) > 0.92
    for seed in range(3):  # from .21 to .31; the nearest picture is of the same digit even so
        torch.manual_seed(seed)
        noise = embed(build_network(saved.recipe.model, 28), crops)
        assert equal_error(noise, labels) > 0.18
