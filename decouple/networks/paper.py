"""The paper's network: whitening, three convolutional blocks and a linear head, for any image size.

Source: Vegesna and Dahal, arXiv 2509.10973, after airbench. A ConvGroup is conv 3×3 → [max-pool 2×2] → BatchNorm →
GELU → conv 3×3 → BatchNorm → GELU; a block is one with pooling, and further ones without.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from decouple.config import NetworkConfig
from decouple.data.images import as_float
from decouple.errors import NetworkError, expect
from decouple.networks.stages import Stages
from decouple.seeds import derive
from decouple.tensors import as_tensor
from decouple.torch_state import seeded, torch_defaults

FITTED_IMAGES, FITTED_VALUES = 5000, 2**26
"""Of the training images that whitening is fitted to, at most: their patches take four times the memory."""
WHITENING_EPS = 5e-4
"""Added to the eigenvalues, as in airbench: directions that hardly occur are not blown up."""


class Standardise(nn.Module):
    """Images, uint8 or any float type, to zero mean and unit deviation by channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.view(-1, 1, 1))
        self.register_buffer("std", std.view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            images = as_float(images)
        return (images.to(self.mean.dtype) - self.mean) / self.std


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm with a bias and no weight.

    `statistics="batch"` has no running averages: the evaluated batch normalises itself, as in the paper.
    """

    def __init__(self, channels: int, *, eps: float, statistics: str) -> None:
        # torch's momentum is the share of the new value: the paper's 0.6 is the share of the old one.
        super().__init__(channels, eps=eps, momentum=0.4, track_running_stats=statistics == "running")
        self.weight.requires_grad_(False)


class ConvGroup(nn.Sequential):
    """Two 3×3 convolutions, each with BatchNorm and GELU; `pool` halves the map after the first."""

    def __init__(self, inputs: int, outputs: int, *, pool: bool, eps: float, statistics: str) -> None:
        super().__init__(
            _convolution(inputs, outputs),
            *([nn.MaxPool2d(2)] if pool else []),
            BatchNorm(outputs, eps=eps, statistics=statistics),
            nn.GELU(),
            _convolution(outputs, outputs),
            BatchNorm(outputs, eps=eps, statistics=statistics),
            nn.GELU(),
        )


@torch_defaults()
def paper_network(images: Tensor, num_classes: int, config: NetworkConfig, *, groups: int, seed: int) -> Stages:
    """The paper's network for images like these.

    Args:
        images: training images (N, C, H, W), uint8 or float; the whitening and the standardisation are fitted to them.
        num_classes: number of classes, at least 2.
        config: width, blocks, BatchNorm.
        groups: ConvGroups a block: 1 for search, more for learning.
        seed: of the initialisation. Each part has its own stream, so networks of other depth share what they both have.

    Returns:
        Stages "block0", …, "logits". A block that would pool a map below 1×1 is left out.

    Raises:
        NetworkError: the images are too small for a single block or are not (N, C, H, W), or `groups` or `num_classes` is too small.
    """
    expect(config, NetworkConfig, "config")
    if groups < 1 or num_classes < 2:
        raise NetworkError(f"groups = {groups}, num_classes = {num_classes}: expected at least 1 and at least 2")
    if (images := as_tensor(images, "images")).dim() != 4:
        raise NetworkError(
            f"the paper's network takes images (N, C, H, W), not {tuple(images.shape)}; vectors need a network of your own (--network)"
        )
    channels, height, width = images.shape[1:]
    few = images[: min(FITTED_IMAGES, max(1, FITTED_VALUES // images.shape[1:].numel()))]  # splits are in random order
    values = as_float(few).double()
    mean, std = values.mean((0, 2, 3)), values.std((0, 2, 3))
    standardise = Standardise(mean.float(), torch.where(std > 0, std, 1).float())
    border = 1 if config.whitening == "patches" else 0  # a 2×2 convolution without padding takes a pixel
    blocks = min(config.blocks, max(min(height, width) - border, 1).bit_length() - 1)
    if blocks < 1:
        raise NetworkError(f"images of {height}×{width} are too small for the paper's network: at least 3×3 are needed")
    front: list[nn.Module] = [standardise]
    if config.whitening == "patches":
        front += [_whitening(standardise(few)), nn.GELU()]
        channels *= 2 * 2 * 2
    stages: list[nn.Module] = []
    for block in range(blocks):
        parts = []
        for group in range(groups):
            inputs = channels if block == group == 0 else config.width
            with seeded(derive(seed, "block", block, group)):
                parts.append(ConvGroup(inputs, config.width, pool=group == 0, eps=config.eps, statistics=config.statistics))
        stages.append(nn.Sequential(*front, *parts) if block == 0 else nn.Sequential(*parts))
    features = config.width * (height - border >> blocks) * (width - border >> blocks)
    with seeded(derive(seed, "head")):
        stages.append(nn.Sequential(nn.Flatten(), nn.Linear(features, num_classes, bias=False)))
    network = Stages(stages, [*(f"block{i}" for i in range(blocks)), "logits"]).to(memory_format=torch.channels_last)
    network.train_on(images)
    return network


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, 3, padding="same", bias=False)
    # Identity on the first input channels; the further filters keep torch's Kaiming-uniform values (airbench).
    nn.init.dirac_(convolution.weight.data[:inputs])
    return convolution


def _whitening(images: Tensor) -> nn.Conv2d:
    """A frozen 2×2 convolution with the eigenfilters of the images' patches, scaled to unit variance, and their negatives."""
    channels = images.shape[1]
    patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, channels * 4)
    covariance = patches.T @ patches / len(patches)
    values, vectors = torch.linalg.eigh(covariance.double())
    filters = (vectors / (values + WHITENING_EPS).sqrt()).T.flip(0)  # largest eigenvalue first
    # The sign of an eigenvector is arbitrary and may differ by library: make the largest entry positive.
    largest = filters.gather(1, filters.abs().argmax(1, keepdim=True))
    filters = (filters * largest.sign()).float().view(-1, channels, 2, 2)
    convolution = nn.utils.skip_init(nn.Conv2d, channels, 2 * len(filters), 2, bias=False)
    convolution.weight.data = torch.cat([filters, -filters])
    convolution.weight.requires_grad_(False)
    return convolution
