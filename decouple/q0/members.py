"""The members of an ensemble: what makes them fit together, and their files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from decouple.errors import ConfigError, DamagedFileError, NetworkError
from decouple.files import load_record, load_tensors, save_record, save_tensors, try_record, unit_of
from decouple.networks.cutting import CutStage
from decouple.networks.stages import Stages
from decouple.networks.state import check_values, load_state, own_copy, state_of
from decouple.q0.architecture import Architecture, ImageArchitecture, architecture_from
from decouple.q0.prior import select_members
from decouple.q0.trajectories import Snapshot, weights_in
from decouple.tensors import under

UNIT = "q0/ensemble"
"""Identity of an ensemble's file: it may be moved and copied at will."""
NETWORK_UNIT = "network"
"""That of a file of one network, by the names that its weights have outside of decouple."""
INDEX = "q0/population.json"
"""In a run directory: the members of the population that was evaluated last, their weights and what is known of them."""
OWN_INDEX = "population.json"
"""The same, in a folder of a population that belongs to no run."""
INDEX_UNIT = "q0/population"


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


@dataclass(frozen=True)
class Known:
    """What files keep of members beside their weights."""

    architecture: Architecture | None = None
    """None: they are networks of the user's own."""
    unit_scale: bool | None = None
    """As `Stages.unit_scale`."""
    classes: tuple[str, ...] = ()
    """Name of each class."""
    points: tuple[str, ...] = ()
    """Where the members are cut; empty: they are not, or the architecture has it."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Known:
        """From what `asdict` gave."""
        architecture = None if values["architecture"] is None else architecture_from(values["architecture"])
        names = architecture.names if isinstance(architecture, ImageArchitecture) else ()
        scale, points = values.get("unit_scale"), values.get("points") or ()
        return cls(architecture, scale, tuple(values.get("classes") or names), tuple(points))

    def build(self, own: nn.Module | None, names: set[str]) -> nn.Module:
        """A network whose state has these names.

        Args:
            own: a network of the user's own to copy; cut as the members are, if it is not.

        Raises:
            ConfigError: only code of the user's own builds one.
            NetworkError: `own` cannot be cut where the members are.
        """
        if self.architecture is not None:
            return self.architecture.build(own)
        if own is None:
            raise ConfigError("networks of your own: pass network=, one of their shape")
        check_values(own)
        network = own_copy(own)
        if not self.points or isinstance(network, Stages):
            return network
        whole = Stages.from_module(network, self.points)
        if isinstance(network, nn.Sequential) and names != set(whole.state_dict()):
            return Stages.from_sequential(network, self.points)
        return whole


def about(members: Sequence[nn.Module] | nn.ModuleList, classes: Sequence[str], architecture: Architecture | None) -> Known:
    """What a file is to keep of the members."""
    first = next(iter(members))
    points = first.names if isinstance(first, Stages) and architecture is None else ()
    return Known(architecture, common(members, "unit_scale"), tuple(classes), points)


def common(members: Iterable[nn.Module], what: str) -> Any:
    """The scale of the images (`unit_scale`) that the members were trained on, or the names of their `classes`, as `Stages`
    has them; None where none is known. Raises NetworkError: members do not agree."""
    known = {getattr(member, what) for member in members if isinstance(member, Stages)} - {None, ()}
    if len(known) > 1:
        raise NetworkError(
            "some members were trained on images in 0..1 and some on images on another scale: expected members for the same images"
            if what == "unit_scale"
            else f"members tell different classes apart ({' and '.join(str(list(names)[:3]) for names in sorted(known))}, …): "
            "expected members for the same classes"
        )
    return next(iter(known), None)


def give_scale(members: Iterable[nn.Module], unit_scale: bool | None) -> None:
    """Let members know the scale that they are for, if it is known."""
    for member in members:
        if isinstance(member, Stages) and unit_scale is not None:
            member.unit_scale = unit_scale


def plain_state(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """A network's state by the names that the weights have outside of decouple: those of the module that was cut, or of an
    `nn.Sequential` of all layers where each stage is one."""
    names = _plain_names(network)
    return {names.get(name, name): value for name, value in state.items()}


def whole_state(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """What `plain_state` was made of, for `network`; a state that has the network's own names as it is."""
    names = _plain_names(network)
    if set(state) == set(names):
        return dict(state)
    own: dict[str, Tensor] = {name: state[plain] for name, plain in names.items() if plain in state}
    return own | {name: value for name, value in state.items() if name not in names.values()}


def _plain_names(network: nn.Module) -> dict[str, str]:
    """By the names in the network's `state_dict`."""
    names = {name: name for name in network.state_dict()}
    if not isinstance(network, Stages):
        return names
    before = 0
    for number, stage in enumerate(network.stages):
        prefix = f"stages.{number}."
        for name in [name for name in names if name.startswith(prefix)]:
            rest = name.removeprefix(prefix)
            first, _, inner = rest.partition(".")
            if isinstance(stage, nn.Sequential):
                names[name] = f"{before + list(stage._modules).index(first)}.{inner}"
            elif isinstance(stage, CutStage):
                names[name] = rest
        before += len(stage) if isinstance(stage, nn.Sequential) else 0
    return names


