"""What the lock process decides, without a socket, a pin or a clock of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

from limen.device.lock import LockNotice, NoticeKind
from limen.device.lock_process.settings import LockSettings

# A request older than this waited in a queue; the visitor it was for may have left.
MAX_REQUEST_AGE_S = 0.5
# A switch bounces for a few milliseconds; a state counts once it lasted so long.
DEBOUNCE_S = 0.03
# The leaf still moves while the latch falls back; opening so soon after is no force.
FORCED_GRACE_S = 1.0
# After a pulse that ran into the hard limit the door is held for so long, whatever is asked.
REST_S = 1.0


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the switches say. None: not wired."""

    door_open: bool | None = None
    exit_pressed: bool | None = None
    tampered: bool | None = None


class LockKeeper:
    """Decides whether the door is let go of. Everything is told when it is: `now_s` is monotonic.

    A recogniser's pulse is held by a lease that each heartbeat renews: without one for
    `lease_s`, the door is locked, and stays so until a new request. A pulse that is asked for
    while one runs replaces it, but never beyond `max_pulse_s` after the door was let go of. The
    exit button works without a recogniser. A pulse by hand needs no heartbeat; asked in turn, both
    together have the one limit. While the casing is open, nobody is obeyed.
    """

    def __init__(self, settings: LockSettings) -> None:
        self._settings = settings
        self._since_s: float | None = None
        self._until_s: float | None = None
        self._lease_until_s = -math.inf
        self._rest_until_s = -math.inf
        self._exit_until_s: float | None = None
        self._hand_until_s: float | None = None
        self._released_at_s = -math.inf
        self._raw = Inputs()
        self._raw_since_s = -math.inf
        self._inputs: Inputs | None = None
        self._open_since_s: float | None = None
        self._held_told = False
        self._notices: list[LockNotice] = []

    @property
    def released(self) -> bool:
        """Whether the door is to be let go of."""
        ends = (self._until_s, self._exit_until_s, self._hand_until_s)
        return any(end_s is not None for end_s in ends)

    @property
    def door_open(self) -> bool | None:
        """What the contact says; None where none is wired."""
        return self._inputs.door_open if self._inputs else None

    @property
    def tampered(self) -> bool:
        """Whether the casing is open, or its loop is cut."""
        return bool(self._inputs and self._inputs.tampered)

    def ask(self, now_s: float, pulse_s: float, asked_at_s: float) -> str:
        """A recogniser asks to open for `pulse_s`. Return why it is refused, '' where it is not."""
        self.tick(now_s)
        if refusal := self._refusal(now_s, pulse_s, asked_at_s):
            return refusal
        if self._since_s is None:
            self._since_s = now_s
        was_released = self.released
        self._until_s = min(now_s + pulse_s, self._since_s + self._settings.max_pulse_s)
        self._lease_until_s = now_s + self._settings.lease_s
        self._note_released(was_released, now_s, "recogniser")
        return ""

    def open_by_hand(self, now_s: float, pulse_s: float, asked_at_s: float) -> str:
        """A person who may asks to open for `pulse_s`. Return why it is refused, '' where it is not.

        Asked again and again, the door is still held after `max_pulse_s`, and rests then.
        """
        self.tick(now_s)
        if refusal := self._refusal(now_s, pulse_s, asked_at_s):
            return refusal
        was_released = self.released
        if self._since_s is None:
            self._since_s = now_s
        self._hand_until_s = min(now_s + pulse_s, self._since_s + self._settings.max_pulse_s)
        self._note_released(was_released, now_s, "by hand")
        return ""

    def beat(self, now_s: float, sent_at_s: float) -> None:
        """The recogniser works. A heartbeat that is old, or of a pulse that is over, does nothing."""
        self.tick(now_s)
        if self._until_s is not None and 0 <= now_s - sent_at_s <= MAX_REQUEST_AGE_S:
            self._lease_until_s = now_s + self._settings.lease_s

    def lock(self, now_s: float, reason: str) -> None:
        """Hold the door now, whoever let go of it."""
        self.tick(now_s)
        self._hold(now_s, reason)

    def controller_left(self, now_s: float) -> None:
        """The recogniser is gone: what it opened is locked. An exit goes on."""
        self.tick(now_s)
        self._end_pulse(now_s, "recogniser left")

    def sense(self, now_s: float, inputs: Inputs) -> None:
        """Take what the switches say now; each state counts once it lasted 30 ms."""
        self.tick(now_s)
        if inputs != self._raw:
            self._raw, self._raw_since_s = inputs, now_s
        if self._inputs is None:  # the state at the start is no change
            if now_s - self._raw_since_s >= DEBOUNCE_S:
                self._inputs = inputs
                self._open_since_s = now_s if inputs.door_open else None
                if inputs.tampered:
                    self._tell(NoticeKind.TAMPER, now_s)
            return
        if inputs != self._inputs and now_s - self._raw_since_s >= DEBOUNCE_S:
            before, self._inputs = self._inputs, inputs
            self._changed(before, inputs, now_s)

    def tick(self, now_s: float) -> None:
        """End what was due by now."""
        if self._until_s is not None:
            if now_s >= self._lease_until_s:
                self._end_pulse(now_s, "no heartbeat")
            elif now_s >= self._until_s:
                since_s = self._since_s if self._since_s is not None else now_s
                at_limit = self._until_s >= since_s + self._settings.max_pulse_s
                if at_limit:
                    self._rest_until_s = now_s + REST_S
                self._end_pulse(now_s, "hard limit" if at_limit else "pulse over")
        if self._hand_until_s is not None and now_s >= self._hand_until_s:
            self._end_hand(now_s)
        if self._exit_until_s is not None and now_s >= self._exit_until_s:
            self._exit_until_s = None
            self._note_locked(now_s, "exit over")
        if (
            self._open_since_s is not None
            and not self._held_told
            and now_s - self._open_since_s >= self._settings.held_open_s
        ):
            self._held_told = True
            self._tell(NoticeKind.HELD_OPEN, now_s)

    def due_s(self) -> float:
        """When `tick` has something to do next; infinite where nothing is due."""
        due = [math.inf]
        if self._until_s is not None:
            due += [self._until_s, self._lease_until_s]
        due += [end_s for end_s in (self._exit_until_s, self._hand_until_s) if end_s is not None]
        if self._open_since_s is not None and not self._held_told:
            due.append(self._open_since_s + self._settings.held_open_s)
        return min(due)

    def take_notices(self) -> list[LockNotice]:
        """What happened since the last call, oldest first."""
        notices, self._notices = self._notices, []
        return notices

    def _changed(self, before: Inputs, after: Inputs, now_s: float) -> None:
        if after.tampered and not before.tampered:
            self._tell(NoticeKind.TAMPER, now_s)
            if self._until_s is not None or self._hand_until_s is not None:
                self._until_s = self._hand_until_s = self._since_s = None
                self._note_locked(now_s, "tamper")
        if after.exit_pressed and not before.exit_pressed:
            was_released = self.released
            self._exit_until_s = now_s + self._settings.exit_pulse_s
            self._tell(NoticeKind.EXIT_REQUESTED, now_s)
            self._note_released(was_released, now_s, "exit")
        if after.door_open and not before.door_open:
            self._open_since_s, self._held_told = now_s, False
            forced = not self.released and now_s - self._released_at_s > FORCED_GRACE_S
            self._tell(NoticeKind.FORCED if forced else NoticeKind.DOOR_OPENED, now_s)
        if before.door_open and not after.door_open:
            self._open_since_s = None
            self._tell(NoticeKind.DOOR_CLOSED, now_s)
            self._hold(now_s, "door closed")  # whoever it was for is through; nobody follows

    def _refusal(self, now_s: float, pulse_s: float, asked_at_s: float) -> str:
        """Why nobody may open now, '' where one may."""
        if not (math.isfinite(pulse_s) and 0 < pulse_s <= self._settings.max_pulse_s):
            return (
                f"a pulse is more than 0 and at most {self._settings.max_pulse_s:g} s, found "
                f"{pulse_s:g}: change unlock_for_s or lock.max_pulse_s"
            )
        if not 0 <= now_s - asked_at_s <= MAX_REQUEST_AGE_S:
            return f"the request is not of the last {MAX_REQUEST_AGE_S:g} s"
        if self.tampered:
            return "the casing is open: close it"
        if now_s < self._rest_until_s:
            return f"the last pulse ran into its limit: ask again in {REST_S:g} s"
        return ""

    def _end_hand(self, now_s: float) -> None:
        since_s = self._since_s if self._since_s is not None else now_s
        at_limit = now_s >= since_s + self._settings.max_pulse_s
        if at_limit:
            self._rest_until_s = now_s + REST_S
        self._hand_until_s = None
        if self._until_s is None:
            self._since_s = None
        self._note_locked(now_s, "hard limit" if at_limit else "opening by hand over")

    def _hold(self, now_s: float, reason: str) -> None:
        was_released = self.released
        self._until_s = self._hand_until_s = self._since_s = self._exit_until_s = None
        if was_released:
            self._note_locked(now_s, reason)

    def _end_pulse(self, now_s: float, reason: str) -> None:
        if self._until_s is not None:
            self._until_s = None
            if self._hand_until_s is None:
                self._since_s = None
            self._note_locked(now_s, reason)

    def _note_released(self, was_released: bool, now_s: float, reason: str) -> None:
        if not was_released:
            self._tell(NoticeKind.RELEASED, now_s, reason)

    def _note_locked(self, now_s: float, reason: str) -> None:
        if not self.released:
            self._released_at_s = now_s
            self._tell(NoticeKind.LOCKED, now_s, reason)

    def _tell(self, kind: NoticeKind, now_s: float, reason: str = "") -> None:
        # Bounded: a switch that flutters while nobody listens must not fill the memory.
        self._notices = [*self._notices[-63:], LockNotice(kind, now_s, reason)]
