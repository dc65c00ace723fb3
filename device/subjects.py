"""Subjects and their references: what a gallery hands out, and what may be written of a subject."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from limen.device.matching import Search
from limen.errors import GalleryError

MAX_SUBJECT_ID_CHARACTERS = 64
MAX_NOTES_CHARACTERS = 4000

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _one_line(text: str) -> str:
    text = unicodedata.normalize("NFC", text).strip()
    if not text.isprintable():
        raise ValueError("expected one line of printable characters")
    return text


def _lines(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    if not all(line.isprintable() for line in text.replace("\t", " ").split("\n")):
        raise ValueError("expected lines of printable characters")
    return text


Line = Annotated[str, Field(max_length=200), AfterValidator(_one_line)]
Group = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_one_line)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OpenHours(_Record):
    """A weekly time at which a subject may enter, in the door's local time.

    From `begins` to just before `ends`; where `ends` is not later, it is on the next day.
    """

    days: tuple[Day, ...] = Field(min_length=1, max_length=7)
    begins: time
    ends: time

    def covers(self, local: datetime) -> bool:
        """Whether a local wall-clock time lies within."""
        now, day = local.time(), local.weekday()
        if self.begins < self.ends:
            return DAYS[day] in self.days and self.begins <= now < self.ends
        yesterday = DAYS[(day - 1) % 7]
        return (DAYS[day] in self.days and now >= self.begins) or (
            yesterday in self.days and now < self.ends
        )


class Consent(_Record):
    """Who agreed, when, and to what."""

    given_by: Line
    given_at: AwareDatetime
    to: Line


class SubjectDetails(_Record):
    """What is written of a subject beside the templates. All of it is sealed in the file."""

    display_name: Line = ""
    groups: tuple[Group, ...] = Field((), max_length=20)
    may_enter: bool = True
    schedule: tuple[OpenHours, ...] = Field((), max_length=20, description="empty: at any time")
    expires_at: AwareDatetime | None = Field(None, description="erased by itself from then on")
    consent: Consent | None = None
    notes: Annotated[str, Field(max_length=MAX_NOTES_CHARACTERS), AfterValidator(_lines)] = ""

    @model_validator(mode="after")
    def _groups_differ(self) -> Self:
        if len(set(self.groups)) != len(self.groups):
            raise ValueError("a group is named twice")
        return self

    def is_expired(self, now: datetime) -> bool:
        """Whether the subject's time is over. now: with a time zone."""
        return self.expires_at is not None and now >= self.expires_at

    def admits_at(self, now: datetime) -> bool:
        """Whether rights, schedule and expiry let the subject enter. now: with a time zone."""
        if not self.may_enter or self.is_expired(now):
            return False
        local = now.astimezone()
        return not self.schedule or any(hours.covers(local) for hours in self.schedule)


@dataclass(frozen=True, slots=True)
class SubjectRecord:
    """An enrolled subject: how many references, and when the first was enrolled (UTC, ISO 8601)."""

    subject_id: str
    references: int
    enrolled_at: str
    details: SubjectDetails = field(default_factory=SubjectDetails)
    negatives: int = 0
    crops: int = 0


@dataclass(frozen=True, slots=True)
class References:
    """All references of a gallery.

    subject_ids: sorted; subject: (n,) int64, index into `subject_ids`; embeddings: (n, D) float32
    of unit norm, in the order of enrolment within a subject. (0, 0) for an empty gallery.
    negatives: (m, D), templates of people who were taken for the subject; negative_subject: (m,).
    details: one a subject, () where they were not asked for. search: what finds them, where a large
    gallery has an index; `embeddings` are then fused, one a subject, and whoever changed since the
    index was made stands at the end of `subject_ids`.
    """

    subject_ids: tuple[str, ...]
    subject: NDArray[np.int64]
    embeddings: NDArray[np.float32]
    negatives: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    negative_subject: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    details: tuple[SubjectDetails, ...] = ()
    search: Search | None = None


def checked_subject_id(text: str) -> str:
    """Return `text` in Unicode NFC, so that one name typed on two keyboards is one subject.

    GalleryError unless it then has 1 to 64 characters, all printable (no line breaks, control or
    invisible characters), and no space at either end. The message does not repeat it.
    """
    subject_id = unicodedata.normalize("NFC", text)
    if not 1 <= len(subject_id) <= MAX_SUBJECT_ID_CHARACTERS:
        raise GalleryError(
            f"a subject id has 1 to {MAX_SUBJECT_ID_CHARACTERS} characters, "
            f"found {len(subject_id)}: choose another"
        )
    if not subject_id.isprintable():
        raise GalleryError(
            "a subject id has printable characters only, found a line break, control or invisible "
            "one: type it again"
        )
    if subject_id != subject_id.strip():
        raise GalleryError("a subject id neither starts nor ends with a space: remove the space")
    return subject_id


def parsed_time(text: str) -> datetime:
    """A point in time from ISO 8601; a date alone is its first moment, local time where none is said.

    GalleryError for anything else.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise GalleryError(
            f"expected a date or time as in ISO 8601 (2027-03-31), found {text[:40]!r}"
        ) from error
    return moment.astimezone(UTC)
