"""Accuracy of a whole pipeline, finder included, on a list of pairs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limen.calibration.bootstrap import interval
from limen.calibration.figures import figures
from limen.calibration.pairs import Pair, find_pair_picture, read_pairs, ten_fold_accuracy
from limen.calibration.rates import equal_error_rate, tar_at_fmr
from limen.calibration.scores import Scores
from limen.detection import Detector
from limen.embedder import Embedder
from limen.errors import CalibrationError
from limen.folder import EmbeddedPictures, embed_pictures

CONFIDENCE, SEED = 0.95, 1
REJECTED = -1.0  # the lowest cosine: a pair with a failure to acquire is never accepted


@dataclass(frozen=True, slots=True)
class PairsEvaluation:
    """Figures over all pairs, failures to acquire counted as rejections.

    accuracy is None for a list of one fold; accuracy_acquired leaves out pairs with a failure.
    fta is the share of pictures that gave no embedding. Intervals are of 95 %, from a bootstrap over
    people, each with the pairs of which they are the first; the other figures as in
    `limen.calibration.figures`.
    """

    accuracy: float | None
    accuracy_deviation: float | None
    accuracy_acquired: float | None
    auc: float
    eer: float
    eer_interval: tuple[float, float]
    tar_at_fmr_1e_2: float
    tar_at_fmr_1e_3: float
    tar_at_fmr_1e_3_interval: tuple[float, float]
    fmr100: float
    fmr1000: float
    zero_fmr: float
    d_prime: float | None
    min_cllr: float
    mated_pairs: int
    non_mated_pairs: int
    pairs_not_acquired: int
    pictures: int
    failures_to_acquire: int
    fta: float
    model_id: str
    pairs_left_out: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def evaluate_pairs(
    list_path: Path,
    images: Path,
    detector: Detector,
    embedder: Embedder,
    embedding_size: int,
    report: Callable[[int, int], None] = lambda done, total: None,
    leave_out: Collection[str] = (),
) -> PairsEvaluation:
    """Embed the pictures of a pair list once each and score the pairs by cosine.

    leave_out: people whose pairs do not count, since the network may have met them in training.
    CalibrationError where the list is wrong or a picture that it names is missing.
    """
    listed = read_pairs(list_path)
    pairs = [p for p in listed if p.first[0] not in leave_out and p.second[0] not in leave_out]
    names = sorted({end for pair in pairs for end in (pair.first, pair.second)})
    paths = []
    for name, number in names:
        path = find_pair_picture(images, name, number)
        if path is None:
            raise CalibrationError(
                f"{list_path} names picture {number} of '{name}', which is not in {images}: "
                f"expected {name}/{name}_{number:04d}.jpg"
            )
        paths.append(path)
    embedded = embed_pictures(
        paths, detector, embedder, embedding_size, lambda done: report(done, len(paths))
    )
    result = score_pairs(pairs, names, embedded)
    return replace(result, pairs_left_out=len(listed) - len(pairs))


def read_people(path: Path) -> frozenset[str]:
    """Names, one a line, as a list of pairs spells them. CalibrationError where it has none."""
    try:
        names = frozenset(path.read_text("utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: the list of people cannot be read ({error})") from error
    if not names:
        raise CalibrationError(f"{path}: names nobody; expected one name a line")
    return names


def score_pairs(
    pairs: list[Pair], names: list[tuple[str, int]], embedded: EmbeddedPictures
) -> PairsEvaluation:
    """The figures of `pairs`; row i of `embedded` is the picture names[i]."""
    row = {name: index for index, name in enumerate(names)}
    first = np.array([row[pair.first] for pair in pairs])
    second = np.array([row[pair.second] for pair in pairs])
    mated = np.array([pair.mated for pair in pairs])
    fold = np.array([pair.fold for pair in pairs], np.int64)
    cosine = (embedded.embedding[first] * embedded.embedding[second]).sum(1).astype(np.float64)
    acquired = embedded.detected[first] & embedded.detected[second]
    scores = np.where(acquired, cosine, REJECTED)
    if mated.all() or not mated.any():
        raise CalibrationError("the list needs pairs of one person and pairs of two")
    several = len(set(fold.tolist())) > 1
    whole = ten_fold_accuracy(scores, mated, fold) if several else None
    clean = several and len(set(fold[acquired].tolist())) > 1
    who = np.unique([pair.first[0] for pair in pairs], return_inverse=True)[1].astype(np.int64)

    def drawn(figure: Callable[[Scores, Scores], float]) -> tuple[float, float]:
        def of(rows: NDArray[np.int64]) -> float:
            return figure(scores[rows][mated[rows]], scores[rows][~mated[rows]])

        try:
            return interval(of, who, CONFIDENCE, np.random.default_rng(SEED))
        except CalibrationError:  # so few people that no draw has both kinds of pairs
            return 0.0, 1.0

    told = figures(scores[mated], scores[~mated])
    failures = int((~embedded.detected).sum())
    return PairsEvaluation(
        accuracy=whole.accuracy if whole else None,
        accuracy_deviation=whole.deviation if whole else None,
        accuracy_acquired=(
            ten_fold_accuracy(scores[acquired], mated[acquired], fold[acquired]).accuracy
            if clean
            else None
        ),
        auc=told.auc,
        eer=told.eer,
        eer_interval=drawn(equal_error_rate),
        tar_at_fmr_1e_2=told.tar_at_fmr_1e_2,
        tar_at_fmr_1e_3=told.tar_at_fmr_1e_3,
        tar_at_fmr_1e_3_interval=drawn(partial(tar_at_fmr, max_fmr=1e-3)),
        fmr100=told.fmr100,
        fmr1000=told.fmr1000,
        zero_fmr=told.zero_fmr,
        d_prime=told.d_prime,
        min_cllr=told.min_cllr,
        mated_pairs=int(mated.sum()),
        non_mated_pairs=int((~mated).sum()),
        pairs_not_acquired=int((~acquired).sum()),
        pictures=len(names),
        failures_to_acquire=failures,
        fta=failures / len(names),
        model_id=embedded.model_id,
    )
