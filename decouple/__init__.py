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
        CompareConfig,
        CorpusConfig,
        DataConfig,
        EsConfig,
        GptConfig,
        LearnConfig,
        LiveConfig,
        NetworkConfig,
        PaperConfig,
        Q0Config,
        RoundsConfig,
        RunConfig,
        SearchConfig,
        SgdConfig,
        TextConfig,
    )
    from decouple.data import ImageData, Split, load_data
    from decouple.errors import (
        ConfigError,
        DamagedFileError,
        DataError,
        DecoupleError,
        NetworkError,
        NotFiniteError,
        RunDirectoryError,
        SettingError,
        WorkerError,
    )
    from decouple.learn import Fit, learn_targets, train_sgd
    from decouple.learn.objective import Targets
    from decouple.networks import Stages, paper_network
    from decouple.pipeline import run
    from decouple.presets import preset, text_preset
    from decouple.q0.ensemble import Ensemble
    from decouple.report import write_comparison
    from decouple.results import Results
    from decouple.search import (
        Algorithm,
        EvolutionStrategy,
        Execution,
        PaperSearch,
        TargetStore,
        search_solution,
        search_solutions,
    )
    from decouple.training.evaluate import accuracy
    from decouple.trajectories import Recorder, Recording, compare_recordings
    from decouple.trajectories.results import TrajectoryComparison

__version__ = "0.1.0"

_HOMES = {
    "Algorithm": "decouple.search",
    "CompareConfig": "decouple.config",
    "ConfigError": "decouple.errors",
    "CorpusConfig": "decouple.config",
    "DamagedFileError": "decouple.errors",
    "DataConfig": "decouple.config",
    "DataError": "decouple.errors",
    "DecoupleError": "decouple.errors",
    "Ensemble": "decouple.q0.ensemble",
    "EsConfig": "decouple.config",
    "EvolutionStrategy": "decouple.search",
    "Execution": "decouple.search",
    "Fit": "decouple.learn",
    "GptConfig": "decouple.config",
    "ImageData": "decouple.data",
    "LearnConfig": "decouple.config",
    "LiveConfig": "decouple.config",
    "NetworkConfig": "decouple.config",
    "NetworkError": "decouple.errors",
    "NotFiniteError": "decouple.errors",
    "PaperConfig": "decouple.config",
    "PaperSearch": "decouple.search",
    "Q0Config": "decouple.config",
    "Recorder": "decouple.trajectories",
    "Recording": "decouple.trajectories",
    "Results": "decouple.results",
    "RoundsConfig": "decouple.config",
    "RunConfig": "decouple.config",
    "RunDirectoryError": "decouple.errors",
    "SearchConfig": "decouple.config",
    "SettingError": "decouple.errors",
    "SgdConfig": "decouple.config",
    "Split": "decouple.data",
    "Stages": "decouple.networks",
    "TargetStore": "decouple.search",
    "Targets": "decouple.learn.objective",
    "TextConfig": "decouple.config",
    "TrajectoryComparison": "decouple.trajectories.results",
    "WorkerError": "decouple.errors",
    "accuracy": "decouple.training.evaluate",
    "compare_recordings": "decouple.trajectories",
    "learn_targets": "decouple.learn",
    "load_data": "decouple.data",
    "paper_network": "decouple.networks",
    "preset": "decouple.presets",
    "run": "decouple.pipeline",
    "search_solution": "decouple.search",
    "search_solutions": "decouple.search",
    "text_preset": "decouple.presets",
    "train_sgd": "decouple.learn",
    "write_comparison": "decouple.report",
}
"""Where each name lives: they are imported when first used, so that the command line answers before torch is loaded."""

_PARTS = (
    "analysis",
    "config",
    "data",
    "errors",
    "learn",
    "networks",
    "pipeline",
    "presets",
    "q0",
    "report",
    "results",
    "search",
    "settings",
    "text",
    "trajectories",
)
"""What can be used through the package without an import of its own: decouple.q0.fit_prior."""

__all__ = [
    "Algorithm",
    "CompareConfig",
    "ConfigError",
    "CorpusConfig",
    "DamagedFileError",
    "DataConfig",
    "DataError",
    "DecoupleError",
    "Ensemble",
    "EsConfig",
    "EvolutionStrategy",
    "Execution",
    "Fit",
    "GptConfig",
    "ImageData",
    "LearnConfig",
    "LiveConfig",
    "NetworkConfig",
    "NetworkError",
    "NotFiniteError",
    "PaperConfig",
    "PaperSearch",
    "Q0Config",
    "Recorder",
    "Recording",
    "Results",
    "RoundsConfig",
    "RunConfig",
    "RunDirectoryError",
    "SearchConfig",
    "SettingError",
    "SgdConfig",
    "Split",
    "Stages",
    "TargetStore",
    "Targets",
    "TextConfig",
    "TrajectoryComparison",
    "WorkerError",
    "accuracy",
    "compare_recordings",
    "learn_targets",
    "load_data",
    "paper_network",
    "preset",
    "run",
    "search_solution",
    "search_solutions",
    "text_preset",
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
    return sorted({*globals(), *__all__, *_PARTS})
