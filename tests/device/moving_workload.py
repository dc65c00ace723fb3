"""A gallery of the old model, and a process that moves it to the new one, to be killed.

    python moving_workload.py GALLERY

Writes a line for every few crops that are staged, and `switched` at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from limen.device.gallery import Gallery
from limen.device.gallery.moving import stage, switch
from limen.embedder import unit_norm
from limen.images import encode_jpeg

OLD, NEW = "old" * 8, "new" * 8
AT = "2026-11-01T12:00:00+00:00"
Colour = tuple[int, int, int]


class Coloured:
    """Embeds a crop's mean colour; each model in a turn and a size of its own."""

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        self.size = 8 if model_id == OLD else 12

    def embed(self, aligned: np.ndarray) -> np.ndarray:
        vectors = np.zeros((len(aligned), self.size), np.float32)
        vectors[:, :3] = np.roll(aligned.mean(axis=(1, 2)), self.size % 3, axis=1)
        return unit_norm(vectors)


def colour_crop(colour: Colour) -> np.ndarray:
    """A (112, 112, 3) crop, chequered as the fake door's faces are."""
    rows, columns = np.indices((112, 112)) // 8
    light = np.where((rows + columns) % 2 == 0, 1.0, 0.4)[..., None]
    return np.asarray(light * colour, np.uint8)


def enrol(gallery: Gallery, name: str, colour: Colour, *, crops: bool) -> None:
    """Two references of the old model."""
    darker = tuple(round(0.9 * value) for value in colour)
    pictures = np.stack([colour_crop(colour), colour_crop((darker[0], darker[1], darker[2]))])
    kept = [encode_jpeg(picture) for picture in pictures] if crops else ()
    gallery.enrol(name, Coloured(OLD).embed(pictures), [0.9, 0.8], AT, crops=kept)


def old_gallery(path: Path, with_crops: dict[str, Colour], without: dict[str, Colour]) -> Gallery:
    """An open gallery of the old model."""
    gallery = Gallery.open(path, model_id=OLD, create=True)
    for names, crops in ((with_crops, True), (without, False)):
        for name, colour in names.items():
            enrol(gallery, name, colour, crops=crops)
    return gallery


def main(path: Path) -> None:
    with Gallery.open(path) as gallery:
        print("ready", flush=True)
        unreadable = stage(
            gallery.store, NEW, Coloured(NEW).embed, lambda done: print(done, flush=True)
        )
        assert switch(gallery.store, NEW, unreadable)
        print("switched", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
