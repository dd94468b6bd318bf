"""A small GPT: rotary positions, RMSNorm, causal attention and a squared-ReLU MLP."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from decouple.config import GptConfig
from decouple.errors import NetworkError
from decouple.seeds import generator
from decouple.torch_state import torch_defaults

ROTARY_BASE = 10_000.0
"""Longest wavelength of the rotary positions, in units of 2π tokens."""


class Gpt(nn.Module):
    """A decoder-only transformer: token ids (B, T) → logits (B, T, V) of the next token.

    Every parameter is a matrix (the norms have none), so weight decay and noise on the weights treat all alike. The
    projections that write to the residual stream begin at 0: a new network predicts from the current token alone.
    Weights depend on `seed` alone, not on the global generator.

    >>> network = Gpt(GptConfig(layers=1, width=16, heads=2, context=8), vocabulary=11, seed=0)
    >>> network(torch.zeros(3, 5, dtype=torch.int64)).shape
    torch.Size([3, 5, 11])

    Args:
        config: sizes.
        vocabulary: V, number of token ids.
        seed: of the initial weights.
    """

    @torch_defaults()
    def __init__(self, config: GptConfig, *, vocabulary: int, seed: int) -> None:
        super().__init__()
        self.context, self.vocabulary = config.context, vocabulary
        self.embed = nn.Embedding(vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = nn.Linear(config.width, vocabulary, bias=False)
        cosine, sine = rotary_table(config.context, config.width // config.heads)
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)
        self._initialise(generator(seed, "gpt"))

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[-1]
        if length > self.context:
            raise NetworkError(
                f"{length} tokens exceed the context of {self.context}; cut the text, or raise --network.context"
            )
        cosine, sine = self.cosine[:length], self.sine[:length]  # type: ignore[index]
        x = norm(self.embed(tokens))
        for block in self.blocks:
            x = block(x, cosine, sine)
        return self.head(norm(x))

    @torch.no_grad()
    def _initialise(self, stream: torch.Generator) -> None:
        for name, parameter in self.named_parameters():
            if name.endswith("out.weight"):
                parameter.zero_()
            else:
                scale = 1.0 if name == "embed.weight" else 1 / math.sqrt(parameter.shape[1])
                if name == "head.weight":  # a new network is nearly indifferent
                    scale *= 0.1
                parameter.copy_(torch.randn(parameter.shape, generator=stream) * scale)


class Block(nn.Module):
    """Attention and MLP, each on a normalised copy of the residual stream (B, T, D)."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        x = x + self.attention(norm(x), cosine, sine)
        return x + self.mlp(norm(x))


class Attention(nn.Module):
    """Causal self-attention with rotary positions; queries and keys are normalised, which keeps their product bounded."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        q, k = rotate(norm(q), cosine, sine), rotate(norm(k), cosine, sine)
        # torch's attention on the CPU is several times slower in bfloat16 than in float32 at such sizes.
        kind = v.dtype if v.is_cuda else torch.promote_types(v.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            mixed = functional.scaled_dot_product_attention(q.to(kind), k.to(kind), v.to(kind), is_causal=True)
        out = self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return functional.dropout(out, self.dropout, self.training)


class Mlp(nn.Module):
    """D → 4 D → D, with squared ReLU between."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.inner = nn.Linear(config.width, 4 * config.width, bias=False)
        self.out = nn.Linear(4 * config.width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(self.out(functional.relu(self.inner(x)).square()), self.dropout, self.training)


def norm(x: Tensor) -> Tensor:
    """RMSNorm over the last dimension, without weights."""
    return functional.rms_norm(x, (x.shape[-1],))


def rotary_table(length: int, channels: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine (length, channels / 2) of position × frequency, the frequencies falling geometrically from 1.

    Source: Su et al., "RoFormer: enhanced transformer with rotary position embedding" (2021), eq. 15.
    """
    frequencies = ROTARY_BASE ** -(torch.arange(0, channels, 2) / channels)
    angles = torch.arange(length)[:, None] * frequencies
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each pair of channels (i, i + d/2) of x (…, T, d) by the angle of its position.

    The product of a turned query and a turned key depends on the distance between their positions alone.

    Args:
        cosine: (T, d / 2), as from `rotary_table`; `sine` alike.
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
