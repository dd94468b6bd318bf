"""The batches of an epoch, made ready in a thread of their own while the preceding steps are taken.

On a GPU they are gathered there from copies of the images and targets, where these fit; what does not fit comes from the CPU,
through pinned memory and a CUDA stream of its own, so that copies run beside the steps. Nobody waits for the GPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from decouple.data.images import Split, as_float
from decouple.device import room, send
from decouple.errors import DataError
from decouple.seeds import derive, generator
from decouple.training.augment import augment
from decouple.training.processes import ALONE, Group

AHEAD = 2
"""Batches that are ready or being made ready while a step is taken: what a stream holds in memory, at most."""

LEAD = 4
"""Steps that may be queued on a GPU behind the one it is at, where their batches come from the CPU and take up memory."""

Rows = Callable[[Tensor], Sequence[Tensor]]
"""Of the examples at positions (B,): tensors (B, …)."""

Streams = dict[tuple[str, ...], torch.Generator]
"""Generators by what is drawn from them."""

_HELD: WeakKeyDictionary[Split, dict[torch.device, tuple[Tensor, Tensor]]] = WeakKeyDictionary()


def held(split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images and labels: copies on a GPU, for as long as the split lives, if they take at most a quarter of its free memory;
    else those of the split."""
    copies = _HELD.setdefault(split, {})
    if device not in copies and split.images.nbytes + split.labels.nbytes <= room(device, on_cpu=0):
        copies[device] = split.images.to(device), split.labels.to(device)
    return copies.get(device, (split.images, split.labels))


@dataclass(frozen=True)
class HeldRows:
    """Rows that are gathered on a GPU."""

    rows: Rows
    """Takes positions on the device, and gives tensors there."""
    device: torch.device

    def __call__(self, positions: Tensor) -> Sequence[Tensor]:
        return self.rows(send(positions, self.device))


class Batch(NamedTuple):
    """What a step works with, on the network's device but for the positions. B examples: this process's part of the step's."""

    positions: Tensor
    """(B,) places in what is learned from, on the CPU."""
    inputs: Tensor
    """What the network takes: images (B, C, H, W) float, augmented; tokens (B, T)."""
    labels: Tensor
    """(B,), or (B, T) for tokens."""
    rows: list[Tensor]
    """What the objective fetched for the examples, in its own order."""
    seed: int = 0
    """Of what the objective draws for this step."""
    group: Group = ALONE
    """The processes that share the step's examples."""
    size: int = 0
    """Examples of them all together; 0: B."""
    tokens: tuple[int, int] | None = None
    """Labels that count, here and in all processes together; None: every example is one."""
    ready: torch.cuda.Event | None = None
    """After which a GPU has it, where it comes there on a stream of its own."""
    streams: Streams | None = None
    """What draws in the step, where that is kept; the step asks for its generators, and need not know."""

    def generator(self, *path: str, device: torch.device) -> torch.Generator:
        """The step's stream called `path`."""
        if self.streams is None:
            return generator(self.seed, *path, device=device)
        if path not in self.streams:
            self.streams[path] = generator(self.seed, *path, device=device)
        return self.streams[path]

    @property
    def part(self) -> slice:
        """Which of the step's examples these are."""
        return self.group.part(self.size or len(self.positions))

    @property
    def counted(self) -> int:
        """What the loss is a mean over."""
        return len(self.positions) if self.tokens is None else self.tokens[0]

    @property
    def counted_by_all(self) -> int:
        """What it is a mean over in all processes together."""
        return (self.size or len(self.positions)) if self.tokens is None else self.tokens[1]

    def total(self, value: Tensor) -> Tensor:
        """The sum over the processes of what each has for its examples."""
        return self.group.sum(value)


class Loader(Protocol):
    """Makes the batches of an epoch. They must be made in the order of the steps."""

    def make(self, item: tuple[int, Tensor]) -> Batch:
        """This process's part of the batch of the step with this number, of the examples at these positions."""
        ...

    def received(self, batch: Batch) -> Batch:
        """`batch`, in the thread that works with it."""
        ...


class ImageLoader:
    """Makes a batch from positions: gathers images, labels and rows, moves and converts them, and draws the views.

    Args:
        fetch: rows by position, from the CPU or `HeldRows`; stored types and layouts are converted to float32 in the network's
            layout. None: there are none.
        precision: "bfloat16" rounds rows that are maps to the type that autocast gives the network's own maps.
        seed: of this epoch's views, and of what objectives draw."""

    def __init__(
        self,
        network: nn.Module,
        split: Split,
        fetch: Rows | None = None,
        *,
        augmentation: str,
        precision: str,
        seed: int,
        group: Group = ALONE,
    ) -> None:
        if augmentation != "none" and split.images.dim() != 4:
            raise DataError(
                f"augment = {augmentation} is for images (N, C, H, W), not {tuple(split.images.shape)}: use none"
            )
        self._fetch, self._group = fetch, group
        self._augmentation, self._seed, self._generator = augmentation, seed, generator(seed, "augment")
        self._device = next(network.parameters()).device
        self._images, self._labels = held(split, self._device)
        self._layout = layout(network)
        self._maps = torch.bfloat16 if precision == "bfloat16" else torch.float32
        held_rows = fetch is None or isinstance(fetch, HeldRows)
        beside = self._device.type == "cuda" and not (held_rows and self._images.device == self._device)
        self._stream = torch.cuda.Stream(self._device) if beside else None
        self._begun: deque[torch.cuda.Event] = deque()

    def make(self, item: tuple[int, Tensor]) -> Batch:
        """See `Loader`."""
        step, positions = item
        size = len(positions)
        part = self._group.part(size)
        positions = positions[part]
        with torch.no_grad(), torch.cuda.stream(self._stream):
            place = send(positions, self._images.device)
            rows = [] if self._fetch is None else [send(rows, self._device) for rows in self._fetch(positions)]
            images = as_float(send(self._images.index_select(0, place), self._device))
            return Batch(
                positions,
                augment(images, self._augmentation, self._generator, batch=size, part=part),
                send(self._labels.index_select(0, place), self._device),
                [each.to(self._maps, memory_format=self._layout) if each.dim() == 4 else each.float() for each in rows],
                seed=derive(self._seed, "step", step),
                group=self._group,
                size=size,
                ready=None if self._stream is None else self._stream.record_event(),
            )

    def received(self, batch: Batch) -> Batch:
        """See `Loader`; the batch's memory is not used anew before the step is done."""
        if batch.ready is not None:
            stream = torch.cuda.current_stream(self._device)
            self._begun.append(stream.record_event())
            stream.wait_event(batch.ready)
            for tensor in (batch.inputs, batch.labels, *batch.rows):
                tensor.record_stream(stream)
            if len(self._begun) > LEAD:
                self._begun.popleft().synchronize()
        return batch


def layout(network: nn.Module) -> torch.memory_format:
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
    # One thread of torch's, which would give this thread a pool of all cores beside that of the one that takes the steps.
    with ThreadPoolExecutor(1, "decouple-batches", initializer=torch.set_num_threads, initargs=(1,)) as pool:
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
