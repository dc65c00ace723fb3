"""Losses against plain loops, closed forms, or the library; and the settings that name them."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train'")
pml = pytest.importorskip("pytorch_metric_learning", reason="needs the extra 'train'")

from pydantic import TypeAdapter  # noqa: E402
from pytorch_metric_learning import losses  # noqa: E402

from limen.errors import ConfigError  # noqa: E402
from limen.train.objectives.build import Curriculum, build_terms  # noqa: E402
from limen.train.objectives.settings import Objective  # noqa: E402
from limen.train.objectives.terms import ObjectiveError  # noqa: E402
from limen.train.recipe import parse_recipe  # noqa: E402

CLASSES, SIZE = 6, 8
KINDS = [
    "triplet",
    "contrastive",
    "margin",
    "lifted-structure",
    "n-pair",
    "angular",
    "proxy-nca",
    "proxy-anchor",
    "arcface",
    "subcenter-arcface",
    "cosface",
    "multi-similarity",
    "circle",
    "supcon",
    "ranked-list",
]


def objective(kind, **settings):
    return TypeAdapter(Objective).validate_python({"kind": kind, **settings})


def term(kind, **settings):
    torch.manual_seed(0)
    return build_terms([objective(kind, **settings)], ["t"], CLASSES, SIZE)[0]


def batch(seed=0, count=12):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, SIZE, generator=generator), torch.arange(count) // 3 % CLASSES


def unit(embeddings):
    return torch.nn.functional.normalize(embeddings)


@pytest.mark.parametrize("kind", KINDS)
def test_every_labelled_loss_pulls_classes_apart(kind) -> None:
    """Gradient descent on free embeddings, all weights of the loss included, sorts them."""
    loss = term(kind)
    embeddings, identity = batch()
    embeddings = torch.nn.Parameter(embeddings)
    optimizer = torch.optim.Adam([embeddings, *loss.parameters()], lr=0.1)
    for step in range(60):
        torch.manual_seed(step)
        optimizer.zero_grad()
        order = torch.randperm(len(identity))  # as batches are drawn anew
        value = loss(embeddings[order], identity[order], {})
        assert value.ndim == 0
        assert torch.isfinite(value)
        value.backward()
        optimizer.step()
    cosine = (unit(embeddings) @ unit(embeddings).T).detach()
    same = (identity[:, None] == identity[None, :]) & ~torch.eye(len(identity), dtype=torch.bool)
    gap = cosine[same].mean() - cosine[identity[:, None] != identity[None, :]].mean()
    assert gap > (0.2 if kind == "subcenter-arcface" else 0.5)  # which may keep apart what is mated


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_nobody_known_change_no_labelled_loss(kind) -> None:
    loss = term(kind)
    embeddings, identity = batch()
    torch.manual_seed(1)
    alone = loss(embeddings, identity, {})
    strangers = torch.randn(5, SIZE)
    torch.manual_seed(1)
    together = loss(
        torch.cat([strangers[:2], embeddings, strangers[2:]]),
        torch.cat([torch.full((2,), -1), identity, torch.full((3,), -1)]),
        {},
    )
    assert together.item() == pytest.approx(alone.item(), rel=1e-5)
    nobody = torch.nn.Parameter(strangers)
    nothing = loss(nobody, torch.full((5,), -1), {})
    nothing.backward()
    assert nothing.item() == 0
    assert not nobody.grad.any()


def distances_of(name, embeddings):
    if name == "cosine":
        return -(unit(embeddings) @ unit(embeddings).T)
    order = 1 if name == "manhattan" else 2
    scaled = torch.nn.functional.normalize(embeddings, p=order)
    return torch.linalg.vector_norm(scaled[:, None] - scaled[None], ord=order, dim=2)


def triplets(identity):
    count = range(len(identity))
    for a in count:
        for p in count:
            for n in count:
                if a != p and identity[a] == identity[p] and identity[a] != identity[n]:
                    yield a, p, n


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "manhattan"])
@pytest.mark.parametrize("mining", ["batch-all", "semi-hard", "batch-hard"])
def test_triplet_mining_is_what_plain_loops_find(mining, distance) -> None:
    embeddings, identity = batch(3)
    far, margin = distances_of(distance, embeddings), 0.3
    found = []
    if mining == "batch-hard":
        for a in range(len(identity)):
            mated = max(far[a, p] for p in range(12) if p != a and bool(identity[p] == identity[a]))
            non_mated = min(far[a, n] for n in range(12) if bool(identity[n] != identity[a]))
            found.append(max(0.0, float(mated - non_mated) + margin))
    else:
        for a, p, n in triplets(identity):
            gap = float(far[a, n] - far[a, p])
            if gap < margin and (mining == "batch-all" or gap > 0):
                found.append(margin - gap)
    loss = term("triplet", mining=mining, distance=distance, margin=margin)
    assert loss(embeddings, identity, {}).item() == pytest.approx(np.mean(found), rel=1e-4)


def test_distance_weighted_mining_takes_no_pair_beyond_the_cutoff_and_repeats() -> None:
    loss = term("triplet", mining="distance-weighted", distance="euclidean")
    embeddings, identity = batch(5)
    torch.manual_seed(7)
    a, p, n = loss.miner(embeddings, identity)
    far = distances_of("euclidean", embeddings)
    assert len(a) > 0
    assert bool((identity[a] == identity[p]).all() and (identity[a] != identity[n]).all())
    assert far[a, n].max() < 1.4
    torch.manual_seed(7)
    again = loss.miner(embeddings, identity)
    assert torch.equal(n, again[2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_repeats_with_torchs_seed_alone(kind) -> None:
    loss = term(kind)
    embeddings, identity = batch(5)
    values = []
    for noise in range(2):
        np.random.seed(noise)  # the global state that a library might draw from
        torch.manual_seed(3)
        values.append(loss(embeddings, identity, {}).item())
    assert values[0] == values[1]


def test_contrastive_margins_follow_the_distance() -> None:
    assert objective("contrastive").margins == (1.0, 0.0)
    assert objective("contrastive", distance="euclidean").margins == (0.0, 1.0)
    embeddings, identity = batch(2)
    far = distances_of("manhattan", embeddings)
    mated = [
        float(far[i, j])
        for i in range(12)
        for j in range(12)
        if i != j and identity[i] == identity[j]
    ]
    pushed = [
        0.8 - float(far[i, j])
        for i in range(12)
        for j in range(12)
        if identity[i] != identity[j] and far[i, j] < 0.8
    ]
    loss = term("contrastive", distance="manhattan", neg_margin=0.8)
    expected = np.mean(mated) + (np.mean(pushed) if pushed else 0)
    assert loss(embeddings, identity, {}).item() == pytest.approx(expected, rel=1e-4)


def test_ranked_list_is_the_papers_worked_through() -> None:
    """Wang et al., equations 4 to 9, anchor by anchor; temperature_pos = 0 weighs all alike."""
    embeddings, identity = batch(4)
    far = distances_of("euclidean", embeddings)
    alpha, margin, hot, cool = 1.2, 0.4, 10.0, 0.5
    found = []
    for i in range(12):
        mated, weights_p, strangers, weights_n = [], [], [], []
        for j in range(12):
            d = float(far[i, j])
            if j != i and identity[i] == identity[j] and d > alpha - margin:
                mated.append(d - (alpha - margin))
                weights_p.append(math.exp(cool * (d - (alpha - margin))))
            if identity[i] != identity[j] and d < alpha:
                strangers.append(alpha - d)
                weights_n.append(math.exp(hot * (alpha - d)))
        pull = np.average(mated, weights=weights_p) if mated else 0.0
        push = np.average(strangers, weights=weights_n) if strangers else 0.0
        found.append(0.3 * pull + 0.7 * push)
    loss = term("ranked-list", temperature_pos=cool, imbalance=0.7)
    # The library adds 1e-5 to each of 12 weights, against a division by nothing.
    assert loss(embeddings, identity, {}).item() == pytest.approx(np.mean(found), rel=1e-3)


@pytest.mark.parametrize("kind", ["arcface", "cosface", "subcenter-arcface"])
def test_the_class_head_is_the_librarys(kind) -> None:
    """A second library's formula, at angles on both sides of pi - margin, with its gradients."""
    head = term(kind)
    embeddings, identity = batch(6, count=60)
    # Far from its centre; exactly opposite, the library's arc cosine has no gradient.
    embeddings[0] = 0.05 * torch.randn(SIZE) - head.centres[int(identity[0])].detach()
    build = {
        "arcface": lambda: losses.ArcFaceLoss(CLASSES, SIZE, margin=math.degrees(0.5), scale=64),
        "cosface": lambda: losses.CosFaceLoss(CLASSES, SIZE, margin=0.35, scale=64),
        "subcenter-arcface": lambda: losses.SubCenterArcFaceLoss(
            num_classes=CLASSES, embedding_size=SIZE, margin=math.degrees(0.5), sub_centers=3
        ),
    }
    library = build[kind]()
    with torch.no_grad():
        library.W.copy_(head.centres.T)
    mine, theirs = embeddings.clone().requires_grad_(), embeddings.clone().requires_grad_()
    found, expected = head(mine, identity, {}), library(theirs, identity)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    found.backward()
    expected.backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(head.centres.grad, library.W.grad.T, rtol=1e-3, atol=1e-4)


