"""The perturbation: its scale, what it touches and how strongly."""

import math

import pytest
import torch
from torch import nn

from decouple.q0 import perturb_, perturbation_scale


def network() -> nn.Sequential:
    stream = torch.Generator().manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 20, 3), nn.BatchNorm2d(20), nn.Linear(40, 50), nn.Linear(1, 1))
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(3 * torch.randn(parameter.shape, generator=stream))
    return layers


def changed(layers: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in layers.state_dict().items() if not torch.equal(value, before[name])}


def copy_of(layers: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in layers.state_dict().items()}


def test_the_scale_falls_along_half_a_cosine() -> None:
    found = [perturbation_scale(cycle, 12) for cycle in range(1, 12)]
    assert found == pytest.approx([0.05 + 0.2 * 0.5 * (1 + math.cos(math.pi * (c - 1) / 10)) for c in range(1, 12)])
    assert (found[0], found[-1]) == (pytest.approx(0.25), pytest.approx(0.05))
    assert perturbation_scale(1, 2) == 0.25
    assert [perturbation_scale(c, 3, first=1.0, last=0.5) for c in (1, 2)] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("positional", "keywords", "message"),
    [
        ((0, 5), {}, "cycle = 0: expected 1 … cycles − 1 = 4"),
        ((5, 5), {}, "cycle = 5"),
        ((1, 1), {}, "cycle = 1"),
        ((1, 5), {"first": -0.1}, "first = -0.1"),
        ((1, 5), {"last": math.nan}, "last = nan"),
    ],
)
def test_scales_out_of_range_are_named(positional: tuple, keywords: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        perturbation_scale(*positional, **keywords)


def test_only_matrices_are_touched() -> None:
    layers = network()
    before = copy_of(layers)
    perturb_(layers, 0.1, torch.Generator().manual_seed(1))
    # The 1×1 weight has no standard deviation.
    assert changed(layers, before) == {"0.weight", "2.weight"}


def test_the_public_codes_way_takes_vectors_too() -> None:
    layers = network()
    before = copy_of(layers)
    perturb_(layers, 0.1, torch.Generator().manual_seed(1), skip_vectors=False)
    assert changed(layers, before) == {"0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"}


def test_the_noise_has_the_scale_of_each_tensor() -> None:
    layers = network()
    before = copy_of(layers)
    perturb_(layers, 0.25, torch.Generator().manual_seed(1))
    for name in ("0.weight", "2.weight"):
        noise = layers.state_dict()[name] - before[name]
        assert float(noise.std() / before[name].std()) == pytest.approx(0.25, rel=0.1)
        assert abs(float(noise.mean() / noise.std())) < 0.1


def test_frozen_parameters_stay() -> None:
    layers = network()
    layers[0].requires_grad_(False)
    before = copy_of(layers)
    perturb_(layers, 0.1, torch.Generator().manual_seed(1))
    assert changed(layers, before) == {"2.weight"}


def test_a_shared_parameter_is_perturbed_once() -> None:
    one, both = nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    both[0].weight.data.copy_(one.weight.data)
    both[1].weight = both[0].weight
    for module in (one, both):
        perturb_(module, 0.5, torch.Generator().manual_seed(1))
    assert torch.equal(one.weight, both[0].weight)


def test_the_generator_decides_and_a_scale_of_zero_changes_nothing() -> None:
    first, again, other, still = network(), network(), network(), network()
    for layers, seed, scale in ((first, 1, 0.1), (again, 1, 0.1), (other, 2, 0.1), (still, 1, 0.0)):
        perturb_(layers, scale, torch.Generator().manual_seed(seed))
    assert torch.equal(first[0].weight, again[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)
    assert not changed(still, copy_of(network()))


def test_every_precision_gets_the_same_noise() -> None:
    single, double = network(), network().double()
    for layers in (single, double):
        perturb_(layers, 0.1, torch.Generator().manual_seed(1))
    torch.testing.assert_close(single[0].weight.double(), double[0].weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [-0.1, math.nan, math.inf])
def test_a_scale_that_makes_no_sense_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match=f"scale = {scale}: expected a finite number"):
        perturb_(network(), scale, torch.Generator())
