"""The judge scores candidates with the part of the network behind a search point."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from decouple.data.images import as_float
from decouple.errors import ConfigError, DataError, is_out_of_memory
from decouple.fitness import Candidates, Peers, Terms, couples, fitness, log_likelihood
from decouple.networks.factored import Factored, through
from decouple.networks.stages import Stages, apply_stage
from decouple.search.algorithm import SearchPoint, points_of

_Norm = nn.modules.batchnorm._BatchNorm


class Judge:
    """A frozen copy of a network that scores candidates: fitness is the log-probability of the true class, and terms beside it.

    Args:
        network: untrained, or trained in a later round; left as it is.
        statistics: "batch": BatchNorm uses the statistics of the candidates that it scores together (paper);
            "frozen": those of the unperturbed `pilot` images, which makes images independent of each other.
        dtype: of the arithmetic. The last stage, the head, stays float32: differences of fitness live there.
        pilot: (N, C, H, W) images for "frozen".
        factored: whether candidates that are described (see `decouple.networks.factored`) go through the network like that.
        terms: further fitness terms, which do not apply at the logits.

    Raises:
        ConfigError: other statistics.
        DataError: frozen statistics without a pilot.
    """

    def __init__(
        self,
        network: Stages,
        *,
        statistics: str = "batch",
        dtype: torch.dtype = torch.float32,
        pilot: Tensor | None = None,
        factored: bool = True,
        terms: Terms = (),
    ) -> None:
        if statistics not in ("batch", "frozen"):
            raise ConfigError(f"statistics = {statistics!r}: expected 'batch' or 'frozen'")
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.dtype = dtype
        self.terms = tuple(terms)
        self._factored = factored
        self._at_once: dict[int, int] = {}
        """By search point, candidates of an image that the memory has room for, where it had none for all of them."""
        norms = [module for module in self.network.modules() if isinstance(module, _Norm)]
        if statistics == "frozen" and norms:
            if pilot is None:
                raise DataError("frozen statistics need pilot images to take them from")
            _measure_statistics(self.network, norms, pilot)
        elif statistics == "batch":
            for norm in norms:
                norm.train()
                norm.track_running_stats = False
        for stage in list(self.network)[:-1]:
            stage.to(dtype)

    def points(self, images: Tensor) -> list[SearchPoint]:
        """The search points, for images (N, …) like these."""
        values, shapes = images, []
        for index in range(len(self.network)):
            values = self.advance(index, values)
            shapes.append(tuple(values.shape[1:]))
        return points_of(self.network.names, shapes)

    def advance(self, index: int, values: Tensor) -> Tensor:
        """The values (N, …) at search point `index`, from those at the point before it (or images)."""
        last = index == len(self.network) - 1
        return apply_stage(self.network.stages[index], values.to(torch.float32 if last else self.dtype))

    def logits(self, point: SearchPoint, values: Tensor) -> Tensor:
        """(N, C) float32 logits of activations (N, …) at a search point."""
        if point.kind == "logits":
            return values.float()
        values = values.to(self.dtype)
        for stage in list(self.network)[point.index + 1 : -1]:
            values = through(stage, values)
        return through(self.network.stages[-1], values.float())

    def fitness(self, point: SearchPoint, candidates: Tensor, labels: Tensor) -> Tensor:
        """Fitness (B, P) float32 of candidates (B, P, …), where terms compare an image with the first candidates of the others.

        Where the memory has no room for all candidates and they do not influence each other, half as many are scored at a time.
        """
        if isinstance(candidates, Factored) and not self._factored:
            candidates = candidates.whole()
        score = self._scorer(point, candidates, labels)
        count = min(candidates.shape[1], self._at_once.get(point.index, candidates.shape[1]))
        while True:
            try:
                split = candidates.parts if isinstance(candidates, Factored) else partial(candidates.split, dim=1)
                parts = [candidates] if count == candidates.shape[1] else split(count)
                scores = [score(part.flatten(0, 1)) for part in parts]
                return scores[0] if len(scores) == 1 else torch.cat(scores, 1)
            except (MemoryError, RuntimeError) as error:
                if count == 1 or not is_out_of_memory(error) or self.couples(point):
                    raise
            count = self._at_once[point.index] = -(-count // 2)

    def couples(self, point: SearchPoint) -> bool:
        """Whether candidates at this point influence each other's fitness, through batch statistics behind it or a term."""
        behind = list(self.network)[point.index + 1 :]
        norms = any(isinstance(module, _Norm) and module.training for stage in behind for module in stage.modules())
        return norms or couples(self._terms_at(point))

    def _scorer(self, point: SearchPoint, candidates: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """What gives the fitness (B, P) of some (B·P, …) of the candidates."""
        terms = self._terms_at(point)
        if not terms:
            return lambda flat: log_likelihood(self.logits(point, flat), labels)
        each = torch.arange(len(labels), device=labels.device)
        peers = Peers(candidates[each, torch.zeros_like(each)], labels)
        judge = partial(self.logits, point)
        return lambda flat: fitness(Candidates(flat, judge(flat), labels, peers, judge), terms)

    def _terms_at(self, point: SearchPoint) -> Terms:
        return () if point.kind == "logits" else self.terms


def _measure_statistics(network: Stages, norms: list[_Norm], pilot: Tensor) -> None:
    """Set the running statistics of BatchNorm to exactly those of the pilot images."""
    for norm in norms:
        norm.train()
        norm.track_running_stats = True
        norm.momentum = 1.0
        norm.running_mean = torch.zeros(norm.num_features, dtype=torch.float32, device=pilot.device)
        norm.running_var = torch.ones(norm.num_features, dtype=torch.float32, device=pilot.device)
        norm.num_batches_tracked = torch.tensor(0, device=pilot.device)
    with torch.no_grad():
        network(as_float(pilot))
    for norm in norms:
        norm.eval()
