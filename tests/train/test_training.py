"""Training for real, small: it learns, repeats, resumes exactly, and survives being killed."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train'")
pytest.importorskip("pytorch_metric_learning", reason="needs the extra 'train'")

from limen.errors import ConfigError  # noqa: E402
from limen.train.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from limen.train.checkpoint_file import CheckpointError, CheckpointWriteError  # noqa: E402
from limen.train.networks.mobilenet import MobileNetEmbedder  # noqa: E402
from limen.train.recipe import load_recipe, parse_recipe, shipped_recipes  # noqa: E402
from limen.train.run import start_training  # noqa: E402
from limen.train.run_folder import RunFolderError  # noqa: E402
from limen.train.schedule import averaging, learning_rate  # noqa: E402

RECIPE = """
seed = 3
input_px = 28
validate_every_steps = 6
checkpoint_every_steps = 2
model = { width = 0.125, embedding_size = 16 }
batch = { identities = 4, per_identity = 3 }

[[stages]]
name = "triplet"
steps = 6
warmup_steps = 2
objectives = [{ kind = "triplet", mining = "batch-hard" }]
"""


OWN_WEIGHTS = """
[[stages]]
name = "centres"
steps = 3
objectives = [{ kind = "arcface", own_rate = 5 }, { kind = "triplet", mining = "distance-weighted" }]

