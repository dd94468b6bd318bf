"""The layerwise search over one batch of images.

For each search point in turn: evolve the activations there, with earlier points fixed to what was found for them, so
that the rest of the untrained network classifies the image; keep the best; go on (paper, "Search").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from decouple.data.images import as_float
from decouple.device import memory_for
from decouple.errors import ConfigError, NotFiniteError
from decouple.networks.stages import Stages
from decouple.search import operators
from decouple.search.algorithm import Algorithm, SearchPoint, chosen, points_of
from decouple.search.judge import Judge
from decouple.seeds import derive
from decouple.torch_state import plain_torch

NOT_SEARCHED = "not searched"
NEEDED = "a search batch", "--search.batch, the population or --network.width"
"""What may need more memory than there is, and what is then to be lowered."""

Observer = Callable[[SearchPoint, int, Tensor], None]
"""Called after each generation with the search point, the generation's number from 0 on, and the best so far, (B, …)."""


@dataclass(frozen=True)
class Budget:
    """When to stop before all generations are done. Each search point gets a share as large as its generations, and at least one
    generation; where these or the evaluations end it, what its last update has made is scored too."""

    evaluations: int | None = None
    """Candidates scored for an image, all points together: never more, unless a generation at each point is."""
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
    """(L, B) cosine of the displacement with the gradient of the fitness at the start: how much of it is signal; 0 where the network
    has no gradient."""
    curves: list[Tensor]
    """By search point: (G + 1,) minus the mean fitness, without further terms the cross-entropy: of the start, and of what would be
    kept after each generation. The start is kept only where no candidate has a finite fitness."""
    stops: list[str]
    """By search point: what ended it, "generations", "evaluations" or "target"; or `NOT_SEARCHED`."""
    evaluations: int
    """Candidates scored for an image."""
    failed: int
    """Generations of an image in which every candidate's fitness was not finite."""


def search_points(network: Stages, image_shape: tuple[int, ...]) -> list[SearchPoint]:
    """The search points of a network for images of this shape."""
    return points_of(network.names, network.shapes(image_shape))


@memory_for(*NEEDED)
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
    points: str | Sequence[str] = "all",
    observe: Observer | None = None,
) -> BatchResult:
    """Search activations for every image of a batch, one search point after the other.

    Args:
        images: (B, C, H, W).
        labels: (B,) int64.
        algorithm: how.
        seed: of this solution; with the batch's contents it decides the result.
        points: what is evolved, as `SearchConfig.points`; elsewhere activations follow from what is before them.

    Raises:
        ConfigError: there is no such search point.
        NotFiniteError: the network's own output is not finite for some image.
        MemoryLimitError: the memory does not suffice.
    """
    batches = [(images, labels)]
    return search_batches(judge, batches, algorithm, seed=seed, budget=budget, points=points, observe=observe)[0]


@plain_torch()
@torch.no_grad()
def search_batches(
    judge: Judge,
    batches: Sequence[tuple[Tensor, Tensor]],
    algorithm: Algorithm,
    *,
    seed: int,
    budget: Budget = Budget(),
    points: str | Sequence[str] = "all",
    observe: Observer | None = None,
) -> list[BatchResult]:
    """What `search_batch` gives for each of several batches of images and labels, which are evolved together.

    It is the same up to rounding, and takes less time where a generation is little work, if the algorithm gives an image the same in
    any company (`Algorithm.joins`), no evolved candidate influences another (`Judge.couples`), and the budget has no `target`.
    Each batch passes through the network by itself.
    """
    images = torch.cat([as_float(of_batch) for of_batch, _ in batches])
    labels = torch.cat([of_batch for _, of_batch in batches])
    sizes = [len(of_batch) for _, of_batch in batches]
    by_batch = [_activations(judge, of_batch) for of_batch in images.split(sizes)]
    own = [torch.cat(of_point) for of_point in zip(*by_batch, strict=True)]
    verdict = _Verdict.of(own[-1].float(), labels)
    everywhere = points_of(judge.network.names, [tuple(values.shape[1:]) for values in own])
    evolved = chosen(everywhere, points)
    planned = [algorithm.generations(point) if point in evolved else 0 for point in everywhere]
    population = algorithm.inputs(images, everywhere[0], derive(seed, "inputs"))
    found: list[_Found] = []
    for point in everywhere:
        moved = any(f.stop != NOT_SEARCHED for f in found)
        start = judge.advance(point.index, found[-1].target) if moved else own[point.index]
        place = _Place(judge, point, start, labels, verdict)
        if population is not None:
            flat = judge.advance(point.index, population.flatten(0, 1))
            population = flat.unflatten(0, population.shape[:2])
        if planned[point.index] == 0:
            found.append(place.left_alone())
        else:
            share, spent = sum(planned[: point.index + 1]) / sum(planned), sum(f.evaluations for f in found)
            allowance = _Allowance.of(budget, planned[point.index], share, spent=spent)
            evolution = _Evolution(place, algorithm, population, derive(seed, point.name), observe)
            found.append(evolution.run(allowance))
            population = algorithm.population(evolution.state)
        verdict = found[-1].verdict
    return _results(found, sizes, everywhere)


