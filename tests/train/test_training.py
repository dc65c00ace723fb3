"""Training for real, small: it learns, repeats, resumes exactly, and survives being killed."""

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
from limen.train.checkpoint import (  # noqa: E402
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from limen.train.collapse import CollapseAlarm, TrainingError  # noqa: E402
from limen.train.networks.mobilenet import MobileNetEmbedder  # noqa: E402
from limen.train.recipe import load_recipe, parse_recipe, shipped_recipes  # noqa: E402
from limen.train.run import start_training  # noqa: E402
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


def test_an_interrupted_and_resumed_run_equals_an_unbroken_one(folder, tmp_path) -> None:
    recipe = parse_recipe(RECIPE, "test")
    whole = start_training(recipe, folder, tmp_path / "whole", threads=1)
    whole.run()

    class PulledPlug(Exception):
        pass

    def pull(progress) -> None:
        if progress.step == 4:
            raise PulledPlug

    broken = start_training(recipe, folder, tmp_path / "broken", threads=1)
    with pytest.raises(PulledPlug):
        broken.run(pull)
    resumed = start_training(recipe, folder, tmp_path / "broken", resume=True, threads=1)
    assert resumed.step == 4
    resumed.run()

    for name, value in whole.network.state_dict().items():
        assert torch.allclose(value, resumed.network.state_dict()[name], atol=1e-6), name


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
    assert 0 <= result["eer"] <= 1


def test_a_killed_run_leaves_a_whole_checkpoint(folder, tmp_path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        RECIPE.replace("steps = 6\nwarmup", "steps = 5000\nwarmup").replace(
            "checkpoint_every_steps = 2", "checkpoint_every_steps = 1"
        )
    )
    out = tmp_path / "run"
    command = [sys.executable, "-m", "limen.cli.main", "train", str(recipe)]
    process = subprocess.Popen([*command, "--data", str(folder), "--out", str(out)])
    deadline = time.monotonic() + 120
    try:
        while not (out / "last.pt").exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.3)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    checkpoint = load_checkpoint(out / "last.pt")
    assert checkpoint.step >= 1
    again = start_training(load_recipe(recipe), folder, out, resume=True, threads=1)
    assert again.step == checkpoint.step


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


def test_the_alarm_rings_when_all_embeddings_become_one() -> None:
    alarm, identity = CollapseAlarm(), torch.arange(8)
    same = torch.ones(8, 4) + 1e-4 * torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(TrainingError, match="collapsed"):
        for _ in range(100):
            alarm.check(same, identity)
    healthy = CollapseAlarm()
    for _ in range(100):
        healthy.check(torch.eye(8), identity)


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
