"""The terms of a recipe's stages, and the weights that some of them learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn

from limen.train.objectives.class_head import ClassHeadTerm
from limen.train.objectives.distillation import DistillationTerm
from limen.train.objectives.pairs import pair_term
from limen.train.objectives.proxies import ProxyAnchorTerm, ProxyNCATerm
from limen.train.objectives.settings import (
    ClassHeadObjective,
    DistillationObjective,
    Objective,
    ProxyAnchorObjective,
    ProxyNCAObjective,
)
from limen.train.objectives.terms import ObjectiveError, Term
from limen.train.ranks import ALONE, Ranks


def build_terms(
    objectives: Sequence[Objective],
    teachers: Sequence[str],
    classes: int = 0,
    embedding_size: int = 0,
    ranks: Ranks = ALONE,
) -> list[Term]:
    """One term an objective. teachers: whose embeddings the pictures come with; classes: their
    identities. ObjectiveError where a teacher's embeddings are missing.
    """
    kinds = Counter(objective.kind for objective in objectives)
    terms: list[Term] = []
    for objective in objectives:
        term = _term(objective, teachers, classes, embedding_size, ranks)
        if kinds[objective.kind] > 1 and isinstance(objective, DistillationObjective):
            term.name = f"distillation-{objective.teacher}"
        taken = sum(other.name.split("#")[0] == term.name for other in terms)
        term.name += f"#{taken + 1}" if taken else ""
        terms.append(term)
    return terms


def _term(
    objective: Objective, teachers: Sequence[str], classes: int, embedding_size: int, ranks: Ranks
) -> Term:
    if isinstance(objective, DistillationObjective):
        if objective.teacher not in teachers:
            raise ObjectiveError(
                f"the recipe learns from teacher '{objective.teacher}', but the pictures come "
                f"with {', '.join(teachers) or 'no teacher'}: add teachers.npz to the folder "
                "or take a recipe without distillation ('triplet')"
            )
        return DistillationTerm(objective)
    if isinstance(objective, ClassHeadObjective):
        return ClassHeadTerm(objective, classes, embedding_size, ranks)
    if isinstance(objective, ProxyNCAObjective):
        return ProxyNCATerm(objective, classes, embedding_size)
    if isinstance(objective, ProxyAnchorObjective):
        return ProxyAnchorTerm(objective, classes, embedding_size)
    return pair_term(objective, classes)


class Curriculum(nn.Module):
    """The terms of all stages. Weights of one kind and shape are one, whatever the stage.

    seed: of the first weights, which depend on nothing else. ObjectiveError as `build_terms`.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[Objective]],
        teachers: Sequence[str],
        classes: int,
        embedding_size: int,
        seed: int,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        self._ranks = ranks
        self.own_weights: dict[str, nn.Parameter] = {}
        self.stages: list[list[Term]] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for objectives in stages:
                terms = build_terms(objectives, teachers, classes, embedding_size, ranks)
                for term in terms:
                    self._share(term)
                self.stages.append(terms)
        for stage, terms in enumerate(self.stages):
            for number, term in enumerate(terms):
                self.add_module(f"{stage}-{number}", term)

    def rates(self, stage: int) -> dict[str, float]:
        """For each kind of own weights that `stage` trains, its part of the learning rate."""
        return {
            name: term.own_rate
            for term in self.stages[stage]
            for name in term.own_paths
            if name in self.own_weights
        }

    def saved(self) -> dict[str, Tensor]:
        """The own weights by kind; those of all processes where they are sharded."""
        return {
            name: self._ranks.whole(weights, weights.detach())
            for name, weights in self.own_weights.items()
        }

    def load(self, saved: dict[str, Tensor]) -> None:
        """Take what `saved` gave, from any number of processes. ObjectiveError where it differs."""
        if set(saved) != set(self.own_weights):
            raise ObjectiveError(
                f"the checkpoint has loss weights {', '.join(sorted(saved)) or 'of no kind'}, the "
                f"recipe needs {', '.join(sorted(self.own_weights)) or 'none'}"
            )
        for name, weights in self.own_weights.items():
            rows = self._ranks.own(weights, saved[name])
            if rows.shape != weights.shape:
                raise ObjectiveError(
                    f"'{name}' has shape {tuple(rows.shape)} in the checkpoint, {tuple(weights.shape)} "
                    "here: the identities are not those that the run began with"
                )
            with torch.no_grad():
                weights.copy_(rows)

    def _share(self, term: Term) -> None:
        for name, path in term.own_paths.items():
            *parents, attribute = path.split(".")
            owner = cast(nn.Module, reduce(getattr, parents, term))
            weights = getattr(owner, attribute)
            if not isinstance(weights, nn.Parameter):
                continue  # a boundary that is not learnt
            earlier = self.own_weights.setdefault(name, weights)
            if earlier is not weights and earlier.shape == weights.shape:
                setattr(owner, attribute, earlier)
