"""A population as one network: a mixture of its members' probabilities, in a file that needs nothing beside it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from decouple.errors import ConfigError, DamagedFileError, NetworkError
from decouple.files import load_record, load_tensors, save_record, save_tensors, try_record
from decouple.q0.architecture import Architecture, PaperArchitecture, architecture_from
from decouple.q0.prior import select_members
from decouple.q0.trajectories import Snapshot, weights_in
from decouple.settings import to_builtins

UNIT = "q0/ensemble"
"""Identity of an ensemble's file: it may be moved and copied at will."""
INDEX = "q0/population.json"
"""In a run directory: the members of the population that was evaluated last, their weights and their network's shape."""
INDEX_UNIT = "q0/population"

PROGRAMS = 8
"""Shapes of input for which traced members are kept."""

Evaluation = Literal["batched", "loop", "threads"]


class Ensemble(nn.Module):
    """Mixture of members: their probabilities, not their logits, are averaged with the weights.

    Always in eval mode, and without gradient to the members unless they ask for it: train the members one by one.

    >>> members = [nn.Linear(2, 3), nn.Linear(2, 3)]
    >>> ensemble = Ensemble(members, torch.tensor([0.25, 0.75]))
    >>> bool(torch.allclose(ensemble(torch.ones(4, 2)).exp().sum(1), torch.ones(4)))
    True

    Args:
        members: M networks of one shape, (B, …) → logits (B, C) or (B, T, C). Copied.
        weights: (M,), a tensor or numbers, at least 0, not all 0; normalised here.
        architecture: how a member is built; without it a file can be loaded only where the network is given.
        evaluation: how members are computed; None: batched where no member convolves, else one after the other, which is
            what `benchmarks.ensemble_speed` found fastest on a CPU. `tune` measures it. All give equal outputs up to rounding.

    Raises:
        NetworkError: no members, or members of different shapes.
        ValueError: weights that do not fit.
    """

    weights: Tensor

    def __init__(
        self,
        members: Sequence[nn.Module],
        weights: Tensor | Sequence[float],
        *,
        architecture: Architecture | None = None,
        evaluation: Evaluation | None = None,
    ) -> None:
        super().__init__()
        check_members(members)
        weights = torch.as_tensor(weights, dtype=None if isinstance(weights, Tensor) else torch.float64)
        if weights.shape != (len(members),):
            raise ValueError(f"weights {tuple(weights.shape)} and {len(members)} members do not fit: expected (M,)")
        indices, share = select_members(weights, len(members))
        self.members = nn.ModuleList([copy.deepcopy(members[i]).requires_grad_(False) for i in indices.tolist()])
        """Heaviest first."""
        self.register_buffer("weights", share.to(torch.float32))
        self.architecture = architecture
        convolves = any(isinstance(layer, nn.modules.conv._ConvNd) for layer in members[0].modules())
        self.evaluation: Evaluation = evaluation or ("loop" if convolves else "batched")
        self._stacked: tuple[Any, dict[str, Tensor], dict[str, Tensor]] | None = None
        self._programs: dict[Any, Callable[..., Tensor]] = {}
        self._watch()
        self.eval()

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

    def member_logits(self, images: Tensor) -> Tensor:
        """(M, B, C): each member's own."""
        if isinstance(self.architecture, PaperArchitecture):
            self.architecture.check(images)
        ways: dict[Evaluation, Callable[[Tensor], Tensor]] = {
            "batched": self._batched,
            "loop": lambda values: torch.stack([member(values) for member in self.members]),
            "threads": self._threads,
        }
        return ways[self.evaluation](images)

    @torch.no_grad()
    def tune(self, images: Tensor, *, repeats: int = 3) -> dict[Evaluation, float]:
        """Measure the ways on a batch, keep the fastest; returns the seconds of each."""
        seconds: dict[Evaluation, float] = {}
        ways: tuple[Evaluation, ...] = ("batched", "loop", "threads")
        for way in ways:
            self.evaluation = way
            times = []
            for _ in range(repeats + 1):
                began = time.perf_counter()
                self.member_logits(images)
                if images.device.type == "cuda":
                    torch.cuda.synchronize(images.device)
                times.append(time.perf_counter() - began)
            seconds[way] = min(times[1:])  # the first one warms up
        self.evaluation = min(ways, key=lambda way: seconds[way])
        return seconds

    def _batched(self, images: Tensor) -> Tensor:
        state = (tuple(tensor._version for tensor in self._tensors), self._tensors[0].data_ptr() if self._tensors else 0)
        if self._stacked is None or self._stacked[0] != state:
            self._stacked = state, *stack_module_state(list(self.members))
            self._programs.clear()
        _, parameters, buffers = self._stacked
        if torch.is_grad_enabled() and images.requires_grad:
            return self._vmapped(parameters, buffers, images)
        # vmap's and functional_call's own time is as long as that of a few small members: trace them once for each shape.
        key = (images.shape, images.dtype, images.device)
        if key not in self._programs:
            if len(self._programs) >= PROGRAMS:
                self._programs.clear()
            with torch.no_grad():
                # What is stacked becomes part of the program, which is dropped with it.
                self._programs[key] = make_fx(lambda values: self._vmapped(parameters, buffers, values))(images)
        found: Tensor = self._programs[key](images)
        return found

    def _vmapped(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> Tensor:
        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            found: Tensor = functional_call(self.members[0], (parameters, buffers), (images,))
            return found

        with sdpa_kernel(SDPBackend.MATH):  # vmap runs torch's fused attention member by member, and warns
            return vmap(one)(parameters, buffers)

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> Ensemble:
        """torch calls this to move or convert: what is stacked no longer holds."""
        super()._apply(function, recurse)
        self._watch()
        return self

    def _watch(self) -> None:
        """Note the tensors whose versions tell whether members have changed."""
        self._stacked = None
        self._tensors = [*self.members.parameters(), *self.members.buffers()]

    def _threads(self, images: Tensor) -> Tensor:
        grad = torch.is_grad_enabled()

        def one(member: nn.Module) -> Tensor:
            with torch.set_grad_enabled(grad):  # which is the thread's own
                found: Tensor = member(images)
                return found

        with ThreadPoolExecutor(max_workers=min(len(self.members), max(1, torch.get_num_threads()))) as pool:
            return torch.stack(list(pool.map(one, self.members)))

    def save(self, path: Path | str) -> None:
        """Write weights, members and their shape to one checked safetensors file with a JSON header."""
        tensors = {f"member.{i}.{name}": v for i, m in enumerate(self.members) for name, v in m.state_dict().items()}
        meta = {
            "members": len(self.members),
            "weights": self.weights.double().tolist(),
            "architecture": None if self.architecture is None else asdict(self.architecture),
        }
        save_tensors(Path(path), tensors, meta, unit=UNIT)

    @classmethod
    def load(
        cls, source: Path | str, k: int | None = None, *, network: nn.Module | None = None, equal: bool = False
    ) -> Ensemble:
        """The `k` heaviest members of a run directory's population, or of a file that `save` wrote.

        Args:
            source: a run directory whose q0 stage is done, or a file.
            k: members; None: all that have a weight.
            network: of the members' shape; needed only for a file of networks of your own.
            equal: weigh the chosen members equally; all of them if `k` is None.

        Raises:
            ConfigError: there is nothing at `source`, the run has no population yet, or k is out of range.
            DamagedFileError: a file is missing, truncated, altered or another unit's; names it.
            NetworkError: `network` has another shape than the members.
        """
        source = Path(source)
        if source.is_dir():
            return cls._of_run(source, k, equal)
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
        return cls._from(network, [_member(tensors, i) for i in chosen], share, architecture)

    @classmethod
    def _of_run(cls, run: Path, k: int | None, equal: bool) -> Ensemble:
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
                states.append(weights_in(load_tensors(run / member["path"], unit=member["unit"])[0]))
            except DamagedFileError as error:
                raise DamagedFileError(f"{error}; what trained {run} makes it again, to the same weights") from None
        architecture = architecture_from(index["architecture"])
        return cls._from(architecture.build(), states, share, architecture)

    @classmethod
    def _from(
        cls, skeleton: nn.Module, states: Sequence[Mapping[str, Tensor]], share: Tensor, architecture: Architecture | None
    ) -> Ensemble:
        members = []
        for state in states:
            member = copy.deepcopy(skeleton)
            try:
                member.load_state_dict(state)
            except RuntimeError as error:
                what = " ".join(line.strip() for line in str(error).splitlines()[1:3])
                raise NetworkError(f"the members do not fit the network: {what}") from error
            members.append(member)
        return cls(members, share, architecture=architecture)


def check_members(members: Sequence[nn.Module]) -> None:
    """Networks that can answer together.

    Raises:
        NetworkError: there are none, or their weights differ in names or shapes.
    """
    if not members:
        raise NetworkError("an ensemble needs at least one member; got none")
    shapes = [{name: tuple(value.shape) for name, value in member.state_dict().items()} for member in members]
    for i, shape in enumerate(shapes):
        if differ := [name for name in {**shapes[0], **shape} if shapes[0].get(name) != shape.get(name)]:
            raise NetworkError(
                f"an ensemble needs members of one shape: member 0 has {differ[0]} {shapes[0].get(differ[0], 'not at all')}, "
                f"member {i} {shape.get(differ[0], 'not at all')}"
            )


def write_index(run: Path, snapshots: Sequence[Snapshot], weights: Tensor, k: int, architecture: Architecture) -> None:
    """Note which members the population of a run directory has, for `Ensemble.load`.

    Args:
        weights: (M,) of the snapshots.
        k: the heaviest members to keep; the weight of the others is 0.
    """
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
