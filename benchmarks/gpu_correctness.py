"""Whether every stage gives on a GPU what it gives on the CPU: the checks of `benchmarks.gpu_check`."""

from __future__ import annotations

import contextlib
import functools
import itertools
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from decouple import load_data
from decouple.config import (
    DataConfig,
    EsConfig,
    LearnConfig,
    LiveConfig,
    NetworkConfig,
    Q0Config,
    SearchConfig,
    SgdConfig,
    TrainConfig,
)
from decouple.data import ImageData
from decouple.errors import DecoupleError, MemoryLimitError
from decouple.fitness import similarity
from decouple.learn import Checkpoint, CrossEntropy, Watch, fit
from decouple.learn.heads import Heads
from decouple.learn.live import LiveSearch
from decouple.learn.objective import Regression, regression
from decouple.networks import Stages, paper_network
from decouple.networks.factored import Mix
from decouple.q0 import train_population
from decouple.search import EvolutionStrategy, Judge, TargetStore, search_batch, search_solution
from decouple.search.operators import Best
from decouple.seeds import generator
from decouple.training.batches import epoch_batches
from decouple.training.loop import Loop
from decouple.training.objectives import Objective, fetch_of
from decouple.training.optimizers import make_optimizer
from decouple.training.stream import Batch, ImageLoader, held

CPU = torch.device("cpu")
CLOSE = 1e-3
"""Difference from the CPU's values that rounding may make, as a share of their size, after a few steps."""


class CheckError(DecoupleError):
    """A stage gives something else than on the CPU, or waits for the device."""


@dataclass(frozen=True)
class Setting:
    """What the pieces work with."""

    device: torch.device
    scale: str = "tiny"

    @functools.cached_property
    def data(self) -> ImageData:
        """Digits with some noise: where all is black, max-pooling has equals to choose from, and each device chooses others."""
        data = load_data(DataConfig(name="digits", train=240, validation=60, prior=60, test=60))
        noise = torch.rand(data.train.images.shape, generator=generator(0, "noise"), device=CPU)
        return replace(data, train=replace(data.train, images=0.99 * data.train.images + 0.01 * noise))

    def network(self, device: torch.device, *, groups: int = 1, seed: int = 0) -> Stages:
        config = NetworkConfig(width=16)
        return paper_network(self.data.train.images, 10, config, groups=groups, seed=seed).to(device)

    def targets(self, folder: Path) -> TargetStore:
        """Searched on the CPU."""
        config = SearchConfig(batch=80, points="all", es=EsConfig(population=8, generations=4))
        return search_solution(self.network(CPU), self.data.train, folder, config=config)


Piece = Callable[[Setting], dict[str, Any]]


def near(what: str, found: Tensor, expected: Tensor, limit: float = CLOSE) -> float:
    """The largest difference as a share of the largest value. Raises CheckError: above the limit."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    difference = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
    if not difference <= limit:
        raise CheckError(f"{what} differs from the CPU's by {difference:.2g} of its size: expected at most {limit:g}")
    return difference


def weights(network: nn.Module) -> Tensor:
    """All of them, in one vector."""
    return torch.cat([parameter.detach().cpu().flatten() for parameter in network.parameters()])


@contextlib.contextmanager
def in_float32() -> Iterator[None]:
    """Without TF32, which keeps ten bits."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@torch.no_grad()
