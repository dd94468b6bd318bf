"""Every setting, as frozen dataclasses: one section a stage. None of it imports torch: `--help` and mistyped options answer
at once."""

from decouple.config.base import NO_IDENTITY, Section, identity
from decouple.config.images import DataConfig, NetworkConfig, SearchedNetwork
from decouple.config.q0 import TEXT_Q0, Q0Config
from decouple.config.runs import CorpusConfig, GptConfig, RunConfig, TextConfig
from decouple.config.search import EsConfig, PaperConfig, SearchConfig
from decouple.config.training import CompareConfig, LearnConfig, LiveConfig, RoundsConfig, SgdConfig, StepConfig, TrainConfig
from decouple.config.tuning import TuneConfig

__all__ = [
    "NO_IDENTITY",
    "TEXT_Q0",
    "CompareConfig",
    "CorpusConfig",
    "DataConfig",
    "EsConfig",
    "GptConfig",
    "LearnConfig",
    "LiveConfig",
    "NetworkConfig",
    "PaperConfig",
    "Q0Config",
    "RoundsConfig",
    "RunConfig",
    "SearchConfig",
    "SearchedNetwork",
    "Section",
    "SgdConfig",
    "StepConfig",
    "TextConfig",
    "TrainConfig",
    "TuneConfig",
    "identity",
]
