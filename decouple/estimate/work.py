"""How much a computation computes, moves and starts, counted while it runs on a few images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

COUNTED = (2, 4)
"""Images that work is counted on."""


@dataclass(frozen=True)
class Work:
    """What a device has to do."""

    flops: float = 0.0
    """Of convolutions and matrix products; a multiplication and an addition are two."""
    moved: float = 0.0
    """Bytes, if every operation reads what it takes and writes what it gives once."""
    kernels: float = 0.0
    """Operations that are started."""

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.moved + other.moved, self.kernels + other.kernels)

    def __sub__(self, other: Work) -> Work:
        return self + other * -1

    def __mul__(self, times: float) -> Work:
        return Work(self.flops * times, self.moved * times, self.kernels * times)


class _Traffic(TorchDispatchMode):
    """Counts operations but for views, and the bytes of what they take and give."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = self.kernels = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        aliases = [returned.alias_info for returned in func._schema.returns]
        if not any(alias is not None and not alias.is_write for alias in aliases):  # or it is a view
            self.kernels += 1
            self.moved += sum(leaf.nbytes for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, Tensor))
        return found


def counted(run: Callable[[], object]) -> Work:
    """The work of a run on the CPU.

    >>> import torch
    >>> counted(lambda: torch.ones(2, 3) @ torch.ones(3, 4))
    Work(flops=48.0, moved=176.0, kernels=3.0)
    """
    with FlopCounterMode(display=False) as flops, _Traffic() as traffic:
        run()
    return Work(float(flops.get_total_flops()), float(traffic.moved), float(traffic.kernels))


def of_images(run: Callable[[int], Work], images: int) -> Work:
    """The work for so many images at once, from that for a few: what they share, such as a search's directions, is done once.

    >>> of_images(lambda images: Work(flops=100 + 7 * images, kernels=5), 50)
    Work(flops=450.0, moved=0.0, kernels=5)
    """
    few, more = (run(count) for count in COUNTED)
    found = few + (more - few) * ((images - COUNTED[0]) / (COUNTED[1] - COUNTED[0]))
    return Work(found.flops, found.moved, few.kernels)
