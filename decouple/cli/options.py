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


ABOUT = {
    "run PRESET": "Search, learn, compare with SGD, train the q0 population and write a report.",
    "estimate PRESET": "Predict the time, memory and disk space of 'decouple run' with the same options.",
    "tune PRESET": "Tune SGD, learning or q0 with the same number of trials each, on validation images.",
    "search RUN_DIR": "Search targets for the training images of a run.",
    "learn RUN_DIR": "Train networks on the searched targets, and the SGD baselines.",
    "compare RUN_DIR": "Compare how the representations of a run's networks moved during training. The page goes into its folder "
    "comparison. Of several runs: decouple compare RUN_DIR RUN_DIR ... --out FOLDER.",
    "q0 RUN_DIR": "Train the population of a run, fit its weights on the prior split and evaluate the ensemble.",
    "report RUN_DIR": "Bring all stages up to date, and rebuild results.json, curves.json and report.html.",
    "q0 text": "Train a population of small GPTs for next-token prediction on a text file.",
    "q0 plan": "Show the best measured way to spend a budget of epochs.",
    "table RUN_DIR ...": "Compare finished runs: mean and standard deviation over seeds, and difference from SGD.",
    "compare RUN_DIR RUN_DIR ...": "Compare the trajectories of all networks of several runs.",
    "points NETWORK": "List the layers at which a network can be cut into search points.",
    "export RUN_DIR": "Write the ensemble, or one network, of a run to a file.",
}
"""What each command does, by its usage, for --help."""


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
    """Number of processes that search batches, or train q0 trajectories, in parallel; more than one run in Ray. They share the
    CPU cores (cores/N threads each) or the GPUs, which helps when one process leaves some idle. Results are identical to
    those of one worker if every process has the same number of threads, for example with OMP_NUM_THREADS=1."""
    ray_address: Name | None = None
    """Run the workers on this Ray cluster instead of this machine: the host:port that 'ray start --head' prints, or auto. Every
    node needs decouple; the run directory stays on this machine."""
    log: Name | None = None
    """Also log to tensorboard (in RUN_DIR/tensorboard), wandb or mlflow; separate several with commas."""
    quiet: bool = False
    """Show no progress."""


@dataclass(frozen=True)
class RunOptions(StageOptions):
    out: Path | None = None
    """Run directory. Default: runs/PRESET-seedN, or runs/PRESET-DATA-seedN if the data are not the preset's."""
    resume: bool = False
    """Resume the run that --out holds; finished work is not done again."""
    config: Path | None = None
    """A .json, .yaml or .toml file of settings that override the preset's; a run's config.json is one."""
    seeds: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1)] | None = None
    """Make one run per seed, in OUT/seed-N, and write a table of all runs (see 'decouple table') to OUT. Replaces --seed; --workers
    is then the number of runs in parallel."""


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
    """Number of trials in parallel; more than one run in Ray processes that share the cores or GPUs."""
    log: Name | None = None
    """Log elsewhere as well: tensorboard, wandb, mlflow, or several with commas between."""
    quiet: bool = False
    """Show no progress."""


@dataclass(frozen=True)
class NamedCode(Section):
    name: Name | None = None
    """The run's own code (FILE.py:NAME or package.module:NAME), named again: decouple runs code only if you name it."""


@dataclass(frozen=True)
class NamedInSearch(Section):
    algorithm: Name | None = None
    """The run's own search algorithm (FILE.py:Class or package.module:Class), named again: decouple runs code only if you
    name it."""
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
    """Shape of one input: C H W for images, D for vectors."""
    classes: Positive = 10
    """Number of classes."""
    args: dict[str, bool | int | float | str] = field(default_factory=dict)
    """Keyword arguments for the function that builds the network."""


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
    """Largest number of ensemble members; default: no limit."""
    plans: Path | None = None
    """A file that python -m benchmarks.q0_images --plans wrote; default: the one that comes with decouple."""


@dataclass(frozen=True)
class ExportOptions(Section):
    to: Path | None = None
    """File to write. The extension selects the format: .safetensors (weights), .pt2 (torch.export program) or .onnx."""
    what: Name = "ensemble"
    """The ensemble, or a network of the run: search-0, sgd-1, …"""
    members: Positive | None = None
    """Number of ensemble members, those with the largest weights; default: all with a weight above 0."""
    equal: bool = False
    """Give the members equal weights instead of those of the learned prior; without --members, all members."""
    distill: bool = False
    """Compress them into one network, trained on their probabilities with the run's q0 settings."""
    distill_epochs: Positive = 32
    """Epochs of the distillation."""
    device: str = "auto"
    """Where --distill computes: auto, cpu, cuda or cuda:n."""
    data_root: Path | None = None
    """Folder of the data sets, for --distill; default: the run's."""
    overwrite: bool = False
    """Replace an existing file."""
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
    """Device for stages that a run has not done yet: auto, cpu, cuda or cuda:N."""
    data_root: Path | None = None
    """Folder of the data sets; default: where each run found them."""
    code: tuple[Name, ...] = ()
    """Code that the runs use (FILE.py:NAME or package.module:NAME) and that may be run: decouple runs code only if you name it."""
    quiet: bool = False
    """Show no progress."""
