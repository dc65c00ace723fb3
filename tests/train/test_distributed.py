"""Several processes against one: the same loss, gradients, statistics and weights."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train'")
pytest.importorskip("pytorch_metric_learning", reason="needs the extra 'train'")
pytest.importorskip("lightning_fabric", reason="needs the extra 'train'")

from limen.train.checkpoint import load_checkpoint  # noqa: E402
from limen.train.ranks import Ranks, share_of  # noqa: E402
from limen.train.recipe import load_recipe  # noqa: E402
from limen.train.run import start_training  # noqa: E402

SCRIPT = Path(__file__).parent / "one_of_many.py"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def torchruns_environment(rank: int, size: int, port: int) -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TORCHELASTIC_RUN_ID": "test",
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What one process found, and what two found together."""
    folder, port = tmp_path_factory.mktemp("outcomes"), free_port()
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder / f"{size}.pt")],
            env=torchruns_environment(rank, size, port) if size > 1 else None,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for size in (1, 2)
        for rank in range(size)
    ]
    for process in started:
        _, errors = process.communicate(timeout=400)
        assert process.returncode == 0, errors.decode()[-3000:]
    return [torch.load(folder / f"{size}.pt") for size in (1, 2)]


@pytest.mark.parametrize(
    "case",
    [
        "triplet",
        "drawn triplets",
        "arcface",
        "sampled cosface",
        "few of many",
        "subcenter-arcface",
        "replicated",
    ],
)
def test_two_processes_give_the_gradients_of_one(outcomes, case) -> None:
    one, two = (outcome[case] for outcome in outcomes)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-9)
    assert two["spread"] == pytest.approx(one["spread"], rel=1e-9)
    assert set(one["own"]) == set(two["own"])
    for part in ("network", "own"):
        largest = max([float(g.abs().max()) for g in one[part].values()], default=0.0)
        for name, gradient in one[part].items():
            assert gradient.any(), name
            found = two[part][name]
            torch.testing.assert_close(found, gradient, rtol=1e-7, atol=1e-9 * largest)
    for name, value in one["running"].items():  # batch normalisation saw the whole batch
        torch.testing.assert_close(two["running"][name], value, rtol=1e-9, atol=1e-12)
    # Sharded weights and their moments are saved as one process would have saved them.
    for name, value in one["own weights"].items():
        assert two["own weights"][name].shape == value.shape
    for number, moments in one["moments"].items():
        assert two["moments"][number]["exp_avg"].shape == moments["exp_avg"].shape


def test_one_process_told_to_stop_stops_all(outcomes) -> None:
    assert [outcome["triplet"]["stop"] for outcome in outcomes] == [False, True]


RECIPE = """
seed = 3
input_px = 28
checkpoint_every_steps = 1
model = { width = 0.125, embedding_size = 16 }
batch = { identities = 4, per_identity = 2 }

[[stages]]
name = "head"
steps = 25
learning_rate = 1e-4
objectives = [{ kind = "arcface", scale = 16 }]
"""


def children_of(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in text.split()]


def test_a_lost_process_ends_the_run_and_one_alone_goes_on_from_its_checkpoint(
    folder, tmp_path
) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "run"
    recipe.write_text(RECIPE)
    command = [sys.executable, "-m", "limen.cli.main", "train", str(recipe), "--devices", "2"]
    command += ["--data", str(folder), "--out", str(out), "--threads", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not (out / "last.pt").exists():
        assert process.poll() is None, process.stderr.read().decode()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (child,) = children_of(process.pid)
    os.kill(child, signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0, errors.decode()[-3000:]
    saved = load_checkpoint(out / "last.pt")
    assert 1 <= saved.step < 25
    resumed = start_training(load_recipe(recipe), folder, out, resume=True, threads=1)
    centres = saved.own_weights["class-centres-1"]
    assert centres.shape == (len(resumed.fit.names), 16)
    assert torch.equal(resumed.learner.curriculum.own_weights["class-centres-1"], centres)
    resumed.run()
    whole = start_training(load_recipe(recipe), folder, tmp_path / "whole", threads=1)
    whole.run()
    # Rounding differs between one process and two, and Adam turns its sign into whole steps.
    for name, weights in whole.network.named_parameters():
        far = (weights - resumed.network.get_parameter(name)).abs().max()
        assert far < 2e-3, name


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_shares_cover_everything_once(size) -> None:
    shares = [share_of(13, Ranks(rank, size)) for rank in range(size)]
    assert [i for share in shares for i in share] == list(range(13))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
