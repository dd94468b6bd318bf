"""Whether a network can be searched or trained on a split: found out before compute is spent, said in a line."""

from __future__ import annotations

import copy
import math
from itertools import chain

import torch
from torch import Tensor, nn

from decouple.data.images import Split, as_float
from decouple.errors import DataError, NetworkError, expect, first_line
from decouple.networks.stages import Stages
from decouple.networks.state import check_values
from decouple.torch_state import device_of, generators_kept, plain_torch


def check_fit(network: Stages, split: Split, what: str = "train") -> list[tuple[int, ...]]:
    """The shapes at every search point, once it is clear that the network can be computed on the split's images.

    Raises:
        ConfigError: one of the two is something else.
        DataError: there are no images, or a label is negative.
        NetworkError: weights that hold no values or lie on several devices, an output that is no tensor of a row an image,
            images or labels that do not fit.
    """
    expect_stages(network)
    expect(split, Split, what, f"pass data.{what}, say")
    if len(split) == 0:
        raise DataError(f"{what} has no images: expected at least one")
    if int(split.labels.min()) < 0:
        raise DataError(f"{what} has the label {int(split.labels.min())}: expected classes counted from 0")
    _check_weights(network)
    with plain_torch():
        return network.check(split.images.shape[1:], split.labels)


def expect_stages(network: object) -> Stages:
    """The network, if it is cut. Raises ConfigError: it is not."""
    return expect(network, Stages, "network", "cut it with Stages.from_module or Stages.from_sequential")


def check_trainable(network: nn.Module, what: str = "the network") -> None:
    """Refuse a network that no step of an optimiser can change. Raises NetworkError: no weight asks for a gradient, or one
    was made in inference mode."""
    weights = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    if not weights:
        raise NetworkError(
            f"no parameter of {what} requires a gradient, so there is nothing to train; call requires_grad_(True) on it, or on the "
            "parts to train"
        )
    for name, tensor in chain(weights, network.named_buffers()):
        if tensor.is_inference():
            raise NetworkError(
                f"'{name}' was made in torch.inference_mode() and cannot be trained; copy.deepcopy(network) outside of it can"
            )


def check_batches(network: Stages, split: Split, batch: int, what: str = "train", *, training: bool = True) -> None:
    """Refuse a batch of a single image, where the network takes none (BatchNorm, while it takes statistics of the batch).

    Args:
        batch: images at once, at most: there may be fewer, and they are divided evenly.
        training: whether the network is then in training mode."""
    if len(split) // math.ceil(len(split) / batch) > 1:
        return
    trial = copy.deepcopy(network).train(training)
    image = as_float(split.images[:1].to(device_of(network)))
    try:
        with plain_torch(), torch.no_grad(), generators_kept(image.device):
            trial(image)
    except (RuntimeError, ValueError) as error:
        raise NetworkError(
            f"{what} has {len(split)} images, and so a batch of a single one, which the network does not take "
            f"({first_line(error)}); give another batch size or more images"
        ) from None


def check_repeatable(network: Stages, images: Tensor) -> None:
    """Refuse a network that answers `images` (B, …), on its device, anew each time in eval mode; names the search point."""
    trial = copy.deepcopy(network).eval()
    with plain_torch(), torch.no_grad(), generators_kept(images.device):
        for name, one, other in zip(
            trial.names, trial.activations(as_float(images)), trial.activations(as_float(images)), strict=True
        ):
            if not torch.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True):
                raise NetworkError(
                    f"the network gives different values at '{name}' each time it sees the same images in eval mode (dropout that is "
                    "always on?): a search needs repeatable values; make it depend on self.training"
                )


def _check_weights(network: Stages) -> None:
    check_values(network)
    tensors = dict(chain(network.named_parameters(), network.named_buffers()))
    devices = sorted({str(tensor.device) for tensor in tensors.values() if tensor.dim()})  # a single number may be anywhere
    if len(devices) > 1:
        raise NetworkError(
            f"the network lies on {', '.join(devices)}: expected one device; call network.to('{devices[-1]}')"
        )
