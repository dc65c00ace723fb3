"""The few messages between a recogniser and the lock process: one JSON object a packet.

The socket keeps packets apart (SOCK_SEQPACKET) and tells each side at once when the other is gone.
Both sides read one clock: CLOCK_MONOTONIC is the machine's, not a process's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from limen.device.lock import LockNotice, NoticeKind

VERSION = 1
MAX_BYTES = 8192
# "hand": a person opens, and drives nothing further; the recogniser stays the lock's.
KINDS = ("open", "beat", "lock", "status", "hand")


class WireError(ValueError):
    """A packet that is none of ours."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. number: counts up on a connection; sent_at_s: monotonic; pulse_s: to open."""

    kind: str
    number: int
    sent_at_s: float
    pulse_s: float = 0.0

    def pack(self) -> bytes:
        """The packet."""
        return _packed(
            {
                "v": VERSION,
                "kind": self.kind,
                "number": self.number,
                "sent_at_s": self.sent_at_s,
                "pulse_s": self.pulse_s,
            }
        )

    @classmethod
    def unpack(cls, packet: bytes) -> Request:
        """Read a packet. WireError for anything else."""
        told = _unpacked(packet)
        kind, number = told.get("kind"), told.get("number")
        if kind not in KINDS or not isinstance(number, int):
            raise WireError("no request")
        return cls(kind, number, _number(told, "sent_at_s"), _number(told, "pulse_s"))


@dataclass(frozen=True, slots=True)
class Report:
    """The lock process's answer, or its word that something changed.

    answers: the request's number, None where nobody asked; refusal: why not, '' where obeyed.
    """

    answers: int | None
    refusal: str
    locked: bool
    door_open: bool | None
    tampered: bool
    notices: tuple[LockNotice, ...] = ()

    def pack(self) -> bytes:
        """The packet."""
        return _packed(
            {
                "v": VERSION,
                "answers": self.answers,
                "refusal": self.refusal,
                "locked": self.locked,
                "door_open": self.door_open,
                "tampered": self.tampered,
                "notices": [[n.kind.value, n.at_s, n.reason] for n in self.notices],
            }
        )

    @classmethod
    def unpack(cls, packet: bytes) -> Report:
        """Read a packet. WireError for anything else."""
        told = _unpacked(packet)
        locked = told.get("locked")
        if not isinstance(locked, bool):
            raise WireError("no report")
        answers = told.get("answers")
        return cls(
            answers if isinstance(answers, int) else None,
            str(told.get("refusal", "")),
            locked,
            told.get("door_open"),
            bool(told.get("tampered")),
            tuple(_notices(told.get("notices", []))),
        )


def _notices(told: Any) -> Iterable[LockNotice]:
    for each in told if isinstance(told, list) else []:
        try:
            kind, at_s, reason = each
            yield LockNotice(NoticeKind(kind), float(at_s), str(reason))
        except (TypeError, ValueError) as error:
            raise WireError("no notice") from error


def _packed(told: dict[str, Any]) -> bytes:
    return json.dumps(told, separators=(",", ":")).encode()


def _unpacked(packet: bytes) -> dict[str, Any]:
    try:
        told = json.loads(packet)
    except (ValueError, RecursionError) as error:
        raise WireError("no JSON") from error
    if not isinstance(told, dict) or told.get("v") != VERSION:
        raise WireError(f"no packet of version {VERSION}: update both sides of the lock")
    return told


def _number(told: dict[str, Any], key: str) -> float:
    value = told.get(key, 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise WireError(f"{key} is no number")
    return float(value)
