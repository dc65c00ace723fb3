"""Who comes to the demonstration's door: two pictures from PyPI wheels, or the user's own.

No picture of a person is part of limen. The two are read, at run time, out of packages that the
`demo` extra installs: scikit-image's astronaut (Eileen Collins; NASA) and matplotlib's
grace_hopper.jpg (Grace Hopper; U.S. Navy). Both are in the public domain.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limen.errors import PictureError, RuntimeUnavailableError, SourceError
from limen.images import PICTURE_SUFFIXES, read_picture

Outline = tuple[tuple[int, int], ...]

INSTALL_HINT = "pip install 'limen[demo]'"
MAX_STRANGERS = 3
MAX_PICTURES = 24  # of one person; more would only make the demonstration slower

# Where each person ends and the studio begins, px in the picture as it comes (`_OUTLINED_AT`).
_ASTRONAUT_OUTLINE: Outline = (
    (226, 15), (205, 21), (187, 32), (166, 47), (155, 70), (156, 96), (163, 114), (174, 120),
    (180, 134), (187, 149), (160, 151), (134, 162), (117, 186), (114, 212), (84, 233), (62, 262),
    (52, 292), (40, 340), (27, 392), (23, 430), (31, 466), (56, 490), (78, 511), (511, 511),
    (497, 440), (479, 392), (442, 358), (402, 346), (366, 350), (357, 310), (345, 272), (327, 252),
    (310, 244), (303, 230), (296, 212), (285, 196), (271, 182), (257, 173), (262, 150), (269, 133),
    (277, 134), (281, 125),
    (295, 104), (300, 80), (295, 56), (280, 39), (262, 26), (242, 17),
)  # fmt: skip
_HOPPER_OUTLINE: Outline = (
    (262, 26), (218, 40), (184, 60), (177, 84), (152, 94), (150, 120), (152, 150), (156, 166),
    (155, 198), (161, 230), (164, 258), (172, 280), (186, 295), (200, 300), (202, 318), (150, 359),
    (96, 374), (52, 396), (40, 422), (32, 470), (22, 530), (14, 599), (511, 599), (511, 442),
    (503, 416), (478, 392), (420, 370), (366, 347), (334, 318), (336, 306), (346, 297), (357, 284),
    (361, 260), (369, 234), (375, 206), (373, 186), (368, 170), (370, 140), (369, 108), (362, 90),
    (348, 86), (343, 70), (318, 49), (290, 32),
)  # fmt: skip
_OUTLINED_AT = {"astronaut": (512, 512), "grace_hopper": (600, 512)}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who may come to the door.

    pictures: (H, W, 3) uint8 RGB each, one or more; outline: the silhouette in the first picture,
    where it is known.
    """

    subject_id: str
    name: str
    pictures: tuple[NDArray[np.uint8], ...]
    outline: Outline | None = None


@dataclass(frozen=True, slots=True)
class Cast:
    """The one whom the door learns, and those whom it never met."""

    enrolled: Person
    strangers: tuple[Person, ...]


def demo_people() -> Cast:
    """The two people of the `demo` extra: the astronaut is enrolled, Grace Hopper is the stranger.

    RuntimeUnavailableError where a wheel is missing or carries the picture no more.
    """
    return Cast(enrolled=_astronaut(), strangers=(_grace_hopper(),))


def from_folder(folder: Path) -> Cast:
    """The user's own people: one subfolder each, named after them, with pictures inside.

    The alphabetically first is enrolled, up to three others are strangers. Files that are no
    pictures are passed over. SourceError where fewer than two people have a picture.
    """
    people = [person for path in _subfolders(folder) if (person := _read_person(path))]
    if len(people) < 2:
        raise SourceError(
            f"{folder}: {len(people)} subfolders with pictures, expected two or more: the first, "
            "alphabetically, is enrolled and the others are strangers"
        )
    return Cast(enrolled=people[0], strangers=tuple(people[1 : 1 + MAX_STRANGERS]))


def _subfolders(folder: Path) -> list[Path]:
    try:
        inside = sorted(folder.iterdir(), key=lambda path: path.name.casefold())
    except OSError as error:
        raise SourceError(f"{folder}: cannot be read ({error.strerror}); check the path") from error
    return [path for path in inside if path.is_dir() and not path.name.startswith(".")]


def _read_person(folder: Path) -> Person | None:
    pictures: list[NDArray[np.uint8]] = []
    files = [path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES]
    for path in sorted(files)[:MAX_PICTURES]:
        try:
            pictures.append(read_picture(path))
        except PictureError:
            continue  # a folder of one's own may hold anything
    if not pictures:
        return None
    return Person(subject_id=folder.name, name=folder.name, pictures=tuple(pictures))


def _astronaut() -> Person:
    _require("skimage", "scikit-image")
    from skimage import data

    read: Any = data.astronaut  # scikit-image has no types
    try:
        picture = np.asarray(read(), np.uint8)
    except (OSError, AttributeError, ValueError) as error:
        raise _no_picture("scikit-image", "the astronaut") from error
    return Person(
        "eileen", "Eileen Collins", (picture,), _outline("astronaut", picture, _ASTRONAUT_OUTLINE)
    )


def _grace_hopper() -> Person:
    _require("matplotlib", "matplotlib")
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    try:
        picture = read_picture(path)
    except PictureError as error:
        raise _no_picture("matplotlib", path.name) from error
    return Person(
        "grace", "Grace Hopper", (picture,), _outline("grace_hopper", picture, _HOPPER_OUTLINE)
    )


def _outline(
    key: str, picture: NDArray[np.uint8], outline: Sequence[tuple[int, int]]
) -> Outline | None:
    """The outline, unless a later wheel carries the picture at another size."""
    return tuple(outline) if picture.shape[:2] == _OUTLINED_AT[key] else None


def _require(module: str, package: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise RuntimeUnavailableError(
            f"the demonstration takes a picture from {package}, which is not installed: "
            f"{INSTALL_HINT}, or bring people of your own with --source FOLDER"
        )


def _no_picture(package: str, picture: str) -> RuntimeUnavailableError:
    return RuntimeUnavailableError(
        f"the {package} that is installed carries no {picture}: {INSTALL_HINT}, "
        "or bring people of your own with --source FOLDER"
    )
