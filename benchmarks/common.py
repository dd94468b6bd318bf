"""What the search benchmarks share: images and a network, searches of chosen points, budgets, and parts that are kept."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from benchmarks.receipt import FIGURES, scaled, spread, write_receipt, write_table
from decouple import device as devices
from decouple._version import commit
from decouple.config import DataConfig, EsConfig, LiveConfig, NetworkConfig, PaperConfig, SearchConfig
from decouple.data import ImageData, Split, as_float, load_data
from decouple.files import save_record, try_record, write_bytes
from decouple.networks import Stages, paper_network
from decouple.progress import Progress
from decouple.report import style
from decouple.search import Algorithm, Judge, SearchPoint, TargetStore, search_batch, search_points, search_solutions
from decouple.seeds import derive
from decouple.settings import fingerprint, to_builtins
from decouple.torch_state import device_of
from decouple.training.batches import even_batches

LABELS = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
STORED: dict[str, Any] = {"target_weight": 1.0, "kl_weight": 0.3, "live": LiveConfig(weight=0.0)}
"""Settings of learning from stored targets alone, without live search."""
ES = EsConfig(scale="channel", radius=0.1, subspaces=1)
"""In the paper's unit, each channel's deviation, and with solutions that are independent: for a comparison like with like."""
EVERY = range(2**31)
"""Marks of `evolved`: all generations."""


class Placed:
    """Arguments that say where a run finds its data and computes."""

    data_root: Path | None
    device: str

    @property
    def place(self) -> dict[str, Any]:
        """Both, as `open_run` takes them."""
        return {"device": self.device, "data_root": self.data_root}


@dataclass(frozen=True)
class Common(Placed):
    """Arguments of every search benchmark."""

    data_root: Path | None = None
    """Folder of the data sets."""
    data: tuple[str, ...] | None = None
    """Data sets, as --data.name takes them (mnist, folder:PATH, ...); default: the scale's."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:n."""
    out: Path | None = None
    """Keep finished parts in this folder, and go on with those that it holds. Another commit makes them again."""
    figures: Path = FIGURES
    """Folder of the receipt and the pictures."""


@dataclass(frozen=True)
class Problem:
    """Images to search for, in batches of fixed composition, and the network of a seed that judges."""

    source: str
    """As --data.name takes it."""
    seed: int
    network: Stages
    dtype: torch.dtype
    split: Split
    batch: int

    @functools.cached_property
    def judge(self) -> Judge:
        return Judge(self.network, dtype=self.dtype)

    @functools.cached_property
    def points(self) -> list[SearchPoint]:
        return search_points(self.network, tuple(self.split.images.shape[1:]))

    @property
    def blocks(self) -> list[SearchPoint]:
        return self.points[:-1]

    def batches(self) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """Bounds, images as float and labels of each batch, on the judge's device."""
        place = device_of(self.network)
        for start, end in even_batches(len(self.split), self.batch):
            yield start, end, as_float(self.split.images[start:end]).to(place), self.split.labels[start:end].to(place)


@dataclass(frozen=True, kw_only=True)
class Size:
    """What is searched in a benchmark at some scale."""

    data: tuple[str, ...]
    """Data sets, unless the arguments name others."""
    images: int
    batch: int
    """Images a search batch."""
    seeds: tuple[int, ...] = (0, 1, 2)
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig(width=32))
    dtype: str = "bfloat16"
    """Arithmetic of the scoring."""

    def settings(self, arguments: Any) -> dict[str, Any]:
        """Of a receipt."""
        return {**to_builtins(self), "scale": arguments.scale, "data": named(arguments.data or self.data)}


PAPER_NETWORK = NetworkConfig(width=256, eps=1e-5, statistics="batch")
"""As in the preset cifar100."""


