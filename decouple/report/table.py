"""Runs side by side: mean and standard deviation over seeds, and paired differences, as tables and a picture."""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

from decouple.config import RunConfig, TextConfig
from decouple.errors import DataError, RunDirectoryError
from decouple.files import write_bytes, write_text
from decouple.formats import MEASURES, aligned, html_table
from decouple.report.inputs import RunInfo, other_origin, read_inputs
from decouple.results import Interval, Results, TextResults
from decouple.settings import flattened

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

SGD, SEARCHED, UNIFORM, PRIOR = "SGD", "searched", "q0, uniform", "q0, learned prior"
SINGLE, CALIBRATED, GREEDY = "best single member", "q0, calibrated", "q0, greedy"
COLUMNS = 3
"""Settings that have a column each where the table is printed; more are listed below it."""
UNNAMED = ("seed", "preset")
"""Settings by which runs are not grouped."""


class Outcome(NamedTuple):
    """What one method reached in one run."""

    measures: dict[str, float]
    """By the names of `MEASURES`."""
    epochs: float
    """Passes over the training data, of all networks that the method trains."""
    candidates: float
    """That the search scored, an image and network."""


@dataclass(frozen=True)
class TableRow:
    """One method over the seeds of one group of runs."""

    settings: Mapping[str, Any]
    """Those in which the groups differ."""
    method: str
    outcomes: Mapping[int, Outcome]
    """By seed."""
    baseline: Mapping[int, Outcome] = field(default_factory=dict)
    """Of the method that differences are taken to; empty: this is it."""

    def values(self, measure: str) -> list[float]:
        """By seed; empty where the method has no such figure."""
        return [outcome.measures[measure] for outcome in self.outcomes.values() if measure in outcome.measures]

    def mean(self, measure: str) -> float | None:
        """Over the seeds."""
        return mean(values) if (values := self.values(measure)) else None

    def std(self, measure: str) -> float | None:
        """Standard deviation over the seeds (n − 1); None of a single one."""
        return stdev(values) if len(values := self.values(measure)) > 1 else None

    def difference(self, measure: str) -> Interval | None:
        """Mean difference to the baseline at equal seeds, with its 95 % interval (Student's t); None of fewer than two pairs."""
        pairs = [
            (outcome.measures[measure], self.baseline[seed].measures[measure])
            for seed, outcome in self.outcomes.items()
            if seed in self.baseline and measure in outcome.measures and measure in self.baseline[seed].measures
        ]
        if len(pairs) < 2:
            return None
        from scipy.stats import t

        differences = [own - other for own, other in pairs]
        value = mean(differences)
        reach = float(t.ppf(0.975, len(pairs) - 1)) * stdev(differences) / len(pairs) ** 0.5
        return Interval(value=value, low=value - reach, high=value + reach)


