"""Live search: at every step of learning, a search around what the network makes of the views now.

The targets of a store were searched once, for the images as they are, before anything was learned. Live search displaces them
at each step by one generation of an antithetic strategy at the last block, with the learning network's own head as the
judge. It is the rounds' loop (learn, search again from what was learned) at its tightest, and costs little: candidates
there are scored by the head alone.

What makes a few dozen directions do in hundreds of dimensions:
- they are orthonormal, so that the displacement is the gradient of the smoothed fitness within their span, and no noise comes
  from outside it;
- the search learns where to look: part of them are random combinations of the displacements that the step before has found, for
  all its images; the rest are new at random, and find what those miss;
- what terms beside the log-probability ask for is looked for where few directions suffice, in the means over space.

Sources: Sehnke et al., "Parameter-exploring policy gradients" (2010), symmetric sampling; Maheswaranathan et al., "Guided
evolutionary strategies" (2019), the subspace that guides.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from decouple.config import LiveConfig
from decouple.device import room
from decouple.fitness import Candidates, Peers, Terms, check_some_finite, fitness
from decouple.networks.factored import Factored, Mix, through
from decouple.torch_state import evaluated
from decouple.training.stream import Batch

GUIDED = 0.5
"""Share of the directions that combine what the step before has found; the rest are new at random."""
GUIDES_NOISE = 0.01
"""Noise on a guide, as a share of its length."""

CANDIDATE_BYTES = 2**26
"""Of activations of candidates that a CPU writes out at once, as a head that is not affine needs them."""


class LiveSearch:
    """See the module's text; `terms`: what is asked for beside the log-probability of the true class; `stream`: the name of what it
    draws from."""

    def __init__(self, config: LiveConfig, terms: Terms = (), stream: str = "live") -> None:
        self.config, self.terms, self.stream = config, tuple(terms), stream
        self._room: int | None = None
        self.guides: Tensor | None = None
        """(D, G) float32, combinations of the last step's displacements: what goes on from step to step."""

    def memory(self) -> dict[str, Tensor]:
        """What it has learned, for a checkpoint."""
        return {} if self.guides is None else {"guides": self.guides}

    @torch.no_grad()
    def displacement(self, head: nn.Module, values: Tensor, batch: Batch) -> Tensor:
        """Where the activations should go for the head to answer better, and for what the terms ask for.

        Args:
            head: what judges, the last stage or a head at an earlier one; it is evaluated as in eval mode, and left as it is.
            values: (B, …) activations that it judges, any float type.
            batch: their labels, and the seed of the directions.

        Returns:
            (B, …) float32, fitness for a unit of activation: along each direction the difference of a mirrored pair of
            candidates over their distance, and nothing across the directions.
        """
        with torch.autocast(values.device.type, enabled=False), evaluated(head):
            values = values.float()
            centers, stream = values.flatten(1), batch.generator(self.stream, device=values.device)
            count = min(self.config.directions, centers.shape[1])
            directions = self._directions(values, count, stream)
            # The deviation over the sample; Tensor.std takes ten times as long on a CPU.
            deviation = torch.linalg.vector_norm(centers - centers.mean(1, keepdim=True), dim=1, keepdim=True)
            radius = self.config.radius * deviation  # of a step of one deviation in every element
            up, down = self._scores(head, values, directions, radius, batch)[:, 1:].split(len(directions), dim=1)
            slopes = (up - down) / (2 * radius).clamp_min(torch.finfo(torch.float32).tiny)
            found = torch.nan_to_num(slopes, 0.0, 0.0, 0.0) @ directions
            # Drawn for all images of the step, so that processes which share it combine the same.
            weights = torch.randn(
                batch.size or len(values),
                round(GUIDED * count),
                generator=stream,
                dtype=found.dtype,
                device=found.device,
            )
            self.guides = batch.total(found.T @ weights[batch.part])
            return found.view(values.shape)

    def _directions(self, values: Tensor, count: int, stream: torch.Generator) -> Tensor:
        """(K, D) orthonormal directions: `count` that guide or are new at random, and for terms the means over space."""
        elements = values[0].numel()
        drawn = torch.randn(elements, count, generator=stream, dtype=torch.float32, device=values.device)
        if self.guides is not None:
            guides = self.guides.to(drawn)
            # They span no more dimensions than there are classes; what rounding would choose beyond these is drawn.
            share = GUIDES_NOISE * torch.linalg.vector_norm(guides, dim=0).clamp_min(1e-20) / elements**0.5
            drawn[:, : guides.shape[1]] *= share
            drawn[:, : guides.shape[1]] += guides
        if self.terms:
            drawn = torch.cat([_means(values.shape[1:], count, stream), drawn], dim=1)[:, :elements]
        return _orthonormal(drawn)

    def _scores(self, head: nn.Module, values: Tensor, directions: Tensor, radius: Tensor, batch: Batch) -> Tensor:
        """Fitness (B, 2K + 1) of the activations, then of a step of `radius` (B, 1) along each direction, then of one back."""
        count, centers = len(directions), values.flatten(1)
        first = self._room is None
        if self._room is None:
            self._room = room(centers.device, on_cpu=CANDIDATE_BYTES)
        size = max(1, self._room // ((2 * count + 1) * centers[0].nbytes))
        peers, scores = Peers(values, batch.labels, batch.total), []
        for part in (slice(first, first + size) for first in range(0, len(values), size)):
            candidates = Factored.of(centers[part], directions, Mix.mirrored(radius[part], count))
            flat = candidates.flatten(0, 1).unflatten(1, values.shape[1:])
            logits, labels = through(head, flat), batch.labels[part]
            shown = Candidates(flat, logits, labels, peers, partial(through, head), batch.positions[part])
            scores.append(fitness(shown, self.terms))
        found = torch.cat(scores)
        if first and self.terms:
            check_some_finite(found, "the fitness of live search, its terms included,")
        return found


def _orthonormal(columns: Tensor) -> Tensor:
    """(K, D) orthonormal rows with the span of the columns (D, K)."""
    if columns.device.type == "cpu":
        return torch.linalg.qr(columns)[0].T
    rows = columns.T.double()  # Householder's decomposition is several kernels for each column, this one a few for all
    return torch.linalg.solve_triangular(torch.linalg.cholesky_ex(rows @ rows.T)[0], rows, upper=False).float()


def _means(shape: torch.Size, count: int, stream: torch.Generator) -> Tensor:
    """(D, min(count, C)) orthonormal directions at random that move the means over space of activations (C, H, W) or (T, C), all
    places alike; none for (D,), which have no places."""
    if len(shape) == 1:
        return torch.empty(shape[0], 0, dtype=torch.float32, device=stream.device)
    channels = shape[0] if len(shape) == 3 else shape[-1]
    drawn = torch.randn(channels, min(count, channels), generator=stream, dtype=torch.float32, device=stream.device)
    places = shape.numel() // channels
    mixed = _orthonormal(drawn).T / places**0.5
    return mixed.repeat_interleave(places, 0) if len(shape) == 3 else mixed.repeat(places, 1)
