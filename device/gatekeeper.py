"""From a subject that the votes recognised to a door that opens: limits and second factor.

Who may enter at all, and when, was asked before anybody was compared (`permission.py`).
Pure but for what it is handed: the check of a second factor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from limen.device.admission import AdmissionPolicy, Admitter
from limen.device.limits import Limiter, LimitPolicy
from limen.device.values import Admission, Decision, Verdict
from limen.errors import ConfigError

FactorCheck = Callable[[str, str], bool]


class Demand(StrEnum):
    """For whom a second factor is demanded.

    CONTESTED: for lookalikes, and where the best two subjects are closer than the margin.
    """

    NEVER = "never"
    CONTESTED = "contested"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class _Asked:
    """A second factor that is awaited of `subject_id`."""

    subject_id: str
    votes: int
    until_s: float


class Gatekeeper:
    """Admits whom the votes recognised and nothing forbids.

    check_factor: whether an entry is the subject's PIN or card; needed where `demand` is not
    'never'. patience_s: how long an entry is awaited.
    """

    def __init__(
        self,
        admitter: Admitter,
        *,
        limits: LimitPolicy | None = None,
        demand: Demand = Demand.NEVER,
        check_factor: FactorCheck | None = None,
        patience_s: float = 20.0,
    ) -> None:
        if demand is not Demand.NEVER and check_factor is None:
            raise ConfigError("a second factor is demanded, but nothing checks one")
        self._admitter = admitter
        self._limiter = Limiter(limits or LimitPolicy())
        self._demand = demand
        self._check_factor = check_factor
        self._patience_s = patience_s
        self._asked: _Asked | None = None

    def reconfigure(
        self,
        policy: AdmissionPolicy,
        *,
        limits: LimitPolicy,
        demand: Demand,
        patience_s: float,
    ) -> None:
        """Go on under other rules; votes, refusals and a question that stands stay.

        ConfigError, and nothing changes, where a factor is demanded that nothing checks.
        """
        if demand is not Demand.NEVER and self._check_factor is None:
            raise ConfigError("a second factor is demanded, but nothing checks one: restart")
        self._admitter.reconfigure(policy)
        self._limiter.reconfigure(limits)
        self._demand, self._patience_s = demand, patience_s

    @property
    def is_asking(self) -> bool:
        """Whether an entry is awaited."""
        return self._asked is not None

    def clear(self) -> None:
        """Take back all votes and questions, as when the gallery changed."""
        self._asked = None
        self._admitter.clear()

    def consider(self, decision: Decision) -> Admission:
        """Count one decision; open, ask, refuse or wait. Frames in their order."""
        now_s = decision.captured_at_s
        if self._asked is not None:
            # Time that is no number, or went back by more than the patience, ends the question too.
            left_s = self._asked.until_s - now_s
            if 0 < left_s <= 2 * self._patience_s:
                return Admission(Verdict.WAIT, None, self._asked.votes, "second factor awaited")
            return self._refuse(now_s, "second factor not given")
        limit = self._limiter.refusal(now_s)
        if limit:
            self._admitter.clear()
            return Admission(Verdict.WAIT, None, 0, limit)
        admission = self._admitter.consider(decision)
        if admission.verdict is Verdict.REFUSE:
            self._limiter.refused(now_s)
            return admission
        if admission.verdict is not Verdict.OPEN or admission.subject_id is None:
            return admission
        if self._demand is Demand.ALWAYS or (
            self._demand is Demand.CONTESTED and admission.contested
        ):
            self._admitter.deny()
            self._asked = _Asked(admission.subject_id, admission.votes, now_s + self._patience_s)
            return Admission(
                Verdict.ASK,
                admission.subject_id,
                admission.votes,
                "second factor needed",
                admission.contested,
            )
        self._limiter.opened(now_s)
        return admission

    def present(self, entry: str, now_s: float, may_enter: Callable[[str], bool]) -> Admission:
        """Somebody typed a PIN or showed a card.

        now_s: on the frames' clock; may_enter: whether a subject still has the right to.
        """
        asked, self._asked = self._asked, None
        if asked is None:
            return Admission(Verdict.WAIT, None, 0, "nothing was asked")
        if not now_s < asked.until_s:
            return self._refuse(now_s, "second factor not given")
        if self._check_factor is None or not self._check_factor(asked.subject_id, entry):
            return self._refuse(now_s, "second factor is wrong")
        if not may_enter(asked.subject_id):  # the hours may have ended while the visitor typed
            return Admission(Verdict.REFUSE, None, asked.votes, "no right to enter any more")
        self._limiter.opened(now_s)
        self._admitter.cool_down(now_s)
        return Admission(Verdict.OPEN, asked.subject_id, asked.votes, "second factor given")

    def _refuse(self, now_s: float, reason: str) -> Admission:
        self._asked = None
        self._limiter.refused(now_s)
        return Admission(Verdict.REFUSE, None, 0, reason)
