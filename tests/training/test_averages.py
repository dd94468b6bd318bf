"""Running averages, where an epoch has few steps."""

import pytest
import torch
from torch import Tensor, nn

from decouple.config import SgdConfig
from decouple.data import ImageData
from decouple.learn import CrossEntropy, fit
from decouple.networks import Stages
from decouple.training.averages import averages_follow


@pytest.mark.parametrize(("steps", "momentum"), [(1, 1.0), (3, 1.0), (6, 0.5), (15, 0.2), (30, 0.1), (400, 0.1)])
def test_they_remember_a_third_of_an_epoch_at_most(steps: int, momentum: float) -> None:
    norm = nn.BatchNorm2d(3)
    with averages_follow(nn.Sequential(norm), steps):
        assert norm.momentum == pytest.approx(momentum)
    assert norm.momentum == 0.1


def test_those_that_remember_less_cumulative_and_frozen_ones_stay() -> None:
    norms = [nn.BatchNorm1d(3, momentum=momentum) for momentum in (0.7, None, 0.0)]
    with averages_follow(nn.Sequential(*norms), 10):
        assert [norm.momentum for norm in norms] == [0.7, None, 0.0]
    assert [norm.momentum for norm in norms] == [0.7, None, 0.0]


def test_a_training_of_three_steps_an_epoch_ends_with_the_averages_of_its_last_step(data: ImageData) -> None:
    norm, seen = nn.BatchNorm2d(4), []
    body = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), norm)
    network = Stages([body, nn.Sequential(nn.Flatten(), nn.Linear(36, 3))], ["norm", "logits"])

    def see(module: nn.Module, given: tuple[Tensor], _: Tensor) -> None:
        if module.training:
            seen.append(given[0].detach())

    norm.register_forward_hook(see)
    train = data.train.subset(torch.arange(60))
    fit(network, train, data.validation, CrossEntropy(), SgdConfig(epochs=1, batch=20, lr=1.0), seed=0)
    assert len(seen) == 3
    assert torch.allclose(norm.running_mean, seen[-1].mean((0, 2, 3)), atol=1e-6)
    assert not torch.allclose(norm.running_mean, seen[0].mean((0, 2, 3)), atol=1e-3)
    assert norm.momentum == 0.1
