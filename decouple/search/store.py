"""Searched targets on disk: one checked, memory-mapped safetensors file for each search batch of a solution."""

from __future__ import annotations

import html
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from decouple.data.images import Split
from decouple.errors import DamagedFileError, DataError, NotFiniteError
from decouple.files import load_tensors, pack_tensors, try_tensors
from decouple.formats import html_table, nats, percent, plural, size
from decouple.search.engine import NOT_SEARCHED, BatchResult
from decouple.torch_state import plain_torch

IN_MEMORY_BYTES = 2**30
"""A solution up to this size is read once; a larger one stays on disk and is paged in by row."""


@dataclass(frozen=True)
class Shard:
    """Where the result of one search batch is kept, and what it is."""

    path: Path
    unit: str
    """Identity: settings, solution, batch; checked when the file is read."""
    bounds: tuple[int, int]
    """Positions in the split, from and to."""

    def contents(self, result: BatchResult, searched: Split, dtype: torch.dtype) -> bytes:
        """The file that keeps `result` for the images that were searched, targets as `dtype`, from the first point on that was
        searched: those before it are the network's own activations, and most of the bytes. Raises NotFiniteError: a target is
        not finite, or is too large for `dtype`."""
        tensors = {f"target.{i}": _stored(result.targets[i], dtype) for i in _kept(result.stops)}
        tensors |= {f"curve.{i}": curve for i, curve in enumerate(result.curves)}
        tensors |= {"ids": searched.ids, "before": result.before, "after": result.after}
        tensors |= {"solved": result.solved, "displacement": result.displacement, "cosine": result.cosine}
        meta = {"evaluations": result.evaluations, "failed": result.failed, "stops": result.stops, "images": searched.digest}
        return pack_tensors(tensors, meta, unit=self.unit)

    def read(self, *, checked: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, memory-mapped, and metadata; `checked` reads all of them for the checksum. Raises DamagedFileError:
        missing, damaged or another unit's file."""
        tensors, meta = load_tensors(self.path, unit=self.unit, checked=checked)
        if len(tensors["ids"]) != self.bounds[1] - self.bounds[0]:
            raise DamagedFileError(
                f"{self.path} holds {len(tensors['ids'])} images, expected {self.bounds[1] - self.bounds[0]}"
            )
        return tensors, meta

    def is_whole(self) -> bool:
        """Whether the file is there and its checksum and identity are right."""
        found = try_tensors(self.path, unit=self.unit)
        return found is not None and len(found[0]["ids"]) == self.bounds[1] - self.bounds[0]


class TargetStore:
    """The targets of one solution, by position in the split that was searched.

    Args:
        shards: in the order of the positions.
        checked: verify the checksums, for which every file is read whole; False where they were just verified or written.

    Raises:
        DamagedFileError: a shard is missing or damaged; names it.
    """

    def __init__(self, shards: Sequence[Shard], *, checked: bool = True) -> None:
        self.shards = tuple(shards)
        # One shard after the other; targets are mapped only when rows are asked for.
        self._contents = []
        self.nbytes = 0
        """Size of the targets."""
        for shard in shards:
            tensors, meta = shard.read(checked=checked)
            self._kept = _kept(meta["stops"])
            self.first_searched = self._kept.start
            """The first search point that was evolved."""
            targets = [tensors[f"target.{point}"] for point in self._kept]
            self.nbytes += sum(of_point.nbytes for of_point in targets)
            self.shapes = [tuple(of_point.shape[1:]) for of_point in targets]
            """Of an image's targets, by search point from `first_searched` on."""
            small = {name: tensor.clone() for name, tensor in tensors.items() if not name.startswith("target.")}
            self._contents.append((small, meta))
        self.ids = torch.cat([tensors["ids"] for tensors, _ in self._contents])
        """(N,) sample ids, in the order of positions."""

    @cached_property
    def _on_disk(self) -> list[list[Tensor]]:
        """By search point that is kept: the targets of one shard after the other."""
        read = [shard.read(checked=False)[0] for shard in self.shards]
        return [[tensors[f"target.{point}"] for tensors in read] for point in self._kept]

    @cached_property
    @plain_torch()
    def _in_memory(self) -> list[Tensor] | None:
        """By search point that is kept: all targets, maps as (N, H, W, C); None: they are too large."""
        if self.nbytes > IN_MEMORY_BYTES:
            return None
        whole = [_channels_last(torch.cat(parts)) for parts in self._on_disk]
        del self._on_disk
        return whole

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        where, shapes = self.shards[0].path.parent, ", ".join(map(str, self.shapes))
        return f"TargetStore({where}: {plural(len(self), 'image')}, targets {shapes}; {size(self.nbytes)})"

    def _repr_html_(self) -> str:
        means = {name: values.float().mean(1).tolist() for name, values in self.diagnostics().items()}
        rows = [
            (str(shape), nats(means["before"][i]), nats(means["after"][i]), f"{percent(means['solved'][i])} %")
            for i, shape in zip(self._kept, self.shapes, strict=True)
        ]
        head = ("targets", "cross-entropy before", "after", "solved")
        return f"<p>{html.escape(repr(self))}</p>{html_table(rows, head)}"

    def check(self, split: Split) -> None:
        """Refuse a split other than the one that was searched. Raises DataError: other images, labels, or another order."""
        if len(split) != len(self):
            raise DataError(
                f"the targets belong to {len(self)} images, but the split has {len(split)}; pass the split that was searched"
            )
        for shard, (_, meta) in zip(self.shards, self._contents, strict=True):
            if split.subset(range(*shard.bounds)).digest != meta["images"]:
                raise DataError(
                    f"the targets of images {shard.bounds[0]} to {shard.bounds[1] - 1} were searched for other images, labels or "
                    "another order; pass the split that was searched"
                )

    def rows(self, positions: Tensor) -> list[Tensor]:
        """By search point from `first_searched` on: targets (B, …) at `positions` (B,), on the CPU, as stored; logits last."""
        if self._in_memory is not None:
            return [_channels_first(targets.index_select(0, positions)) for targets in self._in_memory]
        ends = [shard.bounds[1] for shard in self.shards]
        places = [(shard := bisect_right(ends, p), p - self.shards[shard].bounds[0]) for p in positions.tolist()]
        with plain_torch():  # under autocast torch stacks no float16
            return [torch.stack([parts[shard][row] for shard, row in places]) for parts in self._on_disk]

    @plain_torch()
    def rows_on(self, device: torch.device, limit: int, first: int = 0) -> Callable[[Tensor], list[Tensor]] | None:
        """`rows`, but from search point `first` on, for positions on `device` and from copies there; None: they would take more than
        `limit` bytes."""
        shards = [shard.read(checked=False)[0] for shard in self.shards]
        parts = [[tensors[f"target.{point}"] for tensors in shards] for point in self._kept if point >= first]
        if sum(part.nbytes for of_point in parts for part in of_point) > limit:
            return None
        copies = [torch.cat([_channels_last(part).to(device) for part in of_point]) for of_point in parts]
        return lambda positions: [_channels_first(copy.index_select(0, positions)) for copy in copies]

    def diagnostics(self) -> dict[str, Tensor]:
        """(L, N) tensors `before`, `after`, `solved`, `displacement`, `cosine` (see `BatchResult`), joined over the shards."""
        names = ("before", "after", "solved", "displacement", "cosine")
        return {name: torch.cat([tensors[name] for tensors, _ in self._contents], dim=1) for name in names}

    @plain_torch()
    def curves(self) -> list[Tensor]:
        """By search point: mean cross-entropy by generation, over all images; a batch that stopped early stays where it was."""
        counts = [float(b - a) for a, b in (shard.bounds for shard in self.shards)]
        sizes = torch.tensor(counts, dtype=torch.float32, device="cpu")
        share = sizes / sizes.sum()
        found = []
        for point in range(self._kept.stop):
            curves = [tensors[f"curve.{point}"] for tensors, _ in self._contents]
            longest = max(map(len, curves))
            padded = [torch.cat([curve, curve[-1:].expand(longest - len(curve))]) for curve in curves]
            found.append(torch.stack(padded, 1) @ share)
        return found

    def stops(self) -> Counter[str]:
        """How many batches and evolved search points each reason has ended (see `BatchResult.stops`)."""
        return Counter(reason for _, meta in self._contents for reason in meta["stops"] if reason != NOT_SEARCHED)

    @property
    def evaluations(self) -> int:
        """Candidates scored for an image, mean over the images."""
        total = sum(int(meta["evaluations"]) * len(tensors["ids"]) for tensors, meta in self._contents)
        return round(total / len(self))

    @property
    def failed(self) -> int:
        """Generations of an image in which every candidate failed."""
        return sum(int(meta["failed"]) for _, meta in self._contents)


def _kept(stops: Sequence[str]) -> range:
    """The search points whose targets are kept, by what ended each: from the first that was evolved on; the last, if none was."""
    return range(next((point for point, stop in enumerate(stops) if stop != NOT_SEARCHED), len(stops) - 1), len(stops))


def _stored(target: Tensor, dtype: torch.dtype) -> Tensor:
    kept = target.to(dtype)
    if not _is_finite(kept):
        if _is_finite(target):
            raise NotFiniteError(
                f"a target of {float(target.abs().max()):.3g} is too large to be kept as {str(dtype).removeprefix('torch.')}; search "
                "with dtype = bfloat16"
            )
        raise NotFiniteError("a target is not finite: check the network's activations and the scale of the images")
    return kept


def _is_finite(values: Tensor) -> bool:
    """In one pass, where `isfinite` and `all` take several."""
    return all(bool(bound.isfinite()) for bound in values.aminmax())


def _channels_last(targets: Tensor) -> Tensor:
    """Maps (N, C, H, W) as (N, H, W, C), the order in which convolutions are fast: a learner's rows need no transposition."""
    return targets.permute(0, 2, 3, 1).contiguous() if targets.dim() == 4 else targets


def _channels_first(rows: Tensor) -> Tensor:
    """Maps (B, H, W, C) as (B, C, H, W), without a copy."""
    return rows.permute(0, 3, 1, 2) if rows.dim() == 4 else rows
