"""Albums: groups as folders of links, and a list of them that later pictures are added to."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limen.errors import LimenError, ModelMismatchError
from limen.files import sync_folder, write_atomically
from limen.settings import explain_validation_error
from limen.uses.embedding_set import EmbeddingSet

LIST_NAME = "albums.json"
MAX_LIST_BYTES = 512 * 2**20
_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class AlbumsError(LimenError, ValueError):
    """Albums cannot be read or written."""


class Member(BaseModel):
    """Row `part` of a picture: its nearest face is 0, the next 1."""

    model_config = _STRICT

    name: str = Field(max_length=4096)
    part: int = Field(ge=0)


class Album(BaseModel):
    """A group. `number` stays with it when pictures are added or come first."""

    model_config = _STRICT

    number: int = Field(ge=1)
    members: tuple[Member, ...] = Field(min_length=1)


class Albums(BaseModel):
    """All groups of a set of embeddings, with the cut that made them."""

    model_config = _STRICT

    model_id: str = Field(max_length=64)
    method: str = Field(max_length=20)
    threshold: float = Field(gt=-1, le=1)
    basis: str = Field(max_length=400)
    albums: tuple[Album, ...]

    @classmethod
    def read(cls, folder: Path, model_id: str) -> Self:
        """The list in `folder`. AlbumsError where it is missing or wrong.

        ModelMismatchError where it is of another model.
        """
        path = folder / LIST_NAME
        try:
            if path.stat().st_size > MAX_LIST_BYTES:
                raise AlbumsError(f"{path}: larger than {MAX_LIST_BYTES // 2**20} MiB")
            found = cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise AlbumsError(
                f"{path}: cannot be read ({error.strerror}); make albums without --add first"
            ) from error
        except ValidationError as error:
            raise AlbumsError(f"{path}: {explain_validation_error(error, cls)}") from error
        if found.model_id != model_id:
            raise ModelMismatchError(
                f"{path} is of model {found.model_id[:8] or 'unknown'}, this is "
                f"{model_id[:8] or 'unknown'}: make the albums again without --add"
            )
        return found

    def rows_of(self, members: Sequence[Member]) -> NDArray[np.int64]:
        """The album's place in the list for each member, (n,); -1 for one that is in none."""
        place = {
            (member.name, member.part): index
            for index, album in enumerate(self.albums)
            for member in album.members
        }
        return np.array([place.get((m.name, m.part), -1) for m in members], np.int64)


def members_of(found: EmbeddingSet) -> list[Member]:
    """A member for each row: rows of one name are its parts in their order."""
    members: list[Member] = []
    for name in found.name:
        following = bool(members) and members[-1].name == name
        members.append(Member(name=name, part=members[-1].part + 1 if following else 0))
    return members


def albums_of(
    found: EmbeddingSet, number: NDArray[np.int64], keep: Sequence[int] = ()
) -> tuple[Album, ...]:
    """Albums of the groups (n,), from 0. keep: the numbers of those that are there already."""
    members = members_of(found)
    following = max(keep, default=0)
    numbers = [*keep]
    while len(numbers) <= int(number.max(initial=-1)):
        following += 1
        numbers.append(following)
    inside: list[list[Member]] = [[] for _ in numbers]
    for member, group in zip(members, number, strict=True):
        inside[group].append(member)
    return tuple(
        Album(number=n, members=tuple(kept))
        for n, kept in zip(numbers, inside, strict=True)
        if kept
    )


def write_albums(
    folder: Path, albums: Albums, pictures: Path | None, page: str, smallest: int = 2
) -> None:
    """Write the list, the page, and a folder of links for each album of `smallest` or more.

    pictures: where the names are paths; without it there are no links. Only folders that an
    earlier list named are replaced. AlbumsError where `folder` holds anything else, or lies
    within the pictures: its links would be indexed.
    """
    where = folder.resolve()
    if pictures is not None and where.is_relative_to(pictures.resolve()):
        raise AlbumsError(f"{folder} lies among the pictures; name a place outside {pictures}")
    own = {LIST_NAME, "index.html"}
    if folder.exists():
        if not folder.is_dir():
            raise AlbumsError(f"{folder}: expected a folder, found a file")
        others = [entry.name for entry in os.scandir(folder) if entry.name not in own]
        strange = [name for name in others if not _is_album(folder / name)]
        if strange or (others and not (folder / LIST_NAME).is_file()):
            raise AlbumsError(
                f"{folder} holds '{(strange or others)[0]}', which no album is: name a new folder"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if pictures is not None:
            _write_links(folder, albums, pictures.resolve(), smallest)
        with write_atomically(folder / "index.html", 0o600) as file:
            file.write(page.encode("utf-8", "replace"))
        # Last: whoever finds the list finds what it names.
        with write_atomically(folder / LIST_NAME, 0o600) as file:
            file.write(albums.model_dump_json(indent=1).encode("utf-8", "replace"))
    except OSError as error:
        raise AlbumsError(f"{folder}: albums cannot be written ({error.strerror})") from error


def _write_links(folder: Path, albums: Albums, pictures: Path, smallest: int) -> None:
    wanted = [album for album in albums.albums if len(album.members) >= smallest]
    names = {album_name(album.number) for album in wanted}
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False) and entry.name not in names:
            shutil.rmtree(entry.path)
    for album in wanted:
        made = Path(tempfile.mkdtemp(dir=folder, prefix="album-new-"))
        for name in sorted({member.name for member in album.members}):
            link = made / name.replace("/", "__")
            link.symlink_to(os.path.relpath(pictures / name, folder.resolve() / "album"))
        made.chmod(0o700)
        place = folder / album_name(album.number)
        if place.exists():
            shutil.rmtree(place)
        made.rename(place)
    sync_folder(folder)


def album_name(number: int) -> str:
    """The folder of an album."""
    return f"album-{number:04d}"


def _is_album(path: Path) -> bool:
    """Whether a folder is one that we made: by its name, and nothing but links in it."""
    if path.is_symlink() or not path.is_dir() or not path.name.startswith("album-"):
        return False
    return all(entry.is_symlink() for entry in os.scandir(path))
