"""What a network answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from decouple.data.images import ImageData, Split, as_float
from decouple.device import send
from decouple.errors import DataError, NetworkError, NotFiniteError
from decouple.networks.stages import Stages, taking
from decouple.torch_state import device_of, evaluated
from decouple.training.batches import even_batches
from decouple.training.stream import held

BATCH = 500
"""Images evaluated together, in the order of the split (which is random: see `decouple.data.splits`)."""

Batches = Iterable[Sequence[Any]]
"""Batches of images (B, …) and labels (B,), such as a DataLoader gives; what follows in a batch is left out."""


def logits(network: nn.Module, split: Split) -> Tensor:
    """(N, C) float32 on the CPU. uint8 images are scaled to 0..1 where the network is not `Stages`, which do it themselves.

    Raises:
        DataError: no images.
        NetworkError: an answer is no tensor of logits.
        NotFiniteError: an answer is NaN, which argmax would take for the first class.
    """
    return answers(network, split)[0]


def accuracy(network: nn.Module, data: Split | ImageData | Batches) -> float:
    """Share of the images classified correctly; of a data set, those of its test part. Raises as `answers`."""
    found, labels = answers(network, data)
    return float((found.argmax(1) == labels).float().mean())


@torch.no_grad()
def answers(network: nn.Module, data: Split | ImageData | Batches) -> tuple[Tensor, Tensor]:
    """`logits` (N, C), and the labels (N,) int64, on the CPU; of a data set, those of its test part. The network answers in
    evaluation mode, and is in its own again afterwards. Raises as `logits`, and DataError: `data` gives something other than
    batches of images and labels, or a label that the network has no logit for."""
    data = data.test if isinstance(data, ImageData) else data
    device, scales = device_of(network), any(isinstance(part, Stages) for part in network.modules())
    found, truths = [], []
    with evaluated(network):
        for images, labels in _batches(data, device):
            given = images if scales or images.dtype != torch.uint8 else as_float(images)
            with taking(network, images.shape):
                answer = network(send(given, device))
            if not isinstance(answer, Tensor) or answer.dim() != 2 or len(answer) != len(images):
                shape = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
                raise NetworkError(f"the network returned {shape} for {len(images)} images: expected logits (B, C)")
            found.append(answer.float())
            truths.append(labels.cpu())
    if not found:
        raise DataError("there are no images to evaluate the network on: the split is empty")
    joined, truth = torch.cat(found).cpu(), torch.cat(truths)
    if (broken := joined.isnan().any(1)).any():
        raise NotFiniteError(
            f"the network's answer to image {int(broken.nonzero()[0])} of {len(joined)} is NaN: check the network and its lr"
        )
    count, low, high = joined.shape[1], int(truth.min()), int(truth.max())
    if not 0 <= low <= high < count:
        raise DataError(f"labels go from {low} to {high}, and the model has {count} logits: expected 0 to {count - 1}")
    return joined, truth


def _batches(data: Split | Batches, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    if isinstance(data, Split):
        images, _ = held(data, device)
        for a, b in even_batches(len(data), BATCH) if len(data) else ():
            yield images[a:b], data.labels[a:b]
        return
    if not isinstance(data, Iterable):
        raise DataError(
            f"data must be a Split, an ImageData or batches, not {type(data).__name__}; a Dataset goes through a DataLoader"
        )
    for number, batch in enumerate(data):
        parts = list(batch)[:2] if isinstance(batch, Sequence) else []
        if len(parts) < 2 or not all(isinstance(part, Tensor) for part in parts):
            what = f"a {type(batch).__name__}"
        elif parts[0].dim() < 2 or parts[1].shape != parts[0].shape[:1] or parts[1].is_floating_point():
            what = " and ".join(f"{str(part.dtype).removeprefix('torch.')} {tuple(part.shape)}" for part in parts)
        else:
            yield parts[0], parts[1].long()
            continue
        raise DataError(
            f"batch {number} is {what}: expected images (B, …) and labels (B,) of whole numbers; a Dataset goes through a "
            "DataLoader"
        )
