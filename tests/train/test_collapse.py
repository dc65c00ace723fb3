"""The collapse alarm: what it measures, when it stays quiet, and a run that really collapses."""

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train'")
pytest.importorskip("pytorch_metric_learning", reason="needs the extra 'train'")

from limen.train.checkpoint import load_checkpoint  # noqa: E402
from limen.train.collapse import (  # noqa: E402
    PATIENCE_STEPS,
    CollapseAlarm,
    CollapsedError,
    measure_spread,
)
from limen.train.objectives.build import build_terms  # noqa: E402
from limen.train.objectives.settings import (  # noqa: E402
    ContrastiveObjective,
    SupConObjective,
    TripletObjective,
)
from limen.train.recipe import parse_recipe  # noqa: E402
from limen.train.run import start_training  # noqa: E402

IDENTITY = torch.arange(24) // 3


def one_point(seed=0):
    noise = torch.randn(24, 16, generator=torch.Generator().manual_seed(seed))
    return torch.ones(24, 16) + 1e-3 * noise


def test_spread_is_one_on_the_sphere_and_nothing_at_a_point() -> None:
    wide = torch.randn(4000, 16, generator=torch.Generator().manual_seed(0))
    found = measure_spread(wide, torch.arange(4000))
    assert found.spread == pytest.approx(1, abs=0.01)
    assert found.non_mated_cosine == pytest.approx(0, abs=0.01)
    found = measure_spread(one_point(), IDENTITY)
    assert found.spread < 0.01
    assert found.non_mated_cosine == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("distance", ["cosine", "euclidean", "manhattan"])
def test_a_triplet_loss_at_one_point_is_what_the_alarm_expects(distance, smooth) -> None:
    settings = TripletObjective(
        kind="triplet", margin=0.3, distance=distance, smooth=smooth, weight=2
    )
    (term,) = build_terms([settings], [])
    value = term(torch.ones(24, 16) + 1e-5 * torch.randn(24, 16), IDENTITY, {})
    assert value.item() == pytest.approx(term.collapsed_at, rel=1e-2)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_a_contrastive_loss_at_one_point_is_what_the_alarm_expects(distance) -> None:
    (term,) = build_terms([ContrastiveObjective(kind="contrastive", distance=distance)], [])
    value = term(torch.ones(24, 16) + 1e-5 * torch.randn(24, 16), IDENTITY, {})
    assert value.item() == pytest.approx(term.collapsed_at, rel=1e-2)


def test_it_takes_both_a_lost_spread_and_a_loss_at_the_margin() -> None:
    terms = build_terms([TripletObjective(kind="triplet", margin=0.2)], [])
    near, far = one_point(), torch.randn(24, 16)
    for embeddings, loss in ((near, 0.05), (far, 0.2), (far, 0.05)):
        alarm = CollapseAlarm(terms)
        for _ in range(3 * PATIENCE_STEPS):
            alarm.check(embeddings, IDENTITY, {"triplet": loss})
    alarm = CollapseAlarm(terms)
    for _ in range(PATIENCE_STEPS - 1):
        alarm.check(near, IDENTITY, {"triplet": 0.2})
    alarm.check(far, IDENTITY, {"triplet": 0.2})  # a breath of air, and it counts anew
    for _ in range(PATIENCE_STEPS - 1):
        alarm.check(near, IDENTITY, {"triplet": 0.2})
    with pytest.raises(CollapsedError, match=r"stuck at 0\.200 .*semi-hard.*--init-from"):
        alarm.check(near, IDENTITY, {"triplet": 0.2})


def test_without_a_loss_that_has_a_margin_the_spread_decides() -> None:
    alarm = CollapseAlarm(build_terms([SupConObjective(kind="supcon")], []))
    with pytest.raises(CollapsedError, match="spread"):
        for _ in range(PATIENCE_STEPS):
            alarm.check(one_point(), IDENTITY, {"supcon": 3.0})


RECIPE = """
seed = 1
input_px = 28
augmentation = "plain"
checkpoint_every_steps = 20
model = { width = 0.125, embedding_size = 16 }
batch = { identities = 8, per_identity = 3 }

[[stages]]
name = "too fast"
steps = 1500
warmup_steps = 0
learning_rate = 0.03
final_learning_rate = 0.03
weight_decay = 0
objectives = [{ kind = "triplet", mining = "batch-hard", distance = "euclidean" }]
"""


def test_a_run_that_collapses_is_stopped_with_what_to_try(folder, tmp_path) -> None:
    """Batch-hard triplets from noise at thirty times the learning rate: loss = margin, for ever."""
    trainer = start_training(parse_recipe(RECIPE, "test"), folder, tmp_path, threads=1)
    with pytest.raises(CollapsedError, match="the embeddings have collapsed") as stopped:
        trainer.run()
    assert "a lower learning rate" in str(stopped.value)
    assert PATIENCE_STEPS <= trainer.step < 1500
    assert load_checkpoint(tmp_path / "last.pt").step == trainer.step // 20 * 20
