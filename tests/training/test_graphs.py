"""What may be captured as a CUDA graph, and that a step of a graph draws what the step itself draws.

That graphs end with the same weights needs a GPU: see `benchmarks.gpu_correctness.check_graphs` and `tests/test_cuda.py`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from decouple.config import LiveConfig
from decouple.data import ImageData
from decouple.fitness import Candidates, Judges, similarity
from decouple.learn import CrossEntropy, Regression
from decouple.learn.heads import Heads
from decouple.learn.live import LiveSearch
from decouple.networks import Stages
from decouple.networks.state import own_copy
from decouple.q0.trajectories import ChainObjective
from decouple.tasks import ImageTask
from decouple.training.graphs import _seed, capturable, granted
from decouple.training.stream import Batch


class _Counting(nn.ReLU):
    """Does more than operate on tensors."""

    calls = 0

    def forward(self, values: Tensor) -> Tensor:
        _Counting.calls += 1
        return super().forward(values)


def _own_term(candidates: Candidates) -> Tensor:
    return candidates.features().mean(2)


def test_networks_of_known_layers_are_captured(network: Stages) -> None:
    assert capturable(network, CrossEntropy())
    assert capturable(Stages.from_module(resnet18(num_classes=3), ["layer4", "fc"]), CrossEntropy())


@pytest.mark.parametrize("change", ["layer", "hook", "hook of a weight", "forward", "recurrent"])
def test_what_runs_code_beside_tensors_is_not(network: Stages, change: str) -> None:
    changed = own_copy(network)
    head = changed.stages[-1]
    assert isinstance(head, nn.Sequential)
    changes: dict[str, Any] = {
        "layer": lambda: head.insert(0, _Counting()),
        "hook": lambda: head.register_forward_hook(lambda *_: None),
        "hook of a weight": lambda: head[-1].weight.register_hook(lambda gradient: None),
        "forward": lambda: setattr(head, "forward", lambda values: values),
        "recurrent": lambda: head.insert(0, nn.LSTM(8, 8)),
    }
    changes[change]()
    assert not capturable(changed, CrossEntropy())


def test_objectives_say_what_they_run(network: Stages, data: ImageData) -> None:
    assert capturable(network, CrossEntropy([(1.0, similarity), (1.0, Judges([nn.Linear(8, 3)]))]))
    assert not capturable(network, CrossEntropy([(1.0, Judges([nn.Sequential(_Counting())]))]))
    assert not capturable(network, CrossEntropy([(1.0, _own_term)]))
    targets: Any = None
    assert capturable(network, Regression(targets, live=LiveSearch(LiveConfig()), heads=Heads(0.5, LiveConfig())))
    assert not capturable(network, Regression(targets, live=LiveSearch(LiveConfig(), [(1.0, _own_term)])))
    assert not capturable(network, lambda network, batch: torch.zeros(()))
    task = ImageTask(data)
    assert capturable(network, ChainObjective(task, own_copy(network), 0.5, 1.0))
    assert not capturable(network, ChainObjective(task, lambda images: images, 0.5, 1.0))
    assert not capturable(network, ChainObjective(task, None, 0.5, 1.0, compiled=network))
    assert not capturable(network, ChainObjective(_Own(data), None, 0.5, 1.0))


class _Own(ImageTask):
    """A task of a user's."""


def test_what_a_graph_takes_for_granted_is_noticed(network: Stages) -> None:
    changed = own_copy(network).train()
    states = [granted(changed)]
    weight = changed.stages[-1][-1].weight  # type: ignore[index]
    for change in (
        lambda: weight.requires_grad_(False),
        lambda: setattr(weight, "data", weight.data.clone()),
        lambda: changed.stages[0].eval(),
        lambda: setattr(next(part for part in changed.modules() if isinstance(part, nn.BatchNorm2d)), "momentum", 0.9),
    ):
        change()
        states.append(granted(changed))
    assert len(set(states)) == 5
    assert granted(changed) == states[-1]


def test_generators_that_are_kept_draw_what_those_of_each_step_draw() -> None:
    """The second step must not go on where the first one ended."""
    streams: dict[tuple[str, ...], torch.Generator] = {}
    for seed in (3, 4, 4):
        batch = Batch(torch.arange(2), torch.zeros(2, 1), torch.zeros(2), [], seed=seed)
        kept = batch._replace(streams=streams)
        _seed(streams, seed)
        drawn = [torch.rand(3, generator=each.generator("live", device=torch.device("cpu"))) for each in (batch, kept)]
        assert torch.equal(*drawn)
