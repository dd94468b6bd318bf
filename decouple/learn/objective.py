"""The losses of learning from searched targets, and of the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from decouple.config import LearnConfig, TrainConfig
from decouple.data.images import Split
from decouple.errors import ConfigError, NetworkError
from decouple.fitness import Candidates, Peers, Terms, fitness, networks_in, terms_of
from decouple.formats import plural
from decouple.learn.heads import Heads, check_heads
from decouple.learn.live import LiveSearch
from decouple.networks.stages import Stages, apply_stage
from decouple.training.stream import Batch, Rows


class Targets(Protocol):
    """Searched activations of a split, by position."""

    @property
    def first_searched(self) -> int:
        """The first search point that was evolved; there are no targets before it."""
        ...

    def check(self, split: Split) -> None:
        """Raise DataError if these are the targets of other images than those of `split`."""
        ...

    def rows(self, positions: Tensor) -> list[Tensor]:
        """By search point from `first_searched` on: (B, …) targets of the images at `positions`, logits last; on the CPU, any float
        type.

        In a training this is called in another thread, ahead of the step: it must not use the network that is trained.
        """
        ...


def blocks_without_target(supervise: str, blocks: int, first_searched: int = 0) -> int:
    """How many blocks, from the front, `LearnConfig.supervise` leaves without a target.

    Args:
        first_searched: the first block that was evolved.

    >>> [blocks_without_target(choice, 3) for choice in ("all", "skip-first", "last")]
    [0, 1, 2]

    Raises:
        ConfigError: no block has one, or one that should have was not evolved.
    """
    if supervise == "skip-first" and blocks < 2:
        raise ConfigError(
            "supervise = skip-first leaves no target: the network has one block before the logits; use supervise = all"
        )
    skip = {"all": 0, "skip-first": 1, "last": blocks - 1}[supervise]
    if first_searched >= blocks:
        raise ConfigError(
            f"no block of this network has targets: point {first_searched} is the first that was searched, and the network has "
            f"{plural(blocks, 'block')} before the logits; search a block too (points = last), or cut both equally often"
        )
    if skip < first_searched:
        raise ConfigError(
            f"supervise = {supervise} takes targets from block {skip} on, and only those from block {first_searched} on are searched; "
            "use supervise = last, or search with points = all"
        )
    return skip


@dataclass(frozen=True)
class Regression:
    """τ · mean over blocks of MSE(H_θ(ℓ), Ĥ(ℓ)) + λ · KL(p̂ ‖ p_φ(· | stop-gradient(H_θ(last)))); the paper's τ is 1.

    The body learns from the MSE alone, the head from the KL alone: no classification gradient enters the body, and
    without live search the labels are not used at all. Source: Vegesna and Dahal, arXiv 2509.10973, "Learning".

    With live search (ours) there is another target of the last block, what it makes of the view plus the displacement d that
    `LiveSearch` finds: + ν/2 · ‖H_θ(last) − stop-gradient(H_θ(last) + d)‖², the mean over images.
    """

    targets: Targets
    kl_weight: float = 0.03
    skip: int = 0
    """Blocks without a target, from the front."""
    target_weight: float = 1.0
    live: LiveSearch | None = None
    norm: str = "mean"
    """mean: as above; sum: the squared error of a block is summed over its elements, and averaged over images."""
    heads: Heads | None = None
    """Judges at the earlier blocks, with a search of their own."""

    def check(self, train: Split, shapes: Sequence[tuple[int, ...]]) -> None:
        """Raise DataError of targets of other images, ConfigError where a block that is supervised has none, NetworkError of targets
        whose shapes are not those of the search points."""
        self.targets.check(train)
        if self.skip < self.targets.first_searched:
            raise ConfigError(
                f"skip = {self.skip}: the targets begin at block {self.targets.first_searched}; skip as many blocks, or search with "
                "points = all"
            )
        if self.skip >= len(shapes) - 1:
            raise ConfigError(
                f"skip = {self.skip} leaves no block with a target: the network has {plural(len(shapes) - 1, 'block')} before the "
                "logits"
            )
        searched = [tuple(rows.shape[1:]) for rows in self.targets.rows(torch.tensor([0], device="cpu"))]
        shapes = list(shapes)[self.targets.first_searched :]
        if shapes != searched:
            raise NetworkError(
                f"the network's search points have shapes {shapes} where there are targets, and these have {searched}: expected the "
                "same; search on a network with the same points, or cut this one elsewhere"
            )

    def fetch(self, positions: Tensor) -> list[Tensor]:
        """The targets of the supervised blocks and of the logits."""
        return self.targets.rows(positions)[self.skip - self.targets.first_searched :]

    def rows_on(self, device: torch.device, limit: int) -> Rows | None:
        """As `fetch`, from copies on `device`; None: they would take more than `limit` bytes, or these targets have no such
        copies (see `TargetStore.rows_on`)."""
        rows_on = getattr(self.targets, "rows_on", None)
        return None if rows_on is None else rows_on(device, limit, self.skip)

    def memory(self) -> dict[str, Tensor]:
        """What live search and the heads have learned, for a checkpoint."""
        return {**(self.live.memory() if self.live else {}), **(self.heads.memory() if self.heads else {})}

    def remember(self, memory: Mapping[str, Tensor]) -> None:
        """Go on with what `memory` gave."""
        if self.live is not None:
            self.live.guides = memory.get("guides")
        if self.heads is not None:
            self.heads.remember(memory)

    def networks(self) -> list[nn.Module] | None:
        """See `Capturable`."""
        return [] if self.live is None else networks_in(self.live.terms)

    def __call__(self, network: Stages, batch: Batch) -> Tensor:
        """The loss as float; the batch's targets of maps are in the type that the maps have, or in a wider one."""
        body, head = list(network)[:-1], network.stages[-1]
        *wanted, searched = batch.rows
        values, points, errors = batch.inputs, [], []
        for block, stage in enumerate(body):
            values = apply_stage(stage, values)
            points.append(values)
            if block >= self.skip:
                error = _SquaredError.apply(values, wanted[block - self.skip])
                errors.append(error * values[0].numel() if self.norm == "sum" else error)
        log_probabilities = functional.log_softmax(apply_stage(head, values.detach()).float(), 1)
        divergence = functional.kl_div(
            log_probabilities, functional.log_softmax(searched, 1), reduction="batchmean", log_target=True
        )
        loss = self.target_weight * torch.stack(errors).mean() + self.kl_weight * divergence
        if self.heads is not None:
            loss = loss + self.heads(points[:-1], searched.shape[1], batch)
        if self.live is None:
            return loss
        better = values.detach() + self.live.displacement(head, values, batch)
        return loss + self.live.config.weight / 2 * values[0].numel() * _SquaredError.apply(values, better)


