"""What does not belong: detectors against slow truths, the promise of the threshold, the verbs."""

import json
import shutil

import numpy as np
import pytest

from limen.errors import CalibrationError, ModelMismatchError
from limen.uses.anomaly import DetectorKind, fit_anomaly, fit_detector
from limen.uses.anomaly_figures import anomaly_figures, average_precision, fpr_at_tpr
from limen.uses.anomaly_file import AnomalyFileError, read_anomaly, write_anomaly
from limen.uses.embedding_set import EmbeddingsError, EmbeddingSet


def rows_of(values, label=None):
    none = np.full(len(values), -1, np.int64) if label is None else label.astype(np.int64)
    names = tuple(str(row) for row in range(len(values)))
    return EmbeddingSet(names, values.astype(np.float32), none, ("0", "1", "2", "3", "4", "5", "6"))


def normal(rng, count, size=6):
    return (rng.normal(size=(count, size)) * np.arange(1, size + 1)).astype(np.float32)


def test_detectors_are_those_of_plain_loops_and_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    fit, probes = normal(rng, 300), normal(rng, 40) * 2
    none = np.full(300, -1)
    knn = fit_detector(DetectorKind.KNN, fit, none, k=3).strangeness(probes)
    slow = [np.sort(np.linalg.norm(fit - p, axis=1).astype(float))[:3].mean() for p in probes]
    assert np.allclose(knn, slow, rtol=1e-5)
    from sklearn.covariance import LedoitWolf
    from sklearn.svm import OneClassSVM

    found = fit_detector(DetectorKind.MAHALANOBIS, fit, none).strangeness(probes)
    theirs = LedoitWolf().fit(fit.astype(float)).mahalanobis(probes.astype(float))
    assert np.allclose(found**2, theirs, rtol=1e-4)
    found = fit_detector(DetectorKind.ONE_CLASS, fit, none).strangeness(probes)
    machine = OneClassSVM(nu=0.1, gamma="scale").fit(fit.astype(float))
    assert np.allclose(found, -machine.decision_function(probes.astype(float)), atol=1e-6)


def test_classes_share_a_covariance_and_have_means_of_their_own() -> None:
    rng = np.random.default_rng(2)
    label = np.repeat([0, 1], 200)
    fit = rng.normal(size=(400, 2)) * 0.1 + np.where(label, 5, -5)[:, None]
    between = np.zeros((1, 2), np.float32)
    with_classes = fit_detector(DetectorKind.MAHALANOBIS, fit.astype(np.float32), label)
    without = fit_detector(DetectorKind.MAHALANOBIS, fit.astype(np.float32), np.full(400, -1))
    assert with_classes.strangeness(between)[0] > 20
    assert without.strangeness(between)[0] < 0.5


def test_the_false_alarm_rate_is_kept_in_new_tests_as_often_as_is_said() -> None:
    kept = 0
    for trial in range(60):
        rng = np.random.default_rng([3, trial])
        model = fit_anomaly(
            rows_of(normal(rng, 400)),
            DetectorKind.KNN,
            max_false_alarms=0.1,
            confidence=0.9,
            rng=rng,
        )
        assert model.point.false_alarm_rate <= model.point.false_alarm_bound <= 0.1
        fresh = model.strangeness(normal(rng, 200), "")
        kept += float(np.mean(fresh >= model.point.threshold)) <= 0.1
    assert kept >= 51  # 54 expected; 51 or more in 19 of 20 repetitions


def test_rows_that_are_alike_go_to_one_half_and_count_once() -> None:
    rng = np.random.default_rng(4)
    visits = np.repeat(np.arange(40), 20)
    values = rng.normal(size=(40, 6))[visits] + rng.normal(size=(800, 6)) * 0.01
    options = {"max_false_alarms": 0.05, "confidence": 0.95, "k": 1}
    alone = fit_anomaly(rows_of(values), DetectorKind.KNN, rng=np.random.default_rng(1), **options)
    with pytest.raises(CalibrationError, match="give about"):
        fit_anomaly(
            rows_of(values),
            DetectorKind.KNN,
            rng=np.random.default_rng(1),
            group=visits,
            **options,
        )
    together = fit_anomaly(
        rows_of(values),
        DetectorKind.KNN,
        rng=np.random.default_rng(1),
        group=visits,
        **{**options, "max_false_alarms": 0.6},
    )
    assert together.point.groups == 20
    # Taken apart, each row has its twin among what was learnt: the threshold is far too low.
    assert together.point.threshold > 5 * alone.point.threshold


