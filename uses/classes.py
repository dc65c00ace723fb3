"""Classes from a few examples: prototypes or nearest neighbour, and the answer 'none of these'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from limen.calibration.clusters import tail_evidence
from limen.calibration.rates import just_above
from limen.errors import CalibrationError, ModelMismatchError
from limen.uses.embedding_set import EmbeddingsError, unit_rows
from limen.uses.strangers import Strangers

MAX_EXAMPLES = 100
MAX_NAME = 200


class Rule(StrEnum):
    """What a probe is compared with.

    prototype: the unit-norm mean of a class's examples (Snell, Swersky and Zemel, NeurIPS 2017, with
    the cosine); nearest: the nearest example.
    """

    PROTOTYPE = "prototype"
    NEAREST = "nearest"


@dataclass(frozen=True)
class Classes:
    """names: c of them; embeddings: (n, D) float32, unit norm; label: (n,) int64, 0..c-1."""

    names: tuple[str, ...]
    embeddings: NDArray[np.float32]
    label: NDArray[np.int64]
    model_id: str

    @classmethod
    def none(cls, embedding_size: int, model_id: str) -> Classes:
        """No class yet."""
        return cls((), np.zeros((0, embedding_size), np.float32), np.zeros(0, np.int64), model_id)

    def learn(self, name: str, examples: NDArray[np.float32]) -> Classes:
        """With more examples (k, D) of a class, new or known. EmbeddingsError where they do not fit."""
        if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
            raise EmbeddingsError(
                f"a class's name: expected 1 to {MAX_NAME} printable characters, found {len(name)}"
            )
        if examples.ndim != 2 or examples.shape[1] != self.embeddings.shape[1]:
            raise EmbeddingsError(
                f"examples of {examples.shape[-1]} values, expected {self.embeddings.shape[1]}"
            )
        names = self.names if name in self.names else (*self.names, name)
        number = names.index(name)
        held = int((self.label == number).sum()) + len(examples)
        if held > MAX_EXAMPLES:
            raise EmbeddingsError(f"'{name}' would have {held} examples, at most {MAX_EXAMPLES}")
        return Classes(
            names,
            np.concatenate([self.embeddings, unit_rows(examples)]),
            np.concatenate([self.label, np.full(len(examples), number)]),
            self.model_id,
        )

    def forget(self, name: str) -> Classes:
        """Without a class. EmbeddingsError where nobody learnt it."""
        if name not in self.names:
            raise EmbeddingsError(f"no class '{name}'; there are {', '.join(self.names) or 'none'}")
        gone = self.names.index(name)
        kept = self.label != gone
        label = self.label[kept]
        names = tuple(n for n in self.names if n != name)
        return Classes(names, self.embeddings[kept], label - (label > gone), self.model_id)

    def counts(self) -> dict[str, int]:
        """Examples of each class."""
        found = np.bincount(self.label, minlength=len(self.names))
        return {name: int(count) for name, count in zip(self.names, found, strict=True)}

    def scores(self, probes: NDArray[np.float32], rule: Rule) -> NDArray[np.float64]:
        """(m, D), unit norm, to (m, c): the cosine with each class. ModelMismatchError by size."""
        if probes.shape[1:] != self.embeddings.shape[1:]:
            raise ModelMismatchError(
                f"the probes have {probes.shape[-1]} values, the classes "
                f"{self.embeddings.shape[1]}: they are of different models"
            )
        return class_scores(probes, self.embeddings, self.label, len(self.names), rule)


def class_scores(
    probes: NDArray[np.float32],
    examples: NDArray[np.float32],
    label: NDArray[np.int64],
    classes: int,
    rule: Rule,
) -> NDArray[np.float64]:
    """Cosines of probes (m, D) with each class of `examples` (n, D), all of unit norm: (m, c)."""
    wide = probes.astype(np.float64)
    if rule is Rule.NEAREST:
        each = wide @ examples.astype(np.float64).T
        return np.stack([each[:, label == number].max(axis=1) for number in range(classes)], axis=1)
    sums = np.zeros((classes, examples.shape[1]))
    np.add.at(sums, label, examples.astype(np.float64))
    norm = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return np.asarray(wide @ (sums / norm).T)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Below `threshold` a probe is none of the classes; what says so.

    bound: the share of strangers that a test with as many new ones stays within; None where nothing
    is promised.
    """

    threshold: float
    basis: str
    bound: float | None = None


def rejection_by_strangers(
    classes: Classes, rule: Rule, strangers: Strangers, max_fpir: float, confidence: float
) -> Rejection:
    """The lowest threshold at which at most `max_fpir` of strangers are taken for any class.

    With the bound of an operating point. CalibrationError where there are too few strangers.
    """
    if not 0 < max_fpir < 1:
        raise CalibrationError(f"max_fpir: expected between 0 and 1, found {max_fpir}")
    best = classes.scores(unit_rows(strangers.embeddings), rule).max(axis=1)
    tail = tail_evidence(best, strangers.subject, confidence=confidence, max_rate=max_fpir)
    index = tail.lowest_within(max_fpir)
    if index is None:
        least = float(tail.bound[0])
        raise CalibrationError(
            f"{len(best):,} probes of {len(np.unique(strangers.subject)):,} different ones of "
            f"{strangers.where} cannot show a rate of {max_fpir:g}: "
            + (f"ask for {least:.1g} or more, " if least < 1 else "give more different ones, ")
            + "or name a threshold"
        )
    return Rejection(
        just_above(float(tail.cut[index]), np.dtype(np.float64)),
        f"at most {max_fpir:g} of strangers pass, by {len(best):,} of {strangers.where}",
        float(tail.bound[index]),
    )


def rejection_by_each_other(classes: Classes, rule: Rule) -> Rejection:
    """A threshold just above the highest score of an example with a class that is not its own.

    So few scores promise no rate, and a stranger may be more alike. CalibrationError for one class.
    """
    if len(classes.names) < 2:
        raise CalibrationError(
            "one class alone does not say what is none of it: learn another class, or name "
            "--cohort FILE.npz or --threshold"
        )
    scores = classes.scores(classes.embeddings, rule)
    scores[np.arange(len(scores)), classes.label] = -np.inf
    highest = float(scores.max())
    return Rejection(
        just_above(highest, np.dtype(np.float64)),
        f"just above the most alike of {len(scores)} examples and other classes; no rate is promised",
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """name: the class, None for none of them; ranked: classes with their scores, best first."""

    name: str | None
    ranked: tuple[tuple[str, float], ...]


def classify(
    classes: Classes, probes: NDArray[np.float32], rule: Rule, threshold: float
) -> Sequence[Answer]:
    """An answer for each probe (m, D), unit norm; ties go to the class that was learnt first.

    EmbeddingsError where there is no class.
    """
    if not classes.names:
        raise EmbeddingsError("no class was learnt yet: limen learn CLASS PICTURE…")
    found = []
    for row in classes.scores(probes, rule):
        order = np.argsort(-row, kind="stable")
        ranked = tuple((classes.names[number], float(row[number])) for number in order)
        found.append(Answer(ranked[0][0] if ranked[0][1] >= threshold else None, ranked))
    return found
