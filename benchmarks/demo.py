"""A preset over several seeds: what the demo reaches, and what it costs.

    python -m benchmarks.demo                                         # digits, seeds 0 to 2
    python -m benchmarks.demo --preset mnist-small --data-root DATA

Writes figures/demo-PRESET.json, and pictures of the first seed's run beside it.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import decouple
from benchmarks.command import launch
from benchmarks.receipt import FIGURES, spread, write_receipt
from decouple.files import read_json, write_bytes
from decouple.pipeline.seeds import run_seeds
from decouple.results import Results
from decouple.settings import to_builtins

PICTURES = ("search", "training", "trajectories", "population")
WAYS = ("single", "uniform", "learned_prior", "calibrated")


@dataclass(frozen=True)
class Arguments:
    preset: str = "digits"
    """Preset to run."""
    seeds: int = 3
    """Seeds 0 to this, without it."""
    data_root: Path | None = None
    """Folder of the data sets."""
    out: Path | None = None
    """Keep the runs in this folder, and go on with those that it holds."""
    figures: Path = FIGURES
    """Folder of the receipt and the pictures."""


def main(arguments: Arguments) -> None:
    config = decouple.preset(arguments.preset)
    with tempfile.TemporaryDirectory() as scratch:
        out, seeds = arguments.out or Path(scratch), range(arguments.seeds)
        print(run_seeds(config, seeds, out, resume=True, data_root=arguments.data_root, quiet=False))
        opened = [decouple.open(out / f"seed-{seed}").results for seed in seeds]
        stages = [read_json(out / f"seed-{seed}" / "run.json")["stages"].values() for seed in seeds]
        pictures = {name: (out / "seed-0" / "figures" / f"{name}.png").read_bytes() for name in PICTURES}
    results = [found for found in opened if isinstance(found, Results)]
    totals = [sum(stage["seconds"] for stage in of_seed) for of_seed in stages]
    searched = [accuracy for found in results for accuracy in found.test_accuracy.search]
    accuracies = over_seeds(found.q0.scores["accuracy"] for found in results)
    figures = {
        "test_accuracy": {
            "sgd": spread([found.test_accuracy.sgd for found in results]),
            "search": spread(searched),
            "lowest_search": min(searched),
            **{f"q0_{way}": value for way, value in accuracies.items()},
        },
        "test_nll": over_seeds(found.q0.test_nll for found in results),
        "seconds": {"median": statistics.median(totals), "all": totals},
    }
    settings = to_builtins(config) | {"seeds": arguments.seeds}
    # The pictures last: they are files of the repository, whose state the receipt notes.
    path = write_receipt(f"demo-{arguments.preset}", figures, settings=settings, folder=arguments.figures)
    for name, contents in pictures.items():
        write_bytes(arguments.figures / f"{arguments.preset}-{name}.png", contents)
    print(path)


def over_seeds(ways: Iterable[Any]) -> dict[str, dict[str, float]]:
    """A figure of q0 by the ways to weight its members."""
    found = list(ways)
    return {way: spread([getattr(each, way) for each in found]) for way in WAYS}


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
