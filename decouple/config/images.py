"""Settings of images and of the network that they are shown to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from decouple.config.base import Name, Positive, Section, Seed, Share


@dataclass(frozen=True)
class DataConfig(Section):
    name: Name = "digits"
    """digits, mnist, fashion-mnist, cifar10, cifar100, or folder:PATH with train/<class>/ and test/<class>/ images."""
    train: Positive | None = None
    """Training images; None: all that validation and prior leave."""
    validation: Positive = 150
    """Images held out of the training set to choose epochs and settings by."""
    prior: Positive = 150
    """Images held out of the training set to fit q0's learned prior on; nothing else sees them."""
    test: Positive | None = None
    """Test images; None: all. Used once, for the reported figures."""
    seed: Seed = 0
    """Draws the splits. Separate from the run's seed, so that runs with different seeds share their data."""


@dataclass(frozen=True)
class NetworkConfig(Section):
    width: Positive = 32
    """Channels of each block (paper: 256)."""
    blocks: Positive = 3
    """Blocks; those whose map would fall below 1×1 are dropped."""
    groups: Positive = 2
    """ConvGroups (2 convolutions each) a block of the learned network (paper: 3; MNIST 2). Search uses 1."""
    whitening: Literal["patches", "none"] = "patches"
    """patches: begin with the frozen 2×2 convolution that whitens training patches (paper); none: with the images."""
    eps: Share = 1e-2
    """BatchNorm's epsilon. 1e-5 makes gradients explode where a Dirac channel is nearly constant (MNIST)."""
    statistics: Literal["running", "batch"] = "running"
    """What normalises at evaluation: running averages, or the evaluated batch itself (paper)."""
