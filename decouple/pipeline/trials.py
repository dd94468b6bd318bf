"""What a tuning tries, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decouple import settings
from decouple.config import RunConfig, TuneConfig
from decouple.config.base import to_builtins
from decouple.errors import ConfigError, SettingError, did_you_mean
from decouple.files import write_json
from decouple.formats import percent, percent_digits
from decouple.report.table import Written
from decouple.seeds import derive

Value = int | float | str
Values = dict[str, Value]
"""Of the settings of a trial, by their whole names."""
Grids = dict[str, dict[str, tuple[Value, ...]]]
"""By method and setting: what is tried, numbers in ascending order."""

TUNED = ("lr", "weight_decay")
"""Settings of every method that are tuned."""
AROUND = (0.25, 0.5, 1, 2, 4)
"""What a setting's own value is multiplied by."""
BUDGET = {"epochs", "first_epochs", "cycles", "trajectories", "groups", "init", "members"}
"""Settings that decide how long a trial takes, or nothing in it."""


@dataclass(frozen=True)
class Trial:
    """One training, and how it did on validation."""

    method: str
    values: Values
    extension: int
    """0: drawn before anything was trained; 1, 2, …: added afterwards."""
    accuracy: float | None
    """Share of the validation images, 0..1, of the best epoch, or of q0's population; None: the training diverged."""


@dataclass(frozen=True)
class Tuning(Written):
    """What a tuning gave. `str` and a notebook show its trials; `write` gives files."""

    base: RunConfig
    """The settings around the tuned ones."""
    grids: Grids
    """At the end."""
    trials: Sequence[Trial]
    images: int
    """Validation images."""

    def of(self, method: str) -> list[Trial]:
        """The trials of a method, in the order in which they were drawn."""
        return [trial for trial in self.trials if trial.method == method]

    def best(self, method: str) -> Trial:
        """The most accurate trial; of equals the one with the settings' own values, or with the fewest values at an edge, the
        earliest."""
        trials, own = self.of(method), settings.flattened(self.base)
        top = max((trial.accuracy for trial in trials if trial.accuracy is not None), default=None)

        def order(trial: Trial) -> tuple[bool, int]:
            return any(own[name] != value for name, value in trial.values.items()), len(self.beyond(trial))

        return min((trial for trial in trials if trial.accuracy == top), key=order)

    def beyond(self, trial: Trial) -> list[tuple[str, Value]]:
        """For each of its values that is the smallest or largest that was tried: the setting, and the next value to try, unless
        that is out of range."""
        found = []
        for name, grid in self.grids[trial.method].items():
            value = trial.values[name]
            tried = [other.values[name] for other in self.of(trial.method)]
            if len(grid) > 1 and not any(isinstance(each, str) for each in grid):
                for up, end in ((False, min(tried)), (True, max(tried))):
                    following = _next(grid, value, up=up) if value == end else None
                    if following is not None and _allowed(self.base, trial.values | {name: following}):
                        found.append((name, following))
        return found

    def config(self) -> RunConfig:
        """The settings with the best values of every method, for `decouple.run`."""
        chosen = [best.values for best in map(self.best, self.grids) if best.accuracy is not None]
        return configured(self.base, {name: value for values in chosen for name, value in values.items()})

    def study(self, method: str, sampler: Any = None) -> Any:
        """The trials of a method as an Optuna study in memory, for its plots and importances."""
        with _optuna() as optuna:
            kinds = _distributions(optuna, self.grids[method])
            study = optuna.create_study(direction="maximize", sampler=sampler)
            for trial in self.of(method):
                value = 0.0 if trial.accuracy is None else trial.accuracy
                study.add_trial(optuna.trial.create_trial(params=dict(trial.values), distributions=kinds, value=value))
            return study

    def draw(self, method: str, count: int, first: Sequence[Values] = ()) -> list[Values]:
        """So many combinations that were not tried yet, or as many as there are: those of `first`, then others by the seed."""
        grid, drawn = self.grids[method], [trial.values for trial in self.of(method)]
        known = len(drawn)
        with _optuna() as optuna:
            sampler = optuna.samplers.GridSampler(grid, derive(self.base.seed, "tune", method) % 2**32)
            study = self.study(method, sampler)
            for values in first:
                study.enqueue_trial(values)
            for _ in range(math.prod(map(len, grid.values())) + len(first)):  # enough draws to meet every combination
                if len(drawn) == known + count:
                    break
                values = study.ask(_distributions(optuna, grid)).params
                if values not in drawn and _allowed(self.base, values):
                    drawn.append(values)
        return drawn[known:]

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Head and rows as a reader sees them."""
        names = list(dict.fromkeys(name.partition(".")[2] for grid in self.grids.values() for name in grid))
        rows = []
        for record in self.records():
            method, share = record["method"], record["validation_accuracy"]
            values = [_shown(record.get(f"{method}.{name}", "")) for name in names]
            reached = "diverged" if share is None else self._percent(share)
            mark = "best" if record["best"] else ""
            rows.append([method, str(record["trial"]), str(record["extension"]), *values, reached, mark])
        return ["method", "trial", "extension", *names, "validation accuracy (%)", ""], rows

    def records(self) -> list[dict[str, Any]]:
        """A flat record for each trial, for a data frame."""
        found = []
        for method in self.grids:
            best = self.best(method)
            for number, trial in enumerate(self.of(method), 1):
                place = {"method": method, "trial": number, "extension": trial.extension}
                is_best = trial is best and trial.accuracy is not None
                found.append(place | trial.values | {"validation_accuracy": trial.accuracy, "best": is_best})
        return found

    def remarks(self) -> list[str]:
        """For each method what was best, and whether it lies at an edge."""
        found = []
        for method in self.grids:
            best = self.best(method)
            if best.accuracy is None:
                found.append(f"{method}: every trial diverged; try smaller values (--grid {method}.lr=…)")
                continue
            values = ", ".join(f"{name.partition('.')[2]} = {_shown(value)}" for name, value in best.values.items())
            edges = [_edge(name, best.values[name], following) for name, following in self.beyond(best)]
            of = f"{self._percent(best.accuracy)} % of {self.images} validation images, {len(self.of(method))} trials"
            found.append("; ".join([f"{method}: {values} is best ({of})", *edges]))
        return found

    def _percent(self, share: float) -> str:
        return percent(share, percent_digits(self.images))

    def __str__(self) -> str:
        return "\n".join([super().__str__(), "", *self.remarks()])

    def markdown(self) -> str:
        """As a table of Markdown, with a list of what was best."""
        return super().markdown() + "\n" + "".join(f"- {line}\n" for line in self.remarks())

    def write(self, folder: Path | str) -> Path:
        """Write tune.json, .txt, .csv and .md, the picture as tune.png and .svg, and the best settings as best.json, into
        `folder`; returns it.

        Raises:
            RunDirectoryError: the folder cannot be written.
        """
        from decouple.report.figures.tune import tuning_figure

        folder, best = Path(folder), {method: self.best(method) for method in self.grids}
        tried = {method: [(trial.values, trial.accuracy) for trial in self.of(method)] for method in self.grids}
        figure = tuning_figure(tried, {method: self.of(method).index(trial) for method, trial in best.items()})
        self._save(folder / "tune", {}, figure)
        values = {
            "epochs": self.base.learn.epochs,
            "validation_images": self.images,
            "grids": to_builtins(self.grids),
            "best": {method: None if trial.accuracy is None else trial.values for method, trial in best.items()},
            "at_edge": {method: [name for name, _ in self.beyond(trial)] for method, trial in best.items()},
            "trials": self.records(),
        }
        write_json(folder / "tune.json", values)
        write_json(folder / "best.json", to_builtins(self.config()))
        return folder


def grids_of(config: RunConfig, tuning: TuneConfig) -> Grids:
    """The values that the trials of each method are drawn from.

    Raises:
        ConfigError: a setting is not known or cannot be tuned, or a value is out of its range.
    """
    own = settings.flattened(config)
    known = [name for name in own if name.split(".")[0] in tuning.methods and name.split(".")[-1] not in BUDGET]
    given = {name.replace("-", "_"): values for name, values in tuning.grid.items()}
    named = [name.replace("-", "_") for name in tuning.settings]
    wanted = dict.fromkeys([*(f"{method}.{name}" for method in tuning.methods for name in TUNED), *named, *given])
    for name in wanted:
        if name not in known:
            methods = " and ".join(tuning.methods)
            raise ConfigError(f"'{name}' is no setting of {methods} that can be tuned{did_you_mean(name, known)}")
    grids: Grids = {method: {} for method in tuning.methods}
    for name in wanted:
        values = [settings.flattened(configured(config, {name: value}))[name] for value in given.get(name, ())]
        grids[name.split(".")[0]][name] = ordered(values) or _around(config, name, own[name])
    return grids


def configured(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """The configuration with other values of the settings that are named."""
    changed: RunConfig = settings.with_values(config, settings.unflattened(values))
    return changed


def _around(config: RunConfig, name: str, own: Any) -> tuple[Value, ...]:
    """Values around a setting's own."""
    number = isinstance(own, int | float) and not isinstance(own, bool) and own > 0
    values = [round(own * factor) if isinstance(own, int) else own * factor for factor in AROUND] if number else []
    found = ordered([_rounded(value) for value in values if _allowed(config, {name: value})])
    if len(found) < 2:
        raise ConfigError(f"{name} = {own!r} has no values around it to try: name them by --grid {name}=VALUE,VALUE")
    return found


