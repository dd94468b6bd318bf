"""Random streams, each derived from (seed, path).

No generator state is ever saved: a unit of work that is redone after a kill derives the same stream again from the
run's seed and its own name, which is what makes a resumed run equal an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import operator

import torch


def derive(seed: int, *path: str | int) -> int:
    """A 63-bit seed for the stream called `path` of a run seeded with `seed`.

    >>> derive(0, "search", 1) == derive(0, "search", 1)
    True
    >>> derive(0, "search", 1) == derive(0, "search", "1")
    False

    Whole numbers of numpy and torch stand for Python's.
    """
    parts = [part if isinstance(part, str) else operator.index(part) for part in path]
    text = repr((int(seed), *parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def generator(seed: int, *path: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator on `device` for the stream called `path`."""
    return torch.Generator(device=device).manual_seed(derive(seed, *path))
