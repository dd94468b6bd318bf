"""What a search algorithm is.

The form is that of EvoTorch's functional algorithms: an immutable state and pure functions on it, with the images as
leading batch dimension. B images, P candidates, … the shape of one activation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

Fitness = Callable[[Tensor], Tensor]
"""Candidates (B, P, …) to log p(true class), (B, P) float32; differentiable."""

Kind = Literal["map", "tokens", "vector", "logits"]


@dataclass(frozen=True)
class SearchPoint:
    """Where in the network a search takes place."""

    name: str
    index: int
    """0 … count − 1; the last are the logits."""
    count: int
    shape: tuple[int, ...]
    """Of one example: (C, H, W), (T, D) or (D,)."""

    @property
    def kind(self) -> Kind:
        if self.index == self.count - 1:
            return "logits"
        return {3: "map", 2: "tokens", 1: "vector"}[len(self.shape)]  # type: ignore[return-value]


class Algorithm(Protocol):
    """Evolves the activations of a batch of images at one search point towards a higher fitness.

    `ask` and `tell` change nothing in place: they return a new state. All randomness comes from the seed of `init`.
    """

    def generations(self, point: SearchPoint) -> int:
        """How often ask (in the end: pending) and tell are to be called at this point."""
        ...

    def inputs(self, images: Tensor, seed: int) -> Tensor | None:
        """Noisy copies (B, P, C, H, W) of float images, to propagate to the first search point; None: not wanted."""
        ...

    def init(self, start: Tensor, point: SearchPoint, seed: int, population: Tensor | None, fitness: Fitness) -> Any:
        """The state before the first generation.

        Args:
            start: (B, …) the network's own activations.
            population: (B, P, …) what the inputs, or the population of the preceding search point, became here; None
                where `inputs` or `population` gave none.
            fitness: the judge itself, for references that look inside; a search only uses what `tell` is given.
        """
        ...

    def ask(self, state: Any) -> tuple[Tensor, Any]:
        """Candidates (B, P, …) to score, and the new state."""
        ...

    def tell(self, state: Any, candidates: Tensor, fitness: Tensor) -> Any:
        """The state after the candidates got their fitness (B, P); −inf marks one that failed."""
        ...

    def known(self, state: Any) -> Tensor | None:
        """Fitness (B, k) of the first k candidates of the last `ask`, where an earlier generation has scored them; they
        are not scored again unless candidates influence each other. None: all are new."""
        ...

    def pending(self, state: Any) -> Tensor | None:
        """Candidates (B, n, …) that the last `tell` has made and nothing has scored yet, such as a moved centre: the last
        generation scores them alone, and so does whatever ends the search before. None: there are none."""
        ...

    def best(self, state: Any) -> tuple[Tensor, Tensor]:
        """The solution (B, …) and its fitness (B,)."""
        ...

    def population(self, state: Any) -> Tensor | None:
        """What to propagate to the next search point, (B, P, …); None: the best alone goes on."""
        ...
