"""Which cells answer for a face, what the losses are, and a network of YuNet's size."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from limen.anchors import STRIDES_PX, cells  # noqa: E402
from limen.train.finder.network import FinderNetwork, answers  # noqa: E402
from limen.train.finder.targets import (  # noqa: E402
    BACKGROUND,
    FACE,
    FACE_SIDES_PX,
    IGNORED,
    RADIUS_STRIDES,
    FinderLoss,
    assign,
    overlaps,
)

SIZE = 256, 320
CENTRES, STRIDES = cells(*SIZE)
NONE = np.zeros((0, 4), np.float32)


def boxes(*rows: tuple[float, float, float]) -> np.ndarray:
    """Square boxes from middle x, middle y, side."""
    return np.array([(x - s / 2, y - s / 2, x + s / 2, y + s / 2) for x, y, s in rows], np.float32)


def landmarks(count: int, value: float = 5.0) -> np.ndarray:
    return np.full((count, 5, 2), value, np.float32)


@pytest.mark.parametrize("side", [12, 20, 44, 60, 90, 150, 230])
def test_cells_near_the_middle_on_the_maps_for_its_size_answer(side: float) -> None:
    box = boxes((161.3, 118.7, side))
    targets = assign(box, landmarks(1), NONE, CENTRES, STRIDES)
    for index, ((x, y), stride) in enumerate(zip(CENTRES, STRIDES, strict=True)):
        low, high = FACE_SIDES_PX[STRIDES_PX.index(int(stride))]
        reach = max(min(RADIUS_STRIDES * stride, 0.35 * side), 0.5 * stride)
        near = max(abs(x - 161.3), abs(y - 118.7)) <= reach
        expected = FACE if near and low <= side < high else BACKGROUND
        assert targets.kind[index] == expected
        if expected == FACE:
            assert np.array_equal(targets.boxes_xyxy[index], box[0])
            assert (targets.landmarks_xy[index] == 5).all()
        else:
            assert np.isnan(targets.boxes_xyxy[index]).all()
    assert (targets.kind == FACE).any()


def test_a_small_face_before_a_large_one_keeps_its_cells() -> None:
    both = boxes((100, 100, 48), (100, 100, 40))
    targets = assign(both, landmarks(2), NONE, CENTRES, STRIDES)
    on_finest = (targets.kind == FACE) & (STRIDES == 8)
    assert (targets.boxes_xyxy[on_finest] == both[1]).all()


def test_what_teachers_disagreed_about_and_what_is_too_small_counts_for_nothing() -> None:
    targets = assign(boxes((60, 60, 8)), landmarks(1), boxes((200, 100, 64)), CENTRES, STRIDES)
    for index, (x, y) in enumerate(CENTRES):
        inside = max(abs(x - 200), abs(y - 100)) <= 32 or max(abs(x - 60), abs(y - 60)) <= 4
        assert targets.kind[index] == (IGNORED if inside else BACKGROUND)


def perfect(targets, box: np.ndarray, points: np.ndarray, logit: float = 20) -> torch.Tensor:  # type: ignore[no-untyped-def]
    """The answers that say exactly what the targets want."""
    wanted = np.zeros((1, len(CENTRES), 15), np.float32)
    wanted[..., 0] = -logit
    for index in np.flatnonzero(targets.kind == FACE):
        stride = STRIDES[index]
        middle, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        wanted[0, index, 0] = logit
        wanted[0, index, 1:3] = (middle - CENTRES[index]) / stride
        wanted[0, index, 3:5] = np.log(size / stride)
        wanted[0, index, 5:] = ((points - CENTRES[index]) / stride).reshape(-1)
    return torch.from_numpy(wanted)


def losses(found: torch.Tensor, targets) -> dict[str, float]:  # type: ignore[no-untyped-def]
    stacked = tuple(
        torch.from_numpy(part[None])
        for part in (targets.kind, targets.boxes_xyxy, targets.landmarks_xy)
    )
    parts = FinderLoss(1, 1)(found, stacked, torch.from_numpy(CENTRES), torch.from_numpy(STRIDES))
    return {name: float(value) for name, value in parts.items()}


def test_perfect_answers_cost_nothing_and_a_landmark_off_costs_its_share_of_the_face() -> None:
    box, points = boxes((150, 120, 64)), landmarks(1, 130)
    targets = assign(box, points, NONE, CENTRES, STRIDES)
    found = perfect(targets, box[0], points[0])
    assert max(losses(found, targets).values()) < 1e-5
    index = np.flatnonzero(targets.kind == FACE)
    # 6.4 px to the right, in each cell's own unit: a tenth of the face, in x alone
    found[0, index, 5::2] += torch.from_numpy(6.4 / STRIDES[index, None])
    assert losses(found, targets)["landmark"] == pytest.approx(0.05, abs=1e-4)
    assert losses(found, targets)["box"] == pytest.approx(0, abs=1e-5)


def test_unknown_landmarks_and_ignored_cells_cost_nothing() -> None:
    box = boxes((150, 120, 64))
    targets = assign(box, landmarks(1, np.nan), boxes((40, 40, 30)), CENTRES, STRIDES)
    found = perfect(targets, box[0], landmarks(1)[0])
    found[0, targets.kind == IGNORED, 0] = 9.0
    assert max(losses(found, targets).values()) < 1e-5
    found[0, np.flatnonzero(targets.kind == BACKGROUND)[0], 0] = 9.0
    assert losses(found, targets)["score"] > 0.5


def test_a_batch_without_a_face_has_a_finite_loss_and_gradient() -> None:
    targets = assign(NONE, landmarks(0), NONE, CENTRES, STRIDES)
    found = torch.zeros(1, len(CENTRES), 15, requires_grad=True)
    stacked = tuple(
        torch.from_numpy(part[None])
        for part in (targets.kind, targets.boxes_xyxy, targets.landmarks_xy)
    )
    parts = FinderLoss()(found, stacked, torch.from_numpy(CENTRES), torch.from_numpy(STRIDES))
    total = torch.stack(list(parts.values())).sum()
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(found.grad).all()


def test_overlaps_of_boxes_generalised_as_in_the_paper() -> None:
    first = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]])
    second = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 10]])
    plain, generalised = overlaps(first, second)
    assert torch.allclose(plain, torch.tensor([1.0, 1 / 3, 0.0]))
    # C is 15 x 10 and U 150, then C 30 x 10 and U 200.
    assert torch.allclose(generalised, torch.tensor([1.0, 1 / 3, -1 / 3]))


def test_the_network_is_no_larger_than_yunet_and_answers_for_every_cell() -> None:
    from limen.train.networks.family import count_parameters

    network = FinderNetwork().eval()
    assert count_parameters(network) <= 75_856  # YuNet-n, Wu et al. 2023
    with torch.inference_mode():
        maps = network(torch.zeros(2, 3, *SIZE))
        found = answers(maps)
    assert found.shape == (2, len(CENTRES), 15)
    # Cell 45 of the finest map: row 1, column 5.
    assert torch.equal(found[0, 45, 0], maps[0][0, 0, 1, 5])
    assert torch.equal(found[0, 45, 1:5], maps[3][0, :, 1, 5])
    assert torch.equal(found[0, 45, 5:], maps[6][0, :, 1, 5])
    multiply_adds = 0

    def count(module, _inputs, output) -> None:  # type: ignore[no-untyped-def]
        nonlocal multiply_adds
        multiply_adds += module.weight.numel() * output.shape[2] * output.shape[3]

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(1, 3, *SIZE))
    assert multiply_adds <= 64.5e6  # YuNet's graph at 320 x 240, counted layer by layer
