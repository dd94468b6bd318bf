"""What the commands take beside the settings of `decouple.config`."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Annotated, get_type_hints

import tyro

from decouple import registry
from decouple.config import RunConfig, TextConfig

STAGE_SECTIONS = {
    "search": ("search",),
    "learn": ("learn", "rounds", "sgd"),
    "compare": ("compare",),
    "q0": ("q0",),
    "report": (),
}
"""The sections that each stage command may change."""


@dataclass(frozen=True)
class StageOptions:
    """How to run: nothing here decides a result."""

    device: str = "auto"
    """auto (the first GPU, or else the CPU), cpu, cuda or cuda:N."""
    data_root: Path | None = None
    """Folder of the data sets; default: $DECOUPLE_DATA, or ~/.cache/decouple/data. Downloads go there."""
    workers: int = 1
    """Processes that search, or train q0's trajectories, at once; more than one are Ray's. They share the cores, or the GPUs:
    each computes with cores/N threads, so it pays where one process leaves cores idle. With as many threads a process
    (OMP_NUM_THREADS=1, say) the results are bit for bit those of one worker."""
    ray_address: str | None = None
    """A Ray cluster to search on in place of this machine, N batches at a time: the host:port that 'ray start --head' prints,
    or auto. Every node needs decouple; the run directory stays here."""
    tensorboard: bool = False
    """Log to RUN_DIR/tensorboard as well."""
    quiet: bool = False
    """Show no progress."""


@dataclass(frozen=True)
class RunOptions(StageOptions):
    out: Path | None = None
    """Run directory; default: runs/PRESET-seedN, with the name of the data in between if they are not the preset's."""
    resume: bool = False
    """Go on with the run that --out holds: finished work is not done again."""
    config: Path | None = None
    """A .json, .yaml or .toml file of settings that override the preset's; a run's config.json is one."""


@dataclass(frozen=True)
class PlanOptions:
    epochs: int = 32
    """Total epochs to spend, all trajectories together."""
    members: int | None = None
    """Networks that may be evaluated for an answer; default: any number."""
    plans: Path | None = None
    """A file that python -m benchmarks.q0_images --plans wrote; default: the one that comes with decouple."""


@dataclass(frozen=True)
class ExportOptions:
    out: Path = Path("ensemble.safetensors")
    """The file to write: weights, members and their shape."""
    members: int | None = None
    """The heaviest members; default: all that have a weight."""
    equal: bool = False
    """Weigh them equally, not by the learned prior; without --members: all."""
    distill: bool = False
    """Compress them into one network, trained on their probabilities with the run's q0 settings."""
    distill_epochs: int = 32
    """Epochs of that training."""
    data_root: Path | None = None
    """Folder of the data sets, for --distill; default: the run's."""


@dataclass(frozen=True)
class RunArguments:
    options: Annotated[RunOptions, tyro.conf.arg(name="")]
    settings: Annotated[RunConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class StageArguments:
    options: Annotated[StageOptions, tyro.conf.arg(name="")]
    settings: Annotated[RunConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class NamedAlgorithm:
    algorithm: str = ""
    """The algorithm that this run searches with: code, which is only loaded when you name it."""


def stage_arguments(stage: str, config: RunConfig) -> StageArguments:
    """The defaults of a stage's command, which takes and explains only the sections that it may change; and the algorithm, where it
    has to be named for its code to be loaded: empty, it is not."""
    code = registry.is_code(config.search.algorithm)
    if code:
        config = replace(config, search=replace(config.search, algorithm=""))
    shown, hints = STAGE_SECTIONS[stage], get_type_hints(RunConfig, include_extras=True)
    narrow = [(name, hint if name in shown else Annotated[hint, tyro.conf.Suppress]) for name, hint in hints.items()]
    kind = make_dataclass("Settings", narrow, frozen=True)
    own = [("settings", Annotated[kind, tyro.conf.arg(name="")])]
    named = [("search", Annotated[NamedAlgorithm, tyro.conf.arg(name="search")])] if code and stage != "search" else []
    arguments = make_dataclass("StageArguments", own + named, bases=(StageArguments,), frozen=True)
    return arguments(StageOptions(), kind(**vars(config)), *(NamedAlgorithm() for _ in named))


@dataclass(frozen=True)
class TextOptions:
    """How to run: nothing here decides a result, but the text."""

    data: Path | None = None
    """The text file; with --resume by default the run's."""
    preset: str = "tiny"
    """tiny: minutes on two cores; paper: the paper's scale, for GPUs under torchrun."""
    out: Path | None = None
    """Run directory; default: runs/text-PRESET-seedN."""
    resume: bool = False
    """Go on with the run that --out holds, with its settings: finished work is not done again."""
    config: Path | None = None
    """A .json, .yaml or .toml file of settings that override the preset's; a run's config.json is one."""
    device: str = "auto"
    """auto (the first GPU, or else the CPU; under torchrun one for each process), cpu, cuda or cuda:N."""
    workers: int = 1
    """Processes that train trajectories at once, each with cores/N threads; more than one are Ray's. Not under torchrun."""
    quiet: bool = False
    """Show no progress."""


@dataclass(frozen=True)
class CompareOptions:
    """How to compare several runs: nothing here decides their results."""

    out: Path = Path("runs/comparison")
    """Folder of the page, its figures and its numbers."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N, for what a run still lacks."""
    data_root: Path | None = None
    """Folder of the data sets; default: where each run found them."""
    quiet: bool = False
    """Show no progress."""


@dataclass(frozen=True)
class TextArguments:
    options: Annotated[TextOptions, tyro.conf.arg(name="")]
    settings: Annotated[TextConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class CompareArguments:
    options: Annotated[CompareOptions, tyro.conf.arg(name="")]
