"""The state of any torch optimiser as tensors and JSON, so that a checkpoint needs no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from decouple.errors import ConfigError

PREFIX = "optimizer."
"""Of the tensors' names."""

KERNELS = ("foreach", "fused")
"""Options of torch's optimisers that decide how a step is computed."""


def pack_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], Any]:
    """What `optimizer.state_dict()` holds: its tensors by name, and the rest as what JSON holds. Raises ConfigError: it
    holds something other than tensors, numbers, texts and lists or dictionaries of them."""
    tensors: dict[str, Tensor] = {}
    rest = _encoded(optimizer.state_dict(), tensors, type(optimizer).__name__)
    return tensors, rest


def restore_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], rest: Any) -> None:
    """Put back what `pack_state` gave, into a new optimiser over the same parameters."""
    load_state(optimizer, _decoded(rest, tensors))


def load_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """`optimizer.load_state_dict(state)` of a state that may come from another device: the choice of kernels stays, and what has
    the shape of a weight lies in memory as the weight does, which fused kernels ask for."""
    kernels = [{name: own[name] for name in KERNELS if name in own} for own in optimizer.param_groups]
    groups = state.get("param_groups", [])
    if len(groups) == len(kernels):  # torch refuses others
        state = {**state, "param_groups": [group | own for group, own in zip(groups, kernels, strict=True)]}
    optimizer.load_state_dict(dict(state))
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                kept[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _encoded(value: Any, tensors: dict[str, Tensor], owner: str) -> Any:
    """Each value with its kind: JSON alone knows no tuples, integer keys or infinities."""
    if isinstance(value, Tensor):
        name = f"{PREFIX}{len(tensors)}"
        tensors[name] = value.detach().clone()  # apart, where several are views of one buffer
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[_encoded(part, tensors, owner) for part in item] for item in value.items()]}
    for kind in (list, tuple):
        if type(value) is kind:
            return {kind.__name__: [_encoded(part, tensors, owner) for part in value]}
    if type(value) is float:
        return {"float": value.hex()}
    if value is None or type(value) in (bool, int, str):
        return {"plain": value}
    raise ConfigError(
        f"the state of {owner} holds a {type(value).__name__}, which a checkpoint cannot keep: expected tensors, numbers, texts, "
        "and lists, tuples or dictionaries of them; train without a checkpoint, or choose another optimiser"
    )


def _decoded(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    ((kind, held),) = value.items()
    if kind == "tensor":
        return tensors[held].clone()  # what was read is a map of the file
    if kind == "dict":
        return {_decoded(key, tensors): _decoded(part, tensors) for key, part in held}
    if kind in ("list", "tuple"):
        parts = [_decoded(part, tensors) for part in held]
        return parts if kind == "list" else tuple(parts)
    return float.fromhex(held) if kind == "float" else held
