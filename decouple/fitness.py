"""The fitness of activations: the log-probability of the true class, plus further terms.

A term is a small function on candidates. It may look at the representation itself, needs no head, and may compare an image with
the others of its step. It is written once: a search for stored targets and live search score candidates by it, and the SGD baseline
follows its gradient, so that whatever a search gains by a term can be compared with what SGD gains by the same term.

>>> def spread(candidates: Candidates) -> Tensor:
...     "Features that are far from 0."
...     return candidates.features().square().mean(2).sqrt()
>>> terms = [(0.1, spread), (10.0, similarity)]
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import ClassVar, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

from decouple.config.search import FitnessConfig
from decouple.errors import ConfigError, NotFiniteError
from decouple.networks.factored import Factored, plain, through


@dataclass(frozen=True)
class Peers:
    """The images that are searched together, or learned in one step, as they are now."""

    values: Tensor
    """(N, …) activations."""
    labels: Tensor
    """(N,)."""
    total: Callable[[Tensor], Tensor] = lambda value: value
    """The sum of something over all processes that share the step."""
    _likenesses: dict[int, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)

    @functools.cached_property
    def features(self) -> Tensor:
        """(N, F), see `pooled`; without gradient."""
        return pooled(self.values.detach())

    def likenesses(self, classes: int) -> tuple[Tensor, Tensor, Tensor]:
        """Sums over the images of all processes: f·fᵀ (F, F), f by class (C, F), and 1 by class (C,), where f is an image's features,
        centred and of length 1. They are made once, however many parts candidates are scored in: every process takes part in a sum.
        """
        if classes not in self._likenesses:
            unit = functional.normalize(_centred(self.features), dim=1)
            of_class = functional.one_hot(self.labels, classes).to(unit)
            sums = unit.T @ unit, of_class.T @ unit, of_class.sum(0)
            self._likenesses[classes] = (self.total(sums[0]), self.total(sums[1]), self.total(sums[2]))
        return self._likenesses[classes]


@dataclass(frozen=True)
class Candidates:
    """P candidates for each of B images at a search point, as a term sees them."""

    flat: Tensor
    """(B·P, …) activations. It may be a `Factored`, which behaves as any tensor."""
    logits: Tensor
    """(B·P, C) what the rest of the network makes of them."""
    labels: Tensor
    """(B,)."""
    peers: Peers
    """The images, and those beside them."""
    judge: Callable[[Tensor], Tensor]
    """Activations (N, …) at this point to logits (N, C): to ask what it makes of others, such as mirrored ones."""
    positions: Tensor | None = None
    """(B,) places of the images in what is learned from; None in a search for stored targets."""

    @functools.cached_property
    def pooled(self) -> Tensor:
        """(B·P, F) as `pooled`, a `Factored` if `flat` is one."""
        return pooled(self.flat)

    def values(self) -> Tensor:
        """(B, P, …) activations, written out."""
        return plain(self.flat).unflatten(0, (len(self.labels), -1))

    def features(self) -> Tensor:
        """(B, P, F) features, written out: means over space, or over tokens."""
        return plain(self.pooled).unflatten(0, (len(self.labels), -1))

    def log_probabilities(self) -> Tensor:
        """(B, P, C) float32."""
        return plain(self.logits).float().unflatten(0, (len(self.labels), -1)).log_softmax(2)


Term = Callable[[Candidates], Tensor]
"""Candidates to what they are worth, (B, P) float32, more being better. Written with operations that autograd follows, it serves SGD
too. It counts as one that looks at other images, unless it has an attribute `couples` that is False."""
Terms = Sequence[tuple[float, Term]]
"""Terms with their weights."""


def fitness(candidates: Candidates, terms: Terms = ()) -> Tensor:
    """log p(true class) + Σ weight · term, (B, P) float32.

    Raises:
        ConfigError: a term gives something of another shape, or its weight is no finite number.
        NotFiniteError: on a CPU, a term is finite for no candidate. Elsewhere this would wait for the device: a search looks once.
    """
    found = log_likelihood(candidates.logits, candidates.labels)
    for weight, term in terms:
        name, worth = getattr(term, "__name__", term), term(candidates)
        if not isinstance(weight, Real) or not math.isfinite(weight):
            raise ConfigError(f"the term {name} has the weight {weight!r}: expected a finite number")
        if not isinstance(worth, Tensor) or worth.shape != found.shape:
            given = tuple(worth.shape) if isinstance(worth, Tensor) else type(worth).__name__
            raise ConfigError(
                f"the term {name} gives {given}: expected a tensor with a value for each candidate, "
                f"(images, candidates) = {tuple(found.shape)}"
            )
        if worth.device.type == "cpu":
            check_some_finite(worth, f"the term {name}")
        found = found + weight * worth
    return found


def check_some_finite(values: Tensor, what: str) -> None:
    """Raise NotFiniteError if no value is finite: nothing could be searched, and the start would be taken for what was found."""
    if not torch.isfinite(values).any():
        raise NotFiniteError(f"{what} is NaN or infinite for every candidate: check what it computes")


def couples(terms: Terms) -> bool:
    """Whether what an image's candidates are worth depends on other images."""
    return any(getattr(term, "couples", True) for _, term in terms)