[[stages]]
name = "more of them"
steps = 3
objectives = [{ kind = "cosface" }, { kind = "proxy-nca" }]
"""


def same_run(one, other) -> None:
    """Whether two checkpoints would go on alike: every weight and moment, to the last bit."""
    assert one.step == other.step
    for part in ("weights", "averaged", "own_weights"):
        ours, theirs = getattr(one, part), getattr(other, part)
        assert set(ours) == set(theirs)
        for name, value in ours.items():
            assert torch.equal(value, theirs[name]), (part, name)
    for number, moments in one.optimizer["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, other.optimizer["state"][number][name]), (number, name)


@pytest.mark.parametrize("stages", [RECIPE[RECIPE.index("[[stages]]") :], OWN_WEIGHTS])
def test_an_interrupted_and_resumed_run_equals_an_unbroken_one(folder, tmp_path, stages) -> None:
    recipe = parse_recipe(RECIPE[: RECIPE.index("[[stages]]")] + stages, "test")
    start_training(recipe, folder, tmp_path / "whole", threads=1).run()

    class PulledPlug(Exception):
        pass

    def pull(progress) -> None:
        if progress.step == 5:  # one step behind the checkpoint, which is taken again
            raise PulledPlug

    broken = start_training(recipe, folder, tmp_path / "broken", threads=1)
    with pytest.raises(PulledPlug):
        broken.run(pull)
    resumed = start_training(recipe, folder, tmp_path / "broken", resume=True, threads=1)
    assert resumed.step == 4
    resumed.run()
    same_run(*(load_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "broken")))


def test_a_killed_run_goes_on_to_the_weights_of_an_unbroken_one(folder, tmp_path) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "run"
    steps = 40
    recipe.write_text(
        RECIPE.replace("steps = 6\nwarmup", f"steps = {steps}\nwarmup").replace(
            "checkpoint_every_steps = 2", "checkpoint_every_steps = 1"
        )
    )
    command = [sys.executable, "-m", "limen.cli.main", "train", str(recipe), "--threads", "1"]
    process = subprocess.Popen([*command, "--data", str(folder), "--out", str(out)])
    deadline = time.monotonic() + 240
    try:
        while not (out / "last.pt").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed = load_checkpoint(out / "last.pt")
    assert 1 <= killed.step < steps
    loaded = load_recipe(recipe)
    resumed = start_training(loaded, folder, out, resume=True, threads=1)
    assert resumed.step == killed.step
    resumed.run()
    start_training(loaded, folder, tmp_path / "whole", threads=1).run()
    same_run(*(load_checkpoint(path / "last.pt") for path in (out, tmp_path / "whole")))
    steps_told = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps_told == sorted(set(steps_told))


def test_a_full_disk_leaves_the_last_checkpoint_whole(folder, tmp_path) -> None:
    """The system refuses to write a file beyond a size, as it does on a full disk."""
    trainer = start_training(parse_recipe(RECIPE, "test"), folder, tmp_path, threads=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(progress) -> None:
        if progress.step == 2:
            size = (tmp_path / "last.pt").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))

    try:
        with pytest.raises(CheckpointWriteError, match=r"step 4 cannot be written .*is whole"):
            trainer.run(fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_checkpoint(tmp_path / "last.pt").step == 2
    assert not list(tmp_path.glob(".last.pt.*"))
    resumed = start_training(parse_recipe(RECIPE, "test"), folder, tmp_path, resume=True, threads=1)
    resumed.run()
    assert load_checkpoint(tmp_path / "last.pt").step == 6


def test_a_signal_ends_a_run_after_its_step_with_a_checkpoint(folder, tmp_path) -> None:
    trainer = start_training(parse_recipe(RECIPE, "test"), folder, tmp_path, threads=1)

    def terminate(progress) -> None:
        if progress.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer.run(terminate)
    assert trainer.interrupted_by == signal.SIGTERM
    assert load_checkpoint(tmp_path / "last.pt").step == trainer.step == 4


def test_two_runs_do_not_write_to_one_folder(folder, tmp_path) -> None:
    recipe = parse_recipe(RECIPE, "test")
    first, second = (start_training(recipe, folder, tmp_path, threads=1) for _ in range(2))

    def intrude(progress) -> None:
        with pytest.raises(RunFolderError, match="another run"):
            second.run()

    first.run(intrude)


def test_early_stopping_ends_the_last_stage_only(folder, tmp_path, monkeypatch) -> None:
    text = "early_stopping_patience = 2\n" + RECIPE.replace(
        "validate_every_steps = 6", "validate_every_steps = 1"
    )
    text += text[text.index("[[stages]]") :].replace("steps = 6", "steps = 9")
    found = iter([0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.4, 0.45, 0.4, 0.3, 0.3])
    monkeypatch.setattr(
        "limen.train.trainer.validate", lambda *_: {"fnmr_at_fmr_1e-3": next(found)}
    )
    trainer = start_training(parse_recipe(text, "test"), folder, tmp_path, threads=1)
    trainer.run()
    # Six bad ones in the first stage stop nothing; .4 is better, .45 and a tie with .4 are not.
    assert trainer.stopped_early
    assert trainer.step == 9
    assert load_checkpoint(tmp_path / "best.pt").step == 9
    assert load_checkpoint(tmp_path / "last.pt").selection["best"] == 0.4


def test_tensorboard_has_the_curves_and_the_log_the_same_figures(folder, tmp_path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    start_training(parse_recipe(RECIPE, "test"), folder, tmp_path, threads=1).run()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    row = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    for tag in ("loss", "triplet", "spread", "learning_rate", "eer"):
        (point,) = events.Scalars(tag)
        assert point.step == row["step"] == 6
        assert point.value == pytest.approx(row[tag], rel=1e-5)


def test_what_is_validated_and_shipped_is_the_average(folder, tmp_path) -> None:
    trainer = start_training(parse_recipe(RECIPE, "test"), folder, tmp_path, threads=1)
    expected = {k: v.clone() for k, v in trainer.network.named_parameters()}
    taken = []

    def follow(progress) -> None:
        # The first update copies; then min(decay, (1 + n) / (10 + n)) of the old is kept.
        count = len(taken)
        kept = 0.0 if count == 0 else min(0.998, (1 + count) / (10 + count))
        with torch.no_grad():
            for name, value in trainer.network.named_parameters():
                expected[name] = kept * expected[name] + (1 - kept) * value
        taken.append(progress.step)

    trainer.run(follow)
    saved = load_checkpoint(tmp_path / "last.pt")
    for name, value in expected.items():
        torch.testing.assert_close(saved.averaged[name], value, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(saved.averaged[k], saved.weights[k]) for k in expected)
    shipped = saved.network().state_dict()
    assert torch.equal(shipped["projection.weight"], saved.averaged["projection.weight"])


def test_triplets_pull_classes_apart(folder, tmp_path) -> None:
    # Without augmentation: what a few steps learn of the classes shows in the loss.
    longer = RECIPE.replace("steps = 6\nwarmup", "steps = 400\nlearning_rate = 3e-3\nwarmup")
    longer = longer.replace("validate_every_steps = 6", "validate_every_steps = 400")
    text = 'augmentation = "none"\n' + longer.replace("checkpoint_every_steps = 2", "")
    trainer = start_training(parse_recipe(text, "test"), folder, tmp_path / "run", threads=1)
    losses: list[float] = []
    result = trainer.run(lambda progress: losses.append(progress.loss))
    assert sum(losses[-40:]) < 0.3 * sum(losses[:40])
    assert result["eer"] < 0.1
    assert result["identities"] >= 2


def test_a_run_is_not_overwritten_by_mistake(folder, tmp_path) -> None:
    recipe = parse_recipe(RECIPE, "test")
    start_training(recipe, folder, tmp_path, threads=1).run()
    with pytest.raises(ConfigError, match="--resume"):
        start_training(recipe, folder, tmp_path)
    with pytest.raises(ConfigError, match="nothing to resume"):
        start_training(recipe, folder, tmp_path / "elsewhere", resume=True)
    with pytest.raises(CheckpointError, match="another recipe"):
        start_training(recipe.model_copy(update={"seed": 4}), folder, tmp_path, resume=True)


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_refused(folder, tmp_path, damage) -> None:
    path = tmp_path / "last.pt"
    if damage is None:
        start_training(parse_recipe(RECIPE, "t"), folder, tmp_path, threads=1).run()
        path.write_bytes(path.read_bytes()[:-2000])
    else:
        path.write_bytes(damage)
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        load_checkpoint(path)


def test_a_half_precision_checkpoint_loads_as_float32(folder, tmp_path) -> None:
    trainer = start_training(parse_recipe(RECIPE, "t"), folder, tmp_path, threads=1)
    trainer.run()
    saved = load_checkpoint(tmp_path / "last.pt")
    halved = {k: v.half() if v.is_floating_point() else v for k, v in saved.averaged.items()}
    save_checkpoint(tmp_path / "small.pt", replace(saved, averaged=halved, optimizer=None))
    crop = torch.randn(1, 3, 28, 28)
    with torch.no_grad():
        small = load_checkpoint(tmp_path / "small.pt").network()(crop)
        assert torch.allclose(small, saved.network()(crop), atol=0.05)
        assert small.dtype == torch.float32


def test_every_shipped_recipe_is_valid() -> None:
    assert {"road", "triplet"} <= set(shipped_recipes())
    for name in shipped_recipes():
        assert load_recipe(name).total_steps > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("margin", "x"), "did you mean"),
        (("batch-hard", "batch-harsh"), "batch-hard"),
        (("per_identity = 3", "per_identity = 1"), "greater than or equal to 2"),
        (('kind = "triplet"', 'kind = "softmax"'), "triplet"),
    ],
)
def test_a_wrong_recipe_names_its_key(change, message) -> None:
    text = RECIPE.replace(*change)
    if change[0] == "margin":
        text = "sed = 1\n" + RECIPE.replace("seed = 3", "")
    with pytest.raises(ConfigError, match=message):
        parse_recipe(text, "test")


def test_an_unknown_recipe_lists_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match="road, triplet"):
        load_recipe("raod")


def test_the_learning_rate_warms_up_and_ends_low() -> None:
    stage = load_recipe("road").stages[0]
    rates = [learning_rate(stage, step) for step in range(stage.steps)]
    assert rates[0] < rates[stage.warmup_steps] == pytest.approx(stage.learning_rate)
    assert rates[-1] == pytest.approx(stage.final_learning_rate, rel=0.01)
    assert np.argmax(rates) in (stage.warmup_steps - 1, stage.warmup_steps)


def test_averaging_follows_fast_at_first_and_slowly_later() -> None:
    average = averaging(0.9)
    value = [torch.zeros(1)]
    average(value, [torch.ones(1)], torch.tensor(0))
    assert value[0].item() == pytest.approx(0.9)
    average(value, [torch.zeros(1)], torch.tensor(10_000))
    assert value[0].item() == pytest.approx(0.81)


def test_a_network_of_other_channel_counts_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 14 channel counts"):
        MobileNetEmbedder(channels=[8, 8])
