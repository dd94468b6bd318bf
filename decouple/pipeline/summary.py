"""The few lines that a finished run prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from decouple.files import read_json
from decouple.formats import plural
from decouple.learn import Fit
from decouple.results import Q0Results, Results

Row = tuple[str, str, str]


def summary(folder: Path) -> str:
    """The headline figures of a run directory, as text."""
    results = msgspec.convert(read_json(Path(folder) / "results.json"), Results)
    accuracy, q0 = results.test_accuracy, results.q0
    tested = [network for network in results.networks.values() if network.test_nll is not None]
    nll = {kind: [network.test_nll for network in tested if network.kind == kind] for kind in ("sgd", "search")}
    baselines = sum(network.kind == "sgd" for network in results.networks.values())
    rows = [
        _head(q0),
        ("SGD, best depth on validation" if baselines > 1 else "SGD", f"{accuracy.sgd:.2%}", f"{nll['sgd'][0]:.4f}"),
        *(
            (f"learned from searched solution {i}", f"{a:.2%}", f"{n:.4f}")
            for i, (a, n) in enumerate(zip(accuracy.search, nll["search"], strict=True))
        ),
        *_rows(q0),
    ]
    return _table(rows)


def learning_summary(fits: Mapping[str, Fit]) -> str:
    """What each network reached on validation, as text; test images are not used before the report."""
    rows = [(name, f"{fit.best_validation:.2%}", f"{fit.best_epoch}") for name, fit in fits.items()]
    return _table([("", "validation accuracy", "best epoch"), *rows])


def population_summary(q0: Q0Results) -> str:
    """The headline figures of a population, as text."""
    return _table([_head(q0), *_rows(q0)])


def _head(q0: Q0Results) -> Row:
    return "", f"test {next(iter(q0.scores)).replace('_', ' ')}", "test NLL"


def _rows(q0: Q0Results) -> list[Row]:
    name, score = next(iter(q0.scores.items()))
    names = {
        "single": "best single member",
        "uniform": f"{plural(q0.size, 'member')}, uniform",
        "learned_prior": f"learned prior, {plural(q0.members_used, 'member')}",
        "greedy": "greedy selection",
    }
    form = "{:.2%}" if name == "accuracy" else "{:.4f}"
    return [
        (f"q0: {text}", form.format(getattr(score, way)), f"{getattr(q0.test_nll, way):.4f}") for way, text in names.items()
    ]


def _table(rows: list[Row]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(f"{name:<{widths[0]}}  {a:>{widths[1]}}  {n:>{widths[2]}}".rstrip() for name, a, n in rows)
