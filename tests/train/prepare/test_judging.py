"""The rules of what is kept, against plain loops and cases one can check by hand."""

import numpy as np
import pytest

from limen.bundle import CohortEmbeddings
from limen.embedder import unit_norm
from limen.train.pictures import part_by_hash
from limen.train.prepare.crops import HASH_BYTES, encode_webp, perceptual_hash
from limen.train.prepare.duplicates import (
    NEAR_BITS,
    NEAR_BITS_SCORE,
    NEAR_SCORE,
    Samples,
    exact_groups,
    near_duplicates,
)
from limen.train.prepare.judging import Rule, Rules, judge, judge_unlabelled
from limen.train.prepare.suspects import (
    NOT_THIS_PERSON,
    OTHER_PERSON,
    Limits,
    limits_from_strangers,
    look_at_labels,
    same_person,
)
from limen.train.shards import HELD_OUT, UNLABELLED

SIZE = 64
LIMITS = Limits(other_identity=0.5, stranger=0.2, same_identity=0.9)


def data_set(identities=6, each=8, spread=0.5, seed=0):
    """Embeddings around a direction for each identity, digests and hashes all different."""
    rng = np.random.default_rng(seed)
    centres = unit_norm(rng.standard_normal((identities, SIZE)).astype(np.float32))
    identity = np.repeat(np.arange(identities), each)
    noise = spread * unit_norm(rng.standard_normal((len(identity), SIZE)).astype(np.float32))
    return Samples(
        identity=identity,
        digest=rng.integers(0, 256, (len(identity), 32), np.uint8),
        hash_bits=rng.integers(0, 256, (len(identity), HASH_BYTES), np.uint8),
        embedding=unit_norm(centres[identity] + noise),
        quality=rng.uniform(0.2, 1, len(identity)).astype(np.float32),
    )


def names_of(samples):
    return [f"person-{number}" for number in range(int(samples.identity.max()) + 1)]


def judged(samples, rules=Rules(), own_part=None):  # noqa: B008 - frozen
    own_part = np.full(len(samples), -1) if own_part is None else np.asarray(own_part)
    return judge(samples, names_of(samples), own_part, LIMITS, rules)


def test_a_clean_set_is_kept_whole_with_a_part_for_each_identity() -> None:
    samples = data_set()
    result = judged(samples)
    assert result.kept.tolist() == list(range(len(samples)))
    assert not result.dropped
    assert not result.suspects
    expected = [part_by_hash(f"person-{number}") for number in samples.identity]
    assert result.part == expected


@pytest.mark.parametrize("seed", range(3))
def test_near_duplicates_agree_with_plain_loops(seed) -> None:
    samples = data_set(1, 60, spread=0.35, seed=seed)
    rng = np.random.default_rng(seed)
    copied = rng.permutation(60)[:10]
    samples.hash_bits[copied] = samples.hash_bits[(copied + 1) % 60]
    samples.hash_bits[copied[:5], 0] ^= 255
    rows = np.arange(60)
    kept: list[int] = []
    gone: dict[int, int] = {}
    for row in sorted(rows, key=lambda r: (-samples.quality[r], r)):
        for other in kept:
            bits = sum(bin(int(a) ^ int(b)).count("1") for a, b in zip(
                samples.hash_bits[row], samples.hash_bits[other], strict=True
            ))  # fmt: skip
            score = float(samples.embedding[row] @ samples.embedding[other])
            if score >= NEAR_SCORE or (bits <= NEAR_BITS and score >= NEAR_BITS_SCORE):
                gone[int(row)] = other
                break
        else:
            kept.append(int(row))
    found = near_duplicates(samples, rows)
    assert {pair.row for pair in found} == set(gone)
    assert len(gone) >= 5
    assert all(pair.other in kept for pair in found)


