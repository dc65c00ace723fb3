"""A tiny network, a small folder of synthetic pictures, and the bundle exported from both."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

for _package in ("torch", "onnx", "onnxscript", "onnxruntime", "litert_torch", "ai_edge_quantizer"):
    pytest.importorskip(_package)

import torch

from limen.export.exporter import export_bundle
from limen.manifest import Manifest
from limen.train.checkpoint import Checkpoint, save_checkpoint
from limen.train.network import FadingReLU, MobileNetEmbedder
from limen.train.pictures import REPORT, Pictures, open_pictures, part_by_hash
from limen.train.recipe import Recipe
from limen.train.validation import to_input

WIDTH = 0.125
PX = 112
MADE_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass(frozen=True)
class Exported:
    """What the session's one export was given and gave."""

    path: Path
    manifest: Manifest
    checkpoint: Checkpoint
    folder: Path
    told: list[str]


def picture_of(person: int, take: int) -> NDArray[np.uint8]:
    """A blotchy (112, 112, 3) picture: a person's own pattern, a little changed by each take."""
    own = np.random.default_rng([person]).uniform(0, 255, (7, 7, 3))
    changed = own + np.random.default_rng([person, take]).normal(0, 12, own.shape)
    large = cv2.resize(changed.astype(np.float32), (PX, PX), interpolation=cv2.INTER_CUBIC)
    return np.clip(large, 0, 255).astype(np.uint8)


def people_of(part: str, count: int) -> list[str]:
    """The first names whose hash puts them into `part`."""
    names = (f"person{number}" for number in range(10_000))
    return [name for name, _ in zip(filter(lambda n: part_by_hash(n) == part, names), range(count))]


def tiny_network(seed: int) -> MobileNetEmbedder:
    """A random network whose batch normalisation has seen pictures, so that outputs have a size."""
    torch.manual_seed(seed)
    network = MobileNetEmbedder(width=WIDTH).train()
    crops = np.stack([picture_of(person, 0) for person in range(1000, 1016)])
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        network(to_input(crops))
    return network.eval()


def tiny_checkpoint(network: MobileNetEmbedder) -> Checkpoint:
    recipe = Recipe.model_validate(
        {
            "model": {"width": WIDTH},
            "stages": [{"name": "none", "steps": 1, "objectives": [{"kind": "triplet"}]}],
        }
    )
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


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people to fit, four to report, four pictures each, one folder a person."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, name in enumerate([*people_of("fit", 6), *people_of("report", 4)]):
        (folder / name).mkdir()
        for take in range(4):
            bgr = cv2.cvtColor(picture_of(number, take), cv2.COLOR_RGB2BGR)
            assert cv2.imwrite(str(folder / name / f"{take}.png"), bgr)
    return folder


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, picture_folder: Path) -> Exported:
    folder = tmp_path_factory.mktemp("export")
    checkpoint = tiny_checkpoint(tiny_network(seed=1))
    save_checkpoint(folder / "best.pt", checkpoint)
    told: list[str] = []
    manifest = export_bundle(
        folder / "best.pt",
        picture_folder,
        folder / "tiny.limen",
        name="tiny",
        pictures="drawn by a test",
        calibration_crops=16,
        report=told.append,
        clock=lambda: MADE_AT,
    )
    return Exported(folder / "tiny.limen", manifest, checkpoint, picture_folder, told)


@pytest.fixture(scope="session")
def held_out(picture_folder: Path) -> Pictures:
    return open_pictures(picture_folder, REPORT)


@pytest.fixture(scope="session")
def crops(held_out: Pictures) -> NDArray[np.uint8]:
    return np.stack([held_out.decode(index, PX) for index in range(len(held_out))])


@pytest.fixture
def fading_network() -> MobileNetEmbedder:
    """A warm start in the middle of its fade."""
    network = tiny_network(seed=2)
    for module in network.modules():
        if isinstance(module, FadingReLU):
            module.slope.fill_(0.25)
    network.set_fade(0.5)
    return network
