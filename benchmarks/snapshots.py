"""What other ways to make snapshots are worth to a population of q0, at equal epochs.

    python -m benchmarks.snapshots --data-root DATA --data mnist                  # two CPU cores, half an hour
    python -m benchmarks.snapshots --data-root DATA --data mnist folder:cifar10   # and CIFAR-10 as a folder of images

Each row is a population of two trajectories with one thing changed (`WAYS`), in as many epochs and with q0's settings that
`benchmarks.q0_images` chose. NLL on test: with equal weights, with the learned prior, and calibrated; the difference to q0 of the
same seed. Writes figures/snapshots.json and .md, or snapshots-NAME.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from benchmarks.command import launch
from benchmarks.common import Common, Parts, check_rows, key, label, leave, named
from benchmarks.headline import WAYS as WEIGHTINGS, Point
from benchmarks.q0_images import NAME as IMAGES, Bench, ImageSize, population, sizes_of
from benchmarks.receipt import markdown, spread, written
from decouple import device as devices
from decouple.config import Q0Config
from decouple.data import as_float
from decouple.networks.state import own_copy
from decouple.q0.perturb import perturb_, perturbation_scale
from decouple.q0.trajectories import ChainObjective, train_cycle, undecayed
from decouple.seeds import derive, generator
from decouple.settings import to_builtins
from decouple.tasks import ImageTask
from decouple.tasks.base import HELD_OUT
from decouple.training.batches import even_batches
from decouple.training.evaluate import logits
from decouple.training.loop import Loop
from decouple.training.processes import Group

NAME = "snapshots"
TRAJECTORIES = 2
SETTINGS: dict[str, dict[str, Any]] = {
    "digits": {},
    "mnist": {"lr": 0.3, "weight_decay": 0.12, "perturb": 0.5},
    "cifar10": {"lr": 0.3, "weight_decay": 0.06, "perturb": 0.5},
}
"""Of q0, by data: what `benchmarks.q0_images` chose, calibrated where it was measured so."""


@dataclass(frozen=True)
class Way:
    """How snapshots are made; with nothing changed, as q0 makes them."""

    averaged: bool = False
    """A snapshot is the mean of the weights over the last half of its cycle (Izmailov et al., "Averaging weights", 2018)."""
    last_epochs: int = 1
    """Of a cycle: a snapshot at the end of each (Zhang et al., "Cyclical stochastic gradient MCMC", 2020)."""
    copies: int = 0
    """Beside each snapshot, with noise of a twentieth of each tensor's deviation."""
    trunk: bool = False
    """All trajectories continue from one first cycle; what that saves goes into further cycles."""
    rates: tuple[float, ...] = (1.0, 1.0)
    """Multiples of the learning rate, by trajectory."""
    warmup: float = 0.0
    """Share of the first cycle in which the learning rate rises."""
    taught_by: Literal["", "predecessor", "all"] = ""
    """What a cycle is distilled from: nothing, the snapshot before it, or all of its trajectory so far with equal weights."""


WAYS: dict[str, Way] = {
    "q0": Way(),
    "averaged weights": Way(averaged=True),
    "two snapshots a cycle": Way(last_epochs=2),
    "two noisy copies beside each": Way(copies=2),
    "a shared first cycle": Way(trunk=True),
    "learning rates 0.5 and 2 times": Way(rates=(0.5, 2.0)),
    "a first cycle that warms up": Way(warmup=0.25),
    "a shared first cycle that warms up": Way(trunk=True, warmup=0.25),
    "distilled from the predecessor": Way(taught_by="predecessor"),
    "distilled from all so far": Way(taught_by="all"),
}
COPY_NOISE = 0.05
ALPHA = 0.45
"""Weight of a teacher."""


@dataclass(frozen=True)
class Arguments(Common):
    scale: Literal["tiny", "small"] = "small"
    """tiny: digits, to try the program; small: 2000 images of MNIST or 5000 of CIFAR-10."""
    rows: tuple[str, ...] = ()
    """Names of the rows to measure beside q0; default: all."""
    name: str = ""
    """Added to the names of the files, where only some rows are measured."""


