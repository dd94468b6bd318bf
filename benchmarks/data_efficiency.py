"""How much more training data a single network needs to match q0: the paper's data efficiency.

    python -m benchmarks.data_efficiency --data-root DATA --text FILE   # two CPU cores

Reads what figures/q0_images-DATA.json and figures/q0_text.json say that q0 reached and how the single networks were tuned; trains
those networks, as long, on 2, 4 and 8 times as much data, and takes the length that is best on validation, mean over the seeds. Where
the curve crosses q0's figure (straight between measured points, in the logarithm of the data) is the data efficiency. Validation and
test data are the same. Writes figures/data_efficiency.json, .md, .png and .svg.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure

from benchmarks import q0_images, q0_text
from benchmarks.command import launch
from benchmarks.common import Common, Parts, key, label, leave
from benchmarks.headline import Point, plot
from benchmarks.populations import Measure
from benchmarks.receipt import markdown, scaled, spread
from benchmarks.recipes import PopulationSize, Recipe, alone
from decouple import device as devices
from decouple.errors import ConfigError
from decouple.files import read_json
from decouple.progress import Progress
from decouple.report import style

NAME = "data_efficiency"


@dataclass(frozen=True)
class Arguments(Common):
    text: Path | None = None
    """The text file of figures/q0_text.json; default: images alone."""
    scale: Literal["tiny", "small"] = "small"
    """Of the receipts that are read."""
    times: tuple[int, ...] = (2, 4, 8)
    """How many times as much data."""
    lengths: tuple[int, ...] = (8, 16)
    """Epochs of the single networks, among those that were tuned."""


@dataclass(frozen=True)
class Case:
    """Data of which q0 has been measured."""

    name: str
    unit: str
    found: dict[str, Any]
    """What its receipt holds."""
    size: PopulationSize
    measure: Callable[[int], Measure]
    """With so many times as much data."""

    @property
    def q0(self) -> dict[str, Any]:
        """Where its learned prior's line ends."""
        end: dict[str, Any] = self.found["lines"]["q0, learned prior"][-1]
        return end


def cases(arguments: Arguments, folder: Path) -> Iterator[Case]:
    """What the receipts have."""

    def receipt(name: str) -> dict[str, Any]:
        path = arguments.figures / f"{scaled(name, arguments.scale)}.json"
        if not path.exists():
            module, _, data = name.partition("-")
            of = f" --data {data}" if data else ""
            raise ConfigError(f"{path} is missing: make it with python -m benchmarks.{module} --scale {arguments.scale}{of}")
        found: dict[str, Any] = read_json(path)["figures"]
        return found

    for source, size in q0_images.sizes_of(arguments.scale, arguments.data):

        def on_images(times: int, source: str = source, size: q0_images.ImageSize = size) -> Measure:
            more = replace(size, train=times * size.train)
            parts = Parts(arguments.out, NAME, more)
            return q0_images.Bench(source, more, arguments.data_root, arguments.device, parts).measure

        name = label(source, arguments.data_root)
        found = receipt(f"{q0_images.NAME}-{key(source)}")["data"][name]
        yield Case(name, q0_images.UNIT, found, size, on_images)
    if (file := arguments.text) is not None:
        text = q0_text.SCALES[arguments.scale]

        def on_text(times: int) -> Measure:
            more = replace(text, corpus=replace(text.corpus, train=times * (text.corpus.train or 0)))
            parts = Parts(arguments.out, NAME, more)
            return q0_text.Bench(file, more, parts, folder / str(times), arguments.device).measure

        yield Case(file.stem, q0_text.UNIT, receipt(q0_text.NAME), text, on_text)


def single(base: Any, tuned: dict[str, Any]) -> Recipe:
    """A network alone, with what `regime` has for its length."""
    q0 = replace(alone(base, tuned["epochs"]), lr=tuned["lr"], weight_decay=tuned["weight_decay"])
    return Recipe("single", f"{tuned['epochs']} epochs", q0, tuned["dropout"])


