"""The batches of an epoch, made ready in a thread of their own while the preceding steps are taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor

from decouple.data.images import Split, as_float
from decouple.networks.stages import Stages
from decouple.training.augment import augment

if TYPE_CHECKING:
    from decouple.training.team import Team

AHEAD = 2
"""Batches that are ready or being made ready while a step is taken: what a stream holds in memory, at most."""


class Batch(NamedTuple):
    """What a step works with, on the network's device but for the positions. B images: this process's part of the step's."""

    positions: Tensor
    """(B,) places in the split, on the CPU."""
    images: Tensor
    """(B, C, H, W) float, augmented."""
    labels: Tensor
    rows: list[Tensor]
    """What the objective fetched for the images, in its own order."""
    seed: int = 0
    """Of what the objective draws for this step."""
    team: Team | None = None
    """The processes that share the step's images; None: these are all of them."""
    size: int = 0
    """Of them all together; 0: B."""

    @property
    def part(self) -> slice:
        """Which of the step's images these are."""
        return slice(None) if self.team is None else self.team.part(self.size)

    def total(self, value: Tensor) -> Tensor:
        """The sum over the processes of what each has for its images."""
        return value if self.team is None else self.team.total(value)


class Loader:
    """Makes a batch from positions: gathers images, labels and rows, moves and converts them, and draws the views.

    On a GPU all of this is queued on a stream of its own from pinned memory, so that copies run beside the steps.

    Args:
        fetch: rows by position, on the CPU; stored types and layouts are converted to float32 in the network's layout.
        precision: "bfloat16" rounds rows that are maps to the type that autocast gives the network's own maps.
        augmentation: see `augment`.
        generator: of the views. Batches must be made in the order of the steps.
        team: the processes that share each batch; None: this one has all of it.
    """

    def __init__(
        self,
        network: Stages,
        split: Split,
        fetch: Callable[[Tensor], Sequence[Tensor]],
        *,
        augmentation: str,
        precision: str,
        generator: torch.Generator,
        team: Team | None,
    ) -> None:
        self._split, self._fetch, self._team = split, fetch, team
        self._augmentation, self._generator = augmentation, generator
        self._device = next(network.parameters()).device
        self._layout = layout(network)
        self._maps = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self._stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None

    def make(self, positions: Tensor) -> Batch:
        """This process's part of the batch of the images at `positions`."""
        size = len(positions)
        part = slice(0, size) if self._team is None else self._team.part(size)
        positions = positions[part]
        with torch.no_grad(), torch.cuda.stream(self._stream):
            rows = [self._moved(rows) for rows in self._fetch(positions)]
            images = as_float(self._moved(self._split.images.index_select(0, positions)))
            batch = Batch(
                positions,
                augment(images, self._augmentation, self._generator, batch=size, part=part),
                self._moved(self._split.labels.index_select(0, positions)),
                [self._converted(each) for each in rows],
                team=self._team,
                size=size,
            )
        if self._stream is not None:
            self._stream.synchronize()  # this thread waits, not the one that takes the steps
        return batch

    def received(self, batch: Batch) -> Batch:
        """`batch`, in the thread that works with it: its memory is not used anew before that work is done."""
        if self._stream is not None:
            for tensor in (batch.images, batch.labels, *batch.rows):
                tensor.record_stream(torch.cuda.current_stream(self._device))
        return batch

    def _moved(self, tensor: Tensor) -> Tensor:
        if self._stream is None:
            return tensor.to(self._device)
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def _converted(self, rows: Tensor) -> Tensor:
        if rows.dim() == 4:
            return rows.to(self._maps, memory_format=self._layout)
        return rows.float()


def layout(network: Stages) -> torch.memory_format:
    """How the network's filters lie in memory, and so its maps."""
    filters = [p for p in network.parameters() if p.dim() == 4 and not p.is_contiguous()]
    last = any(p.is_contiguous(memory_format=torch.channels_last) for p in filters)
    return torch.channels_last if last else torch.contiguous_format


Item = TypeVar("Item")
Made = TypeVar("Made")


def made_ahead(make: Callable[[Item], Made], items: Sequence[Item], ahead: int = AHEAD) -> Generator[Made, None, None]:
    """`make(item)` of each, in order, made in another thread up to `ahead` before they are asked for; 0: no thread.

    What `make` raises is raised here, when its turn comes. Close the iterator (`contextlib.closing`) if it may be left
    early: its thread then ends after the item that it is at.

    >>> list(made_ahead(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    if ahead == 0:
        yield from map(make, items)
        return
    with ThreadPoolExecutor(1, "decouple-batches", initializer=_one_thread) as pool:
        waiting: deque[Future[Made]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) == ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _one_thread() -> None:
    """This thread shares the cores with the one that takes the steps, and torch would give each a pool of all cores."""
    torch.set_num_threads(1)
