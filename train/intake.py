"""What is wrong with a training folder is told at the start: damaged pictures, copies, singletons."""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limen.errors import PictureError
from limen.images import check_size, decode_picture
from limen.train.pictures import Pictures, PicturesError

MAX_DAMAGED_SHARE = 0.1
NAMED = 5

log = logging.getLogger(__name__)


def checked(pictures: Pictures, *, decode_all: bool = False) -> Pictures:
    """`pictures` without those that cannot be read; each kind of trouble is one warning.

    The headers are read, or, with `decode_all`, everything is decoded; what only decoding would
    show is skipped during training (`limen.train.decoding`). Copies stay in, and so do identities
    with one picture, which batches leave out. PicturesError where more than a tenth is damaged,
    or fewer than two identities are left.
    """
    troubles = [_trouble(content, decode_all) for content in pictures.encoded]
    damaged = np.array([trouble is not None for trouble in troubles], dtype=bool)
    if damaged.any():
        first = int(damaged.argmax())
        refuse_too_many(pictures, int(damaged.sum()), f"{pictures.paths[first]}: {troubles[first]}")
        paths = [pictures.paths[row] for row in np.flatnonzero(damaged).tolist()]
        log.warning(
            "part '%s': %d of %d pictures cannot be read and are left out: %s",
            pictures.part,
            len(paths),
            len(pictures),
            name_some(paths),
        )
        labelled = bool(pictures.names)
        pictures = _keep(pictures, ~damaged)
        if labelled and len(pictures.names) < 2:
            raise PicturesError(
                f"part '{pictures.part}': {len(pictures.names)} identities have a picture that can "
                "be read; learning to tell people apart needs two or more"
            )
    _tell_copies(pictures)
    singletons = sum(len(group) == 1 for group in pictures.by_identity)
    if singletons:
        log.warning(
            "part '%s': %d of %d identities have a single picture, no mated pair, and are left out",
            pictures.part,
            singletons,
            len(pictures.names),
        )
    return pictures


def refuse_too_many(pictures: Pictures, damaged: int, example: str) -> None:
    """PicturesError where `damaged` is more than a tenth of `pictures`; with one's trouble."""
    if damaged > MAX_DAMAGED_SHARE * len(pictures):
        raise PicturesError(
            f"part '{pictures.part}': {damaged} of {len(pictures)} pictures cannot be read, more "
            f"than {MAX_DAMAGED_SHARE:.0%} ({example}): copy the folder again, or take them out"
        )


def name_some(paths: Sequence[str]) -> str:
    """The first few of `paths`, and how many more there are."""
    more = len(paths) - NAMED
    return ", ".join(paths[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _trouble(content: bytes, decode: bool) -> str | None:
    """What is wrong with a picture, None where nothing is."""
    try:
        if decode:
            decode_picture(content)
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                check_size(*image.size)
                return None
    except PictureError as error:
        return str(error)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        return "not a picture that can be read"


def _keep(pictures: Pictures, kept: NDArray[np.bool_]) -> Pictures:
    rows = np.flatnonzero(kept).tolist()
    old = np.unique(pictures.identity[rows])
    old = old[old >= 0]
    renumbered = np.full(len(pictures.names) + 1, -1, np.int64)  # the last stands for nobody
    renumbered[old] = np.arange(len(old))
    return replace(
        pictures,
        encoded=[pictures.encoded[row] for row in rows],
        paths=[pictures.paths[row] for row in rows],
        identity=renumbered[pictures.identity[rows]],
        names=[pictures.names[number] for number in old.tolist()],
        teachers={name: values[rows] for name, values in pictures.teachers.items()},
    )


def _tell_copies(pictures: Pictures) -> None:
    identities: defaultdict[bytes, list[int]] = defaultdict(list)
    for content, identity in zip(pictures.encoded, pictures.identity, strict=True):
        identities[hashlib.blake2b(content, digest_size=16).digest()].append(int(identity))
    copied = [group for group in identities.values() if len(group) > 1]
    if not copied:
        return
    mixed = sum(len({one for one in group if one >= 0}) > 1 for group in copied)
    log.warning(
        "part '%s': %d pictures are copies of another%s",
        pictures.part,
        sum(len(group) - 1 for group in copied),
        f"; {mixed} pictures are filed under two identities, of which one is wrong"
        if mixed
        else "",
    )
