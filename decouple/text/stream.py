"""Documents in some order as one stream of tokens, cut into rows: what an epoch trains on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decouple.seeds import generator
from decouple.tasks.distill import IGNORED


@dataclass(frozen=True)
class Documents:
    """The documents of one part, in a token file that others share."""

    tokens: NDArray[np.integer]
    """(N,) ids of all parts, memory-mapped."""
    starts: NDArray[np.int64]
    """(D,) place of each document's first token."""
    lengths: NDArray[np.int64]
    """(D,) tokens of each document, the end mark included."""
    end: int
    """Id of the end mark."""
    bytes: int
    """Size of the text, separators included."""

    def __len__(self) -> int:
        """Tokens to predict."""
        return int(self.lengths.sum())

    def rows(self, context: int) -> int:
        """Rows of `context` tokens that the part makes; the last is filled up with what does not count."""
        return -(-len(self) // context)

    def stream(self, *, seed: int | None = None, epoch: int = 0) -> TokenStream:
        """Its documents as a stream: shuffled, as (seed, epoch) decide; without a seed in the order of the text."""
        if seed is None:
            return TokenStream(self, np.arange(len(self.lengths)))
        stream = generator(seed, "documents", epoch)
        return TokenStream(self, torch.randperm(len(self.lengths), generator=stream, device="cpu").numpy())

    def bits_per_byte(self, nll: float) -> float:
        """`nll` (nats a token, mean over the part) as bits for each byte of the text."""
        return nll * len(self) / self.bytes / math.log(2)


class TokenStream:
    """An end mark, and the documents in `order`, each with its own end mark behind it."""

    def __init__(self, part: Documents, order: NDArray[np.int64]) -> None:
        self._part = part
        self._starts = part.starts[order]
        self._ends = np.cumsum(part.lengths[order])
        self._begins = self._ends - part.lengths[order]

    def batch(self, rows: Tensor, context: int) -> tuple[Tensor, Tensor]:
        """Rows of the stream as (inputs, targets), each (B, T) int64: targets[b, t] follows inputs[b, t].

        Every token of the part is a target once over all rows; beyond the last, targets are −100 (do not count).

        Args:
            rows: (B,) int64, 0 … `Documents.rows(context)` − 1.
            context: T.
        """
        places = rows.numpy()[:, None] * context + np.arange(context + 1) - 1
        last = self._ends[-1]
        inside = (places >= 0) & (places < last)
        within = places.clip(0, last - 1)
        document = np.searchsorted(self._ends, within, side="right")
        ids = self._part.tokens[self._starts[document] + within - self._begins[document]].astype(np.int64)
        found = torch.from_numpy(np.where(inside, ids, self._part.end))
        targets = torch.where(torch.from_numpy(inside[:, 1:]), found[:, 1:], IGNORED)
        return found[:, :-1].contiguous(), targets
