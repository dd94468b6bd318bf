"""A preset over several seeds: what the demo reaches, and what it costs.

    python -m benchmarks.demo                                         # digits, seeds 0 to 2
    python -m benchmarks.demo --preset mnist-small --data-root DATA

Writes figures/demo-PRESET.json, and pictures of the first seed's run beside it.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.command import launch
from benchmarks.receipt import FIGURES, spread, write_receipt
from decouple.files import write_bytes
from decouple.pipeline import run
from decouple.presets import preset
from decouple.settings import to_builtins

PICTURES = ("search", "training", "trajectories", "population")


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
    found: list[dict[str, Any]] = []
    pictures: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(arguments.seeds):
            folder = (arguments.out or Path(scratch)) / f"{arguments.preset}-seed{seed}"
            config = replace(preset(arguments.preset), seed=seed)
            results = run(config, folder, resume=folder.exists(), data_root=arguments.data_root, quiet=False)
            stages = json.loads((folder / "run.json").read_text())["stages"]
            found.append(
                {
                    "seed": seed,
                    "sgd": results.test_accuracy.sgd,
                    "search": results.test_accuracy.search,
                    "q0_accuracy": to_plain(results.q0.scores["accuracy"]),
                    "q0_nll": to_plain(results.q0.test_nll),
                    "seconds": {name: stage["seconds"] for name, stage in stages.items()},
                }
            )
            if seed == 0:
                for name in PICTURES:
                    pictures[name] = (folder / "figures" / f"{name}.png").read_bytes()
    searched = [accuracy for entry in found for accuracy in entry["search"]]
    totals = [sum(entry["seconds"].values()) for entry in found]
    figures = {
        "runs": found,
        "test_accuracy": {
            "sgd": spread([entry["sgd"] for entry in found]),
            "search": spread(searched),
            "lowest_search": min(searched),
            **{f"q0_{way}": spread([entry["q0_accuracy"][way] for entry in found]) for way in found[0]["q0_accuracy"]},
        },
        "test_nll": {way: spread([entry["q0_nll"][way] for entry in found]) for way in found[0]["q0_nll"]},
        "seconds": {"median": statistics.median(totals), "all": totals},
    }
    settings = to_builtins(preset(arguments.preset)) | {"seeds": arguments.seeds}
    # The pictures last: they are files of the repository, whose state the receipt notes.
    path = write_receipt(f"demo-{arguments.preset}", figures, settings=settings, folder=arguments.figures)
    for name, contents in pictures.items():
        write_bytes(arguments.figures / f"{arguments.preset}-{name}.png", contents)
    print(json.dumps({name: value for name, value in figures.items() if name != "runs"}, indent=2))
    print(path)


def to_plain(ways: Any) -> dict[str, float]:
    """The three ways of a q0 figure, by name."""
    return {"single": ways.single, "uniform": ways.uniform, "learned_prior": ways.learned_prior}


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
