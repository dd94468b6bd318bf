"""Numbers and arrays of other libraries, as Python's and torch's."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor

from decouple.errors import ConfigError, DataError


def as_tensor(values: Any, what: str) -> Tensor:
    """A tensor as it is; a numpy array, a list of numbers or anything else that numpy reads as an array, as a copy on the CPU.

    >>> as_tensor([1, 2], "labels")
    tensor([1, 2])

    Raises:
        DataError: `what` it should have been, and what came.
    """
    if isinstance(values, Tensor):
        return values
    if np.ma.is_masked(values):
        raise DataError(f"{what} are a masked array, and what is masked has no value: leave these out first")
    try:
        array = np.array(values, order="C")
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    except (TypeError, ValueError, RuntimeError) as error:
        kind = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
        raise DataError(f"{what} must be a tensor or a numpy array of numbers, not {kind}") from error


def whole_number(value: Any, what: str, least: int | None = None) -> int:
    """A whole number as an int, numpy's and torch's too. `True` is no number, and no fraction is cut off.

    >>> whole_number(np.int64(3), "a step")
    3

    Raises:
        ConfigError: `what` it should have been, and what came.
    """
    true = isinstance(value, (bool, np.bool_)) or getattr(value, "dtype", None) == torch.bool
    try:
        found = None if true else operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        found = None
    if found is None or (least is not None and not least <= found < 2**63):
        raise ConfigError(f"{what} must be a whole number{'' if least is None else f' from {least} on'}, not {value!r}")
    return found


def digest_of(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """32 hexadecimal digits of xxh3 over names (which may be empty), types, shapes and values, in their order."""
    digest = xxhash.xxh3_128()
    for name, tensor in tensors:
        digest.update(f"{name and name + '|'}{tensor.dtype}|{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with a prefix, by the rest of their names.

    >>> list(under({"net.weight": torch.ones(1), "step": torch.ones(1)}, "net."))
    ['weight']
    """
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
