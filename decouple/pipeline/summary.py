"""The few lines that a finished run prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from decouple.files import read_json
from decouple.learn import Fit
from decouple.results import Q0Results, Results

Row = tuple[str, str, str]

HEAD: Row = ("", "test accuracy", "test NLL")


def summary(folder: Path) -> str:
    """The headline figures of a run directory, as text."""
    results = msgspec.convert(read_json(Path(folder) / "results.json"), Results)
    accuracy, q0 = results.test_accuracy, results.q0
    tested = [network for network in results.networks.values() if network.test_nll is not None]
    nll = {kind: [network.test_nll for network in tested if network.kind == kind] for kind in ("sgd", "search")}
    baselines = sum(network.kind == "sgd" for network in results.networks.values())
    rows = [
        HEAD,
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
    return _table([HEAD, *_rows(q0)])


def _rows(q0: Q0Results) -> list[Row]:
    return [
        ("q0: best single member", f"{q0.test_accuracy.single:.2%}", f"{q0.test_nll.single:.4f}"),
        (f"q0: all {len(q0.members)} members, uniform", f"{q0.test_accuracy.uniform:.2%}", f"{q0.test_nll.uniform:.4f}"),
        (
            f"q0: learned prior, {q0.members_used} member{'s' if q0.members_used > 1 else ''}",
            f"{q0.test_accuracy.learned_prior:.2%}",
            f"{q0.test_nll.learned_prior:.4f}",
        ),
    ]


def _table(rows: list[Row]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(f"{name:<{widths[0]}}  {a:>{widths[1]}}  {n:>{widths[2]}}".rstrip() for name, a, n in rows)