def ordered(values: Sequence[Value]) -> tuple[Value, ...]:
    """Each value once, numbers in ascending order."""
    once: list[Any] = list(dict.fromkeys(values))
    return tuple(once if any(isinstance(value, str) for value in once) else sorted(once))


def _next(grid: Sequence[Value], value: Value, *, up: bool) -> Value | None:
    """The next number in a direction: of the grid, or where it ends one step further, if there is one."""
    numbers: list[Any] = list(grid) if up else list(reversed(grid))
    place = numbers.index(value)
    if place + 1 < len(numbers):
        return numbers[place + 1]
    before, last = numbers[-2:]
    further = last * last / before if before else last * 2
    further = round(further) if isinstance(last, int) else _rounded(further)
    return None if further in numbers else further


def _rounded(value: float) -> Any:
    """To four digits, as one would write it."""
    return value if isinstance(value, int) else float(f"{value:.4g}")


def _allowed(config: RunConfig, values: Mapping[str, Any]) -> bool:
    """Whether the values are in their ranges and fit each other."""
    try:
        configured(config, values)
    except SettingError:
        return False
    return True


def _edge(name: str, value: Value, following: Any) -> str:
    which, better = ("largest", "larger") if following > value else ("smallest", "smaller")
    return f"{name} = {_shown(value)} is the {which} that was tried, and a {better} one may be better"


def _shown(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _distributions(optuna: Any, grid: Mapping[str, Sequence[Value]]) -> dict[str, Any]:
    return {name: optuna.distributions.CategoricalDistribution(values) for name, values in grid.items()}


@contextmanager
def _optuna() -> Iterator[Any]:
    """The module, which does not log meanwhile. Raises ConfigError: it is not installed."""
    try:
        import optuna
    except ImportError:
        raise ConfigError("tuning needs the package optuna: pip install 'decouple-learn[tune]'") from None
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield optuna
    finally:
        optuna.logging.set_verbosity(verbosity)
