"""Settings of images and of the network that they are shown to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from decouple import own_code
from decouple.config.base import Name, Positive, Section, Seed, Share

PAPER = "paper"
"""The name of the paper's network."""
LEARNED = "learned"
"""The name by which the network that learns is searched too."""
COLLECTIONS = ("torchvision:", "timm:")
"""What the names of networks of these packages begin with."""
PLACES = ("folder:", "npz:", "safetensors:")
"""What the names of data begin with that lie at a path."""
HUB = "hf:"
"""What the names of Hugging Face's data sets begin with."""


@dataclass(frozen=True)
class DataConfig(Section):
    name: Name = "digits"
    """digits, mnist, fashion-mnist, cifar10, cifar100; folder:PATH with train/<class>/ and test/<class>/ images; npz:FILE or
    safetensors:FILE with arrays; hf:NAME of Hugging Face's datasets; or your own: FILE.py:FUNCTION or package.module:FUNCTION."""
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

    @property
    def is_code(self) -> bool:
        """Whether a function of the user's own gives the data."""
        return own_code.is_address(self.name) and not self.name.startswith((*PLACES, HUB))


@dataclass(frozen=True)
class NamedNetwork(Section):
    """A network by name."""

    settled: ClassVar[dict[str, str]] = {PAPER: "settings and points of its own"}
    """Names that take neither arguments nor points, and what they have instead."""

    name: Name = PAPER
    """paper, torchvision:NAME, timm:NAME, or your own: FILE.py:FUNCTION or package.module:FUNCTION, which returns an nn.Module. The
    settings from width on apply only to paper. Short form: --network."""
    args: dict[str, bool | int | float | str] = field(default_factory=dict)
    """Keyword arguments for the function that builds the network. num_classes and in_chans come from the data unless given."""
    points: tuple[Name, ...] = ()
    """Names of the layers to cut after, the network's output last. Default: those that 'decouple points NETWORK' proposes."""

    @property
    def is_code(self) -> bool:
        """Whether a function of the user's own builds it."""
        return own_code.is_address(self.name) and not self.name.startswith(COLLECTIONS)

    def _check(self) -> None:
        if self.name in self.settled and (self.args or self.points):
            self._refuse("args" if self.args else "points", f"none for {self.name}, which has {self.settled[self.name]}")
        if self.name not in self.settled and not self.name.startswith(COLLECTIONS) and not self.is_code:
            known = ", ".join(self.settled)
            self._refuse(
                "name", f"{known}, torchvision:NAME, timm:NAME, or code, FILE.py:FUNCTION or package.module:FUNCTION"
            )


@dataclass(frozen=True)
class SearchedNetwork(NamedNetwork):
    """The network whose representations are searched. Its search points must have the shapes of those of the network that
    learns, whose names they take."""

    settled: ClassVar[dict[str, str]] = NamedNetwork.settled | {LEARNED: "those of the network that learns"}

    name: Name = LEARNED
    """learned: the same as the network that learns (the paper's: with one ConvGroup per block). Or another network, named as in
    --network.name. Short form: --search.network."""


@dataclass(frozen=True)
class NetworkConfig(NamedNetwork):
    """The network that learns. Its settings from width on also apply to the searched network, if that is the paper's."""

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
    """BatchNorm statistics at evaluation: running averages, or those of the evaluated batch (paper)."""