def test_the_same_bytes_stay_once_and_with_whom_they_resemble() -> None:
    samples = data_set(3, 6)
    samples.digest[1] = samples.digest[0]  # twice under person 0
    samples.digest[13] = samples.digest[3]  # person 0's picture under person 2 too
    samples.embedding[13] = samples.embedding[3]
    samples.hash_bits[13] = samples.hash_bits[3]
    groups = exact_groups(samples.digest, np.arange(len(samples)))
    assert [group.tolist() for group in groups] == [[0, 1], [3, 13]]
    dropped = judged(samples).dropped
    assert dropped[1].rule == Rule.SAME_BYTES
    assert dropped[1].other == 0
    assert dropped[13].rule == Rule.SAME_ELSEWHERE
    assert dropped[13].other == 3
    assert set(dropped) == {1, 13}


def test_a_picture_filed_under_another_identity_is_suspected() -> None:
    samples = data_set()
    samples.identity[5] = 3  # one of person 0 among person 3's
    labels = look_at_labels(samples, np.arange(len(samples)), 6, LIMITS)
    assert [(one.row, one.why, one.nearest) for one in labels.suspects] == [(5, OTHER_PERSON, 0)]
    assert labels.suspects[0].score > 0.5 > labels.suspects[0].own
    assert len(judged(samples).kept) == len(samples), "a suspicion alone drops nothing"
    assert judged(samples, Rules(drop_suspects=True)).dropped[5].rule == Rule.LABEL


def test_a_stranger_among_an_identitys_pictures_is_suspected() -> None:
    samples = data_set()
    stranger = np.zeros(SIZE, np.float32)
    stranger[:] = np.random.default_rng(99).standard_normal(SIZE)
    samples.embedding[20] = stranger / np.linalg.norm(stranger)
    labels = look_at_labels(samples, np.arange(len(samples)), 6, LIMITS)
    assert [(one.row, one.why) for one in labels.suspects] == [(20, NOT_THIS_PERSON)]


def test_own_scores_leave_the_picture_itself_out() -> None:
    samples = data_set(4, 5, seed=2)
    labels = look_at_labels(samples, np.arange(20), 4, LIMITS)
    for row in range(20):
        others = [r for r in range(20) if samples.identity[r] == samples.identity[row] and r != row]
        centre = samples.embedding[others].sum(0)
        expected = float(centre @ samples.embedding[row]) / float(np.linalg.norm(centre))
        assert labels.own[row] == pytest.approx(expected, abs=1e-5)


def test_two_identities_of_one_person_are_told_and_share_a_part() -> None:
    samples = data_set(12, 6, spread=0.3)
    rng = np.random.default_rng(5)
    twin = next(n for n in range(1, 12) if part_by_hash(f"person-{n}") != part_by_hash("person-0"))
    rows = np.flatnonzero(samples.identity == twin)
    centre = samples.embedding[samples.identity == 0].mean(0)
    noise = 0.3 * unit_norm(rng.standard_normal((len(rows), SIZE)).astype(np.float32))
    samples.embedding[rows] = unit_norm(centre / np.linalg.norm(centre) + noise)
    result = judged(samples)
    assert [(one.identity, one.other) for one in result.same_person] == [(0, twin)]
    part = dict(zip(samples.identity[result.kept].tolist(), result.part, strict=True))
    assert part[0] == part[twin], "nobody is learnt in one part and measured in another"
    assert not result.leaks
    fixed = judged(samples, own_part=np.where(samples.identity == twin, 2, 0))
    assert [(one.identity, one.other) for one in fixed.leaks] == [(0, twin)]


def test_an_identity_that_a_partition_splits_stays_where_most_of_it_is() -> None:
    samples = data_set(2, 6)
    own_part = [0, 0, 0, 0, 2, 2, 2, 2, 2, 0, 0, 0]
    result = judged(samples, own_part=own_part)
    assert {row for row, v in result.dropped.items() if v.rule == Rule.TWO_PARTS} == {
        4,
        5,
        9,
        10,
        11,
    }
    assert result.part == ["fit"] * 4 + ["report"] * 3, "of equal halves the measured one stays"


