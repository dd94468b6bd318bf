"""The receipt that every benchmark leaves: its figures, with settings, seeds, commit, versions and device."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from decouple import device as devices
from decouple._version import commit, versions
from decouple.files import write_json, write_text

FIGURES = Path(__file__).parents[1] / "figures"


def write_receipt(
    name: str, figures: dict[str, Any], *, settings: dict[str, Any], device: str = "cpu", folder: Path = FIGURES
) -> Path:
    """Write `figures/NAME.json`."""
    path = folder / f"{name}.json"
    made = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": versions(),
        "device": devices.name_of(devices.resolve(device)),
        "threads": torch.get_num_threads(),
    }
    write_json(path, {"benchmark": name, "made": made, "settings": settings, "figures": figures})
    return path


def scaled(name: str, scale: str) -> str:
    """What a benchmark's files are called: the figures of scale small are those that are committed."""
    return name if scale == "small" else f"{name}-{scale}"


def write_table(receipt: Path, text: str) -> None:
    """Write a table beside its receipt, and show both."""
    write_text(receipt.with_suffix(".md"), text)
    print(text)
    print(receipt)


def markdown(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table.

    >>> print(markdown(["data", "", "seconds"], [["digits", "es", 12], ["MNIST", "es", ""]]), end="")
    | data | | seconds |
    |---|---|---|
    | digits | es | 12 |
    | MNIST | es |  |
    """
    first = f"| {' | '.join(head)} |".replace("|  |", "| |")
    return "\n".join([first, "|---" * len(head) + "|", *(f"| {' | '.join(map(str, row))} |" for row in rows)]) + "\n"


def written(value: Mapping[str, float], digits: int = 1, factor: float = 1, sign: str = "") -> str:
    """A `spread` as readers see it; a single value has no deviation. `sign`: "+" of a difference.

    >>> written({"mean": 0.98, "std": 0.004, "n": 3}, factor=100), written({"mean": 0.25, "std": 0.5, "n": 3}, 2, sign="+")
    ('98.0 ± 0.4', '+0.25 ± 0.50')
    >>> written({"mean": 2.0, "std": 0.0, "n": 1})
    '2.0'
    """
    deviation = f" ± {factor * value['std']:.{digits}f}" if value["n"] > 1 else ""
    return f"{factor * value['mean']:{sign}.{digits}f}{deviation}"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation."""
    return {"mean": statistics.mean(values), "std": statistics.stdev(values) if len(values) > 1 else 0.0, "n": len(values)}
