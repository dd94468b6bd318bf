"""A population as one network: a mixture of its members' probabilities, in a file that needs nothing beside it."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from decouple.device import memory_for
from decouple.errors import ConfigError, DamagedFileError, NetworkError, first_line
from decouple.files import load_record, load_tensors, save_record, save_tensors, try_record
from decouple.formats import html_table, plural
from decouple.networks.stages import Stages
from decouple.networks.state import check_values, load_state, own_copy, state_of
from decouple.q0.architecture import Architecture, ImageArchitecture, architecture_from
from decouple.q0.batching import BORROWED, Batch
from decouple.q0.prior import select_members
from decouple.q0.structure import first_difference
from decouple.q0.trajectories import Snapshot, weights_in
from decouple.settings import to_builtins
from decouple.tensors import as_tensor

UNIT = "q0/ensemble"
"""Identity of an ensemble's file: it may be moved and copied at will."""
INDEX = "q0/population.json"
"""In a run directory: the members of the population that was evaluated last, their weights and their network's shape."""
INDEX_UNIT = "q0/population"

_LOG = logging.getLogger("decouple")

Evaluation = Literal["batched", "loop"]


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
        architecture: how a member is built; without it a file can be loaded only where the network is given.
        evaluation: how members are computed; None: batched where no member convolves, else one after the other, which is
            what `benchmarks.ensemble_speed` found fastest on a CPU. Both give equal outputs up to rounding: what cannot be
            batched (members with other settings, recurrent ones) is computed one after the other.

    Raises:
        NetworkError: no members, members of different shapes, or one that has no values or cannot be copied.
        ValueError: weights that do not fit.
    """

    weights: Tensor

    def __init__(
        self,
        members: Sequence[nn.Module],
        weights: Tensor | Sequence[float] | np.ndarray,
        *,
        architecture: Architecture | None = None,
        evaluation: Evaluation | None = None,
    ) -> None:
        super().__init__()
        check_members(members)
        with torch.inference_mode(False):
            indices, share = select_members(_as_weights(weights, len(members)), len(members))
            self.members = nn.ModuleList([own_copy(members[i], f"member {i}") for i in indices.tolist()])
            _give_scale(self.members, _scale_of(members))
            """Heaviest first."""
            for parameter in self.members.parameters():  # a TorchScript module cannot do it itself
                parameter.requires_grad_(False)
            self.register_buffer("weights", share.to(torch.float32))
        self.architecture = architecture
        convolves = any(isinstance(layer, nn.modules.conv._ConvNd) for layer in self.members.modules())
        self.evaluation: Evaluation = evaluation or ("loop" if convolves else "batched")
        """May be changed. "batched" becomes "loop", which is logged, where members cannot be computed in one call."""
        self._batch: Batch | None = None
        self._has_warned = False
        self.eval()

    def __repr__(self) -> str:
        """
        >>> Ensemble([nn.Linear(2, 3), nn.Linear(2, 3)], [0.25, 0.75])
        Ensemble(2 members of 9 parameters, Linear; weights 0.750 to 0.250)
        """
        first, weights = self.members[0], self.weights.tolist()
        each = f"{plural(len(weights), 'member')} of {plural(_parameters(first), 'parameter')}, {type(first).__name__}"
        return f"Ensemble({each}; weights {weights[0]:.3f} to {weights[-1]:.3f})"

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
        return torch.logsumexp(log_probabilities + self.weights.to(log_probabilities).log().view(shape), 0)

    @memory_for("an ensemble's answer", "the number of images that are given at once, or of members")
    def member_logits(self, images: Tensor) -> Tensor:
        """(M, B, C): each member's own.

        Raises:
            NetworkError: a member's answer is no tensor of logits.
            MemoryLimitError: the device's memory does not suffice.
        """
        images = as_tensor(images, "images")
        if isinstance(self.architecture, ImageArchitecture):
            self.architecture.check(images)
        return self._batched(images) if self.evaluation == "batched" else self._one_by_one(images)

    def _batched(self, images: Tensor) -> Tensor:
        with BORROWED:
            try:
                if self._batch is None or not self._batch.holds():
                    self._batch = Batch(list(self.members))
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
        """Write weights, members and their shape to one checked safetensors file with a JSON header.

        Raises:
            NetworkError: members that a file of weights cannot hold: they differ in more, or keep state that is no tensor.
        """
        built = [] if self.architecture is None else [self.architecture.build()]
        if difference := first_difference([*self.members, *built], certain=True):
            raise NetworkError(
                f"members that differ in more than their weights cannot be saved together: {difference.text}; "
                "save the state_dict of each"
            )
        tensors = {
            f"member.{i}.{name}": value
            for i, member in enumerate(self.members)
            for name, value in state_of(member, f"member {i}").items()
        }
        meta = {
            "members": len(self.members),
            "weights": self.weights.double().tolist(),
            "architecture": None if self.architecture is None else asdict(self.architecture),
            "unit_scale": _scale_of(self.members),
        }
        save_tensors(Path(path), tensors, meta, unit=UNIT)

    @classmethod
    @torch.inference_mode(False)
    def load(
        cls, source: Path | str, k: int | None = None, *, network: nn.Module | None = None, equal: bool = False
    ) -> Ensemble:
        """The `k` heaviest members of a run directory's population, or of a file that `save` wrote.

        Args:
            source: a run directory whose q0 stage is done, or a file.
            k: members; None: all that have a weight.
            network: of the members' shape; needed only for networks of your own.
            equal: weigh the chosen members equally; all of them if `k` is None.

        Raises:
            ConfigError: there is nothing at `source`, the run has no population yet, or k is out of range.
            DamagedFileError: a file is missing, truncated, altered or another unit's; names it.
            NetworkError: `network` has another shape than the members.
        """
        source = Path(source)
        if source.is_dir():
            return cls._of_run(source, k, equal, network)
        if not source.exists():
            raise ConfigError(
                f"there is no run directory or file {source}; give one that 'decouple q0' or Ensemble.save wrote"
            )
        tensors, meta = load_tensors(source, unit=UNIT)
        architecture = None if meta["architecture"] is None else architecture_from(meta["architecture"])
        if network is None:
            if architecture is None:
                raise ConfigError(f"{source} holds networks of your own: pass network=, one of their shape")
            network = architecture.build()
        chosen, share = _chosen(meta["weights"], k, equal)
        ensemble = cls._from(network, [_member(tensors, i) for i in chosen], share, architecture)
        _give_scale(ensemble.members, meta.get("unit_scale"))
        return ensemble

    @classmethod
    def _of_run(cls, run: Path, k: int | None, equal: bool, own: nn.Module | None) -> Ensemble:
        if not (run / INDEX).exists():
            run_of_ours = (run / "config.json").exists()
            raise ConfigError(
                f"{run} has no population yet; make it with 'decouple q0 {run}'"
                if run_of_ours
                else f"{run} is no run directory: give one whose q0 stage is done, or a file that Ensemble.save wrote"
            )
        index = load_record(run / INDEX, unit=INDEX_UNIT)
        chosen, share = _chosen([member["weight"] for member in index["members"]], k, equal)
        states = []
        for i in chosen:
            member = index["members"][i]
            try:
                states.append(weights_in(load_tensors(run / member["path"], unit=member["unit"])))
            except DamagedFileError as error:
                raise DamagedFileError(f"{error}; what trained {run} makes it again, to the same weights") from None
        architecture = architecture_from(index["architecture"])
        return cls._from(architecture.build(own), states, share, None if own is not None else architecture)

    @classmethod
    def _from(
        cls, skeleton: nn.Module, states: Sequence[Mapping[str, Tensor]], share: Tensor, architecture: Architecture | None
    ) -> Ensemble:
        check_members([skeleton])
        members = []
        for state in states:
            members.append(own_copy(skeleton))
            load_state(members[-1], state)
        return cls(members, share, architecture=architecture)


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def check_members(members: Sequence[nn.Module]) -> None:
    """Networks that can answer together.

    Raises:
        NetworkError: there are none, their weights differ in names or shapes, or one has weights without values.
    """
    if isinstance(members, nn.Module) and not isinstance(members, nn.ModuleList):
        raise NetworkError(f"members must be a sequence of networks, not one {type(members).__name__}; pass [network]")
    if not len(members):
        raise NetworkError("an ensemble needs at least one member; got none")
    for i, member in enumerate(members):
        if not isinstance(member, nn.Module):
            raise NetworkError(f"member {i} is a {type(member).__name__}: expected an nn.Module")
        check_values(member, f"member {i}")
    shapes = [
        {name: tuple(value.shape) for name, value in member.state_dict().items() if isinstance(value, Tensor)}
        for member in members
    ]
    for i, shape in enumerate(shapes):
        if differ := [name for name in {**shapes[0], **shape} if shapes[0].get(name) != shape.get(name)]:
            raise NetworkError(
                f"an ensemble needs members of one shape: member 0 has {differ[0]} {shapes[0].get(differ[0], 'not at all')}, "
                f"member {i} {shape.get(differ[0], 'not at all')}"
            )


def write_index(run: Path, snapshots: Sequence[Snapshot], weights: Tensor, k: int, architecture: Architecture) -> None:
    """Note for `Ensemble.load` which members the population of a run directory has: the `k` heaviest, by `weights` (M,)."""
    kept = torch.zeros_like(weights)
    chosen, share = select_members(weights, k)
    kept[chosen] = share
    members = [
        {"path": str(snapshot.path.relative_to(run)), "unit": snapshot.unit, "weight": float(weight)}
        for snapshot, weight in zip(snapshots, kept, strict=True)
    ]
    index = {"members": members, "architecture": to_builtins(architecture)}
    if try_record(run / INDEX, unit=INDEX_UNIT) != index:
        save_record(run / INDEX, index, unit=INDEX_UNIT)


def _chosen(weights: Sequence[float], k: int | None, equal: bool) -> tuple[list[int], Tensor]:
    values = torch.tensor(weights, dtype=torch.float64)
    positive = len(values) if equal else int((values > 0).sum())
    if k is not None and k not in range(1, len(values) + 1):
        raise ConfigError(f"{k} members: expected a whole number from 1 to {len(values)}, as many as there are")
    indices, share = select_members(values, int(k or positive))
    return indices.tolist(), torch.full_like(share, 1 / len(share)) if equal else share


def _member(tensors: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    prefix = f"member.{number}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _scale_of(members: Iterable[nn.Module]) -> bool | None:
    """The scale of the images that the members were trained on, as `Stages.unit_scale`. Raises NetworkError: some were
    trained on images in 0..1 and some on others."""
    scales = {member.unit_scale for member in members if isinstance(member, Stages)} - {None}
    if len(scales) > 1:
        raise NetworkError(
            "some members were trained on images in 0..1 and some on images on another scale: expected members for the same images"
        )
    return next(iter(scales), None)


def _give_scale(members: Iterable[nn.Module], unit_scale: bool | None) -> None:
    for member in members:
        if isinstance(member, Stages) and unit_scale is not None:
            member.unit_scale = unit_scale


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
            what = f"{tuple(found.shape)} where member 0 answers with {tuple(answers[0].shape)}"
        else:
            continue
        raise NetworkError(
            f"member {i} answers with {what}: expected logits (B, C) or (B, T, C), of one shape for all; "
            "wrap it in a module that returns them alone"
        )
    return torch.stack(list(answers))
