"""Batches, augmentation, schedules and the optimiser's units."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from decouple.config import TrainConfig
from decouple.training.augment import augment
from decouple.training.batches import epoch_batches, even_batches
from decouple.training.optimizers import make_optimizer
from decouple.training.schedules import multiplier
from decouple.training.state import pack_state, restore_state


@settings(deadline=None, max_examples=50)
@given(count=st.integers(1, 500), batch=st.integers(1, 120))
def test_even_batches_cover_everything_once_and_are_nearly_equal(count: int, batch: int) -> None:
    bounds = even_batches(count, batch)
    sizes = [b - a for a, b in bounds]
    assert [bounds[0][0], bounds[-1][1]] == [0, count]
    assert all(end == start for (_, end), (start, _) in pairwise(bounds))
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1


def test_batches_are_decided_by_seed_and_epoch() -> None:
    first, again, later = (epoch_batches(50, 8, seed=1, epoch=epoch) for epoch in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(torch.cat(first), torch.cat(later))
    assert sorted(torch.cat(later).tolist()) == list(range(50))


def test_fixed_composition_only_permutes_the_batches() -> None:
    first, later = (epoch_batches(50, 8, seed=1, epoch=epoch, shuffle="fixed") for epoch in (0, 1))
    assert {tuple(b.tolist()) for b in first} == {tuple(b.tolist()) for b in later}
    assert [tuple(b.tolist()) for b in first] != [tuple(b.tolist()) for b in later]


def test_crops_are_windows_of_the_padded_image() -> None:
    images = torch.rand(40, 2, 6, 7, generator=torch.Generator().manual_seed(0))
    views = augment(images, "crop", torch.Generator().manual_seed(1))
    padded = nn.functional.pad(images, [2] * 4, mode="reflect")
    shifts = set()
    for image, view in zip(padded, views, strict=True):
        found = [(r, c) for r in range(5) for c in range(5) if torch.equal(image[:, r : r + 6, c : c + 7], view)]
        assert found
        shifts.add(found[0])
    assert len(shifts) > 10


def test_about_half_of_the_views_are_flipped() -> None:
    images = torch.arange(9.0).expand(400, 1, 9, 9)
    views = augment(images, "flip-crop", torch.Generator().manual_seed(0))
    left = views[..., 2].mean((1, 2)) > views[..., 6].mean((1, 2))
    assert 0.3 < float(left.float().mean()) < 0.7
    assert augment(images, "none", torch.Generator()) is images


def test_the_triangle_rises_for_a_fifth_and_falls_to_zero() -> None:
    values = [multiplier("triangle", step, 100) for step in range(100)]
    assert values.index(max(values)) == 19
    assert max(values) == 1.0
    assert 0 < values[-1] < 0.02
    assert all(multiplier("constant", step, 100) == 1.0 for step in range(100))
    assert multiplier("triangle", 0, 1) == 1.0


def test_airbench_units_are_those_of_its_summed_loss() -> None:
    """One step with its decoupled units on the mean loss equals one on the summed loss as airbench takes it."""
    config = TrainConfig(lr=4.0, optimizer="airbench", momentum=0.85, weight_decay=0.0153)
    weight = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    batch = 2000
    optimizer = make_optimizer(nn.ParameterList([weight]), config, batch=batch)
    gradients = torch.rand(batch, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (weight * gradients).mean().backward()
    optimizer.step()
    kilostep = 1024 * (1 + 1 / (1 - 0.85))
    summed = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    rate = 4.0 / kilostep
    decay = (0.0153 * batch / kilostep) / rate
    reference = torch.optim.SGD([summed], lr=rate, momentum=0.85, nesterov=True, weight_decay=decay)
    (summed * gradients).sum().backward()
    reference.step()
    assert torch.allclose(weight, summed)


def test_momentum_survives_saving() -> None:
    def steps(count: int, restored: bool) -> torch.Tensor:
        weight = nn.Parameter(torch.ones(3))
        optimizer = make_optimizer(nn.ParameterList([weight]), TrainConfig(), batch=10)
        for number in range(count):
            if restored and number == 2:
                buffers, rest = pack_state(optimizer)
                optimizer = make_optimizer(nn.ParameterList([weight]), TrainConfig(), batch=10)
                restore_state(optimizer, buffers, rest)
            weight.grad = torch.arange(3.0) + number
            optimizer.step()
        return weight.detach()

    assert torch.equal(steps(5, restored=True), steps(5, restored=False))


@pytest.mark.parametrize("mode", ["crop", "flip-crop"])
def test_views_are_decided_by_the_generator(mode: str) -> None:
    images = torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    one, same, other = (augment(images, mode, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
