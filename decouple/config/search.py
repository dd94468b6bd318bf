"""Settings of the search."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import msgspec

from decouple import registry
from decouple.config.base import NO_IDENTITY, Batch, BelowOne, Count, Name, NonNegative, Positive, Rate, Section, at_least
from decouple.config.images import SearchedNetwork

CountByPoint = Count | Annotated[dict[str, Count], msgspec.Meta(min_length=1)]
"""One value for all search points, or values by the names of points (see `SearchPoint.setting`)."""
SUBSPACES = 4
"""Subspaces of several solutions: a quarter of the elements suffices to solve an image, and four are nearly orthogonal (measured)."""
RateByPoint = Rate | Annotated[dict[str, Rate], msgspec.Meta(min_length=1)]


@dataclass(frozen=True)
class EsConfig(Section):
    """Antithetic evolution strategy. A setting by search point is one value for all, or a value for each name: that of a point
    (block0), or `blocks` and `logits` for those that are not named."""

    population: Annotated[int, at_least(2, multiple_of=2)] = 48
    """Candidates a generation and image, in mirrored pairs."""
    generations: CountByPoint = field(default_factory=lambda: {"blocks": 40, "logits": 10})
    """Generations at each search point."""
    scale: Literal["sample", "channel"] = "sample"
    """Unit of all displacements: the standard deviation over a whole sample, or over space of each channel (paper), where
    channels that are silent for an image can hardly be moved."""
    radius: Rate = 0.5
    """Size of a trial displacement, in that unit."""
    step: RateByPoint = field(default_factory=lambda: {"blocks": 0.1, "logits": 0.5})
    """Size of a generation's update, in that unit."""
    momentum: BelowOne = 0.7
    """Share of the last update that is kept."""
    subspaces: Positive | None = None
    """Number of disjoint random subsets of an activation's elements. Each of as many solutions changes only its own subset, so that
    solutions differ by construction, but each may be a weaker target. 1: every solution may change all elements. none: 1 for a single
    solution and in rounds, 4 for several."""
    moments: Literal["unit", "own"] = "unit"
    """Mean and standard deviation that every centre is normalised to. unit: 0 and 1, as in the paper; own: those of the network's
    own activation."""
    noise: Literal["shared", "image"] = "shared"
    """shared: all images of a solution are offered the same random directions, so that images with like gradients get
    like displacements, which a network can learn; image: each has its own."""


@dataclass(frozen=True)
class PaperConfig(Section):
    """The paper's genetic algorithm. Settings by search point are given as in `EsConfig`."""

    population: Positive = 240
    """Individuals a generation and image: parents, explorers and, for the rest, refiners."""
    parents: Positive = 20
    """Individuals kept each generation."""
    explorers: Count = 100
    """Children of parents, with the boosted mutation. The refiners are children of parents and explorers."""
    generations: CountByPoint = field(default_factory=lambda: {"block0": 300, "blocks": 100, "logits": 10})
    """Generations at each search point."""
    alpha: RateByPoint = field(default_factory=lambda: {"block0": 0.3, "block1": 0.2, "blocks": 0.1, "logits": 0.1})
    """Mutation strength, in units of the parents' spatial standard deviation (MNIST: 0.1 everywhere)."""
    boost: RateByPoint = field(default_factory=lambda: {"block0": 5.0, "blocks": 3.0, "logits": 1.0})
    """Mutation strength of explorers relative to that of refiners."""
    blur: CountByPoint = field(default_factory=lambda: {"block0": 5, "blocks": 1, "logits": 0})
    """Number of 3×3 mean-filter passes at each search point."""
    smoothing: Literal["map", "noise"] = "map"
    """What the passes smooth: the whole mutated map, or only the noise, which keeps the image."""

    def _check(self) -> None:
        least = max(self.parents + 1, self.parents + self.explorers)
        if self.population < least:
            self._refuse("population", f"at least {least}, for {self.parents} parents and {self.explorers} explorers")


@dataclass(frozen=True)
class FitnessConfig(Section):
    similarity: NonNegative = 0.0
    """Weight of a similarity-matching term that is added to the log-probability of the true class: features should be similar within
    a class and dissimilar between classes. A search scores candidates by it; SGD follows its gradient. 0: off."""


@dataclass(frozen=True)
class SearchConfig(FitnessConfig):
    algorithm: str = "es"
    """es: our evolution strategy; paper: the paper's genetic algorithm; pgpe, cem: EvoTorch's, with es's settings. Two
    references: random keeps the best of the same number of random candidates; gradient follows the true gradient, by
    backpropagation. Your own: FILE.py:Class, package.module:Class, or a registered name."""
    points: Name | Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)] = "last"
    """Search points whose activations are evolved, by name (block2, logits). last: the last block and the logits, where candidates
    cost next to nothing and targets give the most accurate networks (measured); all: one after the other (paper). Learning can
    supervise no block before the first of them."""
    solutions: Annotated[int, at_least(1, 10_000), NO_IDENTITY] = 2
    """Independent searches, each of which seeds one network."""
    batch: Batch = 128
    """Number of images that are searched together, share BatchNorm statistics and are stored in one file."""
    statistics: Literal["batch", "frozen"] = "batch"
    """BatchNorm during search. batch: statistics of the candidates that are scored (paper); frozen: of the unperturbed images."""
    max_evaluations: Positive | None = None
    """Maximum number of candidates scored per image, divided among the search points in proportion to their generations; none: no
    limit."""
    target: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    """Stop searching at a point once every image of the batch reaches this probability of its true class; none: never."""
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """Type of the stored targets."""
    network: SearchedNetwork = field(default_factory=SearchedNetwork)
    es: EsConfig = field(default_factory=EsConfig)
    paper: PaperConfig = field(default_factory=PaperConfig)

    def for_solutions(self, count: int | None = None) -> SearchConfig:
        """These settings for a search of `count` solutions, by default of `solutions`, with the number of subspaces filled in if they
        leave it open. It is the same for any count above 1, so that a further solution leaves the others unchanged.

        >>> [SearchConfig().for_solutions(count).es.subspaces for count in (1, 2, 8)]
        [1, 4, 4]
        """
        several = (self.solutions if count is None else count) > 1
        return replace(self, es=replace(self.es, subspaces=self.es.subspaces or (SUBSPACES if several else 1)))

    def _check(self) -> None:
        registry.check(self.algorithm)
        if self.similarity and self.target is not None:
            self._refuse("target", "none while similarity is above 0: the fitness is then more than a log-probability")
        if self.algorithm == "cem" and self.es.population < 4:
            self._refuse(
                "es.population", "at least 4 for cem: half of the candidates are parents, and one parent has no deviation"
            )
