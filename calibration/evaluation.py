"""Accuracy of a whole pipeline, finder included, on a list of pairs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from limen.calibration.pairs import Pair, find_pair_picture, read_pairs, ten_fold_accuracy
from limen.calibration.rates import equal_error_rate, fnmr_at_fmr, roc_auc
from limen.detection import Detector
from limen.embedder import Embedder
from limen.errors import CalibrationError
from limen.folder import EmbeddedPictures, embed_pictures

REJECTED = -1.0  # the lowest cosine: a pair with a failure to acquire is never accepted


@dataclass(frozen=True, slots=True)
class PairsEvaluation:
    """Figures over all pairs, failures to acquire counted as rejections.

    accuracy is None for a list of one fold; accuracy_acquired leaves out pairs with a failure.
    fta is the share of pictures that gave no embedding.
    """

    accuracy: float | None
    accuracy_deviation: float | None
    accuracy_acquired: float | None
    auc: float
    eer: float
    tar_at_fmr_1e_2: float
    tar_at_fmr_1e_3: float
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
    failures = int((~embedded.detected).sum())
    return PairsEvaluation(
        accuracy=whole.accuracy if whole else None,
        accuracy_deviation=whole.deviation if whole else None,
        accuracy_acquired=(
            ten_fold_accuracy(scores[acquired], mated[acquired], fold[acquired]).accuracy
            if clean
            else None
        ),
        auc=roc_auc(scores[mated], scores[~mated]),
        eer=equal_error_rate(scores[mated], scores[~mated]),
        tar_at_fmr_1e_2=1 - fnmr_at_fmr(scores[mated], scores[~mated], 1e-2),
        tar_at_fmr_1e_3=1 - fnmr_at_fmr(scores[mated], scores[~mated], 1e-3),
        mated_pairs=int(mated.sum()),
        non_mated_pairs=int((~mated).sum()),
        pairs_not_acquired=int((~acquired).sum()),
        pictures=len(names),
        failures_to_acquire=failures,
        fta=failures / len(names),
        model_id=embedded.model_id,
    )
