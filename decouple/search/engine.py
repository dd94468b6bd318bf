"""The layerwise search over one batch of images.

For each search point in turn: evolve the activations there, with earlier points fixed to what was found for them, so
that the rest of the untrained network classifies the image; keep the best; go on (paper, "Search").
"""

from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from decouple.config import is_searched
from decouple.data.images import as_float
from decouple.errors import ConfigError, NotFiniteError
from decouple.networks.stages import Stages
from decouple.search import operators
from decouple.search.algorithm import Algorithm, Fitness, SearchPoint
from decouple.search.judge import Judge
from decouple.seeds import derive
from decouple.torch_state import plain_torch

NOT_SEARCHED = "not searched"


@dataclass(frozen=True)
class Budget:
    """When to stop before all generations are done. Each search point gets a share as large as its generations, and at least one
    generation; what its last update has made is scored too."""

    evaluations: int | None = None
    """Candidates scored for an image, all points together: never more, unless a generation at each point is."""
    seconds: float | None = None
    """For the batch. The result then depends on the machine's speed."""
    target: float | None = None
    """p(true class), 0..1, that every image of the batch has to reach at a point."""


@dataclass(frozen=True)
class BatchResult:
    """What the search over a batch of B images found. L search points."""

    targets: list[Tensor]
    """By search point: (B, …) float32."""
    before: Tensor
    """(L, B) cross-entropy before a point was evolved, nats."""
    after: Tensor
    """(L, B) and after."""
    solved: Tensor
    """(L, B) bool: the class became the most probable one."""
    displacement: Tensor
    """(L, B) norm of the displacement over the norm of the start."""
    cosine: Tensor
    """(L, B) cosine of the displacement with the negative gradient of the loss at the start: how much of it is signal."""
    curves: list[Tensor]
    """By search point: (G + 1,) mean cross-entropy of the best so far, before the first generation and after each."""
    stops: list[str]
    """By search point: what ended it, "generations", "evaluations", "seconds" or "target"; or `NOT_SEARCHED`."""
    evaluations: int
    """Candidates scored for an image."""
    failed: int
    """Generations of an image in which every candidate's fitness was not finite."""


def search_points(network: Stages, image_shape: tuple[int, ...]) -> list[SearchPoint]:
    """The search points of a network for images of this shape."""
    shapes = network.shapes(image_shape)
    return [
        SearchPoint(name, i, len(shapes), shape) for i, (name, shape) in enumerate(zip(network.names, shapes, strict=True))
    ]


@plain_torch()
@torch.no_grad()
def search_batch(
    judge: Judge,
    images: Tensor,
    labels: Tensor,
    algorithm: Algorithm,
    *,
    seed: int,
    budget: Budget = Budget(),
    blocks: str = "all",
) -> BatchResult:
    """Search activations for every image of a batch, one search point after the other.

    Args:
        images: (B, C, H, W).
        labels: (B,) int64.
        algorithm: how.
        seed: of this solution; with the batch's contents it decides the result.
        budget: when to stop early.
        blocks: what is evolved, as `SearchConfig.blocks`; elsewhere the activations stay what the network makes of what is
            before them.

    Raises:
        NotFiniteError: the network's own output is not finite for some image.
    """
    points = judge.points(as_float(images[:2]))
    planned = [algorithm.generations(p) if is_searched(blocks, p.index, p.count) else 0 for p in points]
    began = time.monotonic()
    values = as_float(images)
    population = algorithm.inputs(values, derive(seed, "inputs"))
    found: list[_Found] = []
    for point in points:
        start = judge.advance(point.index, values)
        if population is not None:
            flat = judge.advance(point.index, population.flatten(0, 1))
            population = flat.unflatten(0, population.shape[:2])
        if planned[point.index] == 0:
            found.append(_left_alone(judge, point, start, labels))
            values = found[-1].target
            continue
        share = sum(planned[: point.index + 1]) / max(1, sum(planned))
        allowance = _Allowance(
            generations=planned[point.index],
            evaluations=None
            if budget.evaluations is None
            else int(share * budget.evaluations) - sum(f.evaluations for f in found),
            deadline=None if budget.seconds is None else began + share * budget.seconds,
            fitness=None if budget.target is None else math.log(budget.target),
        )
        state, result = _search_point(
            judge, point, start, labels, algorithm, population, derive(seed, point.name), allowance
        )
        found.append(result)
        values = result.target
        population = algorithm.population(state)
    return BatchResult(
        targets=[f.target for f in found],
        before=torch.stack([f.before for f in found]),
        after=torch.stack([f.after for f in found]),
        solved=torch.stack([f.solved for f in found]),
        displacement=torch.stack([f.displacement for f in found]),
        cosine=torch.stack([f.cosine for f in found]),
        curves=[f.curve for f in found],
        stops=[f.stop for f in found],
        evaluations=sum(f.evaluations for f in found),
        failed=sum(f.failed for f in found),
    )