def _activations(judge: Judge, values: Tensor) -> list[Tensor]:
    """What the network itself makes of the images, at every search point."""
    own = []
    for index in range(len(judge.network)):
        values = judge.advance(index, values)
        own.append(values)
    return own


def _check_shape(algorithm: Algorithm, method: str, values: Tensor, leading: tuple[int, ...], point: SearchPoint) -> None:
    """Refuse what would be broadcast, or fail in the network, with a word that does not name the algorithm."""
    if not isinstance(values, Tensor) or tuple(values.shape) != (*leading, *point.shape):
        given = f"activations of shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise ConfigError(
            f"{type(algorithm).__name__}.{method} gives {given} at '{point.name}': expected "
            f"{'(images, candidates, …)' if method == 'ask' else '(images, …)'} = {(*leading, *point.shape)}"
        )


@dataclass(frozen=True)
class _Allowance:
    """What one search point may use."""

    generations: int
    evaluations: int | None
    fitness: float | None

    @classmethod
    def of(cls, budget: Budget, generations: int, share: float, *, spent: int) -> _Allowance:
        """What is left for a point; `share`: of the budget, for this point and those before it, which `spent` evaluations."""
        return cls(
            generations=generations,
            evaluations=None if budget.evaluations is None else int(share * budget.evaluations) - spent,
            fitness=None if budget.target is None else math.log(budget.target),
        )

    def stop(self, evolution: _Evolution) -> str | None:
        """Why there is no further generation, or None."""
        if self.fitness is not None and bool((evolution.best >= self.fitness).all()):
            return "target"
        if evolution.generations >= self.generations:
            return "generations"
        if evolution.generations == 0:
            return None
        if self.evaluations is not None and evolution.evaluations + evolution.ahead() > self.evaluations:
            return "evaluations"
        return None


@dataclass(frozen=True)
class _Verdict:
    """How the network classifies a batch; behind the point where that was judged it is the same at every further one."""

    loss: Tensor
    """(B,) cross-entropy."""
    solved: Tensor
    """(B,) bool."""

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor) -> _Verdict:
        return cls(functional.cross_entropy(logits, labels, reduction="none"), logits.argmax(1) == labels)


@dataclass(frozen=True)
class _Found:
    """What the search at one point found; fields as in `BatchResult`."""

    target: Tensor
    before: Tensor
    verdict: _Verdict
    """On the targets."""
    displacement: Tensor
    cosine: Tensor
    curve: Tensor
    """(G + 1, B)."""
    stop: str
    evaluations: int
    failed: Tensor
    """(B,) generations."""


def _results(found: list[_Found], sizes: Sequence[int], points: Sequence[SearchPoint]) -> list[BatchResult]:
    """What was found at all points, for each batch of so many images. Here a search waits for its device, and before only where
    `Budget.target` asks for it.

    Raises:
        NotFiniteError: the network's output is not finite for some image.
    """
    for point, loss, searched in zip(points, torch.stack([f.before for f in found]).cpu(), found, strict=True):
        if searched.stop != NOT_SEARCHED:
            _check_finite(loss, point)
    failed = torch.stack([f.failed for f in found]).sum(0).cpu()
    results, start = [], 0
    for size in sizes:
        of_batch = slice(start, start + size)
        results.append(
            BatchResult(
                targets=[f.target[of_batch] for f in found],
                before=torch.stack([f.before[of_batch] for f in found]),
                after=torch.stack([f.verdict.loss[of_batch] for f in found]),
                solved=torch.stack([f.verdict.solved[of_batch] for f in found]),
                displacement=torch.stack([f.displacement[of_batch] for f in found]),
                cosine=torch.stack([f.cosine[of_batch] for f in found]),
                curves=[f.curve[:, of_batch].mean(1) for f in found],
                stops=[f.stop for f in found],
                evaluations=sum(f.evaluations for f in found),
                failed=int(failed[of_batch].sum()),
            )
        )
        start += size
    return results


def _check_finite(loss: Tensor, point: SearchPoint) -> None:
    """Raise NotFiniteError if the cross-entropy (B,) of what a search at this point starts from is not finite for some image."""
    if not (finite := torch.isfinite(loss)).all():
        raise NotFiniteError(
            f"the network's output for image {int(finite.logical_not().nonzero()[0])} of those searched together is not finite at "
            f"'{point.name}': check the network and the scale of the images"
        )


