"""The few lines that a finished run prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from decouple.files import read_json
from decouple.learn import Fit
from decouple.results import Q0Results, Results, Row


def summary(folder: Path) -> str:
    """The headline figures of a run directory, as text."""
    results = msgspec.convert(read_json(Path(folder) / "results.json"), Results)
    return _table(results.rows())


def learning_summary(fits: Mapping[str, Fit]) -> str:
    """What each network reached on validation, as text; test images are not used before the report."""
    rows = [(name, f"{fit.best_validation:.2%}", f"{fit.best_epoch}") for name, fit in fits.items()]
    return _table([("", "validation accuracy", "best epoch"), *rows])


def population_summary(q0: Q0Results) -> str:
    """The headline figures of a population, as text."""
    return _table(q0.rows())


def _table(rows: list[Row]) -> str:
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = ([f"{name:<{first}}", *map(str.rjust, cells, widths)] for name, *cells in rows)
    return "\n".join("  ".join(line).rstrip() for line in lines)