def write_members(path: Path, members: Sequence[nn.Module], weights: Tensor, temperature: float, known: Known) -> None:
    """Write the file that `read_members` reads. Raises NetworkError: a member keeps state that is no tensor."""
    tensors = {
        f"member.{i}.{name}": value
        for i, member in enumerate(members)
        for name, value in state_of(member, f"member {i}").items()
    }
    temperatures = [1.0] * (len(members) - 1) + [temperature]
    meta = {"members": len(members), "weights": weights.double().tolist(), "temperatures": temperatures, **asdict(known)}
    save_tensors(path, tensors, meta, unit=UNIT)


def write_index(
    folder: Path,
    name: str,
    snapshots: Sequence[Snapshot],
    weights: Tensor,
    temperatures: Sequence[float],
    k: int,
    known: Known,
) -> None:
    """Note what the population of a folder is: the weights (M,) of all snapshots, of which it has the `k` heaviest, and the
    temperatures of the 1, 2, … M heaviest, if there are any; `name`: INDEX or OWN_INDEX."""
    members = [
        {"path": str(snapshot.path.relative_to(folder)), "unit": snapshot.unit, "weight": float(weight)}
        for snapshot, weight in zip(snapshots, weights.tolist(), strict=True)
    ]
    index = {"members": members, "size": k, "temperatures": temperatures, **asdict(known)}
    index = json.loads(json.dumps(index))  # as it will be read
    if try_record(folder / name, unit=INDEX_UNIT) != index:
        save_record(folder / name, index, unit=INDEX_UNIT)


def read_members(
    source: Path, k: int | None, own: nn.Module | None, *, equal: bool
) -> tuple[list[nn.Module], Tensor, float, Known]:
    """Members, their weights (k,), the temperature, and what is known of them: see `Ensemble.load`."""
    if not source.exists():
        raise ConfigError(f"there is no run directory or file {source}; give one that 'decouple q0' or Ensemble.save wrote")
    if source.is_dir():
        found = next((source / name for name in (INDEX, OWN_INDEX) if (source / name).exists()), None)
        if found is None:
            raise ConfigError(
                f"{source} has no population yet; make it with 'decouple q0 {source}'"
                if (source / "config.json").exists()
                else f"{source} is no run directory: give one whose q0 stage is done, or a file or folder that Ensemble.save or "
                "train_population wrote"
            )
        meta = load_record(found, unit=INDEX_UNIT)
        chosen, share = chosen_members(
            [member["weight"] for member in meta["members"]], k, equal=equal, size=meta.get("size")
        )
        states = [_snapshot(source, **meta["members"][i]) for i in chosen]
    else:
        single = unit_of(source) == NETWORK_UNIT
        tensors, meta = load_tensors(source, unit=NETWORK_UNIT if single else UNIT)
        chosen, share = chosen_members([1.0] if single else meta["weights"], k, equal=equal)
        states = [tensors] if single else [under(tensors, f"member.{i}.") for i in chosen]
    known = Known.of(meta)
    try:
        skeleton = known.build(own, set(states[0]))
    except ConfigError as error:
        raise ConfigError(f"{source} holds {error}") from None
    members = []
    for state in states:
        members.append(own_copy(skeleton))
        load_state(members[-1], whole_state(state, members[-1]))
    give_scale(members, known.unit_scale)
    temperatures = [] if equal else meta.get("temperatures", [])  # a file of an earlier version has none
    return members, share, temperatures[len(members) - 1] if len(temperatures) >= len(members) else 1.0, known


def _snapshot(folder: Path, path: str, unit: str, weight: float) -> dict[str, Tensor]:
    try:
        return weights_in(load_tensors(folder / path, unit=unit))
    except DamagedFileError as error:
        raise DamagedFileError(f"{error}; what trained {folder} makes it again, to the same weights") from None


def chosen_members(
    weights: Tensor | Sequence[float], k: int | None = None, *, equal: bool = False, size: int | None = None
) -> tuple[list[int], Tensor]:
    """Positions and weights, sum 1, of the `k` heaviest members; None: of those of the `size` heaviest that have a weight, or of all
    that are to be weighted equally. Raises ConfigError: there are not so many."""
    values = torch.as_tensor(weights, dtype=torch.float64)
    positive = len(values) if equal else min(int((values > 0).sum()), size or len(values))
    if k is not None and k not in range(1, len(values) + 1):
        raise ConfigError(f"{k} members: expected a whole number from 1 to {len(values)}, as many as there are")
    indices, share = select_members(values, int(k or positive))
    return indices.tolist(), torch.full_like(share, 1 / len(share)) if equal else share