def _check_shape(algorithm: Algorithm, method: str, values: Tensor, leading: tuple[int, ...], point: SearchPoint) -> None:
    """Refuse what would be broadcast, or fail in the network, with a word that does not name the algorithm."""
    if tuple(values.shape) != (*leading, *point.shape):
        raise ConfigError(
            f"{type(algorithm).__name__}.{method} gives activations of shape {tuple(values.shape)} at '{point.name}': expected "
            f"{'(images, candidates, …)' if method == 'ask' else '(images, …)'} = {(*leading, *point.shape)}"
        )


@dataclass(frozen=True)
class _Allowance:
    """What one search point may use."""

    generations: int
    evaluations: int | None
    deadline: float | None
    fitness: float | None

    def stop(self, generation: int, evaluations: int, ahead: int, best: Tensor) -> str | None:
        """Why there is no further generation, or None; `ahead`: candidates that it, and what would end the search, score."""
        if self.fitness is not None and bool((best >= self.fitness).all()):
            return "target"
        if generation >= self.generations:
            return "generations"
        if generation == 0:
            return None
        if self.evaluations is not None and evaluations + ahead > self.evaluations:
            return "evaluations"
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return "seconds"
        return None


@dataclass(frozen=True)
class _Found:
    """What the search at one point found; fields as in `BatchResult`."""

    target: Tensor
    before: Tensor
    after: Tensor
    solved: Tensor
    displacement: Tensor
    cosine: Tensor
    curve: Tensor
    stop: str
    evaluations: int
    failed: int


def _left_alone(judge: Judge, point: SearchPoint, start: Tensor, labels: Tensor) -> _Found:
    """What there is to say of a point that is not searched."""
    logits = judge.logits(point, start)
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    nothing = torch.zeros_like(loss)
    return _Found(
        target=start.float(),
        before=loss,
        after=loss,
        solved=logits.argmax(1) == labels,
        displacement=nothing,
        cosine=nothing,
        curve=loss.mean().unsqueeze(0),
        stop=NOT_SEARCHED,
        evaluations=0,
        failed=0,
    )


def _search_point(
    judge: Judge,
    point: SearchPoint,
    start: Tensor,
    labels: Tensor,
    algorithm: Algorithm,
    population: Tensor | None,
    seed: int,
    allowance: _Allowance,
) -> tuple[Any, _Found]:
    fitness_of: Fitness = functools.partial(judge.fitness, point, labels=labels)
    initial = fitness_of(start.unsqueeze(1)).squeeze(1)
    if not torch.isfinite(initial).all():
        image = int(torch.isfinite(initial).logical_not().nonzero()[0])
        raise NotFiniteError(
            f"the network's output for image {image} of the batch is not finite at '{point.name}': check the network and the "
            "scale of the images"
        )
    state = algorithm.init(start, point, seed, population, fitness_of)
    best, curve = initial, [-initial.mean()]
    generation = evaluations = failed = ahead = 0
    while (stop := allowance.stop(generation, evaluations, ahead, best)) is None:
        # Nothing would come of an update after the last generation: it scores what the one before has made.
        pending = algorithm.pending(state) if generation == allowance.generations - 1 else None
        if pending is None:
            candidates, state = algorithm.ask(state)
            known = None if judge.couples(point) else algorithm.known(state)
        else:
            candidates, known = pending, None
        _check_shape(algorithm, "ask", candidates, (len(start), candidates.shape[1] if candidates.dim() > 1 else 0), point)
        fresh = candidates if known is None else candidates[:, known.shape[1] :]
        fitness = operators.masked(fitness_of(fresh))
        if known is not None:  # their score cannot have changed
            fitness = torch.cat([known, fitness], dim=1)
        failed += int(torch.isinf(fitness).all(1).sum())
        state = algorithm.tell(state, candidates, fitness)
        best = torch.maximum(best, algorithm.best(state)[1])
        curve.append(-best.mean())
        evaluations += fresh.shape[1]
        generation += 1
        if allowance.evaluations is not None:
            pending = algorithm.pending(state)
            ahead = fresh.shape[1] + (0 if pending is None else pending.shape[1])
    if stop in ("evaluations", "seconds") and (pending := algorithm.pending(state)) is not None:
        state = algorithm.tell(state, pending, operators.masked(fitness_of(pending)))
        best = torch.maximum(best, algorithm.best(state)[1])
        curve.append(-best.mean())
        evaluations += pending.shape[1]
    target, reached = algorithm.best(state)
    _check_shape(algorithm, "best", target, (len(start),), point)
    # Where no generation gave anything finite, or there was none, the start stands.
    kept = torch.isfinite(reached).view(-1, *[1] * len(point.shape))
    target = torch.where(kept, target, start.float())
    logits = judge.logits(point, target.to(start.dtype))
    moved = (target - start.float()).flatten(1)
    size = moved.norm(dim=1)
    downhill = operators.gradient(fitness_of, start).flatten(1)
    return state, _Found(
        target=target,
        before=-initial,
        after=torch.nn.functional.cross_entropy(logits, labels, reduction="none"),
        solved=logits.argmax(1) == labels,
        displacement=torch.where(
            size == 0, size, size / start.float().flatten(1).norm(dim=1)
        ),  # a start may be zero throughout
        cosine=torch.nn.functional.cosine_similarity(moved, downhill, dim=1),
        curve=torch.stack(curve),
        stop=stop,
        evaluations=evaluations,
        failed=failed,
    )
