"""What a `Recorder` has written, and the check that two of them saw the same samples."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from decouple.errors import DamagedFileError, DataError, RunDirectoryError, expect
from decouple.files import header_of, load_tensors
from decouple.formats import plural
from decouple.tensors import whole_number

_NAME = re.compile(r"record-(\d+)\.safetensors")


def record_path(folder: Path, step: int) -> Path:
    """The file of a step."""
    return Path(folder) / f"record-{step:05d}.safetensors"


def recorded_steps(folder: Path) -> list[tuple[int, Path]]:
    """The steps that a folder has records of, in no order, with their files."""
    return [(int(match[1]), path) for path in folder.glob("record-*") if (match := _NAME.fullmatch(path.name))]


@dataclass(frozen=True)
class Header:
    """What every file of a recording says of it."""

    name: str
    kind: str
    layers: list[str]
    logits: str | None
    solution: str | None
    start: str
    samples: str

    def values(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, eq=False)
class Recording:
    """A trajectory on disk: activations of some layers on N fixed samples, at some steps of a training."""

    folder: Path
    unit: str
    """Identity of the training."""
    name: str
    kind: str
    """search, sgd, q0, or a word of the user's own."""
    layers: tuple[str, ...]
    """From input to output."""
    logits: str | None
    """The layer whose outputs are class scores."""
    solution: str | None
    """The searched solution that the network learned."""
    start: str
    """Name of its initialisation and batches."""
    architecture: str
    """Fingerprint of the shapes of the network's state."""
    samples: str
    """Digest of samples, ids and labels, in their order."""
    ids: Tensor
    """(N,) int64."""
    labels: Tensor | None
    """(N,) int64."""
    steps: tuple[int, ...]
    """Ascending."""
    kept_as: Mapping[str, str] = field(default_factory=dict)
    """By layer: the name that it has in the files, where it is another one."""

    def __repr__(self) -> str:
        what = f"{plural(len(self.ids), 'sample')} at {plural(len(self.steps), 'step')}, {self.steps[0]} to {self.steps[-1]}"
        return f"Recording({self.name}: {what}; layers {', '.join(self.layers)})"

    @classmethod
    def open(cls, folder: Path | str) -> Recording:
        """Read what a recording holds, without its activations.

        Raises:
            RunDirectoryError: the folder holds no recording.
            DamagedFileError: a file is damaged, or files are of different recordings or of networks of different architectures.
        """
        folder = Path(folder)
        found = recorded_steps(folder)
        if not found:
            raise RunDirectoryError(f"{folder} holds no recording (no record-*.safetensors): give the folder of a Recorder")
        steps = sorted(found)
        unit = _one_unit([path for _, path in steps])
        tensors, meta = load_tensors(steps[-1][1], unit=f"{unit}/record-{steps[-1][0]}")
        try:
            about = Header(**{field.name: meta[field.name] for field in dataclasses.fields(Header)})
            architecture, ids = meta["architecture"], tensors["ids"].clone()
        except KeyError as error:
            raise DamagedFileError(f"{steps[-1][1]} is no file of a Recorder: it lacks {error}") from None
        labels = tensors["labels"].clone() if "labels" in tensors else None
        values = {**about.values(), "layers": tuple(about.layers)}
        return cls(
            folder, unit, architecture=architecture, ids=ids, labels=labels, steps=tuple(s for s, _ in steps), **values
        )

    def renamed(self, names: Mapping[str, str]) -> Recording:
        """The same recording with other names of layers, to compare networks whose layers are called differently.

        Args:
            names: the present name of a layer to the new one; layers that are not named keep theirs.

        Raises:
            DataError: there is no such layer, or two layers would have one name.
        """
        if unknown := [name for name in names if name not in self.layers]:
            raise DataError(f"recording '{self.name}' has no layer '{unknown[0]}': it has {', '.join(self.layers)}")
        layers = tuple(names.get(layer, layer) for layer in self.layers)
        if len(set(layers)) < len(layers):
            raise DataError(
                f"the layers of recording '{self.name}' would be called {', '.join(layers)}: expected each name once"
            )
        kept_as = {names.get(layer, layer): self.kept_as.get(layer, layer) for layer in self.layers}
        logits = None if self.logits is None else names.get(self.logits, self.logits)
        return dataclasses.replace(self, layers=layers, logits=logits, kept_as=kept_as)

    def at(self, step: int) -> dict[str, Tensor]:
        """By layer: activations (N, …) at a recorded step, float32; float64 where they are beyond the range of float32.

        Raises:
            ConfigError: no whole number.
            DataError: the step was not recorded.
            DamagedFileError: the file is missing or damaged.
        """
        step = whole_number(step, "a step", least=0)
        if step not in self.steps:
            raise DataError(f"recording '{self.name}' has no step {step}: it has {', '.join(map(str, self.steps))}")
        path = record_path(self.folder, step)
        tensors, meta = load_tensors(path, unit=f"{self.unit}/record-{step}")
        if meta["samples"] != self.samples:
            raise DamagedFileError(f"{path} was recorded on other samples than the rest of '{self.name}'; record it again")
        values = {layer: tensors[f"layer.{self.kept_as.get(layer, layer)}"] for layer in self.layers}
        return {layer: kept if kept.dtype == torch.float64 else kept.float() for layer, kept in values.items()}

    def last(self) -> dict[str, Tensor]:
        """By layer: activations at the last step."""
        return self.at(self.steps[-1])

    @property
    def body(self) -> tuple[str, ...]:
        """The layers but the one of the class scores."""
        return tuple(layer for layer in self.layers if layer != self.logits)