def problem_of(arguments: Common, size: Size, source: str, seed: int, *, first: int = 0) -> Problem:
    """The network initialised from `seed`, and training images from position `first` on."""
    data, place = load(source, arguments.data_root), devices.resolve(arguments.device)
    network = paper_network(data.train.images, data.num_classes, size.network, groups=1, seed=seed).to(place)
    return Problem(
        source, seed, network, getattr(torch, size.dtype), data.train.subset(range(first, first + size.images)), size.batch
    )


@functools.lru_cache(maxsize=1)
def load(source: str, data_root: Path | None) -> ImageData:
    """The data set, whose training images are in a random order."""
    return load_data(DataConfig(name=source), data_root=data_root)


def key(source: str) -> str:
    """A short name: "folder:/data/cifar10" is "cifar10"."""
    return Path(source.partition(":")[2]).name if source.startswith("folder:") else source


def named(sources: Sequence[str]) -> list[str]:
    """The data sets for a receipt: folders without where they lie on this machine."""
    return [f"folder:{key(source)}" if source.startswith("folder:") else source for source in sources]


def label(source: str, data_root: Path | None = None) -> str:
    """What to call the data in a figure; says so where the images are a JPEG copy."""
    name = LABELS.get(key(source), key(source))
    if not source.startswith("folder:"):
        return name
    files = (Path(data_root or "") / source.partition(":")[2] / "train").rglob("*.*")
    return f"{name} ({'JPEG copy' if next(files, Path()).suffix in ('.jpg', '.jpeg') else 'folder'})"


def by_place(values: Sequence[Any]) -> Any:
    """A setting by search point from values in the order of the points; one for all, or the last is the logits' and the last but
    one all further blocks'."""
    *first, blocks, logits = [values[0], *values] if len(values) == 1 else values
    return {**{f"block{place}": value for place, value in enumerate(first)}, "blocks": blocks, "logits": logits}


def alpha_for(source: str) -> float | dict[str, float]:
    """The paper's mutation strengths for a data set."""
    return 0.1 if key(source) in ("mnist", "digits") else PaperConfig().alpha