class Written(ABC):
    """What is shown as a table: `cells` are for readers, `records` for programs."""

    @abstractmethod
    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Head and rows."""

    @abstractmethod
    def records(self) -> list[dict[str, Any]]:
        """A flat record for each row."""

    def frame(self) -> pandas.DataFrame:
        """The records as a pandas data frame; pandas is not installed with decouple."""
        import pandas

        return pandas.DataFrame(self.records())

    def __str__(self) -> str:
        head, rows = self.cells()
        return aligned([head, *rows])

    def markdown(self) -> str:
        """As a table of Markdown."""
        head, rows = self.cells()
        lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def csv(self) -> str:
        """The records as CSV."""
        text, records = io.StringIO(), self.records()
        writer = csv.DictWriter(
            text, list(dict.fromkeys(name for record in records for name in record)), lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(records)
        return text.getvalue()

    def _repr_html_(self) -> str:
        head, rows = self.cells()
        return html_table(rows, head)

    def _save(self, path: Path, further: Mapping[str, str], figure: Figure) -> None:
        """Write `path` with each suffix: text, CSV, Markdown, what is given `further`, and the picture as PNG and SVG."""
        from decouple.report.style import render

        for suffix, text in {"txt": f"{self}\n", "csv": self.csv(), "md": self.markdown(), **further}.items():
            write_text(path.with_suffix(f".{suffix}"), text)
        for kind in ("png", "svg"):
            write_bytes(path.with_suffix(f".{kind}"), render(figure, kind))


@dataclass(frozen=True)
class Table(Written):
    """Methods by group of runs. `str` and a notebook show it; `write` gives files."""

    rows: Sequence[TableRow]
    baseline: str

    @property
    def measures(self) -> list[str]:
        """Those that any row has."""
        return [name for name in MEASURES if any(row.values(name) for row in self.rows)]

    def records(self) -> list[dict[str, Any]]:
        """A flat record for each row, for a data frame."""
        return [
            {
                **{name: _flat(value) for name, value in row.settings.items()},
                "method": row.method,
                "n": len(row.outcomes),
                "seeds": " ".join(map(str, row.outcomes)),
                **{key: value for name in self.measures for key, value in _figures(row, name).items()},
                "epochs": mean(outcome.epochs for outcome in row.outcomes.values()),
                "candidates_per_image": mean(outcome.candidates for outcome in row.outcomes.values()),
            }
            for row in self.rows
        ]

    def cells(self, minus: str = "−", plus_minus: str = " ± ") -> tuple[list[str], list[list[str]]]:
        """Head and rows as a reader sees them."""
        settings = list(dict.fromkeys(name for row in self.rows for name in row.settings))
        head = [*settings, "method", "n"]
        for name in self.measures:
            head += [f"test {MEASURES[name].title}", f"difference from {self.baseline} (95 %)"]
        head += ["epochs", "candidates per image"]
        rows = []
        for row in self.rows:
            cells = [*(str(_flat(row.settings.get(name))) for name in settings), row.method, str(len(row.outcomes))]
            for name in self.measures:
                cells += _shown(row, name, minus, plus_minus)
            cells.append(f"{mean(outcome.epochs for outcome in row.outcomes.values()):,.0f}")
            cells.append(f"{mean(outcome.candidates for outcome in row.outcomes.values()):,.0f}")
            rows.append(cells)
        return head, rows

    def __str__(self) -> str:
        """Of groups that differ in many settings, these are listed below the table, not in columns of it."""
        groups: list[Mapping[str, Any]] = []
        for row in self.rows:
            if row.settings not in groups:
                groups.append(row.settings)
        settings = max((len(group) for group in groups), default=0)
        if settings <= COLUMNS:
            return super().__str__()
        head, rows = self.cells()
        numbers = [str(1 + groups.index(row.settings)) for row in self.rows]
        rows = [[number, *cells[settings:]] for number, cells in zip(numbers, rows, strict=True)]
        notes = [
            f"runs {number}: {', '.join(f'{name} = {_flat(value)}' for name, value in group.items())}"
            for number, group in enumerate(groups, 1)
        ]
        return "\n".join([aligned([["runs", *head[settings:]], *rows]), "", *notes])

    def latex(self) -> str:
        """As a LaTeX tabular, with the rules of booktabs."""
        head, rows = self.cells("$-$", r" $\pm$ ")
        lines = [" & ".join(_latex(cell) for cell in line) + r" \\" for line in (head, *rows)]
        body = [r"\begin{tabular}{" + "l" * len(head) + "}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        return "\n".join([*body, r"\end{tabular}", ""])

    def json(self) -> str:
        """The records as JSON, with every seed's figures."""
        seeds = [{seed: outcome._asdict() for seed, outcome in row.outcomes.items()} for row in self.rows]
        records = [{**record, "by_seed": each} for record, each in zip(self.records(), seeds, strict=True)]
        return json.dumps({"baseline": self.baseline, "rows": records}, indent=2, ensure_ascii=False) + "\n"

    def write(self, folder: Path | str) -> Path:
        """Write table.txt, .csv, .json, .md and .tex, and the picture as .png and .svg, into `folder`; returns it. Raises
        RunDirectoryError: the folder cannot be written."""
        from decouple.report.figures.table import table_figure

        folder = Path(folder)
        self._save(folder / "table", {"json": self.json(), "tex": self.latex()}, table_figure(self))
        return folder


