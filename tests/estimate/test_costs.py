"""What is counted on a few images is what the whole computation does."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from decouple.config import EsConfig, LearnConfig, NetworkConfig, Q0Config, RunConfig, SearchConfig, SgdConfig
from decouple.data import ImageData
from decouple.errors import ConfigError, DataError
from decouple.estimate import GPUS, Gpu, Work, estimate, stages
from decouple.estimate.gpus import LAUNCH, REACHED, STREAMED, named
from decouple.estimate.stages import Searching, training_seconds, training_work
from decouple.estimate.work import counted, of_images
from decouple.learn.objective import CrossEntropy, Regression
from decouple.networks import Stages, paper_network
from decouple.search import Budget, EvolutionStrategy, Judge, search_batch, search_points
from decouple.search.solutions import algorithm_of
from decouple.training.stream import Batch

CONFIG = RunConfig(
    network=NetworkConfig(width=8, groups=1),
    search=SearchConfig(
        points="all", batch=24, solutions=2, es=EsConfig(population=32, generations={"blocks": 6, "logits": 3})
    ),
    learn=LearnConfig(epochs=3, batch=24),
    sgd=SgdConfig(epochs=2, batch=12, groups=(1,)),
    q0=Q0Config(cycles=2, epochs=2, batch=18, alpha=0.0),
)
DIGITS = replace(CONFIG, data=replace(CONFIG.data, name="digits", validation=100, prior=30, train=48))


def test_a_search_is_counted_as_it_is_done(network: Stages, data: ImageData) -> None:
    """With directions that the images of a batch share, whose cost does not grow with them."""
    points = search_points(network, data.image_shape)
    search = Searching.of(CONFIG, network, data, points)
    judge = Judge(network, pilot=data.train.images[:24])
    images, labels = data.train.images[:24], data.train.labels[:24]
    search_batch(judge, images, labels, EvolutionStrategy(EsConfig(generations=0)), seed=0)
    batch = counted(lambda: search_batch(judge, images, labels, EvolutionStrategy(CONFIG.search.es), seed=0))
    batches, again = 3, 2 * (1 + CONFIG.compare.images / 72)
    found = search.work(CONFIG, network, data, 72)
    assert found.flops == pytest.approx(batch.flops * batches * again, rel=0.02)
    assert found.moved == pytest.approx(batch.moved * batches * again, rel=0.2)
    in_full = Judge(network, pilot=data.train.images[:24], factored=False)
    with FlopCounterMode(display=False) as counter:
        search_batch(in_full, images, labels, EvolutionStrategy(CONFIG.search.es), seed=0)
    assert found.flops < 0.8 * counter.get_total_flops() * batches * again


@pytest.mark.parametrize(("most", "algorithm"), [(None, "es"), (10_000, "es"), (230, "es"), (230, "random"), (1, "es")])
def test_a_limit_of_the_evaluations_is_divided_as_the_search_does(
    network: Stages, data: ImageData, most: int | None, algorithm: str
) -> None:
    config = replace(CONFIG, search=replace(CONFIG.search, max_evaluations=most, algorithm=algorithm))
    search = Searching.of(config, network, data, search_points(network, data.image_shape))
    images, labels = data.train.images[:24], data.train.labels[:24]
    judge, budget = Judge(network, pilot=images), Budget(evaluations=most)
    done = search_batch(judge, images, labels, algorithm_of(config.search, seed=0), seed=0, budget=budget)
    assert sum(search.scored.values()) == done.evaluations


def test_several_seeds_cost_as_many_runs() -> None:
    one = estimate(DIGITS, device="A100")
    three = one.of_runs(3)
    assert three.evaluations == 3 * one.evaluations
    assert three.disk_bytes == 3 * one.disk_bytes
    assert three.memory_bytes == one.memory_bytes
    assert three.learn.gpu_seconds == pytest.approx(3 * one.learn.gpu_seconds)
    assert three.q0.work.flops == pytest.approx(3 * one.q0.work.flops)
    assert "runs           3, one for each seed" in three.text()
    assert "one for each seed" not in one.text()


def test_more_test_images_than_there_are_are_refused() -> None:
    config = replace(DIGITS, data=replace(DIGITS.data, test=99_999))
    with pytest.raises(DataError, match=r"digits has 359 test images, not 99999; give data.test at most 359"):
        estimate(config, device="A100")


def test_a_training_is_counted_as_it_is_done(network: Stages, data: ImageData) -> None:
    own = replace(CONFIG, learn=LearnConfig(epochs=1, batch=24))
    batch = Batch(torch.arange(12), data.train.images[:12], data.train.labels[:12], [])
    network.train().zero_grad()
    CrossEntropy()(network, batch)
    step = counted(lambda: CrossEntropy()(network, batch).backward())
    learned, q0 = training_work(own, {1: network}, data, 72)
    without, _ = training_work(replace(own, sgd=replace(own.sgd, epochs=1)), {1: network}, data, 72)
    baseline = learned - without
    assert baseline.flops == pytest.approx(6 * step.flops, rel=1e-6)
    assert baseline.moved == pytest.approx(6 * step.moved, rel=0.02)
    assert 6 * step.kernels <= baseline.kernels <= 6 * (step.kernels + 40)
    assert q0.flops == pytest.approx(2 * 4 * 6 * step.flops, rel=1e-6), "two trajectories of two cycles of two epochs"


def test_each_training_is_timed_by_its_own_loss(data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the place of seconds: learning's heads and live search, the baseline's terms, and q0's plain steps."""
    network = paper_network(data.train.images, 3, NetworkConfig(width=8), groups=1, seed=0)
    timed: list[Any] = []

    def second(config: RunConfig, network: Stages, data: ImageData, objective: Any) -> float:
        timed.append(objective)
        return 1.0

    monkeypatch.setattr(stages, "_time_step", second)
    config = replace(CONFIG, learn=replace(CONFIG.learn, heads=0.5), sgd=replace(CONFIG.sgd, similarity=2.0))
    learned, q0 = training_seconds(config, {1: network}, data, 72)
    assert learned == 72 * (2 * 3 + 2), "two solutions for three epochs, and the baseline for two"
    assert q0 == 72 * 2 * 4
    learning, baseline, plain = timed
    assert isinstance(learning, Regression)
    assert learning.heads is not None
    assert learning.live is not None
    assert [weight for weight, _ in baseline.terms] == [2.0]
    assert plain == CrossEntropy()


