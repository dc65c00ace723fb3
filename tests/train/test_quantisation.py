"""Training for int8: the arithmetic against plain loops, ranges that learn, runs that resume."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train'")
pytest.importorskip("pytorch_metric_learning", reason="needs the extra 'train'")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from limen.errors import ConfigError  # noqa: E402
from limen.train.checkpoint import load_checkpoint  # noqa: E402
from limen.train.decoding import SoundDecoder  # noqa: E402
from limen.train.networks.blocks import FadingReLU  # noqa: E402
from limen.train.networks.embedder import EmbedderNetwork  # noqa: E402
from limen.train.networks.family import FAMILIES, build_network  # noqa: E402
from limen.train.networks.folding import folded  # noqa: E402
from limen.train.quantisation.arithmetic import (  # noqa: E402
    quantised_activations,
    quantised_weights,
    scale_and_zero_point,
)
from limen.train.quantisation.simulation import INPUT_RANGE  # noqa: E402
from limen.train.quantisation.stage import enter_stage  # noqa: E402
from limen.train.recipe import Model, parse_recipe  # noqa: E402
from limen.train.run import start_training  # noqa: E402
from limen.train.validation import to_input  # noqa: E402

RECIPE = """
seed = 3
validate_every_steps = 4
checkpoint_every_steps = 2
input_px = 28
model = { width = 0.125, embedding_size = 16 }
batch = { identities = 4, per_identity = 3 }

[[stages]]
name = "float"
steps = 2
warmup_steps = 1
objectives = [{ kind = "triplet" }]

