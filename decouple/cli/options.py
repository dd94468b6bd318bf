"""What the commands take beside the settings of `decouple.config`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from decouple.config import Section, TuneConfig
from decouple.config.base import Count, Name, Positive

STAGE_SECTIONS = {
    "search": ("search",),
    "learn": ("learn", "rounds", "sgd"),
    "compare": ("compare",),
    "q0": ("q0",),
    "report": (),
}
"""The sections that each stage command may change."""


CODE = ("search.algorithm", "search.network.name", "network.name", "data.name")
"""The settings that may name code, which a stage takes where the run has such."""


@dataclass(frozen=True)
class StageOptions(Section):
    """How to run: nothing here decides a result."""

    device: Name = "auto"
    """auto (the first GPU, or else the CPU), cpu, cuda or cuda:N."""
    data_root: Path | None = None
    """Folder of the data sets; default: $DECOUPLE_DATA, or ~/.cache/decouple/data. Downloads go there."""
    workers: Positive = 1
    """Processes that search, or train q0's trajectories, at once; more than one are Ray's. They share the cores, or the GPUs:
    each computes with cores/N threads, so it pays where one process leaves cores idle. With as many threads a process
    (OMP_NUM_THREADS=1, say) the results are bit for bit those of one worker."""
    ray_address: Name | None = None
    """A Ray cluster to search on in place of this machine, N batches at a time: the host:port that 'ray start --head' prints,
    or auto. Every node needs decouple; the run directory stays here."""
    log: Name | None = None
    """Log elsewhere as well: tensorboard (into RUN_DIR/tensorboard), wandb, mlflow, or several with commas between."""
    quiet: bool = False
    """Show no progress."""


@dataclass(frozen=True)
class RunOptions(StageOptions):
    out: Path | None = None
    """Run directory; default: runs/PRESET-seedN, with the name of the data in between if they are not the preset's."""
    resume: bool = False
    """Resume the run that --out holds; finished work is not done again."""
    config: Path | None = None
    """A .json, .yaml or .toml file of settings that override the preset's; a run's config.json is one."""
    seeds: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1)] | None = None
    """Run once for each of these seeds, in place of --seed: into --out/seed-N, with a table of all (see decouple table) in --out.
    --workers then says how many runs go side by side."""


@dataclass(frozen=True)
class TuneOptions(TuneConfig):
    out: Path | None = None
    """Run directory; default: runs/tune-PRESET-seedN."""
    resume: bool = False
    """Resume what --out holds; finished trials are not done again."""
    config: Path | None = None
    """A .json, .yaml or .toml file of settings that override the preset's; a run's config.json is one."""
    device: Name = "auto"
    """auto (the first GPU, or else the CPU), cpu, cuda or cuda:N."""
    data_root: Path | None = None
    """Folder of the data sets; default: $DECOUPLE_DATA, or ~/.cache/decouple/data. Downloads go there."""
    workers: Positive = 1
    """Trials side by side, each in a process of Ray's with its share of the cores or GPUs."""
    log: Name | None = None
    """Log elsewhere as well: tensorboard, wandb, mlflow, or several with commas between."""
    quiet: bool = False
    """Show no progress."""


@dataclass(frozen=True)
class NamedCode(Section):
    name: Name | None = None
    """That of this run: code, which is only run when you name it."""


@dataclass(frozen=True)
class NamedInSearch(Section):
    algorithm: Name | None = None
    """The algorithm that this run searches with: code, which is only run when you name it."""
    network: NamedCode = field(default_factory=NamedCode)


@dataclass(frozen=True)
class CodeOptions(StageOptions):
    """Of a stage of a run that uses code of the user's own."""

    network: NamedCode = field(default_factory=NamedCode)
    data: NamedCode = field(default_factory=NamedCode)


@dataclass(frozen=True)
class SearchCodeOptions(CodeOptions):
    """Of a stage that cannot change the search."""

    search: NamedInSearch = field(default_factory=NamedInSearch)


@dataclass(frozen=True)
class PointsOptions(Section):
    """Of the network that is looked at."""

    shape: tuple[Positive, ...] = (3, 32, 32)
    """Of an image (C H W), or of a vector (D)."""
    classes: Positive = 10
    """That it tells apart."""
    args: dict[str, bool | int | float | str] = field(default_factory=dict)
    """Arguments of the function that builds it."""


@dataclass(frozen=True)
class TableOptions(Section):
    """What to make of several runs."""

    out: Path | None = None
    """Folder for table.txt, .csv, .json, .md and .tex and the picture table.png and .svg; default: only print."""
    format: Literal["text", "csv", "json", "md", "tex"] = "text"
    """What is printed."""


@dataclass(frozen=True)
class PlanOptions(Section):
    epochs: Positive = 32
    """Total epochs to spend, all trajectories together."""
    members: Positive | None = None
    """Networks that may be evaluated for an answer; default: any number."""
    plans: Path | None = None
    """A file that python -m benchmarks.q0_images --plans wrote; default: the one that comes with decouple."""


@dataclass(frozen=True)
class ExportOptions(Section):
    to: Path | None = None
    """The file to write, by its ending: .safetensors (weights), .pt2 (a program of torch.export) or .onnx."""
    what: Name = "ensemble"
    """The ensemble, or a network of the run: search-0, sgd-1, …"""
    members: Positive | None = None
    """The heaviest members; default: all that have a weight."""
    equal: bool = False
    """Weigh them equally, not by the learned prior; without --members: all."""
    distill: bool = False
    """Compress them into one network, trained on their probabilities with the run's q0 settings."""
    distill_epochs: Positive = 32
    """Epochs of that training."""
    data_root: Path | None = None
    """Folder of the data sets, for --distill; default: the run's."""
    overwrite: bool = False
    """Replace a file that is there."""
    network: NamedCode = field(default_factory=NamedCode)
    data: NamedCode = field(default_factory=NamedCode)


@dataclass(frozen=True)
class TextOptions(Section):
    """How to run: only the text decides a result."""

    data: Path | None = None
    """The text file; with --resume by default the run's."""
    preset: Name | None = None
    """tiny: minutes on two cores; paper: the paper's scale, for GPUs under torchrun. Default: tiny; with --resume the run's."""
    out: Path | None = None
    """Run directory; default: runs/text-PRESET-seedN."""
    resume: bool = False
    """Resume the run that --out holds, with its settings; finished work is not done again."""
    config: Path | None = None
    """A .json, .yaml or .toml file of settings that override the preset's; a run's config.json is one."""
    device: Name = "auto"
    """auto (the first GPU, or else the CPU; under torchrun one for each process), cpu, cuda or cuda:N."""
    workers: Positive = 1
    """Processes that train trajectories at once, each with cores/N threads; more than one are Ray's. Not under torchrun."""
    log: Name | None = None
    """Log elsewhere as well: tensorboard, wandb, mlflow, or several with commas between."""
    quiet: bool = False
    """Show no progress."""


@dataclass(frozen=True)
class CompareOptions(Section):
    """How to compare several runs: nothing here decides their results."""

    out: Path = Path("runs/comparison")
    """Folder of the page, its figures and its numbers."""
    device: Name = "auto"
    """auto, cpu, cuda or cuda:N, for what a run still lacks."""
    data_root: Path | None = None
    """Folder of the data sets; default: where each run found them."""
    code: tuple[Name, ...] = ()
    """Your own code that the runs name, which is only run when you name it: FILE.py:NAME or package.module:NAME."""
    quiet: bool = False
    """Show no progress."""
