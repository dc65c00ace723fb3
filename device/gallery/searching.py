"""What a door compares with: all references of a small gallery, the search index of a large one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

import numpy as np

from limen.calibration.fusion import fuse
from limen.device.gallery.index_file import (
    Indexed,
    index_path,
    read_index,
    remove_index_file,
    write_index,
)
from limen.device.gallery.index_key import (
    IndexKey,
    destroy_index_key,
    read_index_key,
    write_index_key,
)
from limen.device.gallery.references import load_references, subject_rows
from limen.device.gallery.sealing import DamagedRecordError
from limen.device.gallery.store import Store
from limen.device.indexed_search import (
    EXACT_UP_TO,
    Codes,
    IndexedSearch,
    can_be_indexed,
    quantised,
)
from limen.device.subjects import References
from limen.errors import GalleryError

logger = logging.getLogger(__name__)


def load_templates(store: Store, index_above: int = EXACT_UP_TO) -> References:
    """What is searched. Above so many subjects, from the index, which is made where there is none.

    Without faiss a large gallery is searched exactly, with a warning. GalleryError as in
    `load_references`.
    """
    with store.reading() as execute:
        (subjects,) = execute("SELECT count(*) FROM subject").fetchone()
        if subjects <= index_above:
            return load_references(store, execute)
    indexed = open_index(store)
    if indexed is None:
        logger.warning(
            "the search index of %s subjects is made; this takes a while", f"{subjects:,}"
        )
        indexed = make_index(store)
    if indexed is None:
        with store.reading() as execute:
            return load_references(store, execute)
    return References(
        subject_ids=indexed.subject_ids,
        subject=np.arange(len(indexed.subject_ids)),
        embeddings=indexed.templates,
        negatives=indexed.negatives,
        negative_subject=indexed.negative_subject,
        details=indexed.details,
        search=IndexedSearch(indexed.templates, indexed.codes),
    )


def open_index(store: Store) -> Indexed | None:
    """The index, with whoever changed since it was made read anew; None where none counts.

    One that is stale, cut, changed or another gallery's is refused with a warning, and removed.
    """
    with store.reading() as execute:
        execute("BEGIN")  # the key and the records of whoever changed, as of one moment
        try:
            key = read_index_key(execute, store.vault)
            indexed = read_index(store, store.model_id, key.key) if key else None
            if indexed is None or key is None:
                remove_index_file(store.path)  # of an erasure: noise, without its key
                return None
            # Without faiss nobody can be read anew, and the file stays for who has it.
            if not can_be_indexed(indexed.templates.shape[1]):
                return None
            if not key.changed:
                return indexed
            changed = np.array(key.changed, np.int64)
            return indexed.without(changed).joined(_fresh(store, key.changed, indexed))
        except DamagedRecordError as error:
            logger.warning("%s: %s", index_path(store.path), error)
            remove_index_file(store.path)
            return None
        finally:
            execute("COMMIT")


def make_index(store: Store) -> Indexed | None:
    """Make the index of all that is enrolled, and keep it; None where it cannot be made.

    An index that cannot be kept (read-only, full disk) is used all the same, with a warning.
    """
    with store.reading() as execute:
        (before,) = execute("SELECT changes FROM door").fetchone()
        references = load_references(store, execute)
        rows = subject_rows(store, execute)
    if not can_be_indexed(references.embeddings.shape[1]) or len(references.subject_ids) < 16:
        logger.warning("search stays exact, and slow: pip install 'limen[index]'")
        return None
    templates = fuse(references.embeddings, references.subject, len(references.subject_ids))
    indexed = Indexed(
        subject_ids=references.subject_ids,
        rows=np.array([rows[name] for name in references.subject_ids], np.int64),
        templates=templates,
        codes=quantised(templates),
        details=references.details,
        negatives=references.negatives,
        negative_subject=references.negative_subject,
    )
    keep_index(store, indexed, before)
    return indexed


@contextlib.contextmanager
def index_carried_over(store: Store) -> Iterator[None]:
    """Around an erasure, which destroys the index's key: write the index anew without who is gone."""
    with store.reading() as execute:
        (before,) = execute("SELECT changes FROM door").fetchone()
    carried = open_index(store)
    yield
    remove_index_file(store.path)
    if carried is None:
        return
    with store.reading() as execute:
        (changes,) = execute("SELECT changes FROM door").fetchone()
        there = np.array(execute("SELECT id FROM subject").fetchall(), np.int64).ravel()
    if changes == before + 1:  # else somebody changed more meanwhile: it is made anew when needed
        keep_index(store, carried.without(np.setdiff1d(carried.rows, there)), changes)


def keep_index(store: Store, indexed: Indexed, changes: int) -> bool:
    """Write the index of the gallery as it was after so many `changes`; whether it was kept.

    Where the gallery has changed since, or cannot be written, nothing is kept.
    """
    try:
        key = write_index(store, store.model_id, indexed)
        with store.writing(door=False) as execute:
            (now,) = execute("SELECT changes FROM door").fetchone()
            if now == changes:
                write_index_key(execute, store.vault, IndexKey(key))
            else:  # the file has taken the older one's place, so that one is gone too
                destroy_index_key(execute)
    except (OSError, GalleryError) as error:
        logger.warning("the search index was not kept: %s", error)
        return False
    if now != changes:
        remove_index_file(store.path)
    return bool(now == changes)


def _fresh(store: Store, changed: Sequence[int], indexed: Indexed) -> Indexed:
    """Those of the changed subjects who are still there, as the gallery has them now."""
    found = load_references(store, store.connection.execute, rows=changed)
    names = found.subject_ids
    rows = subject_rows(store, store.connection.execute, changed)
    size = indexed.templates.shape[1]
    return Indexed(
        subject_ids=names,
        rows=np.array([rows[name] for name in names], np.int64),
        templates=(
            fuse(found.embeddings, found.subject, len(names))
            if names
            else np.zeros((0, size), np.float32)
        ),
        codes=Codes(indexed.codes.codebook, indexed.codes.codes[:0]),
        details=found.details,
        negatives=found.negatives,
        negative_subject=found.negative_subject,
    )