def test_figures_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    rng = np.random.default_rng(5)
    for _ in range(10):
        familiar, strange = rng.integers(0, 9, 60) / 4, rng.integers(3, 12, 30) / 4
        truth = np.repeat([0, 1], [60, 30])
        values = np.concatenate([familiar, strange])
        assert average_precision(familiar, strange) == pytest.approx(
            average_precision_score(truth, values)
        )
        fpr, tpr, _ = roc_curve(truth, values, drop_intermediate=False)
        assert fpr_at_tpr(familiar, strange, 0.95) == pytest.approx(fpr[tpr >= 0.95].min())
        found = anomaly_figures(familiar, strange, 2.0)
        assert found.auroc == pytest.approx(roc_auc_score(truth, values))
        assert found.detection_rate == pytest.approx(np.mean(strange >= 2.0))
    with pytest.raises(CalibrationError):
        anomaly_figures(familiar, strange[:0], 1.0)


@pytest.mark.parametrize("kind", list(DetectorKind))
def test_a_model_survives_its_file_and_refuses_another(kind, tmp_path, digits) -> None:
    embeddings, label = digits
    seen = label < 7
    model = fit_anomaly(
        rows_of(embeddings[seen], label[seen]),
        kind,
        max_false_alarms=0.05,
        confidence=0.95,
        rng=np.random.default_rng(0),
    )
    path = tmp_path / "model"
    write_anomaly(path, model)
    assert path.stat().st_mode & 0o077 == 0
    again = read_anomaly(path)
    assert again.point == model.point
    found = again.strangeness(embeddings, "")
    assert np.allclose(found, model.strangeness(embeddings, ""))
    assert anomaly_figures(found[seen], found[~seen], model.point.threshold).auroc > 0.8
    with pytest.raises(ModelMismatchError):
        again.strangeness(embeddings, "another")
    with pytest.raises(ModelMismatchError):
        again.strangeness(embeddings[:, :3], "")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(100):
        broken = bytearray(whole[: rng.integers(0, len(whole))])
        path.write_bytes(broken)
        with pytest.raises(AnomalyFileError):
            read_anomaly(path)


def test_too_few_or_all_alike_is_a_sentence() -> None:
    with pytest.raises(EmbeddingsError, match="too few"):
        fit_detector(DetectorKind.KNN, np.eye(3, dtype=np.float32), np.zeros(3))
    with pytest.raises(EmbeddingsError, match="alike"):
        fit_detector(DetectorKind.MAHALANOBIS, np.ones((20, 3), np.float32), np.zeros(20))


def test_a_stream_and_a_sheet_of_pictures(limen, album, shots, tmp_path) -> None:
    many = tmp_path / "familiar"
    many.mkdir()
    rng = np.random.default_rng(0)
    from limen.images import encode_jpeg

    for number in range(60):
        shot = shots["eileen/0.jpg"] * rng.uniform(0.6, 1.2) + rng.normal(0, 6, (1, 1, 3))
        top = int(rng.integers(0, 40))
        (many / f"{number:02d}.jpg").write_bytes(
            encode_jpeg(np.clip(shot[top:], 0, 255).astype(np.uint8), 80)
        )
    model, sheet = tmp_path / "model", tmp_path / "sheet.png"
    options = ("--max-false-alarms", 0.3, "--confidence", 0.9)
    limen("anomaly", "fit", many, "--out", model, *options)
    assert "give about" in limen("anomaly", "fit", many, "--out", tmp_path / "no", code=2)
    assert not (tmp_path / "no").exists()
    shown = tmp_path / "shown"
    shown.mkdir()
    shutil.copy(many / "07.jpg", shown / "1.jpg")
    shutil.copy(album / "grace" / "0.jpg", shown / "2.jpg")
    shutil.copy(album / "things" / "coffee.jpg", shown / "3.jpg")
    said = limen(*("anomaly", "score", shown, "--model", model, "--sheet", sheet, "--json"), code=1)
    assert [row["alarm"] for row in said["scores"]] == [False, True]
    assert sheet.stat().st_size > 1000
    lines = limen("anomaly", "score", "--source", shown, "--model", model).splitlines()
    frames = [json.loads(line) for line in lines if line.startswith("{")]
    assert [frame["alarm"] for frame in frames] == [False, True, False]
    assert [len(frame["strangeness"]) for frame in frames] == [1, 1, 0]
    wrong = limen(*("anomaly", "score", shown, "--model", model, "--domain", "whole"), code=2)
    assert "fit again" in wrong
