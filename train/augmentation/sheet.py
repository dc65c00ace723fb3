"""A contact sheet: what a recipe does to its pictures, to be looked at before hours are spent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.errors import PictureError
from limen.files import write_atomically
from limen.train.augmentation.geometry import Crop
from limen.train.augmentation.pipeline import augment
from limen.train.augmentation.settings import Augmentation, preset
from limen.train.decoding import SoundDecoder
from limen.train.pictures import FIT, open_pictures
from limen.train.recipe import Recipe

LABEL_PX = 110
COLUMNS = 10
EFFECTS = (
    "grey",
    "near_infrared",
    "backlight",
    "low_light",
    "blur",
    "motion_blur",
    "defocus",
    "low_resolution",
    "noise",
    "jpeg",
    "mask",
    "sunglasses",
)


def contact_sheet(
    crops: Sequence[Crop],
    settings: Sequence[tuple[str, Augmentation]],
    rng: np.random.Generator,
    columns: int = COLUMNS,
) -> NDArray[np.uint8]:
    """Crops as they are, under each of the named settings, and under each effect alone.

    crops: at least one, all (px, px, 3) uint8 RGB. What comes back is (H, W, 3) uint8 RGB: a row
    of untouched crops, two rows for each of `settings`, a row for each of `EFFECTS`.
    """
    if not crops:
        raise ValueError("expected one crop or more, found none")
    shown = [crops[i % len(crops)] for i in range(columns)]
    rows = [_row("as they are", shown)]
    for name, one in settings:
        rows += [_row(name, [augment(crop, one, rng) for crop in shown]) for _ in range(2)]
    for effect in EFFECTS:
        alone = preset("none").model_copy(update={effect: 1.0})
        rows.append(_row(effect, [augment(crop, alone, rng) for crop in shown]))
    return np.concatenate(rows)


def recipe_sheet(recipe: Recipe, data: Path) -> NDArray[np.uint8]:
    """The contact sheet of a recipe's stages on pictures of the folder `data`, (H, W, 3) uint8 RGB.

    The recipe's seed chooses the pictures. PicturesError where the folder has none.
    """
    fit = open_pictures(data, FIT)
    rng = np.random.default_rng([recipe.seed, 6])
    chosen = rng.choice(len(fit), min(COLUMNS, len(fit)), replace=False)
    decoder = SoundDecoder(fit, recipe.input_px)
    crops = [decoder.decode(int(index))[1] for index in chosen]
    stages = [(stage.name, stage.augmentation or recipe.augmentation) for stage in recipe.stages]
    return contact_sheet(crops, stages, rng)


def write_png(path: Path, sheet: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) uint8 RGB as a PNG file. PictureError where the file cannot be written."""
    _, content = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    try:
        with write_atomically(path) as file:
            file.write(content.tobytes())
    except OSError as error:
        raise PictureError(f"{path}: cannot be written ({error.strerror})") from error


def _row(label: str, crops: Sequence[Crop]) -> NDArray[np.uint8]:
    margin = np.full((crops[0].shape[0], LABEL_PX, 3), 255, np.uint8)
    place = (4, margin.shape[0] // 2)
    cv2.putText(
        margin, label[:16], place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA
    )
    return np.concatenate([margin, *crops], axis=1)
