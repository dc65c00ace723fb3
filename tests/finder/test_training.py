"""A tiny finder trained on drawn heads: it learns, resumes to the step, and refuses bad files."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from typer.testing import CliRunner  # noqa: E402

from limen.cli.main import app  # noqa: E402
from limen.errors import ConfigError  # noqa: E402
from limen.train.checkpoint_file import CheckpointError  # noqa: E402
from limen.train.finder.checkpoint import load_finder, save_finder, slimmed  # noqa: E402
from limen.train.finder.recipe import FinderRecipe, load_finder_recipe  # noqa: E402
from limen.train.finder.run import start_finder_training  # noqa: E402
from limen.train.recipe import is_finder_recipe  # noqa: E402
from limen.train.trainer import TrainingError  # noqa: E402

TINY = FinderRecipe(
    channels=16,
    scenes_px=(64, 96),
    batch=4,
    steps=12,
    warmup_steps=2,
    learning_rate=5e-3,
    validate_every_steps=1000,
    checkpoint_every_steps=5,
)


@pytest.fixture(autouse=True)
def _few_validation_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limen.train.finder.trainer.VALIDATION_SCENES", 6)


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    saved = load_finder(path)
    return {**saved.weights, **{f"averaged.{k}": v for k, v in saved.averaged.items()}}


def test_a_run_that_was_stopped_ends_where_an_undisturbed_one_does(
    heads: Path, tmp_path: Path
) -> None:
    whole = start_finder_training(TINY, heads, tmp_path / "whole", threads=1)
    result = whole.run()
    assert {"recall", "landmark_error", "false_faces_per_picture", "score"} <= set(result)

    class Stop(Exception):
        pass

    def stop_at_seven(progress) -> None:  # type: ignore[no-untyped-def]
        if progress.step == 7:
            raise Stop

    with pytest.raises(Stop):
        start_finder_training(TINY, heads, tmp_path / "cut", threads=1).run(stop_at_seven)
    resumed = start_finder_training(TINY, heads, tmp_path / "cut", threads=1, resume=True)
    assert resumed.step == 5
    resumed.run()
    first, second = (weights_of(tmp_path / name / "last.pt") for name in ("whole", "cut"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    steps = [json.loads(row)["step"] for row in (tmp_path / "cut" / "log.jsonl").open()]
    assert steps == [12]


def test_the_loss_falls_on_drawn_heads(heads: Path, tmp_path: Path) -> None:
    changed = {"steps": 150, "scenes_px": (96,), "batch": 8, "learning_rate": 1e-2, "mosaic": 0.0}
    recipe = TINY.model_copy(update=changed)
    losses: list[float] = []
    start_finder_training(recipe, heads, tmp_path / "run", threads=1).run(
        lambda progress: losses.append(progress.loss)
    )
    assert sum(losses[-20:]) < 0.75 * sum(losses[:20])
    assert (tmp_path / "run" / "best.pt").exists()


def test_a_kept_checkpoint_is_small_and_finds_the_same(heads: Path, tmp_path: Path) -> None:
    start_finder_training(TINY, heads, tmp_path, threads=1).run()
    whole = load_finder(tmp_path / "last.pt")
    save_finder(tmp_path / "small.pt", slimmed(whole))
    assert (tmp_path / "small.pt").stat().st_size < 0.4 * (tmp_path / "last.pt").stat().st_size
    picture = torch.zeros(1, 3, 64, 64)
    for first, second in zip(
        whole.network()(picture), load_finder(tmp_path / "small.pt").network()(picture), strict=True
    ):
        assert torch.allclose(first, second, atol=0.01)


def test_checkpoints_of_other_recipes_other_kinds_and_none_are_refused(
    heads: Path, tmp_path: Path
) -> None:
    start_finder_training(TINY, heads, tmp_path / "run", threads=1).run()
    last = tmp_path / "run" / "last.pt"
    with pytest.raises(ConfigError, match="exists: add --resume"):
        start_finder_training(TINY, heads, tmp_path / "run")
    with pytest.raises(ConfigError, match="nothing to resume"):
        start_finder_training(TINY, heads, tmp_path / "none", resume=True)
    other = TINY.model_copy(update={"seed": 2})
    with pytest.raises(CheckpointError, match="another recipe"):
        start_finder_training(other, heads, tmp_path / "run", resume=True)
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        load_finder(tmp_path / "none.pt")
    cut = tmp_path / "cut.pt"
    cut.write_bytes(last.read_bytes()[:3000])
    with pytest.raises(CheckpointError, match="not a whole checkpoint of a finder"):
        load_finder(cut)
    embedder = tmp_path / "embedder.pt"
    torch.save({"schema_version": 1, "channels": [8]}, embedder)
    with pytest.raises(CheckpointError, match="expected a checkpoint of a finder"):
        load_finder(embedder)
    save_finder(tmp_path / "small.pt", slimmed(load_finder(last)))
    last.write_bytes((tmp_path / "small.pt").read_bytes())
    with pytest.raises(CheckpointError, match="averaged weights alone"):
        start_finder_training(TINY, heads, tmp_path / "run", resume=True)


def test_a_run_starts_from_another_ones_averaged_weights(heads: Path, tmp_path: Path) -> None:
    start_finder_training(TINY, heads, tmp_path / "first", threads=1).run()
    first = tmp_path / "first" / "last.pt"
    second = start_finder_training(TINY, heads, tmp_path / "b", threads=1, init_from=first)
    averaged = load_finder(first).averaged
    for state in (second.network.state_dict(), second.averaged.module.state_dict()):
        assert all(torch.equal(state[name], averaged[name]) for name in averaged)
    assert second.provenance["initialised_from"]["step"] == 12
    wider = TINY.model_copy(update={"channels": 24})
    with pytest.raises(ConfigError, match="16 channels, the recipe wants 24"):
        start_finder_training(wider, heads, tmp_path / "c", init_from=first)


def test_a_loss_that_is_no_number_stops_the_run(heads: Path, tmp_path: Path) -> None:
    trainer = start_finder_training(TINY, heads, tmp_path, threads=1)
    torch.nn.init.constant_(trainer.network.scores[0].bias, float("nan"))
    with pytest.raises(TrainingError, match="not a number at step 0: lower the learning rate"):
        trainer.run()


def test_the_shipped_recipe_is_a_finders_and_mistakes_in_one_are_named(tmp_path: Path) -> None:
    assert is_finder_recipe("finder")
    assert not is_finder_recipe("road")
    assert load_finder_recipe("finder").channels == 64
    for text, message in (
        ('kind = "finder"\nchanels = 32', "did you mean 'channels'"),
        ('kind = "finder"\nscenes_px = [100]', "multiples of 32"),
        ('kind = "finder"\nsteps = 0', "steps"),
    ):
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_finder_recipe(tmp_path / "bad.toml")


def test_the_command_trains_a_finder_and_refuses_an_embedders_options(
    heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limen.train.allocator.restart_with_fast_allocator", lambda: None)
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        'kind = "finder"\nchannels = 16\nscenes_px = [64]\nbatch = 2\nsteps = 3\nwarmup_steps = 1\n'
    )
    left_out = tmp_path / "names.txt"
    left_out.write_text("000.jpg\n001.jpg\n")
    arguments = ["train", str(recipe), "--data", str(heads), "--threads", "1"]
    out = ["--out", str(tmp_path / "run"), "--leave-out", str(left_out), "--json"]
    result = CliRunner().invoke(app, [*arguments, *out])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["step"] == 3
    provenance = load_finder(tmp_path / "run" / "last.pt").provenance
    assert provenance["data"]["left_out_names"] == 2
    refused = CliRunner().invoke(app, [*arguments, "--slim-from", "x.onnx"])
    assert isinstance(refused.exception, ConfigError)