def regression(targets: Targets, config: LearnConfig, blocks: int, terms: Terms = ()) -> Regression:
    """The objective that `config` asks for, of a network with so many blocks before the logits; `terms`: further ones of live
    search. Raises ConfigError: no block has a target or is there for a head, one that should have a target was not evolved, or
    there are terms and no live search."""
    if terms and not config.live.weight:
        raise ConfigError("terms are a part of live search's fitness: expected live.weight above 0, or none of them")
    skip = blocks_without_target(config.supervise, blocks, targets.first_searched)
    live = LiveSearch(config.live, (*terms_of(config), *terms)) if config.live.weight else None
    check_heads(config.heads, blocks)
    heads = Heads(config.heads * config.live.weight, config.live) if config.heads else None
    return Regression(targets, config.kl_weight, skip, config.target_weight, live, config.norm, heads)


class _SquaredError(torch.autograd.Function):
    """Mean of the squared difference of (B, …) tensors, in their wider type, for the first one's gradient alone.

    As `mse_loss`, in half the time on a CPU: it saves the difference, and fills no buffer before it writes the gradient.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, wanted: Tensor) -> Tensor:
        difference = values - wanted
        ctx.save_for_backward(difference)
        ctx.dtype = values.dtype
        # By image first: one sum of 10⁸ squares in float32 would lose digits.
        each = tuple(range(1, difference.dim()))
        kind = torch.promote_types(difference.dtype, torch.float32)
        return torch.linalg.vector_norm(difference, dim=each, dtype=kind).square().sum() / difference.numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (difference,) = ctx.saved_tensors
        return difference.to(ctx.dtype) * (gradient * (2 / difference.numel())).to(ctx.dtype), None


@dataclass(frozen=True)
class CrossEntropy:
    """The baseline's loss: the cross-entropy; with terms, minus the fitness that live search has with them; with heads at the earlier
    blocks, plus theirs."""

    terms: Terms = ()
    heads: Heads | None = None

    def memory(self) -> dict[str, Tensor]:
        """What the heads have learned, for a checkpoint."""
        return self.heads.memory() if self.heads else {}

    def remember(self, memory: Mapping[str, Tensor]) -> None:
        """Go on with what `memory` gave."""
        if self.heads is not None:
            self.heads.remember(memory)

    def networks(self) -> list[nn.Module] | None:
        """See `Capturable`."""
        return networks_in(self.terms)

    def __call__(self, network: Stages, batch: Batch) -> Tensor:
        if not self.terms and self.heads is None:
            return functional.cross_entropy(network(batch.inputs).float(), batch.labels)
        *points, values, logits = network.activations(batch.inputs)
        loss = self._without_heads(network, values, logits, batch)
        return loss if self.heads is None else loss + self.heads(points, logits.shape[1], batch)

    def _without_heads(self, network: Stages, values: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        peers = Peers(values.float(), batch.labels, batch.total)
        judge = partial(apply_stage, network.stages[-1])
        candidates = Candidates(values, logits.float(), batch.labels, peers, judge, batch.positions)
        return -fitness(candidates, self.terms).mean()


def cross_entropy(config: TrainConfig) -> CrossEntropy:
    """The baseline's objective that `config` asks for."""
    return CrossEntropy(terms_of(config), Heads(config.heads) if config.heads else None)