def crossing(points: Sequence[tuple[float, float]], level: float) -> float | None:
    """Where a falling curve reaches `level`, straight between its points in the logarithm of the first value.

    >>> round(crossing([(1, 3.0), (2, 2.0), (4, 1.0)], 1.5), 3), crossing([(1, 3.0), (2, 2.0)], 1.5)
    (2.828, None)

    Where it begins, if it is not above `level` there; None where it never comes down to it.
    """
    if points[0][1] <= level:
        return points[0][0]
    for (x, y), (next_x, next_y) in pairwise(points):
        if next_y <= level <= y:
            share = (y - level) / (y - next_y)
            return math.exp(math.log(x) + share * (math.log(next_x) - math.log(x)))
    return None


def of_case(case: Case, arguments: Arguments) -> dict[str, Any]:
    """The curve of single networks, and where it reaches what q0 has."""
    tuned = [of for of in case.found["regime"] if of["epochs"] in arguments.lengths]
    best = min(case.found["regime"], key=lambda of: float(of["validation"]))
    curve = [{"times": 1, "epochs": best["epochs"], "test": best["test"], "test_of_seeds": best["test_of_seeds"]}]
    with Progress().task(
        f"{NAME}, {case.name}", len(arguments.times) * len(tuned) * len(case.size.seeds), "networks"
    ) as advance:
        for times in arguments.times:
            measure, options = case.measure(times), []
            for of in tuned:
                ends: list[Point] = []
                for seed in case.size.seeds:
                    ends.append(measure(single(case.size.base, of), seed)[-1])
                    advance(1)
                options.append((spread([end["validation_uniform"] for end in ends])["mean"], of["epochs"], ends))
            _, epochs, ends = min(options, key=lambda option: option[0])
            tests = [end["test_uniform"] for end in ends]
            curve.append({"times": times, "epochs": epochs, "test": spread(tests), "test_of_seeds": tests})

    def efficiency(of: Callable[[dict[str, Any]], float]) -> float | None:
        return crossing([(point["times"], of(point)) for point in curve], of(case.q0))

    return {
        "unit": case.unit,
        "q0": case.q0,
        "curve": curve,
        "efficiency": efficiency(lambda point: float(point["test"]["mean"])),
        "efficiency_of_seeds": [
            efficiency(lambda point, seed=seed: float(point["test_of_seeds"][seed]))  # type: ignore[misc]
            for seed in range(len(case.size.seeds))
        ],
    }


def as_markdown(figures: dict[str, Any]) -> str:
    """A line for each data set."""
    rows = []
    for name, found in figures.items():
        most = found["curve"][-1]["times"]

        def times(value: float | None, most: int = most) -> str:
            return f"{value:.1f}" if value else f"above {most}"

        cells = [f"{point['times']}: {point['test']['mean']:.4f}" for point in found["curve"]]
        seeds = ", ".join(times(value) for value in found["efficiency_of_seeds"])
        q0, efficiency = f"{found['q0']['test']['mean']:.4f}", f"**{times(found['efficiency'])}** ({seeds})"
        rows.append([f"{name}, {found['unit']}", q0, "; ".join(cells), efficiency])
    head = ["", "q0, learned prior", "a single network, by how many times the data", "data efficiency (seeds)"]
    return markdown(head, rows)


@style.styled
def draw(figures: dict[str, Any]) -> Figure:
    """Test figures of single networks by data, a panel for each data set, and the level of q0."""
    figure = style.new_figure(2.8)
    for axes, (name, found) in zip(figure.subplots(1, len(figures), squeeze=False)[0], figures.items(), strict=True):
        plot(axes, found["curve"], x="times", color=style.INK, marker="o", label="single network")
        axes.axhline(found["q0"]["test"]["mean"], color=style.VERMILLION, label="q0, on the least")
        axes.set(xlabel="times the training data", ylabel=f"test, {found['unit']}", title=name)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.legend()
    return figure


def main(arguments: Arguments) -> None:
    devices.prepare()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        figures = {case.name: of_case(case, arguments) for case in cases(arguments, arguments.out or Path(temporary))}
    settings = {"scale": arguments.scale, "times": arguments.times, "lengths": arguments.lengths}
    receipt = {"seconds_of_last_sitting": time.monotonic() - began, "data": figures}
    leave(NAME, arguments, receipt, settings=settings, table=as_markdown(figures), picture=draw(figures))


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
