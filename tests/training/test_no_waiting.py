"""A step on a GPU waits for nothing: shown with tensors that have no values."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from decouple.config import GptConfig, LiveConfig, NetworkConfig, TrainConfig
from decouple.data import ImageData
from decouple.learn import CrossEntropy, Regression
from decouple.learn.heads import Heads
from decouple.learn.live import LiveSearch
from decouple.networks import Stages, paper_network
from decouple.networks.stages import trusting
from decouple.q0.trajectories import ChainObjective
from decouple.tasks import ImageTask
from decouple.tasks.distill import IGNORED
from decouple.text.gpt import Gpt
from decouple.text.task import TextTask
from decouple.training import stream
from decouple.training.loop import Loop
from decouple.training.objectives import Objective, fetch_of
from decouple.training.optimizers import make_optimizer
from decouple.training.stream import Batch, HeldRows, ImageLoader, Rows, held
from tests.fake_cuda import CUDA, Generator, WaitsError, fake_cuda, no_waiting, without_gradients

WAITS = (DataDependentOutputException, DynamicOutputShapeException, WaitsError)
SGD = TrainConfig(clip=1.0, augment="flip-crop")


@dataclass(frozen=True)
class _Targets:
    """Noise, that can be kept on a GPU."""

    points: tuple[Tensor, ...]
    first_searched = 0

    def check(self, split: Any) -> None: ...

    def rows(self, positions: Tensor) -> list[Tensor]:
        return [point.index_select(0, positions) for point in self.points]

    def rows_on(self, device: torch.device, limit: int, first: int = 0) -> Rows | None:
        if sum(point.nbytes for point in self.points[first:]) > limit:
            return None
        copies = [point.to(device) for point in self.points[first:]]
        return lambda positions: [copy.index_select(0, positions) for copy in copies]


@pytest.fixture
def targets(data: ImageData) -> _Targets:
    stream = torch.Generator().manual_seed(0)
    return _Targets(tuple(torch.randn(72, *shape, generator=stream).half() for shape in ((8, 3, 3), (8, 1, 1), (3,))))


class _Made:
    """Batches that are there already."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def make(self, item: tuple[int, Tensor]) -> Batch:
        return self.batch

    def received(self, batch: Batch) -> Batch:
        return batch


def _image_network(data: ImageData) -> Stages:
    return paper_network(data.train.images, 3, NetworkConfig(width=8), groups=1, seed=1)


def _steps_before_a_wait(
    patch: pytest.MonkeyPatch, network: nn.Module, make: Callable[[nn.Module], tuple[Any, Objective]], optimizer: str = "sgd"
) -> int:
    """Steps of an epoch of three that are taken until something needs a value, as reading the mean loss at its end does.

    Args:
        make: the loader and the objective, for the network on the GPU.
    """
    taken = 0

    def count(*_: object) -> None:
        nonlocal taken
        taken += 1

    with fake_cuda(patch):
        network = network.to(CUDA)
        loader, objective = make(network)
        stepper = make_optimizer(network, replace(SGD, optimizer=optimizer, lr=0.01), batch=24, hidden=[])
        assert stepper.param_groups[0].get("fused", True)
        stepper.register_step_post_hook(count)
        without_gradients(patch, network)
        loop = Loop(network, stepper, objective, SGD.clip)
        batches = [torch.arange(24) + 24 * step for step in range(3)]
        with no_waiting(), pytest.raises(WAITS):
            loop.epoch(loader, batches, before_step=lambda step: None, seed=0, what="test", ahead=0)
    return taken


def _images(data: ImageData, objective: Objective) -> Callable[[nn.Module], tuple[Any, Objective]]:
    def make(network: nn.Module) -> tuple[Any, Objective]:
        fetch = fetch_of(objective, CUDA)
        assert fetch is None or isinstance(fetch, HeldRows)
        loader = ImageLoader(network, data.train, fetch, augmentation=SGD.augment, precision="float32", seed=0)
        assert held(data.train, CUDA)[0].device == CUDA
        return loader, objective

    return make


def _objectives(data: ImageData, targets: _Targets) -> dict[str, Objective]:
    live = LiveSearch(LiveConfig(weight=1.0, directions=4))
    teacher = _image_network(data).eval().requires_grad_(False)
    return {
        "sgd": CrossEntropy(),
        "targets": Regression(targets, skip=1),
        "live search": Regression(targets, live=live),
        "heads": Regression(targets, live=live, heads=Heads(0.5, live.config)),
        "sgd, heads": CrossEntropy(heads=Heads(0.5)),
        "q0": ChainObjective(ImageTask(data), None, 0.0, 1.0),
        "q0, distilled": ChainObjective(ImageTask(data), teacher, 0.45, 1.2),
    }


