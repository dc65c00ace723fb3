"""A tiny network, a small folder of synthetic pictures, and the bundle exported from both.

What needs torch is imported inside the fixtures, so that a board's installation can collect.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

if TYPE_CHECKING:
    from limen.export.recipe import ExportRecipe
    from limen.manifest import Manifest
    from limen.train.checkpoint import Checkpoint
    from limen.train.networks.mobilenet import MobileNetEmbedder
    from limen.train.pictures import Pictures

# Makes the networks beside these tests importable.
sys.path.insert(0, str(Path(__file__).parent))

WIDTH = 0.125
PX = 112
PEOPLE_TO_FIT, PEOPLE_TO_REPORT, TAKES = 6, 4, 4


@dataclass(frozen=True)
class Exported:
    """What the session's one export was given and gave."""

    path: Path
    manifest: Manifest
    checkpoint: Checkpoint
    folder: Path
    made_at: datetime
    told: list[str]


def picture_of(person: int, take: int) -> NDArray[np.uint8]:
    """A blotchy (112, 112, 3) picture: a person's own pattern, a little changed by each take."""
    own = np.random.default_rng([person]).uniform(0, 255, (7, 7, 3))
    changed = own + np.random.default_rng([person, take]).normal(0, 12, own.shape)
    large = cv2.resize(changed.astype(np.float32), (PX, PX), interpolation=cv2.INTER_CUBIC)
    return np.clip(large, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def draw_picture() -> Callable[[int, int], NDArray[np.uint8]]:
    """By person and take: a (112, 112, 3) uint8 RGB picture."""
    return picture_of


def people_of(part: str, count: int) -> list[str]:
    """The first names whose hash puts them into `part`."""
    from limen.train.pictures import part_by_hash

    names = (f"person{number}" for number in itertools.count())
    return list(itertools.islice((n for n in names if part_by_hash(n) == part), count))


def small_recipe(**changes: Any) -> ExportRecipe:
    """The shipped 'full' recipe on few crops, without what a loaded machine would break."""
    from limen.export.recipe import ExportRecipe, load_export_recipe

    values = load_export_recipe("full").model_dump(mode="json")
    values["calibration"]["crops"] = 16
    values["limits"]["int8"]["latency_ratio"] = None
    values |= {"resamples": 20, "latency_runs": 2, "threads": [1]}
    return ExportRecipe.model_validate(values | changes)


@pytest.fixture(scope="session")
def recipe() -> Callable[..., ExportRecipe]:
    """The recipe of these tests, with changes by name."""
    return small_recipe


@pytest.fixture(scope="session")
def tiny_network() -> Callable[[int], MobileNetEmbedder]:
    """By seed: a random network, scaled and shifted in every layer as a trained one is."""
    import torch

    from limen.train.networks.mobilenet import MobileNetEmbedder

    def make(seed: int) -> MobileNetEmbedder:
        torch.manual_seed(seed)
        network = MobileNetEmbedder(width=WIDTH)
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):  # no layer's output drowns in rounding
                torch.nn.init.kaiming_normal_(module.weight, mode="fan_in")
            elif isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.normal_(module.running_mean, std=0.1)
                torch.nn.init.uniform_(module.running_var, 0.8, 1.2)
                torch.nn.init.uniform_(module.weight, 0.9, 1.1)
                torch.nn.init.normal_(module.bias, std=0.1)
        return network.eval()

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Callable[[MobileNetEmbedder], Checkpoint]:
    """A checkpoint of a tiny network, with a provenance that a card can tell."""
    from limen.train.checkpoint import Checkpoint
    from limen.train.recipe import Recipe

    recipe = Recipe.model_validate(
        {
            "model": {"width": WIDTH},
            "stages": [{"name": "none", "steps": 1, "objectives": [{"kind": "triplet"}]}],
        }
    )

    def make(network: MobileNetEmbedder) -> Checkpoint:
        return Checkpoint(
            recipe=recipe,
            step=1,
            channels=network.channels,
            weights={},
            averaged=network.state_dict(),
            optimizer=None,
            provenance={
                "data": [{"part": "fit", "identities": 6, "pictures": 24}],
                "teachers": ["sface"],
                "slimmed_from": {"file": "large.onnx", "sha256": "ab" * 32},
            },
            validation={},
        )

    return make


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people to fit, four to report, four pictures each, one folder a person."""
    folder = tmp_path_factory.mktemp("pictures")
    names = [*people_of("fit", PEOPLE_TO_FIT), *people_of("report", PEOPLE_TO_REPORT)]
    for number, name in enumerate(names):
        (folder / name).mkdir()
        for take in range(TAKES):
            bgr = cv2.cvtColor(picture_of(number, take), cv2.COLOR_RGB2BGR)
            assert cv2.imwrite(str(folder / name / f"{take}.png"), bgr)
    return folder


@pytest.fixture(scope="session")
def exported(
    tmp_path_factory: pytest.TempPathFactory,
    picture_folder: Path,
    tiny_network: Callable[[int], MobileNetEmbedder],
    tiny_checkpoint: Callable[[MobileNetEmbedder], Checkpoint],
) -> Exported:
    """The one export of the session: the conversions take most of the tests' time."""
    from limen.export.exporter import export_bundle
    from limen.train.checkpoint import save_checkpoint

    folder = tmp_path_factory.mktemp("export")
    checkpoint = tiny_checkpoint(tiny_network(1))
    save_checkpoint(folder / "best.pt", checkpoint)
    told: list[str] = []
    made_at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    manifest = export_bundle(
        folder / "best.pt",
        picture_folder,
        folder / "tiny.limen",
        name="tiny",
        pictures="drawn by a test",
        recipe=small_recipe(),
        report=told.append,
        clock=lambda: made_at,
    )
    return Exported(folder / "tiny.limen", manifest, checkpoint, picture_folder, made_at, told)


@pytest.fixture(scope="session")
def held_out(picture_folder: Path) -> Pictures:
    """The pictures of the people to report on."""
    from limen.train.pictures import REPORT, open_pictures

    return open_pictures(picture_folder, REPORT)


@pytest.fixture(scope="session")
def crops(held_out: Pictures) -> NDArray[np.uint8]:
    """Their crops, (16, 112, 112, 3) RGB."""
    return np.stack([held_out.decode(index, PX) for index in range(len(held_out))])


@pytest.fixture
def fading_network(tiny_network: Callable[[int], MobileNetEmbedder]) -> MobileNetEmbedder:
    """A warm start in the middle of its fade."""
    from limen.train.networks.blocks import FadingReLU

    network = tiny_network(2)
    for module in network.modules():
        if isinstance(module, FadingReLU):
            module.slope.fill_(0.25)
    network.set_fade(0.5)
    return network
