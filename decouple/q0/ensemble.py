"""A population as one network: a mixture of its members' probabilities, in a file that needs nothing beside it."""

from __future__ import annotations

import html
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from decouple.device import memory_for
from decouple.errors import DataError, NetworkError, first_line
from decouple.formats import html_table, plural
from decouple.networks.stages import taking
from decouple.networks.state import own_copy
from decouple.networks.structure import first_difference
from decouple.q0.architecture import Architecture, ImageArchitecture
from decouple.q0.batching import BORROWED, StackedNetworks
from decouple.q0.members import about, check_members, common, give_scale, read_members, write_members
from decouple.q0.prior import select_members
from decouple.tensors import as_tensor

_LOG = logging.getLogger("decouple")

EvaluationMode = Literal["batched", "loop"]


class Ensemble(nn.Module):
    """Mixture of members: their probabilities, not their logits, are averaged with the weights.

    Always in eval mode, and without gradient to the members unless they ask for it: train the members one by one.

    >>> members = [nn.Linear(2, 3), nn.Linear(2, 3)]
    >>> ensemble = Ensemble(members, torch.tensor([0.25, 0.75]))
    >>> bool(torch.allclose(ensemble(torch.ones(4, 2)).exp().sum(1), torch.ones(4)))
    True

    Args:
        members: M networks whose weights have equal names and shapes, (B, …) → logits (B, C) or (B, T, C). Copied. They may
            differ in more than their weights, and be changed later.
        weights: (M,), a tensor or numbers, at least 0, not all 0; normalised here.
        temperature: of the mixture (see `decouple.analysis.tempered`), above 0; below 1 it makes the answers surer.
        architecture: how a member is built; without it a file can be loaded only where the network is given.
        classes: their names, which the file keeps; by default those of the members.
        evaluation: how members are computed; None: batched where no member convolves, else one after the other, which is
            what `benchmarks.ensemble_speed` found fastest on a CPU. Both give equal outputs up to rounding: what cannot be
            batched (members with other settings, recurrent ones) is computed one after the other.

    Raises:
        NetworkError: no members, members of different shapes, or one that has no values or cannot be copied.
        ValueError: weights that do not fit, or a temperature that is not above 0.
    """

    weights: Tensor

    def __init__(
        self,
        members: Sequence[nn.Module],
        weights: Tensor | Sequence[float] | np.ndarray,
        *,
        temperature: float = 1.0,
        architecture: Architecture | None = None,
        classes: Sequence[str] = (),
        evaluation: EvaluationMode | None = None,
    ) -> None:
        super().__init__()
        check_members(members)
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature = {temperature}: expected a finite number above 0")
        self.temperature = float(temperature)
        with torch.inference_mode(False):
            indices, share = select_members(_as_weights(weights, len(members)), len(members))
            self.members = nn.ModuleList([own_copy(members[i], f"member {i}") for i in indices.tolist()])
            """Heaviest first."""
            give_scale(self.members, common(members, "unit_scale"))
            for parameter in self.members.parameters():  # a TorchScript module cannot do it itself
                parameter.requires_grad_(False)
            self.register_buffer("weights", share.to(torch.float32))
        self.architecture = architecture
        self.classes = tuple(classes) or common(members, "classes") or ()
        """Name of each class; empty: not known."""
        convolves = any(isinstance(layer, nn.modules.conv._ConvNd) for layer in self.members.modules())
        self.evaluation: EvaluationMode = evaluation or ("loop" if convolves else "batched")
        """May be changed. "batched" becomes "loop", which is logged, where members cannot be computed in one call."""
        self._batch: StackedNetworks | None = None
        self._has_warned = False
        self.eval()

    def __repr__(self) -> str:
        """
        >>> Ensemble([nn.Linear(2, 3), nn.Linear(2, 3)], [0.25, 0.75])
        Ensemble(2 members of 9 parameters, Linear; weights 0.750 to 0.250)
        """
        first, weights = self.members[0], self.weights.tolist()
        each = f"{plural(len(weights), 'member')} of {plural(_parameters(first), 'parameter')}, {type(first).__name__}"
        sure = "" if self.temperature == 1 else f", temperature {self.temperature:.2f}"
        return f"Ensemble({each}; weights {weights[0]:.3f} to {weights[-1]:.3f}{sure})"

    def _repr_html_(self) -> str:
        rows = [(str(i), f"{weight:.3f}") for i, weight in enumerate(self.weights.tolist())]
        return f"<p>{html.escape(repr(self))}</p>{html_table(rows, ('member', 'weight'))}"

    def train(self, mode: bool = True) -> Ensemble:
        """Stays in eval mode: members of a mixture are not trained together."""
        super().train(False)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities (B, C), or (B, T, C) for tokens; float32 or wider.

        Args:
            images: as the members take them; the paper's networks: (B, C, H, W), uint8 in 0..255 or float in 0..1.
        """
        logits = self.member_logits(images)
        log_probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        shape = (-1, *([1] * (logits.dim() - 1)))
        mixed = torch.logsumexp(log_probabilities + self.weights.to(log_probabilities).log().view(shape), 0)
        return mixed if self.temperature == 1 else (mixed / self.temperature).log_softmax(-1)

    @memory_for("an ensemble's answer", "the number of images that are given at once, or of members")
    def member_logits(self, images: Tensor) -> Tensor:
        """(M, B, C): each member's own.

        Raises:
            DataError: there are no images, or, of the paper's network, images of another shape.
            NetworkError: a member's answer is no tensor of logits.
            MemoryLimitError: the device's memory does not suffice.
        """
        images = as_tensor(images, "images")
        if images.dim() and images.shape[0] == 0:  # torch.export would take len for a constant
            raise DataError(f"images have shape {tuple(images.shape)}: expected at least one")
        if self.evaluation not in (modes := get_args(EvaluationMode)):
            raise ValueError(f"evaluation = {self.evaluation!r}: expected {' or '.join(map(repr, modes))}")
        if isinstance(self.architecture, ImageArchitecture):
            self.architecture.check(images)
        return self._batched(images) if self.evaluation == "batched" else self._one_by_one(images)

    def _batched(self, images: Tensor) -> Tensor:
        with BORROWED:
            try:
                if self._batch is None or not self._batch.holds():
                    self._batch = StackedNetworks(list(self.members))
                if not self._batch.is_proven:
                    with torch.no_grad():
                        expected = self._one_by_one(images)
                    self._batch.prove(images, expected)
                return self._batch(_own(images))
            except NetworkError:
                raise
            except Exception as error:  # whatever the members' own code raises on batched tensors
                return self._unbatched(images, error)

    def _unbatched(self, images: Tensor, error: Exception) -> Tensor:
        found = self._one_by_one(images)  # raises where the images are what is wrong
        self.evaluation, self._batch = "loop", None
        if not self._has_warned:
            _LOG.warning("an ensemble's members are computed one after the other, not in one call: %s", first_line(error))
        self._has_warned = True
        return found

    def _one_by_one(self, images: Tensor) -> Tensor:
        found, own = [], _own(images)
        with taking(self.members[0], images.shape):
            for member in self.members:
                version = own._version
                found.append(member(own))
                if own._version != version:  # the member works in place, and the next one gets what this one got
                    own = _own(images)
        return _stacked(found)

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> Ensemble:
        """torch calls this to move or convert: what it leaves can be trained, also under `torch.inference_mode`."""
        with torch.inference_mode(False), torch.no_grad():
            share = self.weights
            super()._apply(function, recurse)
            self.weights = share.to(self.weights.device)  # in half precision they would no longer sum to 1
        return self

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and pickled: the batch is made again."""
        return {**self.__dict__, "_batch": None}

    def save(self, path: Path | str) -> None:
        """Write weights, members, their shape and the names of the classes to one checked safetensors file with a JSON header.

        Raises:
            NetworkError: members that a file of weights cannot hold: they differ in more, or keep state that is no tensor.
        """
        built = [] if self.architecture is None else [self.architecture.build()]
        if difference := first_difference([*self.members, *built], certain=True):
            raise NetworkError(
                f"members that differ in more than their weights cannot be saved together: {difference.text}; "
                "save the state_dict of each"
            )
        known = about(self.members, self.classes, self.architecture)
        write_members(Path(path), list(self.members), self.weights, self.temperature, known)

    @classmethod
    @torch.inference_mode(False)
    def load(
        cls, source: Path | str, k: int | None = None, *, network: nn.Module | None = None, equal: bool = False
    ) -> Ensemble:
        """The `k` heaviest members of a population, calibrated for so many, or of a file that `save` wrote, which knows the
        temperature of all its members only. Nothing that a file names is run.

        Args:
            source: a run directory whose q0 stage is done, a folder that `train_population` was given, or a file.
            k: members; None: all that have a weight.
            network: of the members' shape, cut or not; needed only for networks of your own.
            equal: weigh the chosen members equally, all of them if `k` is None; the temperature is 1.

        Raises:
            ConfigError: there is nothing at `source`, the run has no population yet, k is out of range, or `network` is needed.
            DamagedFileError: a file is missing, truncated, altered or another unit's; names it.
            NetworkError: `network` has another shape than the members.
        """
        members, share, temperature, known = read_members(Path(source), k, network, equal=equal)
        architecture = known.architecture if network is None else None
        return cls(members, share, temperature=temperature, architecture=architecture, classes=known.classes)


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _as_weights(weights: Tensor | Sequence[float] | np.ndarray, members: int) -> Tensor:
    dtype = weights.dtype if isinstance(weights, Tensor) else torch.float64
    try:
        found = torch.as_tensor(weights, dtype=dtype).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"weights = {weights!r}: expected (M,) numbers, one for each member") from error
    if found.shape != (members,):
        raise ValueError(f"weights {tuple(found.shape)} and {members} members do not fit: expected (M,)")
    return found


def _own(images: Tensor) -> Tensor:
    """A copy that members may change in place, and that shows it (inference tensors do not)."""
    if not torch.is_inference_mode_enabled():
        return images.clone()
    with torch.inference_mode(False), torch.no_grad():
        return images.clone()


def _stacked(answers: Sequence[Any]) -> Tensor:
    """(M, B, C), once it is clear that the answers are logits."""
    for i, found in enumerate(answers):
        if not isinstance(found, Tensor):
            what = f"a {type(found).__name__}"
        elif found.dim() < 2 or not found.is_floating_point():
            what = f"a tensor {tuple(found.shape)} of {str(found.dtype).removeprefix('torch.')}"
        elif found.shape != answers[0].shape:
            what = f"shape {tuple(found.shape)}, but member 0 returned {tuple(answers[0].shape)}"
        else:
            continue
        raise NetworkError(
            f"member {i} returned {what}: expected logits (B, C) or (B, T, C), of one shape for all members; "
            "wrap it in a module that returns only logits"
        )
    return torch.stack(list(answers))
