"""What a search algorithm is.

The form is that of EvoTorch's functional algorithms: an immutable state and pure functions on it, with the images as
leading batch dimension. B images, P candidates, … the shape of one activation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from decouple.config import EsConfig, SearchConfig
from decouple.errors import ConfigError, NetworkError, did_you_mean
from decouple.fitness import Terms

Fitness = Callable[[Tensor], Tensor]
"""Candidates (B, P, …) to their fitness, (B, P) float32: log p(true class), and terms beside it; differentiable."""

Kind = Literal["map", "tokens", "vector", "logits"]
Value = TypeVar("Value", int, float)


@dataclass(frozen=True)
class SearchPoint:
    """Where in the network a search takes place."""

    name: str
    index: int
    """0 … count − 1; the last are the logits."""
    count: int
    shape: tuple[int, ...]
    """Of one example: (C, H, W), (T, D) or (D,)."""
    others: tuple[str, ...] = ()
    """Names of the network's points, which stand for these alone: `block1` may be a user's name for the first block."""

    @property
    def kind(self) -> Kind:
        if self.index == self.count - 1:
            return "logits"
        return {3: "map", 2: "tokens", 1: "vector"}[len(self.shape)]  # type: ignore[return-value]

    @property
    def names(self) -> tuple[str, ...]:
        """What settings may call it, the most particular name first: its own, block0, block1, … by its place, blocks; or logits."""
        place = f"block{self.index}"
        names = ("logits",) if self.kind == "logits" else ("blocks",) if place in self.others else (place, "blocks")
        return tuple(dict.fromkeys((self.name, *names)))

    def setting(self, value: Value | Mapping[str, Value]) -> Value:
        """The value of a setting at this point.

        >>> SearchPoint("block1", 1, 4, (8, 4, 4)).setting({"block0": 300, "blocks": 100, "logits": 10})
        100

        Raises:
            ConfigError: none of the names is this point's.
        """
        if not isinstance(value, Mapping):
            return value
        for name in self.names:
            if name in value:
                return value[name]
        raise ConfigError(
            f"the setting {dict(value)} has no value for the search point '{self.name}': add one for {' or '.join(self.names)}"
        )


def points_of(names: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> list[SearchPoint]:
    """The search points of these names and shapes, in the order of the network.

    Raises:
        NetworkError: the values of a point have no shape that can be searched.
    """
    points = [
        SearchPoint(name, i, len(names), tuple(shape), tuple(names))
        for i, (name, shape) in enumerate(zip(names, shapes, strict=True))
    ]
    for point in points:
        if not 1 <= len(point.shape) <= 3:
            raise NetworkError(
                f"the values of an image at '{point.name}' have shape {point.shape}: expected (C, H, W), (T, D) or (D,); cut the "
                "network elsewhere"
            )
    return points


def chosen(points: Sequence[SearchPoint], names: str | Sequence[str]) -> list[SearchPoint]:
    """The points that `SearchConfig.points` names, in their order.

    >>> points = [SearchPoint(name, i, 3, (4,)) for i, name in enumerate(["block0", "block1", "logits"])]
    >>> [point.name for point in chosen(points, "last")], [point.name for point in chosen(points, ["block0"])]
    (['block1', 'logits'], ['block0'])

    Raises:
        ConfigError: there is no such point.
    """
    found: set[int] = set()
    for name in [names] if isinstance(names, str) else names:
        groups = {"last": points[-2:], "all": points}
        own = [point for point in points if point.name == name]
        of_name = own or [point for point in points if name in point.names] or groups.get(name, [])
        if not of_name:
            known = [*(point.name for point in points), *groups]
            raise ConfigError(f"search.points = {name}: the network has no such search point{did_you_mean(name, known)}")
        found |= {point.index for point in of_name}
    return [point for point in points if point.index in found]


class Algorithm(ABC):
    """Evolves the activations of a batch of images at one search point towards a higher fitness.

    `ask` and `tell` change nothing in place: they return a new state. All randomness comes from the seed of `init`.
    A subclass gives `generations`, `init`, `ask`, `tell` and `best`, and should be a frozen dataclass, or have a `__repr__`
    that tells its settings: it names the targets.
    """

    label: ClassVar[str] = ""
    """What the report calls it; empty: the name of the class."""
    note: ClassVar[str] = ""
    """A limit of the method that the report mentions, if any."""
    backpropagates: ClassVar[bool] = False
    """Whether it uses gradients of the fitness, which a search does not."""
    sections: ClassVar[tuple[str, ...]] = ("es", "paper")
    """The sections of `SearchConfig` that `create` reads; a change of the others makes no other targets."""
    terms: ClassVar[Terms] = ()
    """Fitness terms, with their weights, that are added to those of the settings (see `decouple.fitness`)."""
    float_populations: ClassVar[int] = 1
    """Copies of a population in float32 that are alive at once, for the estimate of the memory."""

    @classmethod
    def create(cls, config: SearchConfig, seed: int, solution: int) -> Algorithm:
        """The algorithm with the settings and the seed of a run, for the solution with this number."""
        return cls()

    @property
    def joins(self) -> bool:
        """Whether the result for an image depends, up to rounding, neither on the other images of its batch nor on the seed of
        `init`, so that several batches can be searched together."""
        return False

    @abstractmethod
    def generations(self, point: SearchPoint) -> int:
        """Number of generations at this point: calls of `ask` and `tell`, where in the last one `pending` replaces `ask` if it gives
        candidates."""

    @abstractmethod
    def init(self, start: Tensor, point: SearchPoint, seed: int, population: Tensor | None, fitness: Fitness) -> Any:
        """The state before the first generation.

        Args:
            start: (B, …) the network's own activations.
            population: (B, P, …) what the inputs, or the population of the preceding search point, became here; None
                where `inputs` or `population` gave none.
            fitness: the judge itself, for references that look inside; a search only uses what `tell` is given.
        """

    @abstractmethod
    def ask(self, state: Any) -> tuple[Tensor, Any]:
        """Candidates (B, P, …) to score, and the new state."""

    @abstractmethod
    def tell(self, state: Any, candidates: Tensor, fitness: Tensor) -> Any:
        """The state after the candidates got their fitness (B, P); −inf marks one that failed."""

    @abstractmethod
    def best(self, state: Any) -> tuple[Tensor, Tensor]:
        """The solution (B, …) and its fitness (B,)."""

    def inputs(self, images: Tensor, point: SearchPoint, seed: int) -> Tensor | None:
        """Noisy copies (B, P, C, H, W) of float images, to propagate to the first search point; None: not wanted."""
        return None

    def known(self, state: Any) -> Tensor | None:
        """Fitness (B, k) of the first k candidates of the last `ask`, where an earlier generation has scored them; they
        are not scored again unless candidates influence each other. None: all are new."""
        return None

    def pending(self, state: Any) -> Tensor | None:
        """Candidates (B, n, …) that the last `tell` has made and nothing has scored yet, such as a moved centre: the last
        generation scores only these, and so does a search whose evaluations are spent. None: there are none."""
        return None

    def population(self, state: Any) -> Tensor | None:
        """What to propagate to the next search point, (B, P, …); None: only the best."""
        return None

    def candidates(self, point: SearchPoint) -> int:
        """Candidates of a generation for an image, as far as an estimate needs them; by default a trial tells."""
        start = torch.zeros(1, *point.shape, dtype=torch.float32, device="cpu")
        state = self.init(start, point, 0, None, lambda candidates: candidates.float().flatten(2).sum(2))
        return self.ask(state)[0].shape[1]

    def evaluations(self, point: SearchPoint, *, coupled: bool) -> int:
        """Candidates scored for an image at this point if nothing stops the search earlier, for estimates.

        Args:
            coupled: whether candidates influence each other (see `Judge.couples`).
        """
        return self.generations(point) * self.candidates(point)


@dataclass(frozen=True)
class EsAlgorithm(Algorithm):
    """An algorithm with the settings of `SearchConfig.es`."""

    sections: ClassVar[tuple[str, ...]] = ("es",)

    config: EsConfig = field(default_factory=EsConfig)

    @classmethod
    def create(cls, config: SearchConfig, seed: int, solution: int) -> Algorithm:
        return cls(config.es)

    def generations(self, point: SearchPoint) -> int:
        return point.setting(self.config.generations)

    def candidates(self, point: SearchPoint) -> int:
        return self.config.population + 1

    def best(self, state: Any) -> tuple[Tensor, Tensor]:
        """What the state keeps as `best`."""
        return state.best


class CentredAlgorithm(EsAlgorithm):
    """One that moves a centre, which is candidate 0; the last generation only scores where it has come."""

    def evaluations(self, point: SearchPoint, *, coupled: bool) -> int:
        generations = self.generations(point)
        return max(0, generations - 1) * self.candidates(point) + min(1, generations)