def test_heads_are_a_part_of_the_step_that_is_timed(data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    network = paper_network(data.train.images, 3, NetworkConfig(width=8), groups=1, seed=0)
    monkeypatch.setattr(stages, "_seconds", lambda run, device: counted(run).flops)
    steps = [replace(CONFIG, learn=replace(CONFIG.learn, heads=heads)) for heads in (0.0, 0.5)]
    without, with_heads = (training_seconds(config, {1: network}, data, 72) for config in steps)
    assert with_heads[0] > without[0], "learning"
    assert with_heads[1] == without[1], "q0"


def test_no_further_generation_is_counted_below_nothing(data: ImageData) -> None:
    """Of a network whose first scoring does more than the later ones."""
    network = Stages.from_sequential(
        nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 3),
        ),
        [2, 5, 8],
    )
    config = replace(CONFIG, search=SearchConfig(batch=24))
    search = Searching.of(config, network, data, search_points(network, data.image_shape))
    few, many = (search.work(config, network, data, images) for images in (24, 240))
    assert 0 < few.moved < many.moved
    assert 0 < few.flops < many.flops


def test_what_images_share_is_counted_once() -> None:
    weights = torch.ones(7, 5)
    for images in (2, 3, 40):
        direct = counted(lambda number=images: torch.ones(number, 7) @ weights + weights.sum())  # type: ignore[misc]
        assert of_images(lambda number: counted(lambda: torch.ones(number, 7) @ weights + weights.sum()), images) == direct


def test_the_slowest_of_computing_moving_and_starting_decides() -> None:
    gpu = Gpu("made up", float32=1e12, bfloat16=4e12, bandwidth=1e11, memory=1e9)
    assert gpu.seconds(Work(flops=1e12), "float32") == pytest.approx(1 / REACHED)
    assert gpu.seconds(Work(flops=1e12), "mixed") == pytest.approx(0.25 / REACHED)
    assert gpu.seconds(Work(flops=1e12, moved=1e13), "bfloat16") == pytest.approx(100 / STREAMED)
    assert gpu.seconds(Work(1e9, 1e9, kernels=1e6), "bfloat16") == pytest.approx(1e6 * LAUNCH)


def test_a_named_gpu_is_estimated_without_timing_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("decouple.estimate.stages._seconds", lambda run, device: pytest.fail("it is timed"))
    found = estimate(DIGITS, device="A100")
    assert found.gpu is GPUS["a100"]
    assert [cost.seconds for cost in (found.search, found.learn, found.q0)] == [None] * 3
    lines = found.text().splitlines()
    assert lines[0].split() == ["stage", "FLOPs", "bytes", "moved", "NVIDIA", "A100"]
    assert not any("this machine" in line or "time here" in line for line in lines)
    assert "not measured: 30% of 312 TFLOP/s (bfloat16) or 156 (float32, as TF32), 60% of 2.04 TB/s" in lines[-1]
    assert any("on a GPU about" in line and "of its 74.5 GiB" in line for line in lines)


def test_a_device_that_is_neither_is_refused() -> None:
    assert named("cuda:3") is None
    with pytest.raises(ConfigError, match=r"device 'h10' is unknown; did you mean 'h100'\?"):
        estimate(DIGITS, device="h10")
