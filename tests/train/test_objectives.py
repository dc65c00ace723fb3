"""Losses against plain loops."""

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train'")
pytest.importorskip("pytorch_metric_learning", reason="needs the extra 'train'")

from limen.train.objectives import ObjectiveError, build_losses  # noqa: E402
from limen.train.recipe import DistillationObjective, TripletObjective  # noqa: E402


def test_batch_hard_is_what_a_loop_over_anchors_finds() -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(12, 6, generator=generator)
    identity = torch.arange(12) // 3
    unit = torch.nn.functional.normalize(embeddings)
    cosine = unit @ unit.T
    losses = []
    for anchor in range(12):
        same = (identity == identity[anchor]) & (torch.arange(12) != anchor)
        hardest_mated = cosine[anchor][same].min()
        hardest_non_mated = cosine[anchor][identity != identity[anchor]].max()
        losses.append(torch.relu(hardest_non_mated - hardest_mated + 0.2))
    (loss,) = build_losses([TripletObjective(kind="triplet", margin=0.2)], [])
    found = loss(embeddings, identity, {})
    assert found.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_distillation_is_zero_at_the_teacher_and_positive_elsewhere() -> None:
    teacher = torch.nn.functional.normalize(torch.randn(5, 8))
    (loss,) = build_losses([DistillationObjective(kind="distillation", teacher="t")], ["t"])
    assert loss(3 * teacher, torch.arange(5), {"t": teacher}).item() == pytest.approx(0, abs=1e-5)
    assert loss(-teacher, torch.arange(5), {"t": teacher}).item() == pytest.approx(2, abs=1e-5)


def test_a_missing_teacher_is_told_before_training() -> None:
    with pytest.raises(ObjectiveError, match="take a recipe without distillation"):
        build_losses([DistillationObjective(kind="distillation")], [])