def check_search(setting: Setting) -> dict[str, Any]:
    """Scores of the same candidates, and what an update makes of them; then a search of its own, whose noise is another."""
    images, labels = setting.data.train.images[:40], setting.data.train.labels[:40]
    algorithm = EvolutionStrategy(EsConfig(population=16, generations=12))
    judge = Judge(setting.network(CPU))
    there = Judge(setting.network(setting.device))
    differences, values = {}, images
    for point in judge.points(images[:2]):
        values = judge.advance(point.index, values)
        candidates, state = algorithm.ask(algorithm.init(values, point, 0, None, lambda each: each))
        scores = judge.fitness(point, candidates, labels)
        on_device = {name: _moved(value, setting.device) for name, value in state._asdict().items()}
        candidates = candidates.to(setting.device)
        found = there.fitness(point, candidates, labels.to(setting.device))
        differences[f"{point.name}, scores"] = near(f"the fitness at {point.name}", found, scores)
        moved = algorithm.tell(type(state)(**on_device), candidates, scores.to(setting.device))
        expected = algorithm.tell(state, candidates.cpu(), scores)
        differences[f"{point.name}, update"] = near(f"the update at {point.name}", moved.center, expected.center)
    both = [(judge, images, labels), (there, images.to(setting.device), labels.to(setting.device))]
    ours, found_there = (search_batch(*each, algorithm, seed=0).after.mean(1).cpu() for each in both)
    if not torch.allclose(found_there, ours, rtol=0.15, atol=0.05):
        raise CheckError(f"the search ends at cross-entropies {found_there.tolist()}, on the CPU at {ours.tolist()}")
    return differences | {"cross_entropy": found_there.tolist(), "cross_entropy_cpu": ours.tolist()}


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mix):
        return Mix(value.weights.to(device), value.index.to(device))
    if isinstance(value, Best):
        return Best(*(_moved(each, device) for each in value))
    return tuple(_moved(each, device) for each in value) if type(value) is tuple else value


def check_training(setting: Setting) -> dict[str, Any]:
    """Weights after two epochs of SGD and of learning from targets, by each optimiser."""
    differences = {}
    with tempfile.TemporaryDirectory() as folder:
        targets = setting.targets(Path(folder))
        cases: dict[str, tuple[Objective, TrainConfig]] = {
            "sgd": (CrossEntropy(), SgdConfig(epochs=2, batch=60, lr=0.1, augment="flip-crop")),
            "adamw": (CrossEntropy(), SgdConfig(epochs=2, batch=60, lr=1e-4, optimizer="adamw")),
            "targets": (Regression(targets), LearnConfig(epochs=2, batch=60, lr=0.1)),
        }
        for name, (objective, config) in cases.items():
            networks = [setting.network(device, seed=1) for device in (CPU, setting.device)]
            for network in networks:
                fit(network, setting.data.train, setting.data.validation, objective, config, seed=0)
            differences[name] = near(f"what {name} has trained", weights(networks[1]), weights(networks[0]), 10 * CLOSE)
    return differences


def check_live(setting: Setting) -> dict[str, Any]:
    """With every direction it finds the same whatever the noise; with few, a training learns about as well."""
    live = LiveConfig(directions=10_000, radius=0.01)
    network, images = setting.network(CPU).eval(), setting.data.train.images[:40]
    values, labels = network.activations(images)[-2].detach(), setting.data.train.labels[:40]
    found = []
    for device in (CPU, setting.device):
        head = setting.network(device).stages[-1]
        batch = Batch(torch.arange(40), images, labels.to(device), [])
        found.append(LiveSearch(live).displacement(head, values.to(device), batch))
    differences = {"displacement": near("what live search finds", found[1], found[0], 0.05)}
    with tempfile.TemporaryDirectory() as folder:
        targets = setting.targets(Path(folder))
        for device in (CPU, setting.device):
            config = LearnConfig(epochs=4, batch=60, live=LiveConfig(directions=8))
            network = setting.network(device, seed=1)
            trained = fit(
                network, setting.data.train, setting.data.validation, regression(targets, config, 2), config, seed=0
            )
            differences[f"loss, {device.type}"] = trained.losses[-1]
    losses = list(differences.values())[1:]
    if not 0.8 < losses[0] / losses[-1] < 1.25:
        raise CheckError(f"learning with live search ends at a loss of {losses[-1]:.4g}, on the CPU at {losses[0]:.4g}")
    return differences


