"""From what a member is built, so that a file of weights is enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from decouple.config import GptConfig, NetworkConfig
from decouple.errors import ConfigError, DataError
from decouple.networks.build import build_network, cut_module
from decouple.networks.stages import Stages
from decouple.networks.state import own_copy
from decouple.text.gpt import Gpt
from decouple.torch_state import torch_defaults


@dataclass(frozen=True)
class ImageArchitecture:
    """A network of images."""

    network: NetworkConfig
    groups: int
    image_shape: tuple[int, ...]
    """(C, H, W)."""
    classes: int
    unit_scale: bool | None = None
    """Of its images, as `Stages.unit_scale`; None: not known."""
    names: tuple[str, ...] = ()
    """Of its classes, as `Stages.classes`; empty: not known."""

    def check(self, images: Tensor) -> None:
        """Raise DataError if a member cannot take `images`."""
        if tuple(images.shape[1:]) != tuple(self.image_shape):
            wanted = ", ".join(map(str, self.image_shape))
            raise DataError(
                f"images have shape {tuple(images.shape)}: expected (B, {wanted}); for a single image pass images[None]"
            )

    def build(self, own: nn.Module | None = None) -> Stages:
        """A network of this shape. Whitening and standardisation are fitted to noise: they come with the weights.

        Args:
            own: a network to copy, where the user's own code builds it; cut here if it is not.

        Raises:
            ConfigError: code of the user's own builds it, which is not run because a file says so.
        """
        if own is not None:
            network = cut_module(own_copy(own), self.network.points, self.image_shape)
        elif self.network.is_code:
            raise ConfigError(
                f"{self.network.name} builds this network, code that is not run here: give one like it, network=…"
            )
        else:
            with torch_defaults():
                noise = torch.rand(2, *self.image_shape, generator=torch.Generator().manual_seed(0))
                network = build_network(self.network, noise, self.classes, groups=self.groups, seed=0)
        network.unit_scale, network.classes = self.unit_scale, self.names
        return network


@dataclass(frozen=True)
class GptArchitecture:
    """The GPT of `decouple q0 text`."""

    network: GptConfig
    vocabulary: int

    def build(self, own: nn.Module | None = None) -> Gpt:
        """A network of this shape; no code of the user's own builds one."""
        with torch_defaults():
            return Gpt(self.network, vocabulary=self.vocabulary, seed=0)


Architecture = ImageArchitecture | GptArchitecture


def architecture_from(values: Mapping[str, Any]) -> Architecture:
    """The one that `dataclasses.asdict` made `values` of."""
    if "vocabulary" in values:
        return msgspec.convert(values, GptArchitecture)
    return msgspec.convert(values, ImageArchitecture)
