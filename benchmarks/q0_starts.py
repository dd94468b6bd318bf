"""What only this toolkit can ask: does a population do better from searched solutions than from new networks?

    python -m benchmarks.q0_starts --data-root DATA                              # MNIST, two CPU cores
    python -m benchmarks.q0_starts --data-root DATA --data mnist folder:cifar10  # and CIFAR-10, as a folder of images

Two trajectories of q0 as in `benchmarks.q0_images`, at equal total epochs, from pairs of equal initial networks. In the rows
"searched" the first cycle of each is replaced by learning a searched solution of its own, for as many epochs; what was learned
is the first member. The searches' cost is stated apart. Variants: all blocks searched and supervised (more different targets),
other blocks for each trajectory, half as long a learning, with one cycle more, and learning with live search. Two controls tell
what of the last one's gain is the searched targets: live search alone, and the labels on the learning's schedule.
Writes figures/q0_starts.json, .md, .png and .svg.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from matplotlib.figure import Figure

from benchmarks.command import launch
from benchmarks.common import STORED, Common, Parts, by_place, check_rows, key, label, leave, named
from benchmarks.headline import plot
from benchmarks.q0_images import Bench, ImageSize, sizes_of
from benchmarks.receipt import markdown, spread, written
from benchmarks.recipes import Recipe, cycles_in
from decouple import device as devices
from decouple.config import EsConfig, LearnConfig, Q0Config, SearchConfig, SgdConfig
from decouple.learn import learn_targets, train_sgd
from decouple.report import style
from decouple.search import search_solution
from decouple.seeds import derive
from decouple.settings import to_builtins

NAME = "q0_starts"


@dataclass(frozen=True)
class Start:
    """What trajectories begin with."""

    blocks: tuple[Literal["last", "all"], ...] = ()
    """Of each trajectory, the blocks that are searched and supervised; empty: new networks, which a first cycle trains."""
    share: float = 1.0
    """Of the first cycle's epochs, for the learning; the rest is a cycle more."""
    live: bool = False
    """Whether it is learned with live search, at the rates of the cycle that it replaces."""
    stored: bool = True
    """Whether the blocks learn the stored targets beside it; the head learns the searched logits in any case."""
    labels: bool = False
    """Whether new networks learn the labels instead, by SGD at the same rates on the learning's schedule: the control."""

    def first_epochs(self, base: Q0Config) -> int:
        """Of the first cycle, or of the learning in its place."""
        return round(base.epochs_in(0) * self.share)

    def learning(self, base: Q0Config, blocks: Literal["last", "all"]) -> LearnConfig:
        """Of a trajectory."""
        common: dict[str, Any] = {"epochs": self.first_epochs(base), "batch": base.batch, "supervise": blocks}
        if self.live:
            weight = LearnConfig().target_weight if self.stored else 0.0
            return LearnConfig(**common, lr=base.lr, weight_decay=base.weight_decay, target_weight=weight)
        return LearnConfig(**common, **STORED)

    def training(self, base: Q0Config) -> SgdConfig:
        """Of a trajectory, on the labels."""
        return SgdConfig(epochs=self.first_epochs(base), batch=base.batch, lr=base.lr, weight_decay=base.weight_decay)


ROWS = {
    "new networks": Start(),
    "searched, last block": Start(("last", "last")),
    "searched, half the learning": Start(("last", "last"), 0.5),
    "searched, all blocks": Start(("all", "all")),
    "searched, last block and all blocks": Start(("last", "all")),
    "searched, learned with live search": Start(("last", "last"), live=True),
    "learned with live search alone": Start(("last", "last"), live=True, stored=False),
    "new networks, SGD on the learning's schedule": Start(labels=True),
}

ES = {"last": EsConfig(population=32), "all": EsConfig(population=32, generations=by_place((24, 12, 12, 10)))}
"""As in the benchmarks of learning and of trajectories."""


@dataclass(frozen=True)
class Arguments(Common):
    scale: Literal["tiny", "small"] = "small"
    """tiny: digits, to try the program; small: 2000 images of MNIST or 5000 of CIFAR-10."""
    rows: tuple[str, ...] = tuple(ROWS)
    """What to compare; the first is what the others are compared with."""


