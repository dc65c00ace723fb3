"""Pictures of nobody known: a teacher's embeddings make them useful all the same.

A folder of `*.tar` archives of crops, paths as they come, with `teachers.npz` beside them (see
`limen.train.pictures`), or of shards that `limen prepare` wrote with a teacher. They carry identity -1 and take part in distillation only.
"""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from limen.images import PICTURE_SUFFIXES
from limen.train.pictures import Pictures, PicturesError, read_teachers
from limen.train.shards import UNLABELLED as UNLABELLED
from limen.train.shards import find_shards, read_shards

log = logging.getLogger(__name__)


def open_unlabelled(folder: Path) -> Pictures:
    """Read `folder`'s archives; every picture has identity -1.

    Pictures that not every teacher has seen are left out with a warning. PicturesError where
    there is no archive, no teachers.npz, or no picture of an archive in it.
    """
    if shards := find_shards(folder):
        pictures = read_shards(folder, shards, UNLABELLED)
        if not pictures.teachers:
            raise PicturesError(
                f"{folder}: its shards hold no teacher's embeddings, from which alone pictures of "
                "nobody known are learnt; prepare them with --teacher"
            )
        return pictures
    archives = sorted(folder.glob("*.tar"))
    if not archives:
        raise PicturesError(f"{folder}: expected archives of crops (*.tar), found none")
    teachers_file = folder / "teachers.npz"
    if not teachers_file.is_file():
        raise PicturesError(
            f"{folder}: expected teachers.npz beside the archives, found none; pictures without "
            "an identity are learnt from a teacher's embeddings alone"
        )
    teachers = read_teachers(teachers_file)
    encoded: list[bytes] = []
    paths: list[str] = []
    left_out = 0
    for archive in archives:
        with tarfile.open(archive) as tar:
            for member in tar:
                if not member.isfile() or Path(member.name).suffix.lower() not in PICTURE_SUFFIXES:
                    continue
                content = tar.extractfile(member)
                if content is None or not all(member.name in rows for rows, _ in teachers.values()):
                    left_out += 1
                    continue
                encoded.append(content.read())
                paths.append(member.name)
    if not paths or not teachers:
        raise PicturesError(
            f"{folder}: teachers.npz has no row for any of the {left_out} pictures; its 'path' "
            "holds their names as they are in the archives"
        )
    if left_out:
        log.warning("%s: %d pictures have no teacher's embedding, left out", folder, left_out)
    embeddings = {}
    for teacher, (rows, values) in teachers.items():
        chosen = values[[rows[path] for path in paths]].astype(np.float32)
        norm = np.linalg.norm(chosen, axis=1, keepdims=True)
        embeddings[teacher] = chosen / np.maximum(norm, 1e-12)
    return Pictures(
        part=UNLABELLED,
        encoded=encoded,
        paths=paths,
        identity=np.full(len(paths), -1, np.int64),
        names=[],
        teachers=embeddings,
    )


def with_unlabelled(fit: Pictures, others: Sequence[Pictures]) -> Pictures:
    """`fit` and behind it all of `others`, with the teachers that all of them share."""
    everything = [fit, *others]
    shared = [name for name in fit.teachers if all(name in one.teachers for one in others)]
    for name in shared:
        sizes = {one.teachers[name].shape[1] for one in everything}
        if len(sizes) > 1:
            raise PicturesError(
                f"teacher '{name}' has embeddings of {', '.join(map(str, sorted(sizes)))} numbers "
                "in different folders: it cannot be one teacher"
            )
    return replace(
        fit,
        encoded=[content for one in everything for content in one.encoded],
        paths=[path for one in everything for path in one.paths],
        identity=np.concatenate([one.identity for one in everything]),
        teachers={
            name: np.concatenate([one.teachers[name] for one in everything]) for name in shared
        },
    )