def read_table(folders: Sequence[Path | str] | Path | str) -> Table:
    """The table of finished runs: `decouple table`.

    Args:
        folders: run directories, all on images or all on text; or folders of such, as `decouple run --seeds` makes.

    Raises:
        RunDirectoryError: a folder is none of these, or a run is not finished.
        DamagedFileError: a file of a run is damaged.
        DataError: see `make_table`; or runs of equal settings were made from different data, or with different versions of the
            user's own code.
    """
    runs: list[FinishedRun] = []
    origins: dict[str, tuple[str, RunInfo]] = {}
    for folder in _expanded(folders):
        inputs = read_inputs(folder)
        runs.append((str(folder), inputs.config, inputs.results))
        first, origin = origins.setdefault(json.dumps(_grouping(inputs.config)), (str(folder), inputs.run))
        if differ := other_origin(origin, inputs.run):
            raise DataError(
                f"{first} and {folder} have the same settings, but different {differ}: give them to separate tables"
            )
    return make_table(runs)


def _grouping(config: RunConfig | TextConfig) -> dict[str, Any]:
    """The settings by which runs are grouped."""
    return {name: value for name, value in flattened(config).items() if name not in UNNAMED}


def _expanded(folders: Sequence[Path | str] | Path | str) -> list[Path]:
    """The run directories that are given or lie in those given."""
    found: list[Path] = []
    for folder in map(Path, [folders] if isinstance(folders, str | Path) else folders):
        inner = sorted(config.parent for depth in ("*", "*/*") for config in folder.glob(f"{depth}/config.json"))
        if not (folder / "config.json").exists() and not inner:
            raise RunDirectoryError(f"{folder} is neither a run directory nor a folder of some (they have a config.json)")
        found += [folder] if (folder / "config.json").exists() else inner
    return found


FinishedRun = tuple[str, RunConfig | TextConfig, Results | TextResults]
"""A name for messages, the settings, and what came of them."""


def make_table(runs: Iterable[FinishedRun]) -> Table:
    """Runs grouped by the settings in which they differ, the seed left out. Raises DataError: no runs, runs on images and
    on text together, or two runs of equal settings and seed."""
    runs = list(runs)
    if len({type(results) for _, _, results in runs}) != 1:
        names = ", ".join(name for name, _, _ in runs)
        raise DataError(f"a table needs runs of one kind, on images or on text, not {names or 'none'}")
    flat = [_grouping(config) for _, config, _ in runs]
    varied = [name for name in flat[0] if any(each[name] != flat[0][name] for each in flat)]
    groups: dict[str, dict[int, FinishedRun]] = {}
    settings = {}
    for run, values in zip(runs, flat, strict=True):
        named = {name: values[name] for name in varied}
        key, seed = json.dumps(named), run[1].seed
        known = groups.setdefault(key, {})
        if seed in known:
            raise DataError(f"{known[seed][0]} and {run[0]} have the same settings and seed {seed}: give each run once")
        known[seed], settings[key] = run, named
    rows: list[TableRow] = []
    for key, group in groups.items():
        rows += _rows(settings[key], dict(sorted(group.items())))
    return Table(rows, SGD if isinstance(runs[0][2], Results) else SINGLE)


def _rows(settings: Mapping[str, Any], group: Mapping[int, FinishedRun]) -> list[TableRow]:
    by_seed = {seed: _outcomes(config, results) for seed, (_, config, results) in group.items()}
    methods = list(next(iter(by_seed.values())))
    columns = {method: {seed: outcomes[method] for seed, outcomes in by_seed.items()} for method in methods}
    baseline = columns[methods[0]]
    return [TableRow(settings, method, column, {} if column is baseline else baseline) for method, column in columns.items()]