class Trajectory:
    """A network that is trained in cycles, as `decouple.q0.trajectories.Chain` does, and the snapshots that it leaves."""

    def __init__(self, bench: Bench, config: Q0Config, way: Way, seed: int, number: int) -> None:
        self._config = replace(config, lr=config.lr * way.rates[number])
        self._way, self._seed = way, derive(seed, IMAGES, number)
        self._data, self._precision = bench.data, bench.size.precision
        self._task = ImageTask(bench.data, config.augment)
        self._network = bench.new(seed, number)
        self._optimizer = undecayed(self._network, self._task, self._config)
        self._cycles = 0
        self.members: list[nn.Module] = []

    def branch_from(self, trunk: Trajectory) -> None:
        """Continue from what another one is now; its snapshots stay its own."""
        self._network = own_copy(trunk._network)
        self._optimizer = undecayed(self._network, self._task, self._config)
        self._optimizer.load_state_dict(trunk._optimizer.state_dict())
        self._cycles = trunk._cycles

    def cycle(self) -> None:
        """Train one cycle and keep its snapshots."""
        config, way, number, network = self._config, self._way, self._cycles, self._network
        epochs = config.epochs_in(number)
        teacher = self._teacher()
        if number and config.perturb:
            last = config.perturb * config.perturb_last
            scale = perturbation_scale(number, config.cycles, first=config.perturb, last=last)
            perturb_(network, scale, generator(self._seed, "perturb", number))
        average = _Average(network, epochs * len(even_batches(self._task.examples, config.batch)))
        hook = self._optimizer.register_step_post_hook(lambda *_: average.step())
        objective = ChainObjective(self._task, teacher, ALPHA, config.temperature)
        loop = Loop(
            network, self._optimizer, objective, config.clip, self._precision, Group(next(network.parameters()).device)
        )
        left = epochs

        def advance(done: int) -> None:
            nonlocal left
            left -= done
            if left < way.last_epochs and not way.averaged:
                self._keep(own_copy(network))

        rates = replace(config, warmup=0.0 if number else way.warmup)
        train_cycle(loop, self._task, rates, number, self._seed, f"cycle {number + 1}", advance)
        hook.remove()
        if way.averaged:
            self._keep(average.network(self._data.train.images))
        self._cycles += 1

    def _keep(self, network: nn.Module) -> None:
        self.members.append(network.eval().requires_grad_(False))
        for _copy in range(self._way.copies):
            noisy = own_copy(network).requires_grad_(True)
            perturb_(noisy, COPY_NOISE, generator(self._seed, "copy", len(self.members)))
            update_bn(_batches(self._data.train.images), noisy)
            self.members.append(noisy.eval().requires_grad_(False))

    def _teacher(self) -> Callable[[Any], Tensor] | None:
        if not self._way.taught_by or not self.members:
            return None
        return self.members[-1] if self._way.taught_by == "predecessor" else partial(_together, list(self.members))


class _Average:
    """The mean of a network's weights over the last half of so many steps."""

    def __init__(self, network: nn.Module, steps: int) -> None:
        self._trained, self._steps, self._done = network, steps, 0
        self._mean = AveragedModel(network)

    def step(self) -> None:
        self._done += 1
        if 2 * self._done > self._steps:
            self._mean.update_parameters(self._trained)

    def network(self, images: Tensor) -> nn.Module:
        """With BatchNorm's statistics of these images."""
        update_bn(_batches(images), self._mean.module)
        mean: nn.Module = self._mean.module
        return mean


def _batches(images: Tensor) -> Iterator[Tensor]:
    return (as_float(part) for part in images.split(250))


@torch.no_grad()
def _together(members: Sequence[nn.Module], inputs: Tensor) -> Tensor:
    """The logarithm of the members' mean probabilities: logits that say what they say together."""
    answers = torch.stack([member(inputs).float().log_softmax(1) for member in members])
    return answers.logsumexp(0) - math.log(len(members))