def recipe_of(start: Start, base: Q0Config, budget: int) -> Recipe:
    """Two trajectories that fill the budget."""
    first = start.first_epochs(base)
    cycles = cycles_in(budget // 2, first, base.epochs)
    return Recipe("q0", "q0", replace(base, trajectories=2, cycles=cycles, first_epochs=first))


def comparable(size: ImageSize, rows: Sequence[str]) -> list[str]:
    """Those that spend as many epochs as the first: where cycles are long, half a learning leaves epochs over."""

    def spent(row: str) -> int:
        q0 = recipe_of(ROWS[row], size.base, size.budget).q0
        return q0.epochs_before(q0.cycles)

    return [row for row in rows if spent(row) == spent(rows[0])]


def measure(bench: Bench, start: Start, seed: int) -> dict[str, Any]:
    """The points of a population, and what its searches cost."""
    size, train = bench.size, bench.data.train
    starts, seconds, evaluations = [], 0.0, 0
    judge = bench.network(derive(seed, NAME, "judge"))
    for trajectory in range(2 if start.blocks or start.labels else 0):
        # The network that the same trajectory of new networks begins with.
        network, own = bench.new(seed, trajectory), derive(seed, NAME, trajectory)
        how: dict[str, Any] = {"validation": bench.data.validation, "seed": own, "precision": size.precision}
        starts.append(network)
        if start.labels:
            train_sgd(network, train, config=start.training(size.base), **how)
            continue
        blocks = start.blocks[trajectory]
        search = SearchConfig(batch=min(125, len(train)), points=blocks, es=ES[blocks])
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            targets = search_solution(judge, train, folder, config=search, seed=own, dtype=torch.bfloat16)
            seconds += time.monotonic() - began
            learning = start.learning(size.base, blocks)
            evaluations += targets.evaluations + learning.evaluations(len(network) - 1)
            learn_targets(network, train, targets, config=learning, **how)
    points = bench.train(recipe_of(start, size.base, size.budget), seed, starts)
    return {"points": points, "search_seconds": seconds, "evaluations": evaluations}


def run(arguments: Arguments) -> dict[str, dict[str, Any]]:
    """An entry for each data set, by what it is called."""
    check_rows(arguments.rows, ROWS)
    entries = {}
    for source, size in sizes_of(arguments.scale, arguments.data):
        parts = Parts(arguments.out, NAME, size)
        bench = Bench(source, size, arguments.data_root, arguments.device, parts)
        rows = comparable(size, arguments.rows)
        makers = {
            (key(source), row, f"seed{seed}"): partial(measure, bench, ROWS[row], seed)
            for seed in size.seeds
            for row in rows
        }
        found = parts.all(f"{NAME}, {key(source)}", makers)
        made = {row: [found[key(source), row, f"seed{seed}"] for seed in size.seeds] for row in rows}
        entries[label(source, arguments.data_root)] = {
            "train": size.train,
            "settings": to_builtins(size),
            "rows": {row: summary(seeds, made[arguments.rows[0]]) for row, seeds in made.items()},
            "seeds": made,
        }
    return entries


def summary(seeds: list[Any], reference: list[Any]) -> dict[str, Any]:
    """The whole population over the seeds, and its difference from the reference of the same seed and total epochs."""
    ends, others = ([seed["points"][-1] for seed in of] for of in (seeds, reference))
    figures = ("test_uniform", "test_learned", "accuracy_learned", "disagreement")
    return {
        "epochs": ends[0]["epochs"],
        "members": ends[0]["members"],
        **{name: spread([end[name] for end in ends]) for name in figures},
        "first_member": spread([seed["points"][0]["test_uniform"] for seed in seeds]),
        "difference": spread([a["test_learned"] - b["test_learned"] for a, b in zip(ends, others, strict=True)]),
        "search_seconds": spread([seed["search_seconds"] for seed in seeds]),
        "evaluations": seeds[0]["evaluations"],
        "curve": [
            {"epochs": of_seeds[0]["epochs"], "test": spread([point["test_learned"] for point in of_seeds])}
            for of_seeds in zip(*(seed["points"] for seed in seeds), strict=True)
            if of_seeds[0]["trajectories"] == 2
        ],
    }


def as_markdown(entries: dict[str, dict[str, Any]]) -> str:
    """A table for each data set."""
    figures = ["epochs", "NLL of the first member", "equal weights", "learned prior", "less new networks'"]
    figures += ["disagreement (%)", "search (s)"]
    tables = []
    for data, entry in entries.items():
        rows = []
        for i, (name, row) in enumerate(entry["rows"].items()):
            difference = written(row["difference"], 4, sign="+") if i else ""
            seconds = f"{row['search_seconds']['mean']:.0f}" if row["evaluations"] else ""
            nats = [written(row[field], 4) for field in ("first_member", "test_uniform", "test_learned")]
            rows.append([name, row["epochs"], *nats, difference, written(row["disagreement"], factor=100), seconds])
        tables.append(markdown([f"{data}, {entry['train']} images", *figures], rows))
    return "\n".join(tables)


LOOKS: tuple[dict[str, Any], ...] = (
    {"color": style.INK, "marker": "s", "ls": "--"},
    {"color": style.VERMILLION, "marker": "o", "ls": "-"},
    {"color": style.BLUE, "marker": "^", "ls": "-."},
    {"color": style.GREEN, "marker": "v", "ls": ":"},
    {"color": style.GREY, "marker": "D", "ls": "-"},
    {"color": style.VERMILLION, "marker": "*", "ls": "--"},
    {"color": style.BLUE, "marker": "P", "ls": ":"},
    {"color": style.INK, "marker": "x", "ls": "-"},
)


@style.styled
def draw(entries: dict[str, dict[str, Any]]) -> Figure:
    """Test NLL by total epochs, a panel for each data set; bars are deviations over the seeds."""
    figure = style.new_figure(3.0)
    for axes, (data, entry) in zip(figure.subplots(1, len(entries), squeeze=False)[0], entries.items(), strict=True):
        for (name, row), look in zip(entry["rows"].items(), LOOKS, strict=False):
            plot(axes, row["curve"], **look, label=name)
        axes.set(
            xlabel="epochs in all, two trajectories", ylabel="test NLL (nats)", title=f"{data}, {entry['train']} images"
        )
        axes.set_yscale("log")  # a first member that learned a search is many times a trained one's
        axes.legend()
    return figure


def main(arguments: Arguments) -> None:
    devices.prepare()
    began = time.monotonic()
    entries = run(arguments)
    figures = {"seconds_of_last_sitting": time.monotonic() - began, "data": entries}
    settings = {
        "scale": arguments.scale,
        "data": named(arguments.data or ()),
        "es": {name: to_builtins(es) for name, es in ES.items()},
    }
    leave(NAME, arguments, figures, settings=settings, table=as_markdown(entries), picture=draw(entries))


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