def _outcomes(config: RunConfig | TextConfig, results: Results | TextResults) -> dict[str, Outcome]:
    """By method, the baseline first."""
    if isinstance(results, TextResults) or isinstance(config, TextConfig):
        each = results.q0.epochs / config.q0.trajectories if config.q0.trajectories else results.q0.epochs
        return {SINGLE: _population(results, "single", each, 0), **_ways(results, results.q0.epochs, 0)}
    searched = [network for network in results.networks.values() if network.kind == "search"]
    depths = [network for network in results.networks.values() if network.kind == "sgd"]
    sgd = next(network for network in depths if network.test_accuracy is not None)
    learned = config.learn.epochs * (1 + config.rounds.count)
    rounds = [network for network in results.networks.values() if network.kind in ("search", "earlier")]
    candidates = sum(network.search_evaluations for network in rounds) / len(searched) / results.images["train"]
    seeds = min(config.q0.trajectories or len(searched), len(searched)) if config.q0.init == "searched" else 0
    own = {"accuracy": mean(results.test_accuracy.search)}
    return {
        SGD: Outcome({"accuracy": results.test_accuracy.sgd, **_nll(sgd.test_nll)}, config.sgd.epochs * len(depths), 0),
        SEARCHED: Outcome(own | _nll(_mean(n.test_nll for n in searched)), learned, candidates),
        **_ways(results, results.q0.epochs + seeds * learned, seeds * candidates),
    }


def _ways(results: Results | TextResults, epochs: float, candidates: float) -> dict[str, Outcome]:
    of = partial(_population, results, epochs=epochs, candidates=candidates)
    calibrated = {CALIBRATED: of("calibrated")} if results.q0.temperature else {}
    return {UNIFORM: of("uniform"), PRIOR: of("learned_prior"), **calibrated, GREEDY: of("greedy")}


def _population(results: Results | TextResults, way: str, epochs: float, candidates: float) -> Outcome:
    scores = {name: getattr(ways, way) for name, ways in results.q0.scores.items() if name in MEASURES}
    return Outcome({**scores, "nll": getattr(results.q0.test_nll, way)}, epochs, candidates)


def _nll(value: float | None) -> dict[str, float]:
    return {} if value is None else {"nll": value}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def _flat(value: Any) -> Any:
    """A setting as one cell."""
    return value if isinstance(value, str | int | float | None) else json.dumps(value, ensure_ascii=False)


def _figures(row: TableRow, name: str) -> dict[str, float | None]:
    difference = row.difference(name)
    bounds = (None, None, None) if difference is None else (difference.value, difference.low, difference.high)
    names = (f"{name}_difference", f"{name}_difference_low", f"{name}_difference_high")
    return {name: row.mean(name), f"{name}_std": row.std(name), **dict(zip(names, bounds, strict=True))}


def _shown(row: TableRow, name: str, minus: str, plus_minus: str) -> list[str]:
    """Mean ± standard deviation, and difference with interval."""
    _, factor, digits = MEASURES[name]
    average, std, difference = row.mean(name), row.std(name), row.difference(name)
    if average is None:
        return ["", ""]
    signed: Callable[[float], str] = lambda value: f"{factor * value:+.{digits}f}".replace("-", minus)  # noqa: E731
    spread = "" if std is None else f"{plus_minus}{factor * std:.{digits}f}"
    shown = "" if difference is None else f"{signed(difference.value)} [{signed(difference.low)}, {signed(difference.high)}]"
    return [f"{factor * average:.{digits}f}{spread}", shown]


def _latex(text: str) -> str:
    """Text with LaTeX's special characters escaped; mathematics of our own stays."""
    if "$" in text:
        return text.replace("%", r"\%")
    return "".join(f"\\{character}" if character in "%&#_{}" else character for character in text)
