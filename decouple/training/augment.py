"""Random crops and flips, for a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from decouple.device import send
from decouple.errors import ConfigError

PADDING = 2
"""Pixels of reflection added on each side before cropping (paper: 2)."""


def augment(
    images: Tensor, mode: str, generator: torch.Generator, *, batch: int | None = None, part: slice = slice(None)
) -> Tensor:
    """One random view (B, C, H, W) of each image.

    Args:
        images: (B, C, H, W) float.
        mode: "none", "crop" (padding by 2 and random crop) or "flip-crop" (and horizontal flip).
        generator: on the CPU, whatever the device: the views do not depend on it.
        batch, part: the images are this part of a batch of this size, and get the views that they would get in it.
    """
    if mode == "none":
        return images
    _, _, height, width = images.shape
    if min(height, width) <= PADDING:
        raise ConfigError(
            f"augment = {mode} pads images by {PADDING} reflected pixels: {height}×{width} are too few; use augment = none"
        )
    count = batch or len(images)
    shifts = send(torch.randint(0, 2 * PADDING + 1, (2, count), generator=generator, device="cpu")[:, part], images.device)
    padded = functional.pad(images, [PADDING] * 4, mode="reflect")
    rows = shifts[0, :, None] + torch.arange(height, device=images.device)
    columns = shifts[1, :, None] + torch.arange(width, device=images.device)
    if mode == "flip-crop":
        drawn = torch.rand(count, generator=generator, dtype=torch.float32, device="cpu")[part]
        columns = torch.where(send(drawn, images.device)[:, None] < 0.5, columns.flip(1), columns)
    each = torch.arange(len(images), device=images.device)[:, None, None]
    # Advanced indices apart from a slice put their dimensions first: (B, H, W, C).
    return padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
