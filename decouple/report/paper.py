"""The published figures that a run can stand beside, and in what the run differs from how they were made.

Source: Vegesna and Dahal, "Decoupling Search and Learning in Neural Net Training", arXiv 2509.10973 (2025), tables of
test accuracy: mean ± standard deviation over 3 runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from decouple.config import RunConfig
from decouple.config.images import PAPER
from decouple.registry import about
from decouple.results import Results


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
    found.append("one run (paper: mean ± standard deviation over 3)")
    return found
