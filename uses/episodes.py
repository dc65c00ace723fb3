"""N-way K-shot evaluation: how often the right one of N classes is named after K examples of each.

Episodes as in Vinyals et al., "Matching networks for one shot learning", NeurIPS 2016. With one
query and classes of one group it is Omniglot's within-alphabet protocol (Lake et al., Science 350,
2015), but for its two fixed drawers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.calibration.bootstrap import rate_interval
from limen.uses.classes import Rule, class_scores
from limen.uses.embedding_set import EmbeddingsError, EmbeddingSet


@dataclass(frozen=True, slots=True)
class FewShotFigures:
    """accuracy: mean over episodes, each as many queries of each class.

    episode_interval: 95 %, two-sided, of the mean over episodes, as the literature tells it; it takes
    the classes at hand for all there are. class_interval: 95 % by bootstrap over classes, for
    classes that were not at hand.
    """

    ways: int
    shots: int
    queries: int
    episodes: int
    classes: int
    accuracy: float
    episode_interval: tuple[float, float]
    class_interval: tuple[float, float]


def few_shot(
    found: EmbeddingSet,
    *,
    ways: int,
    shots: int,
    queries: int,
    episodes: int,
    rule: Rule,
    rng: np.random.Generator,
    within: bool = False,
) -> FewShotFigures:
    """Draw classes, examples and queries again and again.

    within: the classes of an episode share the folder above theirs, as an alphabet's characters.
    EmbeddingsError where there are too few classes with shots + queries rows.
    """
    labelled = found.labelled()
    unit = labelled.unit()
    rows_of = {
        int(number): np.flatnonzero(labelled.label == number)
        for number in np.unique(labelled.label)
    }
    enough = [number for number, rows in rows_of.items() if len(rows) >= shots + queries]
    groups = _groups(enough, labelled.label_names, within)
    usable = [group for group in groups if len(group) >= ways]
    if not usable:
        largest = max((len(group) for group in groups), default=0)
        raise EmbeddingsError(
            f"{ways} ways of {shots} examples and {queries} queries need {ways} classes with "
            f"{shots + queries} pictures{' in one folder' if within else ''}, found {largest}: ask "
            "for less"
        )
    accuracies = np.empty(episodes)
    hits: list[NDArray[np.bool_]] = []
    whose: list[NDArray[np.int64]] = []
    for episode in range(episodes):
        group = usable[int(rng.integers(len(usable)))]
        drawn = rng.choice(group, ways, replace=False)
        picked = np.stack([rng.permutation(rows_of[int(n)])[: shots + queries] for n in drawn])
        scores = class_scores(
            unit[picked[:, shots:].ravel()],
            unit[picked[:, :shots].ravel()],
            np.repeat(np.arange(ways), shots),
            ways,
            rule,
        )
        hit = scores.argmax(axis=1) == np.repeat(np.arange(ways), queries)
        accuracies[episode] = hit.mean()
        hits.append(hit)
        whose.append(np.repeat(drawn, queries))
    mean = float(accuracies.mean())
    spread = 1.96 * float(accuracies.std(ddof=1)) / np.sqrt(episodes) if episodes > 1 else 1.0
    return FewShotFigures(
        ways=ways,
        shots=shots,
        queries=queries,
        episodes=episodes,
        classes=len({number for group in usable for number in group}),
        accuracy=mean,
        episode_interval=(max(0.0, mean - spread), min(1.0, mean + spread)),
        class_interval=rate_interval(
            np.concatenate(hits), np.concatenate(whose).astype(np.int64), 0.95, rng
        ),
    )


def _groups(numbers: list[int], names: tuple[str, ...], within: bool) -> list[list[int]]:
    if not within:
        return [numbers]
    groups: dict[str, list[int]] = {}
    for number in numbers:
        groups.setdefault(names[number].rpartition("/")[0], []).append(number)
    return [groups[name] for name in sorted(groups)]