def test_a_picture_right_on_its_centre_has_a_finite_gradient() -> None:
    head = term("arcface")
    embeddings = head.centres.detach().clone().requires_grad_()
    head(embeddings, torch.arange(CLASSES), {}).backward()
    assert torch.isfinite(embeddings.grad).all()


def test_sampled_centres_are_all_of_the_batch_and_some_others() -> None:
    torch.manual_seed(0)
    (head,) = build_terms([objective("cosface", sample=0.25)], [], 40, SIZE)
    identity = torch.tensor([3, 3, 17])
    chosen = head._chosen(identity)
    assert len(chosen) == 10
    assert {3, 17} <= set(chosen.tolist())
    embeddings = torch.randn(3, SIZE)
    torch.manual_seed(5)
    value = head(embeddings, identity, {})
    torch.manual_seed(5)
    rows = head._chosen(identity)
    logits = 64 * (unit(embeddings) @ unit(head.centres[rows]).T)
    column = torch.searchsorted(rows, identity)
    logits[torch.arange(3), column] -= 64 * 0.35
    assert value.item() == pytest.approx(
        torch.nn.functional.cross_entropy(logits, column).item(), rel=1e-5
    )
    value.backward()
    assert set(torch.nonzero(head.centres.grad.any(1))[:, 0].tolist()) <= set(rows.tolist())