def test_a_cohort_is_taken_from_fit_alone_and_by_name() -> None:
    samples = data_set(200, 2)
    plain, with_cohort = judged(samples), judged(samples, Rules(cohort=0.25))
    moved = {(a, b) for a, b in zip(plain.part, with_cohort.part, strict=True) if a != b}
    assert moved == {("fit", "cohort")}
    share = with_cohort.part.count("cohort") / plain.part.count("fit")
    assert 0.15 < share < 0.35
    part_of = {}
    for number, part in zip(samples.identity, with_cohort.part, strict=True):
        assert part_of.setdefault(number, part) == part


def test_low_quality_and_singletons_go_where_they_are_asked_to() -> None:
    samples = data_set(3, 3)
    samples.quality[:] = 0.9
    samples.quality[[0, 1]] = 0.1
    result = judged(samples, Rules(min_quality=0.5))
    rules = {row: verdict.rule for row, verdict in result.dropped.items()}
    assert rules == {0: Rule.LOW_QUALITY, 1: Rule.LOW_QUALITY, 2: Rule.SINGLETON}
    kept = judged(samples, Rules(min_quality=0.5, keep_singletons=True)).kept
    assert 2 in kept


def test_nobody_known_is_thinned_and_a_share_held_out_by_name() -> None:
    samples = data_set(1, 400, spread=3.0)
    samples.hash_bits[7] = samples.hash_bits[6]
    samples.embedding[7] = samples.embedding[6]
    samples.hash_bits[9] = samples.hash_bits[8]  # a border shared, by two who are not alike
    names = [f"folder/{number}.jpg" for number in range(400)]
    result = judge_unlabelled(samples, names, Rules(hold_out=0.25))
    assert set(result.dropped) == {6 if samples.quality[6] < samples.quality[7] else 7}
    share = result.part.count(HELD_OUT) / len(result.part)
    assert 0.18 < share < 0.32
    moved = judge_unlabelled(samples, [f"x/{n.split('/')[1]}" for n in names], Rules(hold_out=0.25))
    assert moved.part == result.part, "the folder has no say"
    assert set(judge_unlabelled(samples, names, Rules()).part) == {UNLABELLED}


def test_limits_keep_their_promise_on_the_strangers_themselves() -> None:
    strangers = data_set(40, 6)
    cohort = CohortEmbeddings(np.asarray(strangers.embedding, np.float32), strangers.identity)
    limits = limits_from_strangers(cohort, identities=10)
    sums = np.stack([cohort.embeddings[cohort.subject == n].sum(0) for n in range(40)])
    centres = unit_norm(sums.astype(np.float32))
    scores = cohort.embeddings @ centres.T
    non_mated = scores[cohort.subject[:, None] != np.arange(40)]
    assert np.mean(non_mated >= limits.other_identity) <= 0.01 / 10
    assert np.mean(non_mated >= limits.stranger) <= 0.1
    assert not same_person(sums.astype(np.float32), limits.same_identity)


def test_hashes_know_a_picture_again_under_light_size_and_compression(faces) -> None:
    import cv2

    from limen.images import decode_picture, encode_jpeg

    hashes = {}
    for name, image in faces.items():
        crop = cv2.resize(image, (112, 112), interpolation=cv2.INTER_AREA)
        small = cv2.resize(cv2.resize(crop, (56, 56)), (112, 112))
        dim = (crop * 0.6 + 10).astype(np.uint8)
        changed = [
            dim,
            small,
            decode_picture(encode_jpeg(crop, 40)),
            decode_picture(encode_webp(crop)),
        ]
        own = np.unpackbits(perceptual_hash(crop))
        hashes[name] = own
        for other in changed:
            assert (own != np.unpackbits(perceptual_hash(other))).sum() <= NEAR_BITS
    assert (hashes["eileen"] != hashes["grace"]).sum() > 60