def check_q0(setting: Setting) -> dict[str, Any]:
    """Snapshots that were distilled along their chain, and what they answer together. With weights fitted to a few images, rounding
    may choose others."""
    config, found = Q0Config(cycles=2, epochs=1, batch=60, lr=0.05, alpha=0.45), []
    for device in (CPU, setting.device):
        with tempfile.TemporaryDirectory() as folder:
            ensemble = train_population([setting.network(device)], setting.data, folder, config=config)
            snapshots = [load_file(path) for path in sorted(Path(folder).rglob("cycle-*.safetensors"))]
            images = setting.data.test.images
            answers = [member.to(device)(images.to(device)).softmax(1).cpu() for member in ensemble.members]
            again = [member.to(CPU)(images).softmax(1) for member in ensemble.members]
            found.append((snapshots, torch.stack(answers).mean(0), torch.stack(again).mean(0), ensemble.weights.tolist()))
    differences: dict[str, Any] = {"weights": found[1][3], "weights, cpu": found[0][3]}
    for cycle, (ours, theirs) in enumerate(zip(found[1][0], found[0][0], strict=True)):
        each = {name: near(f"{name} of snapshot {cycle}", ours[name], theirs[name], torch.inf) for name in theirs}
        differences[f"cycle {cycle}"] = max(each.values())
        if max(each.values()) > 10 * CLOSE:
            raise CheckError(f"snapshot {cycle} differs: {each}")
    differences["on either"] = near("what the same population answers", found[1][1], found[1][2])
    return differences | {"probabilities": near("what a population answers", found[1][1], found[0][1], 10 * CLOSE)}


def check_graphs(setting: Setting) -> dict[str, Any]:
    """Steps as CUDA graphs end with the weights of steps that are not, to the last bit; on a CPU there are none."""
    captured: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        targets = setting.targets(Path(folder))
        objectives: dict[str, Callable[[], Objective]] = {
            "sgd": CrossEntropy,
            "sgd, similarity": lambda: CrossEntropy(((3.0, similarity),)),
            "targets": lambda: Regression(targets),
            "live": lambda: regression(targets, LearnConfig(), 2),
            "live, similarity": lambda: regression(targets, LearnConfig(similarity=3.0), 2),
            "sgd, heads": lambda: CrossEntropy(heads=Heads(0.3)),
            "live, heads": lambda: regression(targets, LearnConfig(heads=0.3), 2),
        }
        for name, precision in itertools.product(objectives, ("float32", "bfloat16")):
            digests = []
            for capture in (True, False):
                network = setting.network(setting.device, seed=1)
                cast(nn.Sequential, network.stages[-1]).insert(1, nn.Dropout(0.2))
                objective = objectives[name]()
                shown = objective if capture else partial(_unknown, objective)
                loop = Loop(network, make_optimizer(network, TrainConfig(), batch=35), shown, 1.0, precision)
                _take_epochs(loop, setting, objective)
                digests.append(network.digest)
                if capture:
                    captured[f"{name}, {precision}"] = sum(len(graphs.captured) for graphs in loop.graphs.values())
                elif loop.graphs:
                    raise CheckError(f"steps of {name} that should not be graphs are")
            if digests[0] != digests[1]:
                raise CheckError(f"steps of {name} in {precision} end with other weights as graphs than without")
    if setting.device.type == "cuda" and set(captured.values()) != {2}:
        raise CheckError(f"expected a graph for each of two sizes of a batch: {captured}")
    return captured


def _unknown(objective: Objective, network: Stages, batch: Batch) -> Tensor:
    """An objective that nothing is known of, so that its steps are not captured."""
    return objective(network, batch)


def _take_epochs(loop: Loop, setting: Setting, objective: Objective) -> None:
    """Three, of batches of two sizes."""
    fetch = fetch_of(objective, setting.device)
    for epoch in range(3):
        loader = ImageLoader(
            loop.network, setting.data.train, fetch, augmentation="flip-crop", precision=loop.precision, seed=epoch
        )
        batches = epoch_batches(len(setting.data.train), 35, seed=0, epoch=epoch)
        loop.epoch(loader, batches, before_step=lambda step: None, seed=epoch, what="check")