[[stages]]
name = "quantised"
steps = 4
warmup_steps = 1
quantisation = { observed_crops = 32 }
objectives = [{ kind = "triplet" }]
"""


def network_of(family: str = "mobilenet", px: int = 28) -> EmbedderNetwork:
    """A random network whose every layer passes on what it gets, with statistics to fold."""
    torch.manual_seed(1)
    network = build_network(Model.model_validate({"family": family, "width": 0.125}), px)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, mode="fan_in")
        elif isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.8, 1.2)
            torch.nn.init.normal_(module.bias, std=0.1)
    return network.eval()


@given(st.floats(-8, 0), st.floats(0.01, 8), st.lists(st.floats(-20, 20), min_size=1, max_size=20))
def test_activations_are_rounded_as_a_plain_loop_rounds_them(low, high, values) -> None:
    scale, zero = scale_and_zero_point(low, high)
    x = torch.tensor(values, dtype=torch.float32)
    found = quantised_activations(x, torch.tensor([low, high]))
    for value, rounded in zip(x.tolist(), found.tolist(), strict=True):
        step = value / scale + zero
        allowed = [max(-128, min(127, int(np.floor(step + e)))) for e in (0.499, 0.501)]
        assert any(rounded == pytest.approx((q - zero) * scale, abs=1e-5) for q in allowed)
    assert (0 - zero) * scale + zero * scale == 0
    assert quantised_activations(torch.zeros(1), torch.tensor([low, high])).item() == 0


def test_weights_have_a_scale_each_output_and_at_most_255_values() -> None:
    weights = torch.randn(4, 3, 3, 3) * torch.tensor([1e-3, 1.0, 50.0, 0.0])[:, None, None, None]
    found = quantised_weights(weights)
    for row, rounded in zip(weights, found, strict=True):
        scale = max(float(row.abs().max()) / 127, 1e-9)
        integers = rounded / scale
        assert torch.allclose(integers, integers.round(), atol=1e-3)
        assert float(integers.abs().max()) <= 127.001
        assert float((row - rounded).abs().max()) <= scale / 2 * 1.001


def test_gradients_pass_inside_the_range_only() -> None:
    x = torch.tensor([[-1.0], [0.4], [3.0]], requires_grad=True)
    quantised_activations(x, torch.tensor([0.0, 2.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [0.0, 1.0, 0.0]


def test_range_gradient_is_that_of_the_plain_formula() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 50) * 2  # eight pictures: the estimate takes the first of them
    bounds = torch.tensor([-1.0, 1.5], requires_grad=True)
    weights = torch.randn(8, 50)
    (quantised_activations(x, bounds) * weights).sum().backward()
    scale, zero = scale_and_zero_point(-1.0, 1.5)
    to_low = to_high = 0.0
    for value, weight in zip(x[0].tolist(), weights[0].tolist(), strict=True):
        integer = round(value / scale) + zero
        if integer > 127:
            to_high += weight
        elif integer < -128:
            to_low += weight
        else:
            error = weight * (round(value / scale) - value / scale) / 255
            to_high += error
            to_low -= error
    share = 8 / (x.numel() * 127) ** 0.5
    assert bounds.grad is not None
    assert bounds.grad.tolist() == pytest.approx([to_low * share, to_high * share], rel=1e-3)


def test_a_range_learns_what_a_search_finds() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 20_000).relu()
    x[:, 0] = 40.0  # an outlier, for which post-training ranges would make room

    def error(high: float) -> float:
        return float((quantised_activations(x, torch.tensor([0.0, high])) - x)[:, 1:].pow(2).mean())

    best = min(np.linspace(1, 40, 400), key=error)
    change = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=0.02, betas=(0.9, 0.9))
    for _ in range(300):
        high = 40.0 * torch.exp(change)
        rounded = quantised_activations(x, torch.cat([torch.zeros(1), high]))
        loss = (rounded - x)[:, 1:].pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    learnt = 40.0 * float(change.detach().exp())
    assert error(learnt) < 1.3 * error(best) < 0.1 * error(40.0)


def test_every_pixel_value_but_the_middle_two_keeps_a_step_of_its_own() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    scaled = to_input(pixels)
    assert len(quantised_activations(scaled, torch.tensor(INPUT_RANGE)).unique()) == 255
    # What observed extremes would do: each pixel a tie between two steps.
    seen = torch.stack([scaled.min(), scaled.max()])
    assert len(quantised_activations(scaled, seen).unique()) <= 130


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_simulation_differs_from_float_by_rounding_alone(family) -> None:
    network = network_of(family)
    simulation = network.add_simulation()
    crops = torch.rand(8, 3, 28, 28, generator=torch.Generator().manual_seed(1)) * 2 - 1
    simulation.observe(network, [crops])
    with torch.no_grad():
        trained = network(crops)
        passed = simulation.values(network, crops)["output"].flatten(1)
        assert torch.allclose(passed, trained, atol=1e-4 * float(trained.abs().max()))
        simulation.is_active = True
        rounded = network(crops)
    assert not torch.equal(rounded, trained)
    assert float(torch.cosine_similarity(rounded, trained).median()) > 0.95


def test_gradients_reach_weights_normalisations_and_ranges() -> None:
    network = network_of("mobilenet-v3")
    simulation = network.add_simulation()
    crops = torch.rand(8, 3, 28, 28) * 2 - 1
    simulation.observe(network, [crops])
    simulation.is_active = True
    network.train()
    statistics = {n: b.clone() for n, b in network.named_buffers() if "running" in n}
    network(crops).square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    assert simulation.change.grad is not None
    behind_relu = simulation.observed[:, 0] == 0
    assert behind_relu.any()
    assert not simulation.change.grad[behind_relu, 0].any()
    for name, before in statistics.items():
        assert torch.equal(dict(network.named_buffers())[name], before), name


def test_folding_leaves_the_simulation_behind() -> None:
    network = network_of()
    network.add_simulation()
    assert not any("simulation" in name for name in folded(network).state_dict())
    assert network.simulation is not None


def test_a_run_observes_once_then_simulates_and_keeps_its_ranges(folder, tmp_path) -> None:
    trainer = start_training(parse_recipe(RECIPE, "t"), folder, tmp_path, threads=1)
    simulation = trainer.network.simulation
    assert simulation is not None
    active: list[bool] = []
    observed = []

    def note(_progress) -> None:
        active.append(simulation.is_active)
        observed.append(simulation.observed.clone())

    trainer.run(note)
    assert active == [False] * 2 + [True] * 4
    assert not observed[1].any()
    assert torch.equal(observed[2], observed[-1])
    assert observed[2].any()
    assert simulation.change.detach().any()
    saved = load_checkpoint(tmp_path / "last.pt").network()
    assert saved.simulation is not None
    assert not saved.simulation.is_active
    assert saved.simulation.is_set


def test_frozen_ranges_stay_as_observed(folder, tmp_path) -> None:
    text = RECIPE.replace("observed_crops = 32", "observed_crops = 32, learn_ranges = false")
    trainer = start_training(parse_recipe(text, "t"), folder, tmp_path, threads=1)
    trainer.run()
    assert trainer.network.simulation is not None
    assert not trainer.network.simulation.change.any()


def test_a_quantised_run_resumes_to_what_an_unbroken_one_gives(folder, tmp_path) -> None:
    recipe = parse_recipe(RECIPE, "t")
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


def test_a_quantised_run_goes_on_from_a_float_or_a_quantised_checkpoint(folder, tmp_path) -> None:
    recipe = parse_recipe(RECIPE, "t")
    first = start_training(recipe, folder, tmp_path / "a", threads=1)
    first.run()
    start = tmp_path / "a" / "last.pt"
    again = start_training(recipe, folder, tmp_path / "b", init_from=start, threads=1)
    assert again.network.simulation is not None
    assert again.network.simulation.is_set
    text = RECIPE.replace("quantisation = { observed_crops = 32 }", "")
    plain = start_training(
        parse_recipe(text, "t"), folder, tmp_path / "c", init_from=start, threads=1
    )
    assert plain.network.simulation is None


def test_slopes_that_still_fade_stop_a_quantised_stage(folder, tmp_path) -> None:
    trainer = start_training(parse_recipe(RECIPE, "t"), folder, tmp_path, threads=1)
    for module in trainer.network.modules():
        if isinstance(module, FadingReLU):
            module.slope.fill_(0.25)
    trainer.network.set_fade(0.5)
    stage = trainer.recipe.stages[1]
    with pytest.raises(ConfigError, match="plain ReLU only"):
        enter_stage(
            stage.quantisation,
            trainer.network,
            trainer.network,
            SoundDecoder(trainer.fit, 28),
            1,
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("observed_crops", "observed_crop"), "observed_crops"),
        (("observed_crops = 32", "observed_crops = 0"), "greater than or equal to 1"),
    ],
)
def test_a_wrong_quantisation_names_its_key(change, message) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_recipe(RECIPE.replace(*change), "t")


def test_a_float_stage_behind_a_quantised_one_is_refused() -> None:
    stages = RECIPE.split("[[stages]]")
    with pytest.raises(ConfigError, match="move the float stage before it"):
        parse_recipe("[[stages]]".join([stages[0], stages[2], stages[1]]), "t")
    faded = "[[stages]]".join(
        [stages[0], stages[2].replace("steps = 4", "steps = 4\nfade_steps = 2")]
    )
    with pytest.raises(ConfigError, match="fade_steps must be 0"):
        parse_recipe(faded, "t")
