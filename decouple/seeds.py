"""Random streams, each derived from (seed, path).

No generator state is ever saved: a unit of work that is redone after a kill derives the same stream again from the
run's seed and its own name, which is what makes a resumed run equal an uninterrupted one.
"""

from __future__ import annotations

import hashlib
from typing import SupportsIndex

import torch

from decouple.tensors import whole_number


def derive(seed: SupportsIndex, *path: str | SupportsIndex) -> int:
    """A 63-bit seed for the stream called `path` of a run seeded with `seed`; whole numbers count by their value alone.

    >>> derive(0, "search", 1) == derive(0, "search", 1)
    True
    >>> derive(0, "search", 1) == derive(0, "search", "1")
    False
    """
    text = repr((whole_number(seed, "seed"), *map(_plain, path))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def _plain(part: str | SupportsIndex) -> str | int:
    """As Python's own type, since numpy's and torch's are written in another way."""
    if isinstance(part, str):
        return str(part)
    return part if isinstance(part, int) else whole_number(part, "part of a stream's name")


def generator(seed: SupportsIndex, *path: str | SupportsIndex, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator on `device` for the stream called `path`."""
    return torch.Generator(device=device).manual_seed(derive(seed, *path))
