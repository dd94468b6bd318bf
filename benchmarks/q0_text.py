"""q0 on text against its baselines: bits per byte on test, by total epochs.

    python -m benchmarks.q0_text --data FILE                 # tiny Shakespeare; two CPU cores
    python -m benchmarks.q0_text --data FILE --scale whole   # all of its 1 MB, in byte-pair encoding, with one seed
    python -m benchmarks.q0_text --data FILE --scale tiny    # to try the program

Methods: `benchmarks.recipes`; their tuning: `benchmarks.populations`; the headline: `benchmarks.headline`.
Writes figures/q0_text.json, .md, .png and .svg, or figures/q0_text-whole.json and so on.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.command import launch
from benchmarks.common import Parts, leave
from benchmarks.headline import Point, as_markdown, draw
from benchmarks.populations import compare, points_of, weighted
from benchmarks.receipt import FIGURES
from benchmarks.recipes import TINY, PopulationSize, Recipe
from decouple import device as devices
from decouple.config import TEXT_Q0, CorpusConfig, GptConfig, Q0Config, TextConfig
from decouple.errors import ConfigError
from decouple.pipeline.directory import SharedDirectory
from decouple.pipeline.text import TextRun
from decouple.progress import Progress
from decouple.q0 import fit_prior
from decouple.settings import fingerprint, to_builtins
from decouple.tasks.base import HELD_OUT
from decouple.text import load_corpus
from decouple.training.processes import Group

NAME, UNIT = "q0_text", "bits per byte"


@dataclass(frozen=True, kw_only=True)
class TextSize(PopulationSize):
    base: Q0Config
    corpus: CorpusConfig
    network: GptConfig
    compile: bool = False


CHANGES: dict[str, dict[str, Any]] = {
    "q0 without distillation": {"alpha": 0.0},
    "q0 with flat weight decay": {"wd_floor": 1.0},
    "q0 with a cosine": {"shape": "cosine"},
    "q0 without noise": {"perturb": 0.0},
    "q0 with the public code's noise": {"perturb": 0.25},
    "q0 with T = 2": {"temperature": 2.0},
    "q0 of new networks": {"restart": "new", "perturb": 0.0},
}

SCALES = {
    "tiny": TextSize(
        corpus=CorpusConfig(train=3000, validation=500, prior=500, test=500),
        network=GptConfig(layers=1, width=16, heads=2, context=32),
        base=replace(TEXT_Q0, first_epochs=2, epochs=1, batch=8, restart="continue", perturb=1.0),
        grid={"weight_decay": (1.0, 2.0)},
        **TINY,
    ),
    "small": TextSize(
        corpus=CorpusConfig(train=20_000, validation=20_000, prior=20_000, test=40_000),
        network=GptConfig(),
        base=replace(TEXT_Q0, restart="continue", first_epochs=8, epochs=4, alpha=0.45, perturb=1.0),
        budget=256,
        ensembles=512,
        singles=(4, 8, 16, 32, 64),
        models=(8, 16, 32),
        cycles=(4,),
        trajectories=(2, 4),
        ablations=64,
        pilot=48,
        grid={"lr": (2e-2, 4e-2, 8e-2), "weight_decay": (0.5, 1.0, 2.0, 4.0), "dropout": (0.0, 0.2)},
        q0_grid={"perturb": (0.5, 1.0, 1.5), "alpha": (0.3, 0.45, 0.6)},
    ),
    "whole": TextSize(
        corpus=CorpusConfig(vocabulary=1024, validation=40_000, prior=40_000, test=80_000),
        network=GptConfig(),
        base=replace(TEXT_Q0, restart="continue", first_epochs=8, epochs=4, batch=32, lr=4e-2, alpha=0.45, perturb=1.0),
        budget=24,
        ensembles=24,
        singles=(8, 24),
        models=(8,),
        cycles=(4,),
        ablations=0,
        pilot=12,
        grid={"weight_decay": (0.25, 0.5, 1.0)},
        q0_grid={"perturb": (0.5, 1.0), "alpha": (0.0, 0.45)},
        seeds=(0,),
    ),
}


@dataclass(frozen=True)
class Arguments:
    data: Path | None = None
    """The text file."""
    scale: Literal["tiny", "small", "whole"] = "small"
    """tiny: to try the program; small: 20 kB of a text; whole: all of it, in byte-pair encoding, with one seed."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:n."""
    out: Path | None = None
    """Keep finished parts and snapshots in this folder, and go on with those that it holds. Another commit makes them again."""
    figures: Path = FIGURES
    """Folder of the receipt and the picture."""


def measure(run: TextRun, recipe: Recipe) -> list[Point]:
    """Bits per byte of every population that a recipe passes through."""
    trained = run.population
    trained.train()
    network, snapshots = trained.task.build(0).to(run.device), (snapshot for own in trained.snapshots for snapshot in own)
    said = {(snapshot.trajectory, snapshot.cycle): trained.answers(snapshot, network) for snapshot in snapshots}

    def population(members: list[dict[str, torch.Tensor]]) -> Point:
        truths = {name: torch.stack([member[name] for member in members]).double() for name in HELD_OUT}
        prior = fit_prior(truths["prior"]).weights
        return weighted(truths, prior, lambda name, nats: getattr(run.corpus, name).bits_per_byte(nats))

    return points_of(recipe, said, population)


class Bench:
    """Measures recipes, each once."""

    def __init__(self, data: Path, size: TextSize, parts: Parts, folder: Path, device: str) -> None:
        self._size, self._parts, self._folder = size, parts, folder
        self._group, self._corpus = Group(devices.resolve(device)), load_corpus(data, size.corpus, folder)

    def measure(self, recipe: Recipe, seed: int) -> list[Point]:
        """See `measure`; kept by what the recipe says, whatever its name."""
        size = self._size
        config = TextConfig(
            preset=NAME,
            seed=seed,
            precision=size.precision,
            compile=size.compile,
            corpus=size.corpus,
            network=replace(size.network, dropout=recipe.dropout),
            q0=recipe.q0,
        )
        whole = TextRun(
            directory=SharedDirectory(self._folder),
            config=config,
            group=self._group,
            progress=Progress(quiet=True),
            corpus=self._corpus,
        )
        name = f"{recipe.method}-{fingerprint(self._corpus.digest, to_builtins(config))}".replace(" ", "-")
        return self._parts.get(name, partial(measure, whole, recipe))


def run(arguments: Arguments, size: TextSize) -> dict[str, Any]:
    """The figures of the receipt."""
    if arguments.data is None:
        raise ConfigError("give a text: python -m benchmarks.q0_text --data FILE")
    parts = Parts(arguments.out, NAME, size)
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(arguments.data, size, parts, parts.folder or Path(temporary), arguments.device)
        return compare(size, bench.measure, CHANGES, NAME)


def main(arguments: Arguments) -> None:
    devices.prepare()
    size, began = SCALES[arguments.scale], time.monotonic()
    figures = run(arguments, size)
    figures["seconds_of_last_sitting"] = time.monotonic() - began
    settings = {**to_builtins(size), "scale": arguments.scale}
    picture = draw({"": figures}, UNIT)
    leave(NAME, arguments, figures, settings=settings, table=as_markdown(figures, UNIT), picture=picture)


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
