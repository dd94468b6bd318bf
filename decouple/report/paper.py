"""The published figures that a run can stand beside, and in what the run differs from how they were made.

Source: Vegesna and Dahal, "Decoupling Search and Learning in Neural Net Training", arXiv 2509.10973 (2025), tables of
test accuracy: mean ± standard deviation over 3 runs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from decouple.config import RunConfig
from decouple.config.images import PAPER
from decouple.presets import preset
from decouple.registry import about
from decouple.results import Results
from decouple.settings import flattened


class Published(NamedTuple):
    """A test accuracy as printed, per cent."""

    mean: float
    std: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.std:.1f}"


@dataclass(frozen=True)
class Reference:
    """What the paper gives for a data set, with or without augmentation."""

    sgd: Published
    search: dict[str, Published]
    """By the blocks that have a target (`LearnConfig.supervise`), or "unspecified" where the paper gives one figure."""

    def searched(self, supervise: str) -> Published | None:
        """The figure for "all" or "skip-first"."""
        return self.search.get(supervise, self.search.get("unspecified"))


@dataclass(frozen=True)
class Citation:
    authors: str
    title: str
    arxiv: str
    year: int

    @property
    def address(self) -> str:
        return f"https://arxiv.org/abs/{self.arxiv}"


SEARCH_AND_LEARNING = Citation(
    "Vegesna and Dahal", "Decoupling Search and Learning in Neural Net Training", "2509.10973", 2025
)
Q0 = Citation("Mandal, Berman, Vegesna and Dahal", "q0: Primitives for Hyper-Epoch Pretraining", "2606.03938", 2026)
CALIBRATION = Citation("Rahaman and Thiery", "Uncertainty Quantification and Deep Ensembles", "2007.08792", 2021)

_REFERENCES = {
    ("mnist", False): Reference(Published(99.1, 0.1), {"unspecified": Published(99.0, 0.1)}),
    ("cifar10", False): Reference(Published(89.1, 0.3), {"unspecified": Published(88.3, 0.3)}),
    ("cifar100", False): Reference(Published(62.3, 0.5), {"unspecified": Published(61.6, 0.2)}),
    ("cifar10", True): Reference(Published(93.0, 0.2), {"skip-first": Published(92.0, 0.1), "all": Published(90.6, 0.3)}),
    ("cifar100", True): Reference(Published(71.8, 0.4), {"skip-first": Published(69.2, 0.3), "all": Published(66.5, 0.3)}),
}

_TRAINING_IMAGES = {"mnist": 56_000, "cifar10": 46_000, "cifar100": 46_000}
"""All but the 4000 that the paper holds out for model selection."""


AIRBENCH_DECAY = 0.0153
"""The weight decay of airbench, whose learner the paper's is."""

_SECTIONS = ("data.", "network.", "search.", "learn.", "sgd.")
_SAID = (
    *("data.name", "data.train", "network.name", "network.width", "network.groups", "network.statistics", "learn.epochs"),
    *("search.algorithm", "search.paper.smoothing", "search.similarity", "learn.similarity", "sgd.similarity"),
    *("learn.heads", "sgd.heads", "learn.live.weight", "learn.live.directions", "learn.live.radius"),
)
"""Settings of which `differences` tells in words, and what only matters with these."""
_VARIANTS = {
    "learn.augment": ("none", "flip-crop"),
    "sgd.augment": ("none", "flip-crop"),
    "learn.supervise": ("all", "skip-first"),
    "data.seed": None,
}
"""Settings that the paper has with several values, each with figures of its own; None: any value will do."""


def reference(data: str, *, augment: bool) -> Reference | None:
    """The published figures for a data set by name; None where the paper has none.

    >>> str(reference("cifar10", augment=True).searched("skip-first"))
    '92.0 ± 0.1'
    >>> reference("digits", augment=False) is None
    True
    """
    return _REFERENCES.get((data, augment))


def differences(config: RunConfig, results: Results) -> list[str]:
    """In what the run differs from the paper's, where the data set is one of the paper's: "width 32 (paper 256)".

    A comparison with the paper is no better than this list is short.
    """
    if results.data not in _TRAINING_IMAGES:
        return []
    papers = [
        ("channels a block", config.network.width, 256),
        ("ConvGroups a block", config.network.groups, 2 if results.data == "mnist" else 3),
    ]
    pairs = [
        ("training images", results.images.get("train", 0), _TRAINING_IMAGES[results.data]),
        *(papers if config.network.name == PAPER else []),
        ("epochs of learning", config.learn.epochs, 1000 if results.data == "mnist" else 90),
    ]
    found = [f"{own:,} {what} (paper {theirs:,})" for what, own, theirs in pairs if own != theirs]
    if config.network.name != PAPER:
        found.insert(0, f"the network {config.network.name} (paper: its own)")
    if config.search.algorithm != "paper":
        found.append(f"{about(config.search.algorithm).label} for search (paper: a genetic algorithm)")
    elif config.search.paper.smoothing == "noise":
        found.append("only the mutation noise is smoothed (the paper can be read as smoothing the whole map)")
    if config.learn.live.weight:
        found.append("live search at every step of learning (paper: none)")
    if config.learn.heads:
        found.append("heads at the earlier blocks, which judge a live search there (paper: none)")
    if config.learn.similarity or config.search.similarity:
        found.append("similarity as a second term of the fitness (paper: none)")
    if config.sgd.similarity or config.sgd.heads:
        terms = [name for name, weight in (("similarity", config.sgd.similarity), ("heads", config.sgd.heads)) if weight]
        found.append(f"{' and '.join(terms)} in the loss of SGD (paper: cross-entropy alone)")
    if config.rounds.count:
        found.append("further rounds of search and learning (paper: none)")
    if config.network.statistics != "batch":
        found.append("BatchNorm evaluated with running statistics (paper: the evaluated batch's own)")
    own_decay = preset(results.data).learn.weight_decay
    if config.learn.weight_decay == own_decay != AIRBENCH_DECAY:
        found.append(f"a weight decay of {own_decay:g} (airbench, whose learner is the paper's: {AIRBENCH_DECAY:g})")
    found += _settings(config, results.data)
    found.append("one run (paper: mean ± standard deviation over 3)")
    return found


def _settings(config: RunConfig, data: str) -> list[str]:
    """The other settings in which a run differs from the preset that has the paper's: none, or one entry."""
    theirs, found = flattened(preset(data)), []
    for name, value in flattened(config).items():
        # es has no counterpart in the paper, and its genetic algorithm decides nothing where another one searches.
        unused = name.startswith("search.es.") or (name.startswith("search.paper.") and config.search.algorithm != "paper")
        if value == theirs[name] or unused or not name.startswith(_SECTIONS) or name in (*_SAID, *config.idle):
            continue
        if name in _VARIANTS and (
            (allowed := _VARIANTS[name]) is None or (value in allowed and _published(config, data, name))
        ):
            continue
        found.append(f"{name} {_shown(value)} ({_shown(theirs[name])})")
    return [f"settings beside those of the preset {data}, in brackets: {', '.join(found)}"] if found else []


def _published(config: RunConfig, data: str, name: str) -> bool:
    """Whether the paper has figures for the augmentation, if that is what the setting is."""
    section = {"learn.augment": config.learn, "sgd.augment": config.sgd}.get(name)
    return section is None or reference(data, augment=section.augment != "none") is not None


def _shown(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)