def test_distillation_is_zero_at_the_teacher_and_positive_elsewhere() -> None:
    teacher = unit(torch.randn(5, 8))
    loss = term("distillation", teacher="t")
    assert loss(3 * teacher, torch.arange(5), {"t": teacher}).item() == pytest.approx(0, abs=1e-5)
    assert loss(-teacher, torch.arange(5), {"t": teacher}).item() == pytest.approx(2, abs=1e-5)


def test_similarities_alone_are_learnt_wherever_the_embeddings_lie() -> None:
    teacher = unit(torch.randn(5, 8))
    turned = teacher @ torch.linalg.qr(torch.randn(8, 8))[0]
    alone = term("distillation", teacher="t", cosine_weight=0)
    assert alone(turned, torch.arange(5), {"t": teacher}).item() == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match="above zero"):
        objective("distillation", cosine_weight=0, pairwise_weight=0)


def test_two_teachers_are_two_terms_by_name() -> None:
    two = [objective("distillation", teacher=t) for t in ("sface", "dlib")]
    names = [t.name for t in build_terms([*two, objective("triplet")], ["sface", "dlib"])]
    assert names == ["distillation-sface", "distillation-dlib", "triplet"]
    assert [t.name for t in build_terms([objective("supcon")] * 2, [])] == ["supcon", "supcon#2"]


def test_a_missing_teacher_is_told_before_training() -> None:
    with pytest.raises(ObjectiveError, match="take a recipe without distillation"):
        build_terms([objective("distillation")], [])


def test_a_stage_goes_on_with_the_centres_of_the_one_before() -> None:
    stages = [
        [objective("arcface")],
        [objective("cosface", own_rate=0.5), objective("triplet")],
        [objective("subcenter-arcface"), objective("margin", learn_beta=True)],
    ]
    plan = Curriculum(stages, [], CLASSES, SIZE, seed=1)
    assert plan.stages[0][0].centres is plan.stages[1][0].centres
    assert set(plan.own_weights) == {"class-centres-1", "class-centres-3", "margin-boundaries"}
    assert plan.rates(1) == {"class-centres-1": 0.5}
    again = Curriculum(stages, [], CLASSES, SIZE, seed=1)
    assert torch.equal(plan.own_weights["class-centres-3"], again.own_weights["class-centres-3"])


RECIPE = '[[stages]]\nname = "a"\nsteps = 1\nobjectives = [{{ {} }}]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('kind = "tripplet"', "unknown kind 'tripplet'; did you mean 'triplet'"),
        ('kind = "arc-face"', "did you mean 'arcface'"),
        ('kind = "supcon", temprature = 1', "did you mean 'temperature'"),
        ('kind = "triplet", distance = "hamming"', "'cosine', 'euclidean' or 'manhattan'"),
        ('kind = "triplet", margin = 3', "less than or equal to 2"),
        ('kind = "contrastive", pos_margin = 0.1, neg_margin = 0.5', "pos_margin must be nearer"),
        ('kind = "ranked-list", alpha = 0.3', "smaller than alpha"),
    ],
)
def test_a_wrong_objective_is_told_with_the_nearest_known_one(text, message) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_recipe(RECIPE.format(text), "test")
