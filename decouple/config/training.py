"""Settings of learning, of its rounds, of the SGD baseline and of their comparison."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import msgspec

from decouple.config.base import (
    NO_IDENTITY,
    OFF_AT_ZERO,
    Batch,
    BelowOne,
    Count,
    NonNegative,
    Positive,
    Rate,
    Section,
    at_least,
)
from decouple.config.search import EsConfig, FitnessConfig


@dataclass(frozen=True)
class StepConfig(Section):
    """How steps of training are taken."""

    batch: Batch = 128
    """Batch size: images, or rows of tokens, per step, over all processes together."""
    optimizer: Literal["sgd", "airbench", "adamw", "muon"] = "sgd"
    """sgd: with Nesterov momentum (paper); airbench: the same with lr in that project's decoupled unit (paper); adamw; muon: Muon
    for the matrices and convolutions of hidden layers, AdamW for the rest. For adamw and muon, use a learning rate near 0.003 and, for
    the same amount of decay, 100 times the weight_decay."""
    lr: Rate = 0.2
    """Peak learning rate."""
    momentum: BelowOne = 0.85
    """Momentum of SGD and Muon."""
    weight_decay: NonNegative = 2e-2
    """Decay in the unit of lr. High on purpose: on a few thousand images 2e-2 to 5e-2 is points better than 5e-4."""
    clip: NonNegative = 1.0
    """Gradient norm above which the gradient is scaled down; 0: off."""
    augment: Literal["none", "crop", "flip-crop"] = "none"
    """crop: random crop after padding by 2 pixels; flip-crop: random horizontal flip as well."""


@dataclass(frozen=True)
class TrainConfig(FitnessConfig, StepConfig):
    epochs: Positive = 40
    """Passes over the training images."""
    schedule: Literal["triangle", "constant"] = "triangle"
    """triangle: warm up over a fifth of the steps, then fall linearly to zero; constant."""
    shuffle: Literal["epoch", "fixed"] = "epoch"
    """Compose batches anew each epoch, or keep the same composition (paper)."""
    heads: Annotated[NonNegative, OFF_AT_ZERO] = 0.0
    """Weight of a small extra head at each earlier block. The head learns from the labels and trains its block: live search scores
    candidates there with it, with live.weight, directions and radius as at the last block; SGD follows its gradient. 0: no extra
    heads."""


@dataclass(frozen=True)
class LiveConfig(Section):
    """Live search: at every step of learning, a small search at the last block, around the network's current activations of the
    step's (augmented) images. The network's own head scores the candidates, and the direction that they favour gives a second target
    beside the stored one."""

    weight: NonNegative = 1.0
    """Weight of live search's target. 1: it moves the activations as SGD's gradient would; 0: no live search (paper). The stored
    targets have learn.target_weight; if that is 0, only live search trains the blocks."""
    directions: Positive = 32
    """Number of directions tried per step, each with both signs; all images of the step share them. More directions capture more of
    the fitness gradient."""
    radius: Rate = 0.3
    """Distance of a candidate from the network's own activations, in standard deviations of the sample."""


@dataclass(frozen=True)
class LearnConfig(TrainConfig):
    target_weight: NonNegative = 0.5
    """Weight of the blocks' MSE to the searched targets (paper: 1)."""
    norm: Literal["mean", "sum"] = "mean"
    """Squared error of a block: its mean over the elements, or their sum (the paper's text allows both). With sum, a larger map
    counts for more, and the learning rate has to suit."""
    kl_weight: NonNegative = 1.0
    """Weight λ of the head's KL (paper: 0.03)."""
    supervise: Literal["last", "all", "skip-first"] = "last"
    """Blocks that have a target: only the last, all, or all but block 0 (both the paper's). Blocks without one learn through
    the later blocks."""
    live: LiveConfig = field(default_factory=LiveConfig)

    def _check(self) -> None:
        if self.target_weight == self.live.weight == 0:
            self._refuse("live.weight", "above 0, since target_weight is 0 too and leaves the body nothing to learn")
        if self.heads and not self.live.weight:
            self._refuse("live.weight", f"above 0, since heads = {self.heads} judge what live search tries")
        if self.similarity and not self.live.weight:
            self._refuse("live.weight", f"above 0, since similarity = {self.similarity} is a part of its fitness")

    def candidates(self, blocks: int) -> int:
        """Candidates that live search scores for an image and step, at most: fewer where a block has fewer elements, or channels than
        directions. With a further term as many directions again move the means over space.

        Args:
            blocks: of the network, before the logits.
        """
        if not self.live.weight:
            return 0
        return 2 * self.live.directions * ((2 if self.similarity else 1) + (blocks - 1 if self.heads else 0))

    def evaluations(self, blocks: int) -> int:
        """Candidates that live search scores for an image."""
        return self.candidates(blocks) * self.epochs


@dataclass(frozen=True)
class RoundsConfig(Section):
    """Further rounds of search and learning. Each round searches again, from the learned network's own activations and scored by
    that network, which then learns the new targets. The paper has no further rounds."""

    count: Annotated[Count, NO_IDENTITY] = 0
    """Rounds after the first."""
    lr: Rate | None = None
    """Peak learning rate of each; None: learn.lr."""
    weight_decay: NonNegative | None = None
    """Weight decay of each; None: learn.weight_decay. A trained network needs less than a new one."""
    es: EsConfig = field(
        default_factory=lambda: EsConfig(
            population=32, generations={"blocks": 24, "logits": 10}, step={"blocks": 0.03, "logits": 0.5}, moments="own"
        )
    )
    """The search: always es, in place of search.algorithm."""

    def learning(self, first: LearnConfig) -> LearnConfig:
        """Settings of each of these rounds' learning.

        Args:
            first: those of the first round.
        """
        own: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay}
        return replace(first, **{name: value for name, value in own.items() if value is not None})


@dataclass(frozen=True)
class SgdConfig(TrainConfig):
    groups: Annotated[tuple[Positive, ...], msgspec.Meta(min_length=1), NO_IDENTITY] = (1, 2)
    """ConvGroups a block to try (paper: 1, 2 and 3); the best on validation is reported."""


@dataclass(frozen=True)
class CompareConfig(Section):
    images: Annotated[int, at_least(7)] = 100
    """Number of validation images on which trajectories are measured. They are searched too, but never trained on. With another number
    all networks are trained again, since activations are recorded while a network is trained."""
    records: Annotated[int, at_least(2)] = 10
    """How many times, evenly spaced from before the first epoch to after the last, activations on these images are recorded.
    With another number all networks are trained again."""