def check_resume(setting: Setting) -> dict[str, Any]:
    """A training that is killed after an epoch and resumed ends with the weights of one that was not, on the same device."""

    def stop(epoch: int, network: Stages) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    digests = {}
    for optimizer in ("sgd", "adamw"):
        config, networks = SgdConfig(epochs=3, batch=60, lr=0.01, optimizer=optimizer), []
        with tempfile.TemporaryDirectory() as folder:
            for killed in (False, True):
                kept = Checkpoint(Path(folder) / f"{killed}", "check", seconds=0)
                arguments = (setting.data.train, setting.data.validation, CrossEntropy(), config)
                if killed:
                    with contextlib.suppress(KeyboardInterrupt):
                        fit(setting.network(setting.device), *arguments, seed=0, checkpoint=kept, watch=Watch(stop))
                networks.append(setting.network(setting.device))
                fit(networks[-1], *arguments, seed=0, checkpoint=kept)
        if networks[0].digest != networks[1].digest:
            raise CheckError(f"a resumed training by {optimizer} ends with other weights")
        digests[optimizer] = networks[0].digest
    return {"digests": digests}


@contextlib.contextmanager
def refusing_to_wait(device: torch.device) -> Iterator[Callable[[bool], None]]:
    """Gives what switches on, and off again, that torch refuses to wait for a GPU."""

    def switch(on: bool) -> None:
        if device.type == "cuda":
            with warnings.catch_warnings():  # that this is a prototype of torch's
                warnings.simplefilter("ignore")
                torch.cuda.set_sync_debug_mode("error" if on else "default")

    try:
        yield switch
    finally:
        switch(False)


def check_waiting(setting: Setting) -> dict[str, Any]:
    """No step but the last waits for the device, nor a generation; the first ones may, while libraries set themselves up."""
    train, steps = setting.data.train, 0
    batches = epoch_batches(len(train), 40, seed=0, epoch=0)
    with tempfile.TemporaryDirectory() as folder, refusing_to_wait(setting.device) as refuse:
        targets = setting.targets(Path(folder))
        objectives: tuple[Objective, ...] = (CrossEntropy(), regression(targets, LearnConfig(), 2))
        for objective in objectives:
            network = setting.network(setting.device)
            loop = Loop(network, make_optimizer(network, TrainConfig(), batch=40), objective, clip=1.0)
            fetch = fetch_of(objective, setting.device)
            loader = ImageLoader(network, train, fetch, augmentation="crop", precision="float32", seed=0)
            for _ in range(2):
                loop.epoch(
                    loader, batches, before_step=lambda step: refuse(2 <= step < len(batches) - 1), seed=0, what="check"
                )
                steps += len(batches) - 3
        judge, algorithm = Judge(setting.network(setting.device)), EvolutionStrategy(EsConfig(population=8, generations=6))
        images, labels = (tensor[:40].to(setting.device) for tensor in (train.images, train.labels))

        def observe(point: Any, generation: int, best: Tensor) -> None:
            refuse(1 <= generation < 4)

        search_batch(judge, images, labels, algorithm, seed=0, observe=observe)
    return {"steps": steps}


def check_memory(setting: Setting) -> dict[str, Any]:
    """Images and labels are on the device, and what does not fit ends with one line."""
    there = held(setting.data.train, setting.device)[0].device
    if there != setting.device:
        raise CheckError(f"the images are on {there}, expected them on {setting.device}")
    if setting.device.type != "cuda":
        return {}
    network = setting.network(setting.device)
    config = SearchConfig(batch=240, points="all", es=EsConfig(population=2_000_000, generations=2, noise="image"))
    try:
        with tempfile.TemporaryDirectory() as folder:
            search_solution(network, setting.data.train, folder, config=config)
    except MemoryLimitError as error:
        return {"message": str(error)}
    raise CheckError("a search of two million candidates an image fits into the memory")


CHECKS: dict[str, Piece] = {
    "search": check_search,
    "training": check_training,
    "live search": check_live,
    "q0": check_q0,
    "resuming": check_resume,
    "graphs": check_graphs,
    "waiting": check_waiting,
    "memory": check_memory,
}