@dataclass(frozen=True)
class _Place:
    """A search point, and the images whose activations (B, …) there are to be judged."""

    judge: Judge
    point: SearchPoint
    start: Tensor
    labels: Tensor
    verdict: _Verdict
    """On these activations."""

    def fitness(self, candidates: Tensor) -> Tensor:
        return self.judge.fitness(self.point, candidates, self.labels)

    def initial(self) -> Tensor:
        """(B,) fitness of the start."""
        return self.fitness(self.start.unsqueeze(1)).squeeze(1) if self.judge.terms else -self.verdict.loss

    def left_alone(self) -> _Found:
        """The result for a point that is not searched."""
        loss = self.verdict.loss
        nothing = torch.zeros_like(loss)
        return _Found(
            target=self.start.float(),
            before=loss,
            verdict=self.verdict,
            displacement=nothing,
            cosine=nothing,
            curve=loss.unsqueeze(0),
            stop=NOT_SEARCHED,
            evaluations=0,
            failed=torch.zeros_like(loss, dtype=torch.int64),
        )


class _Evolution:
    """The search at one point, generation by generation."""

    def __init__(
        self, place: _Place, algorithm: Algorithm, population: Tensor | None, seed: int, observe: Observer | None
    ) -> None:
        self._place, self._algorithm, self._observe = place, algorithm, observe
        if place.start.device.type == "cpu":  # elsewhere this would wait for the device
            _check_finite(place.verdict.loss, place.point)
        self._initial = place.initial()
        """(B,) fitness of the start."""
        self.state = algorithm.init(place.start, place.point, seed, population, place.fitness)
        self.best, self._curve = self._initial, [self._initial]
        self.generations = self.evaluations = 0
        self._scored = 0
        self._failed = torch.zeros_like(self._initial, dtype=torch.int64)

    def run(self, allowance: _Allowance) -> _Found:
        """Evolve until the allowance ends it."""
        while (stop := allowance.stop(self)) is None:
            # Nothing would come of an update after the last generation: it scores what the one before has made.
            last = self.generations == allowance.generations - 1
            if not (last and self._score_pending()):
                candidates, self.state = self._algorithm.ask(self.state)
                known = None if self._place.judge.couples(self._place.point) else self._algorithm.known(self.state)
                self._score(candidates, known)
        if stop == "evaluations":
            self._score_pending()
        return self._found(stop)

    def ahead(self) -> int:
        """Candidates that a further generation, and what would end the search after it, score."""
        pending = self._algorithm.pending(self.state)
        return self._scored + (0 if pending is None else pending.shape[1])

    def _score_pending(self) -> bool:
        """Score what the last update has made, if it has made anything that no generation has scored."""
        pending = self._algorithm.pending(self.state)
        if pending is not None:
            self._score(pending)
        return pending is not None

    def _score(self, candidates: Tensor, known: Tensor | None = None) -> None:
        count = candidates.shape[1] if isinstance(candidates, Tensor) and candidates.dim() > 1 else 0
        _check_shape(self._algorithm, "ask", candidates, (len(self._initial), count), self._place.point)
        fresh = candidates if known is None else candidates[:, known.shape[1] :]
        fitness = operators.masked(self._place.fitness(fresh))
        if known is not None:  # their score cannot have changed
            fitness = torch.cat([known, fitness], dim=1)
        self._failed = self._failed + fitness.amax(1).isinf()
        self.state = self._algorithm.tell(self.state, candidates, fitness)
        if self.state is None:
            raise ConfigError(f"{type(self._algorithm).__name__}.tell returns None: expected the new state")
        best, reached = self._algorithm.best(self.state)
        self.best = torch.where(torch.isfinite(reached), reached, self._initial)  # as `_found` keeps it
        self._curve.append(self.best)
        self._scored = fresh.shape[1]
        self.evaluations += self._scored
        if self._observe is not None:
            self._observe(self._place.point, self.generations, best)
        self.generations += 1

    def _found(self, stop: str) -> _Found:
        place, point, start = self._place, self._place.point, self._place.start
        target, reached = self._algorithm.best(self.state)
        _check_shape(self._algorithm, "best", target, (len(start),), point)
        # Where no generation gave anything finite, or there was none, the start stands.
        kept = torch.isfinite(reached).view(-1, *[1] * len(point.shape))
        target = torch.where(kept, target, start.float())
        logits = place.judge.logits(point, target.to(start.dtype))
        own, moved = start.float().flatten(1), (target - start.float()).flatten(1)
        uphill = operators.gradient(place.fitness, start)
        uphill = torch.zeros_like(moved) if uphill is None else uphill.flatten(1)
        return _Found(
            target=target,
            before=place.verdict.loss,
            verdict=_Verdict.of(logits, place.labels),
            displacement=(moved.norm(dim=1) / own.norm(dim=1)).nan_to_num(0.0, torch.inf),  # both may be zero throughout
            cosine=functional.cosine_similarity(moved, uphill, dim=1),
            curve=-torch.stack(self._curve),
            stop=stop,
            evaluations=self.evaluations,
            failed=self._failed,
        )
