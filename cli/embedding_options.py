"""What the uses of embeddings share: where embeddings come from, and what a picture is seen as."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import TaskID

from limen.cli.output import note, progress_bar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from limen.bundle import Bundle
    from limen.uses.embedding_set import EmbeddingSet
    from limen.uses.sight import Sight
    from limen.uses.strangers import Strangers


class Domain(StrEnum):
    """What of a picture is embedded."""

    FACES = "faces"
    WHOLE = "whole"


DomainOption = Annotated[
    Domain, typer.Option(help="Embed the faces in a picture, or the whole of it.")
]
RegionOption = Annotated[
    str | None,
    typer.Option(help="LEFT,TOP,RIGHT,BOTTOM in shares of the picture; with --domain whole."),
]
EmbeddingsOption = Annotated[
    Path | None, typer.Option("--embeddings", help="An .npz of embeddings made elsewhere.")
]
IndexOption = Annotated[
    Path | None, typer.Option("--index", help="Where the folder's index lies; in the folder.")
]
RebuildOption = Annotated[
    bool, typer.Option("--rebuild", help="Throw the index away and embed everything again.")
]
CohortOption = Annotated[
    Path | None,
    typer.Option(
        help="Labelled embeddings (.npz) to set the threshold by; the bundle's strangers."
    ),
]
SheetOption = Annotated[
    Path | None, typer.Option(help="Write a contact sheet: .jpg, .png or .webp.")
]


@dataclass(frozen=True)
class SightOptions:
    """How a picture becomes embeddings; opened only where a picture is looked at."""

    domain: Domain
    region: str | None
    bundle: Path | None
    runtime: str | None
    precision: str | None
    yunet: Path | None

    def open(self) -> tuple[Bundle, Sight]:
        """The bundle and what sees with it. ConfigError for options that contradict each other."""
        from limen.bundle import open_bundle
        from limen.errors import ConfigError
        from limen.uses.sight import Region, face_sight, whole_sight

        if self.domain is Domain.FACES and self.region is not None:
            raise ConfigError("--region goes with --domain whole: faces are found, not named")
        if self.domain is Domain.WHOLE and self.yunet is not None:
            raise ConfigError("--yunet finds faces, which --domain whole does not look for")
        opened = open_bundle(self.bundle)
        if self.domain is Domain.WHOLE:
            region = Region.parse(self.region) if self.region is not None else None
            return opened, whole_sight(opened, region, self.runtime, self.precision)
        detector = opened.detector(self.yunet, self.runtime)
        return opened, face_sight(opened, detector, self.runtime, self.precision)


@dataclass(frozen=True)
class Material:
    """The embeddings a verb works on; sight and bundle where pictures were looked at.

    index: what bringing the folder's index up to date did, with its counts.
    """

    found: EmbeddingSet
    bundle: Bundle | None = None
    sight: Sight | None = None
    index: dict[str, object] | None = None

    def strangers(self, cohort: Path | None, options: SightOptions) -> Strangers | None:
        """Whom a threshold is set by: a file's, else the bundle's, whose strangers are faces."""
        from limen.uses.embedding_file import read_embeddings
        from limen.uses.strangers import Strangers

        if cohort is not None:
            found = read_embeddings(cohort)
            require_size(found, self.found.embeddings.shape[1], str(cohort))
            return Strangers.of_set(found, cohort.name)
        if self.bundle is None or options.domain is Domain.WHOLE:
            return None
        return Strangers.of_bundle(self.bundle) if self.bundle.manifest.cohort else None


def require_size(found: EmbeddingSet, size: int, where: str) -> None:
    """ModelMismatchError where embeddings are of another size."""
    from limen.errors import ModelMismatchError

    if found.embeddings.shape[1] != size:
        raise ModelMismatchError(
            f"{where} holds embeddings of {found.embeddings.shape[1]} values, expected {size}: they "
            "are of another model"
        )


def open_material(
    place: Path | None,
    embeddings: Path | None,
    options: SightOptions,
    index: Path | None = None,
    rebuild: bool = False,
) -> Material:
    """Embeddings of a folder, of an index, or from elsewhere. ConfigError unless just one is named.

    A folder's index is brought up to date first; an index by itself is taken as it is.
    """
    from dataclasses import asdict

    from limen.errors import ConfigError, ModelMismatchError
    from limen.uses.embedding_file import read_embeddings
    from limen.uses.embedding_set import EmbeddingsError
    from limen.uses.indexing import bring_up_to_date, open_index
    from limen.uses.picture_index import PictureIndex

    if (place is None) == (embeddings is None):
        raise ConfigError("name a folder of pictures or its index, or else --embeddings FILE.npz")
    if embeddings is not None:
        return Material(read_embeddings(embeddings))
    assert place is not None
    bundle, sight = options.open()
    if place.is_file():
        if index is not None or rebuild:
            raise ConfigError(f"{place} is an index itself; --index and --rebuild go with a folder")
        with PictureIndex.open(place, sight.model_id) as opened:
            found, told = opened.embeddings(), dict[str, object](opened.counts())
    else:
        with open_index(place, sight, index, rebuild) as opened:
            if opened.model_id != sight.model_id:  # pragma: no cover, open_index has refused it
                raise ModelMismatchError("the index is of another model")
            with progress_bar("embedding", 1) as bar:
                brought = bring_up_to_date(
                    opened,
                    place,
                    sight,
                    lambda done, total: bar.update(TaskID(0), completed=done, total=max(1, total)),
                )
            found, counts, failures = opened.embeddings(), opened.counts(), opened.failures(5)
        told = {**asdict(brought), **counts}
        note(
            f"{counts['pictures']} pictures: {brought.embedded} embedded, {brought.reused} known by "
            f"their bytes, {brought.unchanged} unchanged, {brought.removed} gone"
        )
        if counts["failures"]:
            note(f"{counts['failures']} of them gave nothing:")
            for name, reason in failures:
                note(f"  {name}: {reason}")
    if not len(found):
        raise EmbeddingsError(
            f"{place}: nothing was embedded; no face was found in any picture that could be read "
            "(--domain whole embeds pictures of anything)"
        )
    return Material(found, bundle, sight, told)


def look_at(picture: Path, sight: Sight) -> NDArray[np.float32]:
    """The embedding (D,) of the first that is seen in a picture: the nearest face, or all of it."""
    from limen.errors import NoFaceError
    from limen.images import read_picture

    seen = sight.see(read_picture(picture))
    if not seen:
        raise NoFaceError(f"{picture}: no face was found; --domain whole embeds all of a picture")
    embedding: NDArray[np.float32] = sight.embed(seen[:1])[0]
    return embedding


def row_named(word: str, names: tuple[str, ...]) -> int:
    """The row of embeddings from elsewhere that a name or a row number names. ConfigError if none."""
    from limen.errors import ConfigError

    if word in names:
        return names.index(word)
    if word.isascii() and word.isdigit() and len(word) < 10 and int(word) < len(names):
        return int(word)
    raise ConfigError(
        f"'{word}': with --embeddings it is a name of the file, or a row from 0 to {len(names) - 1}"
    )