def log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """log p(true class), (B, P), of the logits (B·P, C) of P candidates of each of B images."""
    if isinstance(logits, Factored) and logits.described:
        scores = logits.by_element()
    else:
        scores = plain(logits).unflatten(0, (len(labels), -1)).movedim(2, 0)
    return scores.log_softmax(0)[labels, torch.arange(len(labels), device=labels.device)]


def similarity(candidates: Candidates) -> Tensor:
    """How well an image's features lie with those of its class and apart from the others: −2 · mean over the images j of the step of
    (cos(f, f_j) − [same class])², (B, P) in about −2 … 0; 2, since a pair counts for both of its images.

    f is the mean over space of the activations, centred over channels. The other images enter by sums over them alone: a matrix F×F,
    and a vector for each class.

    Source: Nøkland and Eidnes, "Training neural networks with local error signals" (2019), similarity matching, whose features are
    deviations over space.
    """
    labels = candidates.labels
    gram, sums, counts = candidates.peers.likenesses(candidates.logits.shape[1])
    features = _centred(candidates.pooled)
    length = quadratic(features, None, len(labels)).clamp_min(torch.finfo(torch.float32).tiny)
    squares = quadratic(features, gram, len(labels)) / length
    own = products(features, sums[labels]) * length.rsqrt()
    return -2 * (squares - 2 * own + counts[labels, None]) / counts.sum()


@dataclass(frozen=True)
class Agreement:
    """A term: how well the answer agrees with soft labels, Σ p̄ log p, such as those of networks that never saw the image."""

    probabilities: Tensor
    """p̄, (N, C), by position in what is learned from."""
    couples: ClassVar[bool] = False

    def __call__(self, candidates: Candidates) -> Tensor:
        """See `Term`. Raises ConfigError: in a search for stored targets, whose images have no positions."""
        if candidates.positions is None:
            raise ConfigError(
                "Agreement needs the positions of images: expected it in learning, not in a search for stored targets"
            )
        wanted = self.probabilities[candidates.positions.to(self.probabilities.device)].to(candidates.labels.device)
        return (candidates.log_probabilities() * wanted[:, None]).sum(2)


@dataclass(frozen=True)
class Judges:
    """A term: the mean log-probability of the true class over other networks' heads."""

    heads: Sequence[nn.Module]
    """Each takes the activations at this point and gives logits; in eval mode."""
    couples: ClassVar[bool] = False

    def __call__(self, candidates: Candidates) -> Tensor:
        """See `Term`."""
        answers = [through(head, candidates.flat) for head in self.heads]
        return torch.stack([log_likelihood(logits, candidates.labels) for logits in answers]).mean(0)


def networks_in(terms: Terms) -> list[nn.Module] | None:
    """The networks that these terms run; None: one of them may do more than operations on tensors of the step."""
    found: list[nn.Module] = []
    for _, term in terms:
        if isinstance(term, Judges):
            found += term.heads
        elif term is not similarity:
            return None
    return found


def terms_of(config: FitnessConfig) -> Terms:
    """Those that the settings ask for."""
    return ((config.similarity, similarity),) if config.similarity else ()


def pooled(values: Tensor) -> Tensor:
    """(N, F) float32: the mean over space of maps (N, F, H, W), over tokens (N, T, F); vectors as they are."""
    axes = {4: (2, 3), 3: (1,)}.get(values.dim())
    return (values.mean(axes) if axes else values).float()


def quadratic(features: Tensor, matrix: Tensor | None, images: int) -> Tensor:
    """fᵀMf, (B, P), of the features f (B·P, F) of each image's candidates and a symmetric M (F, F); None: the identity."""
    if _shared(features):
        return features.quadratic(matrix)
    whole = plain(features)
    return ((whole if matrix is None else whole @ matrix) * whole).sum(1).view(images, -1)


def products(features: Tensor, rows: Tensor) -> Tensor:
    """f·r, (B, P), of the features f (B·P, F) of each image's candidates and a row r (B, F) of the image."""
    if _shared(features):
        return features.products(rows)
    return (plain(features).unflatten(0, (len(rows), -1)) @ rows.unsqueeze(2)).squeeze(2)


def _centred(features: Tensor) -> Tensor:
    return features - features.mean(1, keepdim=True)


def _shared(features: Tensor) -> TypeGuard[Factored]:
    """Whether these are described by shared directions alone."""
    return isinstance(features, Factored) and features.described and not features._mix.own