def settings_for(
    algorithm: str,
    source: str,
    *,
    population: int,
    updates: Sequence[int],
    alpha: float | dict[str, float] | None = None,
) -> SearchConfig:
    """Settings of an algorithm for a budget.

    Args:
        population: candidates a generation. The paper's parents, explorers and refiners keep their proportions, 1 : 5 : 6.
        updates: by search point, how often the population is renewed after the first one was scored. The paper's search
            counts so; the others count the first generation too.
        alpha: the paper's mutation strengths; None: those that it has for the data set.
    """
    return SearchConfig(
        algorithm=algorithm,
        es=replace(ES, population=population, generations=by_place([count + 1 for count in updates])),
        paper=PaperConfig(
            population=population,
            parents=max(1, population // 12),
            explorers=5 * population // 12,
            generations=by_place(updates),
            alpha=alpha or alpha_for(source),
            smoothing="noise",
        ),
    )


def searched(problem: Problem, config: SearchConfig, folder: str, *, solutions: Sequence[int]) -> list[TargetStore]:
    """Solutions for all images of the problem."""
    config = replace(config, batch=problem.batch, dtype="float32")
    options: dict[str, Any] = {"solutions": solutions, "seed": problem.seed, "dtype": problem.dtype}
    return search_solutions(problem.network, problem.split, folder, config=config, **options)


@torch.no_grad()
def starts_of(problem: Problem, targets: Sequence[Tensor]) -> list[Tensor]:
    """By point: (N, …) where the search began, the network's activations given the targets (N, …) before it.

    Args:
        targets: of the last points; before these the network's own activations stand.
    """
    first = len(problem.points) - len(targets)
    starts: list[list[Tensor]] = [[] for _ in problem.points]
    for start, end, values, _ in problem.batches():
        for found, point in zip(starts, problem.points, strict=True):
            values = problem.judge.advance(point.index, values)
            found.append(values.float())
            if point.index >= first:
                values = targets[point.index - first][start:end].to(values.device)
    return [torch.cat(found) for found in starts]


def evolved(
    problem: Problem, algorithm: Algorithm, point: SearchPoint, *, seed: int, marks: Container[int] = EVERY
) -> tuple[dict[int, float], int]:
    """Mean cross-entropy of the best, after the updates in `marks`, where one point is evolved by itself; and the candidates scored
    for an image.

    It is scored among the other images' best, as it will be used (among the candidates of a generation, BatchNorm's batch statistics
    are others); 0: when the first was scored. Before the point are the network's own activations, through which a population (the
    paper's: noisy copies of the image) goes as well.
    """
    notes: dict[int, list[Tensor]] = {}
    evaluations = 0
    for number, (_, _, images, labels) in enumerate(problem.batches()):

        def note(place: SearchPoint, generation: int, best: Tensor, labels: Tensor = labels) -> None:
            if place.index == point.index and generation in marks:
                dtype = torch.float32 if point.kind == "logits" else problem.dtype
                fitness = problem.judge.fitness(point, best.to(dtype).unsqueeze(1), labels)
                notes.setdefault(generation, []).append(-fitness.squeeze(1))

        at = (point.name,)
        found = search_batch(problem.judge, images, labels, algorithm, seed=derive(seed, number), points=at, observe=note)
        evaluations += found.evaluations * len(images)
    return {mark: float(torch.cat(values).mean()) for mark, values in notes.items()}, round(evaluations / len(problem.split))


def falls(curves: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Whether curves, one a seed, fall from left to right.

    Returns:
        strictly: the mean falls at every step; within_spread: no step of the mean rises by more than the standard deviation, over
        the seeds, of that step (the seeds' networks differ in level, which is no reason to call a rise noise);
        last_over_first: of the means.
    """
    steps = [[after - before for before, after in pairwise(curve)] for curve in curves]
    rises = [spread(step) for step in zip(*steps, strict=True)]
    first, last = (statistics.mean(curve[end] for curve in curves) for end in (0, -1))
    return {
        "strictly": all(rise["mean"] < 0 for rise in rises),
        "within_spread": all(rise["mean"] <= rise["std"] for rise in rises),
        "last_over_first": last / first,
    }


def displacement(found: Tensor, start: Tensor) -> Tensor:
    """(N, …) of how far maps moved, both with zero mean and unit variance per sample: the paper's search normalises what
    it keeps, which is the same for every solution and no difference between them."""

    def normalised(values: Tensor) -> Tensor:
        flat = values.flatten(1)
        return (flat - flat.mean(1, keepdim=True)) / flat.std(1, correction=0, keepdim=True)

    return (normalised(found) - normalised(start)).view_as(found)


def check_rows(wanted: Iterable[str], known: Iterable[str]) -> None:
    """Refuse unknown rows before anything runs.

    Raises:
        SystemExit: names them.
    """
    if unknown := set(wanted) - set(known):
        raise SystemExit(f"no row is called {', '.join(sorted(unknown))}; there are: {'; '.join(known)}")


class Parts:
    """Results of finished parts of a benchmark, by name, for a folder to go on with. Other settings, another folder in it."""

    def __init__(self, folder: Path | None, benchmark: str, size: Any) -> None:
        self.identity = f"{benchmark}-{fingerprint(commit(), size)}"
        self.folder = folder and folder / self.identity

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """The kept JSON value called `name`, or else what `make` gives, which is then kept."""
        if self.folder is None:
            return make()
        path, unit = self.folder / f"{name}.json", f"{self.identity}/{name}"
        value = try_record(path, unit=unit)
        if value is None:
            value = make()
            save_record(path, value, unit=unit)
        return value

    def all(self, what: str, made: Mapping[tuple[Any, ...], Callable[[], Any]]) -> dict[tuple[Any, ...], Any]:
        """`get` for each, by the words of its name; `what` is measured, for the progress bar."""
        found = {}
        with Progress().task(what, len(made), "parts") as advance:
            for words, make in made.items():
                found[words] = self.get("-".join(map(str, words)).replace(" ", "-"), make)
                advance(1)
        return found


def save_pictures(figure: Figure, name: str, folder: Path) -> None:
    """The figure as `NAME.png` and `NAME.svg`."""
    for kind in ("png", "svg"):
        write_bytes(folder / f"{name}.{kind}", style.render(figure, kind))


def leave(
    name: str,
    arguments: Any,
    figures: dict[str, Any],
    *,
    settings: dict[str, Any],
    table: str = "",
    picture: Figure | None = None,
) -> Path:
    """Write a receipt with its picture and its table, which is shown; returns the receipt's path.

    The files are called `name`, with the scale and the --name that the arguments have.
    """
    name = scaled(name, getattr(arguments, "scale", "small"))
    if further := getattr(arguments, "name", ""):
        name = f"{name}-{further}"
    if picture is not None:
        save_pictures(picture, name, arguments.figures)
    path = write_receipt(name, figures, settings=settings, device=arguments.device, folder=arguments.figures)
    if table:
        write_table(path, table)
    return path


LINES = {"paper": ("genetic algorithm (paper)", (0, (4, 1.6)), "s"), "es": ("evolution strategy (es)", "-", "o")}
"""Name, line and marker of the algorithms."""

COLORS = (style.BLUE, style.VERMILLION, style.GREEN, style.GREY)
"""Of the blocks."""


@style.styled
def draw(curves: Sequence[dict[str, Any]], columns: Mapping[str, str], by: str, label: str, *, top: bool = False) -> Figure:
    """Curves with their deviations: a row for each data set, a column for each "axis", colours by `by`, lines by algorithm.

    Args:
        curves: each with data, axis, algorithm, what `by` names, x, mean and std; None where there is none.
        columns: the text below each axis.
        label: of the ordinate.
        top: whether each row ends above its highest deviation, and begins at 0.
    """
    sets, kinds = ([*dict.fromkeys(curve[name] for curve in curves)] for name in ("data", by))
    figure = style.new_figure(0.9 + 2.2 * len(sets))
    panels = figure.subplots(len(sets), len(columns), sharey="row" if top else False, sharex="col", squeeze=False)
    for row, data in zip(panels, sets, strict=True):
        for axes, axis in zip(row, columns, strict=True):
            shown = [curve for curve in curves if (curve["data"], curve["axis"]) == (data, axis)]
            for curve in shown:
                _, line, marker = LINES[curve["algorithm"]]
                look: dict[str, Any] = {"ls": line, "marker": marker, "ms": 3.5, "elinewidth": 0.8, "capsize": 1.5}
                mean, std = ([math.nan if v is None else v for v in curve[name]] for name in ("mean", "std"))
                axes.errorbar(curve["x"], mean, std, color=COLORS[kinds.index(curve[by])], **look)
            axes.set_title(data)
            axes.set_xscale("log", base=2)
            axes.set_xticks(shown[0]["x"], [str(tick) for tick in shown[0]["x"]])
            axes.minorticks_off()
            if data == sets[-1]:
                axes.set_xlabel(columns[axis])
        if top:
            ends = [m + s for c in curves if c["data"] == data for m, s in zip(c["mean"], c["std"], strict=True)]
            row[0].set_ylim(0, 1.05 * max(ends))
        row[0].set_ylabel(label)
    algorithms = list(dict.fromkeys(curve["algorithm"] for curve in curves))
    handles = (
        [Line2D([], [], color=color, lw=3) for color, _ in zip(COLORS, kinds, strict=False)] if by != "algorithm" else []
    )
    texts = [*map(str, kinds)] if by != "algorithm" else []
    for algorithm in algorithms:
        color = COLORS[kinds.index(algorithm)] if by == "algorithm" else style.INK
        handles.append(Line2D([], [], color=color, ls=LINES[algorithm][1], marker=LINES[algorithm][2], ms=3.5))
    texts += [LINES[algorithm][0] for algorithm in algorithms]
    figure.legend(handles, texts, loc="outside upper left", ncols=len(handles), columnspacing=1.3)
    return figure
