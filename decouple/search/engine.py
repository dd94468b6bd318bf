"""The layerwise search over one batch of images.

For each search point in turn: evolve the activations there, with earlier points fixed to what was found for them, so
that the rest of the untrained network classifies the image; keep the best; go on (paper, "Search").
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from decouple.data.images import as_float
from decouple.errors import DataError, NotFiniteError
from decouple.networks.stages import Stages
from decouple.search import operators
from decouple.search.algorithm import Algorithm, SearchPoint
from decouple.seeds import derive


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
    curves: list[Tensor]
    """By search point: (G + 1,) mean cross-entropy of the best so far, before the first generation and after each."""
    evaluations: int
    """Candidates scored for an image."""
    failed: int
    """Generations of an image in which every candidate's fitness was not finite."""


def judge(network: Stages, *, statistics: str, dtype: torch.dtype, pilot: Tensor | None = None) -> Stages:
    """A frozen copy of `network` that scores candidates.

    Args:
        network: untrained, or trained in a later round.
        statistics: "batch": BatchNorm uses the statistics of the candidates that it scores together (paper);
            "frozen": those of the unperturbed `pilot` images, which makes images independent of each other.
        dtype: of the arithmetic. The last stage, the head, stays float32: differences of fitness live there.
        pilot: (N, C, H, W) images for "frozen".
    """
    copied = copy.deepcopy(network).requires_grad_(False).eval()
    norms = [m for m in copied.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if statistics == "frozen" and norms:
        if pilot is None:
            raise DataError("frozen statistics need pilot images to take them from")
        _measure_statistics(copied, norms, pilot)
    elif statistics == "batch":
        for norm in norms:
            norm.train()
            norm.track_running_stats = False
    for stage in list(copied)[:-1]:
        stage.to(dtype)
    return copied


def search_points(network: Stages, image_shape: tuple[int, ...]) -> list[SearchPoint]:
    """The search points of a network for images of this shape."""
    shapes = network.shapes(image_shape)
    return [
        SearchPoint(name, i, len(shapes), shape) for i, (name, shape) in enumerate(zip(network.names, shapes, strict=True))
    ]


@torch.inference_mode()
def search_batch(network: Stages, images: Tensor, labels: Tensor, algorithm: Algorithm, *, seed: int) -> BatchResult:
    """Search activations for every image of a batch, one search point after the other.

    Args:
        network: from `judge`.
        images: (B, C, H, W).
        labels: (B,) int64.
        algorithm: how.
        seed: of this solution; with the batch's contents it decides the result.

    Raises:
        NotFiniteError: the network's own output is not finite for some image.
    """
    dtype = next((p.dtype for p in network.stages[0].parameters()), torch.float32)
    values = as_float(images)
    population = algorithm.inputs(values, derive(seed, "inputs"))
    targets, before, after, solved, displacement, curves = [], [], [], [], [], []
    evaluations = failed = 0
    for index, (name, stage) in enumerate(zip(network.names, network, strict=True)):
        takes = torch.float32 if index == len(network) - 1 else dtype
        start = stage(values.to(takes))
        point = SearchPoint(name, index, len(network), tuple(start.shape[1:]))
        initial, _ = _score(network, point, start, labels)
        if not torch.isfinite(initial).all():
            image = int(torch.isfinite(initial).logical_not().nonzero()[0])
            raise NotFiniteError(
                f"the network's output for image {image} of the batch is not finite at '{point.name}': check the network "
                "and the scale of the images"
            )
        if population is not None:
            population = stage(population.flatten(0, 1).to(takes)).unflatten(0, population.shape[:2])
        state = algorithm.init(start, point, derive(seed, point.name), population)
        best = -initial
        curve = [initial.mean()]
        for _ in range(algorithm.generations(point)):
            candidates, state = algorithm.ask(state)
            loss, _ = _score_candidates(network, point, candidates, labels, dtype)
            fitness = operators.masked(-loss)
            failed += int(torch.isinf(fitness).all(1).sum())
            state = algorithm.tell(state, candidates, fitness)
            best = torch.maximum(best, algorithm.best(state)[1])
            curve.append(-best.mean())
            evaluations += candidates.shape[1]
        found, fitness = algorithm.best(state)
        # Where no generation gave anything finite, or there was none, the start stands.
        kept = torch.isfinite(fitness).view(-1, *[1] * len(point.shape))
        found = torch.where(kept, found, start.float())
        loss, correct = _score(network, point, found.to(start.dtype), labels)
        targets.append(found)
        before.append(initial)
        after.append(loss)
        solved.append(correct)
        displacement.append((found - start.float()).flatten(1).norm(dim=1) / start.float().flatten(1).norm(dim=1))
        curves.append(torch.stack(curve))
        values = found
        population = algorithm.population(state)
    return BatchResult(
        targets=targets,
        before=torch.stack(before),
        after=torch.stack(after),
        solved=torch.stack(solved),
        displacement=torch.stack(displacement),
        curves=curves,
        evaluations=evaluations,
        failed=failed,
    )


def _score_candidates(
    network: Stages, point: SearchPoint, candidates: Tensor, labels: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and correctness, each (B, P), of candidates (B, P, …)."""
    images, count = candidates.shape[:2]
    flat = candidates.flatten(0, 1)
    if point.kind != "logits":
        flat = flat.to(dtype)
    loss, correct = _score(network, point, flat, labels.repeat_interleave(count))
    return loss.view(images, count), correct.view(images, count)


def _score(network: Stages, point: SearchPoint, values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy (N,) float32 and correctness (N,) of activations (N, …) at a search point."""
    for stage in list(network)[point.index + 1 : -1]:
        values = stage(values)
    logits = values.float()
    if point.kind != "logits":
        logits = network.stages[-1](logits)
    return functional.cross_entropy(logits, labels, reduction="none"), logits.argmax(1) == labels


def _measure_statistics(network: Stages, norms: list[nn.modules.batchnorm._BatchNorm], pilot: Tensor) -> None:
    """Set the running statistics of BatchNorm to exactly those of the pilot images."""
    for norm in norms:
        norm.train()
        norm.track_running_stats = True
        norm.momentum = 1.0
        norm.running_mean = torch.zeros(norm.num_features, device=pilot.device)
        norm.running_var = torch.ones(norm.num_features, device=pilot.device)
        norm.num_batches_tracked = torch.tensor(0, device=pilot.device)
    with torch.no_grad():
        network(as_float(pilot))
    for norm in norms:
        norm.eval()
