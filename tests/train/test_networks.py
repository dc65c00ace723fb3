"""The families behind one name: shapes, strides, folding, costs, and checkpoints of each."""

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train'")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from limen.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint  # noqa: E402
from limen.train.networks.blocks import FadingReLU, final_map_px, halvings  # noqa: E402
from limen.train.networks.family import (  # noqa: E402
    FAMILIES,
    build_network,
    count_multiply_adds,
    count_parameters,
)
from limen.train.networks.folding import folded, folded_tensors  # noqa: E402
from limen.train.networks.mobilenet import BLOCKS, MobileNetEmbedder, strides  # noqa: E402
from limen.train.recipe import Model, Recipe  # noqa: E402

WIDTH = 0.125
EVERY_FAMILY = pytest.mark.parametrize("family", sorted(FAMILIES))


def build(family, input_px=112, width=WIDTH, channels=None):
    model = Model.model_validate({"family": family, "width": width, "embedding_size": 16})
    return build_network(model, input_px, channels)


def lived_in(network):
    """The network with normalisations that are no identity, in evaluation mode."""
    generator = torch.Generator().manual_seed(5)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.2, generator=generator)
            with torch.no_grad():
                module.weight.uniform_(0.9, 1.1, generator=generator)
                module.bias.normal_(0, 0.1, generator=generator)
    return network.eval()


@EVERY_FAMILY
@pytest.mark.parametrize("input_px", [28, 32, 56, 112, 224])
def test_a_family_takes_pictures_of_any_size(family, input_px) -> None:
    network = build(family, input_px).eval()
    with torch.no_grad():
        crops = torch.zeros(1, 3, input_px, input_px)
        assert network.features(crops).shape[2:] == (final_map_px(input_px),) * 2
        assert network(crops).shape == (1, 16)


@given(st.integers(7, 56).map(lambda quarter: 4 * quarter))
@settings(max_examples=50)
def test_the_last_map_is_never_too_small_and_never_too_large(input_px) -> None:
    assert 4 <= final_map_px(input_px) <= 7
    assert strides(input_px).count(2) == halvings(input_px) <= 5


def test_strides_at_112_px_are_those_of_the_table() -> None:
    assert strides(112) == [1, *(stride for _, stride in BLOCKS)]


@EVERY_FAMILY
def test_folding_changes_nothing_but_the_layers(family) -> None:
    network = lived_in(build(family, 56))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    crops = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    plain = folded(network)
    with torch.no_grad():
        torch.testing.assert_close(plain(crops), network(crops), rtol=1e-3, atol=1e-4)
    kinds = {type(m).__name__ for m in plain.modules()}
    assert not kinds & {"BatchNorm2d", "FadingReLU"}
    assert set(plain.state_dict()) == set(folded_tensors(network))
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_normalisation_without_its_convolution_is_not_dropped_in_silence() -> None:
    odd = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.ReLU(), torch.nn.BatchNorm2d(8))
    with pytest.raises(TypeError, match="normalisation '2'"):
        folded(odd.eval())


@EVERY_FAMILY
def test_a_network_is_built_again_from_its_channels(family) -> None:
    network = build(family, width=0.25)
    again = build(family, width=1.0, channels=network.channels)
    assert again.channels == network.channels
    again.load_state_dict(network.state_dict())
    with pytest.raises(ValueError, match=f"expected {len(network.channels)} channel counts"):
        build(family, channels=[8, 8])


@EVERY_FAMILY
def test_a_wider_network_costs_more_and_no_activation_is_costly(family) -> None:
    thin, wide = build(family, width=0.25), build(family, width=0.5)
    assert count_parameters(thin) < count_parameters(wide)
    assert count_multiply_adds(thin) < count_multiply_adds(wide)
    kinds = {type(m) for m in wide.modules() if not list(m.children())}
    nn = torch.nn
    plain = {nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.ReLU6, FadingReLU, nn.AdaptiveAvgPool2d}
    assert kinds <= {*plain, nn.Identity}  # a name for a sum or a product; nothing is computed


def test_multiply_adds_are_those_counted_by_hand() -> None:
    conv = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
    deep = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8)
    network = torch.nn.Sequential(conv, deep)
    assert count_multiply_adds(network, 28) == 14 * 14 * (8 * 27 + 8 * 9)
    assert network.training


@EVERY_FAMILY
def test_a_checkpoint_of_any_family_gives_its_network_back(family, tmp_path) -> None:
    network = lived_in(build(family, 32))
    recipe = Recipe.model_validate(
        {
            "input_px": 32,
            "model": {"family": family, "width": WIDTH, "embedding_size": 16},
            "stages": [{"name": "none", "steps": 1, "objectives": [{"kind": "triplet"}]}],
        }
    )
    saved = Checkpoint(recipe, 1, network.channels, {}, network.state_dict(), None, {}, {})
    save_checkpoint(tmp_path / "a.pt", saved)
    crops = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = load_checkpoint(tmp_path / "a.pt").network()
        assert torch.equal(found(crops), network(crops))
    assert found.family == family
    assert not found.training


def test_a_checkpoint_that_names_no_family_is_a_mobilenet(tmp_path) -> None:
    network = lived_in(MobileNetEmbedder(WIDTH))
    recipe = Recipe.model_validate(
        {"stages": [{"name": "none", "steps": 1, "objectives": [{"kind": "triplet"}]}]}
    )
    # As written before there were families: no channel count is the recipe's.
    content = {
        "schema_version": 1,
        "recipe": recipe.model_dump_json(exclude_unset=True),
        "step": 1,
        "channels": network.channels,
        "weights": {},
        "averaged": network.state_dict(),
        "optimizer": None,
        "provenance": "{}",
        "validation": {},
    }
    torch.save(content, tmp_path / "old.pt")
    found = load_checkpoint(tmp_path / "old.pt").network()
    assert isinstance(found, MobileNetEmbedder)
    with torch.no_grad():
        crops = torch.randn(1, 3, 112, 112)
        assert torch.equal(found(crops), network(crops))