OBJECTIVES = ("sgd", "targets", "live search", "heads", "sgd, heads", "q0", "q0, distilled")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_epoch_waits_for_nothing_before_its_end(
    data: ImageData, targets: _Targets, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    objective = _objectives(data, targets)[name]
    split = replace(data.train)  # whose copies end with the test
    with contextlib.ExitStack() as stack:
        if isinstance(objective, ChainObjective) and isinstance(objective.teacher, nn.Module):
            stack.enter_context(trusting(objective.teacher))
            with fake_cuda(monkeypatch):
                objective.teacher.to(CUDA)
        make = _images(replace(data, train=split), objective)
        assert _steps_before_a_wait(monkeypatch, _image_network(data), make) == 3


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_no_optimiser_waits(data: ImageData, monkeypatch: pytest.MonkeyPatch, optimizer: str) -> None:
    make = _images(replace(data, train=replace(data.train)), CrossEntropy())
    assert _steps_before_a_wait(monkeypatch, _image_network(data), make, optimizer) == 3


@pytest.mark.parametrize("distilled", [False, True])
def test_steps_on_text_wait_for_nothing(monkeypatch: pytest.MonkeyPatch, distilled: bool) -> None:
    config = GptConfig(layers=1, width=16, heads=2, context=8)
    student, teacher = (Gpt(config, vocabulary=20, seed=seed) for seed in range(2))

    def make(network: nn.Module) -> tuple[Any, Objective]:
        tokens, labels = torch.zeros(4, 8, dtype=torch.int64), torch.zeros(4, 8, dtype=torch.int64)
        labels[3, 5:] = IGNORED
        batch = Batch(torch.arange(4), tokens.to(CUDA), labels.to(CUDA), [], tokens=(29, 29))
        taught_by = teacher.to(CUDA).eval() if distilled else None
        return _Made(batch), ChainObjective(TextTask(None, config), taught_by, 0.45, 1.2)  # type: ignore[arg-type]

    assert _steps_before_a_wait(monkeypatch, student, make, "adamw") == 3


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_wait_for_nothing(data: ImageData, targets: _Targets, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """On the device "meta", whose tensors have no values either, and for which torch takes gradients without a GPU."""
    objective, network = _objectives(data, targets)[name], _image_network(data).to("meta")
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    with contextlib.ExitStack() as stack:
        if isinstance(objective, ChainObjective) and isinstance(objective.teacher, nn.Module):
            stack.enter_context(trusting(objective.teacher.to("meta")))
        fetch = fetch_of(objective, torch.device("meta"))
        loader = ImageLoader(network, data.train, fetch, augmentation="none", precision="float32", seed=0)
        loop, taken = Loop(network, make_optimizer(network, SGD, batch=24), objective, SGD.clip), []
        loop.optimizer.register_step_post_hook(lambda *_: taken.append(1))
        with pytest.raises(RuntimeError, match="meta"):
            loop.epoch(loader, [torch.arange(24)] * 2, before_step=lambda step: None, seed=0, what="test", ahead=0)
    assert len(taken) == 2
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_what_does_not_fit_stays_on_the_cpu(data: ImageData, targets: _Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the memory for the images, and a quarter for the targets."""
    images, rows = data.train.images.nbytes + data.train.labels.nbytes, sum(p.nbytes for p in targets.points)
    for memory, fits in ((4 * images - 4, False), (4 * images, True)):
        with fake_cuda(monkeypatch, memory=memory):
            assert (held(replace(data.train), CUDA)[0].device == CUDA) == fits
    for memory, fits in ((4 * rows - 4, False), (4 * rows, True)):
        with fake_cuda(monkeypatch, memory=memory):
            fetch = fetch_of(Regression(targets), CUDA)
            assert fetch is not None
            assert isinstance(fetch, HeldRows) == fits
            assert {each.device.type for each in fetch(torch.tensor([0]))} == {"cuda" if fits else "cpu"}


def test_copies_go_with_the_split(data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    split, before = replace(data.train), len(stream._HELD)
    with fake_cuda(monkeypatch):
        assert held(split, CUDA)[0] is held(split, CUDA)[0], "one copy for all trainings"
    assert held(split, torch.device("cpu")) == (split.images, split.labels)
    assert len(stream._HELD) == before + 1
    del split
    assert len(stream._HELD) == before


class _Asking(CrossEntropy):
    def __call__(self, network: Stages, batch: Batch) -> Tensor:
        loss = super().__call__(network, batch)
        loss.item()
        return loss


class _Copying(CrossEntropy):
    def __call__(self, network: Stages, batch: Batch) -> Tensor:
        return super().__call__(network, batch) * torch.ones(1).to(batch.labels.device)


class _Picking(CrossEntropy):
    def __call__(self, network: Stages, batch: Batch) -> Tensor:
        return super().__call__(network, batch) + batch.labels[batch.labels > 0].sum()


@pytest.mark.parametrize("objective", [_Asking(), _Copying(), _Picking()])
def test_the_tests_above_see_what_waits(data: ImageData, monkeypatch: pytest.MonkeyPatch, objective: Objective) -> None:
    assert _steps_before_a_wait(monkeypatch, _image_network(data), _images(data, objective)) == 0
