"""Limits whatever the votes say: a lock-out after repeated refusals, a budget of openings. Pure."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from limen.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LimitPolicy:
    """How often is too often; 0 switches a limit off.

    After `lockout_after` refusals within `lockout_window_s`, nobody is admitted for `lockout_s`.
    At most `budget` openings within `budget_s`. ConfigError for negative or endless values.
    """

    lockout_after: int = 0
    lockout_window_s: float = 300.0
    lockout_s: float = 60.0
    budget: int = 0
    budget_s: float = 3600.0

    def __post_init__(self) -> None:
        if self.lockout_after < 0 or self.budget < 0:
            raise ConfigError("lockout_after and budget: expected 0 or more")
        for name in ("lockout_window_s", "lockout_s", "budget_s"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"{name}: expected more than 0 seconds, found {value}")


class Limiter:
    """Counts refusals and openings. Times are the frames'; one that goes back counts as now."""

    def __init__(self, policy: LimitPolicy) -> None:
        self._policy = policy
        self._refusals: deque[float] = deque(maxlen=max(1, policy.lockout_after))
        self._openings: deque[float] = deque(maxlen=max(1, policy.budget))
        self._out_until_s: float | None = None

    def reconfigure(self, policy: LimitPolicy) -> None:
        """Go on under another policy; what was counted stays."""
        self._policy = policy
        self._refusals = deque(self._refusals, maxlen=max(1, policy.lockout_after))
        self._openings = deque(self._openings, maxlen=max(1, policy.budget))

    def refused(self, now_s: float) -> bool:
        """Count a refusal. Whether it began a lock-out."""
        if not self._policy.lockout_after:
            return False
        self._refusals.append(now_s)
        recent = [s for s in self._refusals if abs(now_s - s) <= self._policy.lockout_window_s]
        if len(recent) < self._policy.lockout_after:
            return False
        self._refusals.clear()
        self._out_until_s = now_s + self._policy.lockout_s
        return True

    def opened(self, now_s: float) -> None:
        """Count an opening; refusals before it are forgiven."""
        self._openings.append(now_s)
        self._refusals.clear()

    def refusal(self, now_s: float) -> str:
        """Why nobody is admitted now; '' where nothing speaks against it."""
        if self._out_until_s is not None:
            # A clock that went back does not lengthen the lock-out beyond its own length.
            self._out_until_s = min(self._out_until_s, now_s + self._policy.lockout_s)
            if now_s < self._out_until_s:
                return "locked out"
            self._out_until_s = None
        if self._policy.budget:
            recent = [s for s in self._openings if abs(now_s - s) <= self._policy.budget_s]
            if len(recent) >= self._policy.budget:
                return "the budget of openings is spent"
        return ""
