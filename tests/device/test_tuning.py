"""What a board does best: candidates that agree, timed in turn, and a choice that keeps the model."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import limen
from limen.conformance import replay
from limen.device import candidates
from limen.device.models import open_models
from limen.device.racing import MIN_ROUNDS, WARM_UP, race
from limen.device.tuned import Tuning, open_tuned, read_tuning, tuning_file, write_tuning
from limen.device.tuning import tune
from limen.errors import ModelMismatchError, RuntimeUnavailableError

AT = "2026-11-25T12:00:00+00:00"
BUNDLE = limen.open_bundle()


@pytest.fixture(scope="module")
def tuning() -> Tuning:
    return tune(BUNDLE, model_id=None, measured_at=AT, seconds=0.5).tuning


def test_runners_take_turns_after_a_warm_up() -> None:
    turns: list[str] = []
    now = [0.0]

    def run(name: str, seconds: float) -> None:
        turns.append(name)
        now[0] += seconds

    took = race({"a": lambda: run("a", 1.0), "b": lambda: run("b", 2.0)}, 21.0, lambda: now[0])
    assert turns[: 2 * WARM_UP] == ["a"] * WARM_UP + ["b"] * WARM_UP
    assert turns[2 * WARM_UP :] == ["a", "b"] * 7
    assert took == {"a": [1.0] * 7, "b": [2.0] * 7}
    assert len(race({"a": lambda: run("a", 9.0)}, 1.0, lambda: now[0])["a"]) == MIN_ROUNDS


def test_every_graph_that_agrees_is_timed_and_the_choice_is_among_them() -> None:
    found = tune(BUNDLE, model_id=None, measured_at=AT, seconds=0.5)
    graphs = {g.path for g in (*BUNDLE.manifest.graphs, *BUNDLE.manifest.finder_graphs)}
    assert {each.path for each in found.timed} == graphs
    assert all(each.median_ms for each in found.timed if not each.reason)
    timed = {(each.path, each.threads): each.median_ms for each in found.timed}
    assert found.tuning.finder is not None
    for pick in (found.tuning.finder, found.tuning.embedder):
        assert timed[pick.path, pick.threads] == pytest.approx(pick.median_ms, abs=1e-3)
    assert found.faster == ()


def test_choice_beside_a_gallery_keeps_its_model() -> None:
    model_id = BUNDLE.embedder("tflite", "float16").model_id
    found = tune(BUNDLE, model_id=model_id, measured_at=AT, seconds=0.3)
    assert found.tuning.model_id == model_id
    assert found.tuning.embedder.path == "embedder.float16.tflite"
    assert found.tuning.finder is not None
    assert "float32" in found.tuning.finder.path  # either runtime: they make one model
    with pytest.raises(ModelMismatchError, match="bundle conform"):
        tune(BUNDLE, model_id="of another bundle", measured_at=AT, seconds=0.1)


def test_graph_that_does_not_conform_here_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def differing(bundle: Any, threads: int = 1) -> list[Any]:
        return [
            replace(row, outcome="differs", reason="2 of 100 decisions differ")
            if "int8" in row.path
            else row
            for row in replay(bundle, threads)
        ]

    monkeypatch.setattr(candidates, "replay", differing)
    found = tune(BUNDLE, model_id=None, measured_at=AT, seconds=0.3)
    wrong = [each for each in found.timed if each.role == "embedder" and "int8" in each.path]
    assert wrong
    assert all((w.median_ms, w.rounds) == (None, 0) and "decisions" in w.reason for w in wrong)
    assert "float16" in found.tuning.embedder.path


def test_finder_that_misses_a_golden_figure_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = candidates.Bundle.detector_of

    class Blind:
        def __init__(self, detector: Any) -> None:
            self.detector_id = detector.detector_id

        def detect(self, image: Any) -> list[Any]:
            return []

    def detector_of(bundle: Any, graph: Any, threads: int = 1) -> Any:
        detector = whole(bundle, graph, threads)
        return Blind(detector) if graph.path == "finder.int8.tflite" else detector

    reference = BUNDLE.detector()
    monkeypatch.setattr(candidates.Bundle, "detector", lambda *_: reference)
    monkeypatch.setattr(candidates.Bundle, "detector_of", detector_of)
    timed = {t.path: t for t in candidates.time_finders(BUNDLE, 0.1)}
    assert "does not find" in timed["finder.int8.tflite"].reason
    assert timed["finder.int8.tflite"].median_ms is None
    assert timed["finder.float32.tflite"].median_ms is not None


def test_choice_is_used_by_whoever_opens_for_that_gallery(tuning: Tuning, tmp_path: Path) -> None:
    assert tuning.finder is not None
    gallery = tmp_path / "g.sqlite"
    usual = open_models(BUNDLE, gallery)[1].model_id
    float16 = BUNDLE.embedder("tflite", "float16").model_id
    chosen = tuning.model_copy(
        update={
            "finder": tuning.finder.model_copy(update={"path": "finder.float32.onnx"}),
            "embedder": tuning.embedder.model_copy(update={"path": "embedder.float16.tflite"}),
            "model_id": float16,
        }
    )
    write_tuning(tuning_file(gallery), chosen)
    assert read_tuning(tuning_file(gallery)) == chosen
    assert open_models(BUNDLE, gallery)[1].model_id == float16 != usual
    # What is named wins, and other galleries are not concerned.
    assert open_models(BUNDLE, gallery, precision="int8")[1].model_id == usual
    assert open_models(BUNDLE, tmp_path / "other.sqlite")[1].model_id == usual


def changed(tuning: Tuning, **key: Any) -> Tuning:
    return tuning.model_copy(update={"key": tuning.key.model_copy(update=key)})


@pytest.mark.parametrize("key", [{"packages": {"onnxruntime": "0.1"}}, {"machine": "a toaster"}])
def test_choice_of_another_runtime_or_machine_keeps_the_model_on_one_thread(
    tuning: Tuning, tmp_path: Path, key: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert tuning.finder is not None
    many = tuning.model_copy(
        update={"embedder": tuning.embedder.model_copy(update={"threads": 64})}
    )
    write_tuning(tmp_path / "t.json", changed(many, **key))
    opened = open_tuned(BUNDLE, tmp_path / "t.json")
    assert opened is not None
    assert opened[1].model_id == tuning.model_id
    assert "threads are ignored" in caplog.text


def test_choice_for_another_bundle_finder_or_nonsense_is_ignored_and_told_of(
    tuning: Tuning, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    path = tmp_path / "t.json"
    told = json.loads(tuning.model_dump_json())
    texts = [
        changed(tuning, graphs="0" * 64).model_dump_json(),
        json.dumps({**told, "model_id": "0" * 32}),
        json.dumps({**told, "embedder": {**told["embedder"], "path": "other.tflite"}}),
        json.dumps({**told, "embedder": {**told["embedder"], "path": "../../etc/passwd"}}),
        json.dumps({**told, "embedder": {**told["embedder"], "threads": 100000}}),
        json.dumps({**told, "surprise": 1}),
        "{",
        " " * 100_000,
    ]
    for text in texts:
        caplog.clear()
        path.write_text(text)
        assert open_tuned(BUNDLE, path) is None
        assert [r.levelno for r in caplog.records] == [logging.WARNING], text
    assert open_tuned(BUNDLE, tmp_path / "none.json") is None

    def gone(*_: Any) -> Any:
        raise RuntimeUnavailableError("the runtime is not installed")

    path.write_text(tuning.model_dump_json())
    monkeypatch.setattr(candidates.Bundle, "embedder_of", gone)
    assert open_tuned(BUNDLE, path) is None
