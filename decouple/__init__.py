"""decouple: train networks by searching representations and learning them.

>>> import decouple
>>> decouple.preset("digits").data.name
'digits'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decouple.config import (
        EsConfig,
        LearnConfig,
        LiveConfig,
        NetworkConfig,
        PaperConfig,
        Q0Config,
        RoundsConfig,
        RunConfig,
        SearchConfig,
        SgdConfig,
    )
    from decouple.data import ImageData, Split, load_data
    from decouple.errors import DecoupleError
    from decouple.learn import learn_targets, train_sgd
    from decouple.networks import Stages, paper_network
    from decouple.pipeline import run
    from decouple.presets import preset
    from decouple.q0.ensemble import Ensemble
    from decouple.report import write_comparison
    from decouple.search import EvolutionStrategy, PaperSearch, TargetStore, search_solution, search_solutions
    from decouple.training.evaluate import accuracy
    from decouple.trajectories import Recorder, Recording, compare_recordings

__version__ = "0.1.0"

_HOMES = {
    "DecoupleError": "decouple.errors",
    "Ensemble": "decouple.q0.ensemble",
    "EsConfig": "decouple.config",
    "EvolutionStrategy": "decouple.search",
    "ImageData": "decouple.data",
    "LearnConfig": "decouple.config",
    "LiveConfig": "decouple.config",
    "NetworkConfig": "decouple.config",
    "PaperConfig": "decouple.config",
    "PaperSearch": "decouple.search",
    "Q0Config": "decouple.config",
    "Recorder": "decouple.trajectories",
    "Recording": "decouple.trajectories",
    "RoundsConfig": "decouple.config",
    "RunConfig": "decouple.config",
    "SearchConfig": "decouple.config",
    "SgdConfig": "decouple.config",
    "Split": "decouple.data",
    "Stages": "decouple.networks",
    "TargetStore": "decouple.search",
    "accuracy": "decouple.training.evaluate",
    "compare_recordings": "decouple.trajectories",
    "learn_targets": "decouple.learn",
    "load_data": "decouple.data",
    "paper_network": "decouple.networks",
    "preset": "decouple.presets",
    "run": "decouple.pipeline",
    "search_solution": "decouple.search",
    "search_solutions": "decouple.search",
    "train_sgd": "decouple.learn",
    "write_comparison": "decouple.report",
}
"""Where each name lives: they are imported when first used, so that the command line answers before torch is loaded."""

_PARTS = ("analysis", "q0", "text")
"""Packages whose names are used through them: decouple.q0.fit_prior."""

__all__ = [
    "DecoupleError",
    "Ensemble",
    "EsConfig",
    "EvolutionStrategy",
    "ImageData",
    "LearnConfig",
    "LiveConfig",
    "NetworkConfig",
    "PaperConfig",
    "PaperSearch",
    "Q0Config",
    "Recorder",
    "Recording",
    "RoundsConfig",
    "RunConfig",
    "SearchConfig",
    "SgdConfig",
    "Split",
    "Stages",
    "TargetStore",
    "accuracy",
    "compare_recordings",
    "learn_targets",
    "load_data",
    "paper_network",
    "preset",
    "run",
    "search_solution",
    "search_solutions",
    "train_sgd",
    "write_comparison",
]


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return importlib.import_module(f"decouple.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'decouple' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