def trained(bench: Bench, config: Q0Config, way: Way, budget: int, seed: int) -> list[nn.Module]:
    """The members of two trajectories that share so many epochs."""
    first, trunk = config.epochs_in(0), 1 if way.trunk else TRAJECTORIES
    rounds = (budget - trunk * first) // config.epochs  # of the later cycles of all trajectories
    planned = replace(config, cycles=1 + math.ceil(rounds / TRAJECTORIES))
    trajectories = [Trajectory(bench, planned, way, seed, number) for number in range(TRAJECTORIES)]
    for number, trajectory in enumerate(trajectories):
        if number and way.trunk:
            trajectory.branch_from(trajectories[0])
        else:
            trajectory.cycle()
    for _, trajectory in zip(range(rounds), cycle(trajectories), strict=False):
        trajectory.cycle()
    return [member for trajectory in trajectories for member in trajectory.members]


def measure(bench: Bench, config: Q0Config, way: Way, seed: int) -> Point:
    """The figures of a population."""
    members = trained(bench, config, way, bench.size.budget, seed)
    parts = {name: getattr(bench.data, name) for name in HELD_OUT}
    said = [{name: logits(member, part).double().softmax(1) for name, part in parts.items()} for member in members]
    return population(bench.data, said) | {"members": len(members)}


def run(arguments: Arguments) -> dict[str, dict[str, Any]]:
    """An entry for each data set."""
    check_rows(arguments.rows, WAYS)
    chosen = {name: way for name, way in WAYS.items() if not arguments.rows or name in ("q0", *arguments.rows)}
    entries = {}
    for source, size in sizes_of(arguments.scale, arguments.data):
        parts = Parts(arguments.out, NAME, (size, SETTINGS, WAYS))
        bench = Bench(source, size, arguments.data_root, arguments.device, parts)
        entries[label(source, arguments.data_root)] = entry_of(bench, source, size, parts, chosen)
    return entries


def entry_of(bench: Bench, source: str, size: ImageSize, parts: Parts, ways: Mapping[str, Way]) -> dict[str, Any]:
    config = replace(size.base, **SETTINGS[key(source)])
    makers = {
        (key(source), seed, name): partial(measure, bench, config, way, seed)
        for seed in size.seeds
        for name, way in ways.items()
    }
    found = parts.all(f"{NAME}, {key(source)}", makers)
    rows: dict[str, dict[str, Any]] = {}
    for name in ways:
        seeds, q0 = ([found[key(source), seed, row] for seed in size.seeds] for row in (name, "q0"))
        fields = [f"test_{way}" for way in WEIGHTINGS]
        rows[name] = {
            field: spread([seed[field] for seed in seeds]) for field in (*fields, "accuracy_learned", "disagreement")
        }
        differences = [a["test_calibrated"] - b["test_calibrated"] for a, b in zip(seeds, q0, strict=True)]
        rows[name] |= {"against_q0": spread(differences), "members": seeds[0]["members"], "seeds": seeds}
    return {"train": size.train, "epochs": size.budget, "rows": rows, "settings": to_builtins(config)}


def as_markdown(entries: dict[str, dict[str, Any]]) -> str:
    heads = ["data", "snapshots", "members", *WEIGHTINGS.values(), "less q0's", "accuracy (%)", "disagreement (%)"]
    rows = []
    for data, entry in entries.items():
        for name, row in entry["rows"].items():
            nats = [written(row[f"test_{way}"], 4) for way in WEIGHTINGS]
            gap = "" if name == "q0" else written(row["against_q0"], 4, sign="+")
            shares = [written(row[field], factor=100) for field in ("accuracy_learned", "disagreement")]
            rows.append([f"{data}, {entry['train']}", name, row["members"], *nats, gap, *shares])
    return markdown(heads, rows)


def main(arguments: Arguments) -> None:
    devices.prepare()
    entries = run(arguments)
    settings = {"scale": arguments.scale, "data": named(arguments.data or ())}
    leave(NAME, arguments, {"data": entries}, settings=settings, table=as_markdown(entries))


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