def _one_unit(paths: Sequence[Path]) -> str:
    """The unit of the recording that all files belong to. Raises DamagedFileError: they are of different trainings."""
    first, hint = paths[0], "keep each training in a folder of its own, and remove what an earlier one left"
    unit, meta = header_of(first)
    unit = unit.rpartition("/")[0]
    for path in paths[1:]:
        other, about = header_of(path)
        if (other := other.rpartition("/")[0]) != unit:
            raise DamagedFileError(f"{path} belongs to another recording ({other}) than {first.name} ({unit}): {hint}")
        if about.get("architecture") != meta.get("architecture"):
            raise DamagedFileError(
                f"{path} was recorded of a network of another architecture than that of {first.name}: {hint}"
            )
    return unit


def check_same_samples(recordings: Sequence[Recording]) -> None:
    """Refuse recordings that cannot be compared sample by sample.

    Raises:
        ConfigError: other objects than recordings.
        DataError: none at all, names that are not different, or other samples, labels or order; names two recordings and what
            differs.
    """
    expect(recordings, Sequence, "recordings", "give a list of them")  # type: ignore[type-abstract]
    if not recordings:
        raise DataError("there are no recordings to compare: give at least one")
    for recording in recordings:
        expect(recording, Recording, "a recording", "Recording.open(folder) reads what a Recorder wrote")
    names = [recording.name for recording in recordings]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"two recordings are called '{twice}': give each Recorder a name of its own")
    first = recordings[0]
    for other in recordings[1:]:
        if other.samples != first.samples:
            raise DataError(f"'{first.name}' and '{other.name}' cannot be compared: {_difference(first, other)}")


def _difference(one: Recording, other: Recording) -> str:
    hint = "record all of them with the same samples, ids and labels, in the same order"
    if len(one.ids) != len(other.ids):
        return f"{len(one.ids)} samples against {len(other.ids)}; {hint}"
    if not torch.equal(one.ids, other.ids):
        if torch.equal(one.ids.sort().values, other.ids.sort().values):
            return f"they hold the same samples in another order; {hint}"
        place = int((one.ids != other.ids).nonzero()[0])
        return f"other samples, the first at position {place} (id {int(one.ids[place])} against {int(other.ids[place])}); {hint}"
    if (one.labels is None) != (other.labels is None):
        return f"one has labels, the other has none; {hint}"
    if one.labels is not None and other.labels is not None and not torch.equal(one.labels, other.labels):
        return f"the same ids with other labels; {hint}"
    return f"the same ids stand for other contents; {hint}"
