"""Data sets of Hugging Face's `datasets` (an optional package): from the hub by name, or from a folder by `save_to_disk`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from decouple.data.folders import check_depth, opaque
from decouple.data.images import Source
from decouple.errors import DataError, failure

PARTS = {"train": ("train", "training"), "test": ("test", "validation", "valid", "val")}
"""Splits that are read, the first that there is. All of decouple's own come from these two."""


def read_hub(name: str) -> Source:
    """The images and class labels of a data set, by the types of its columns.

    Args:
        name: a folder, or a name on the hub, which downloads it to the cache of `datasets`. No code of the data set is run.

    Raises:
        DataError: `datasets` is not installed, no such data set, splits or columns that cannot be told, images that differ.
    """
    try:
        import datasets
    except ImportError:
        raise DataError(f"hf:{name} needs the package datasets; install it with pip install datasets") from None
    try:
        found = datasets.load_from_disk(name) if Path(name).expanduser().is_dir() else datasets.load_dataset(name)
    except Exception as error:  # of many kinds, by its many sources
        raise DataError(f"hf:{name} cannot be loaded ({failure(error)})") from error
    there = dict(found) if isinstance(found, datasets.DatasetDict) else {}
    parts = {}
    for part, names in PARTS.items():
        known = [there[own] for own in names if own in there]
        if not known:
            raise DataError(f"hf:{name} has the splits {', '.join(there) or 'none'}: expected one of {', '.join(names)}")
        parts[part] = known[0]
    images, labels = _column(parts["train"], datasets.Image, name), _column(parts["train"], datasets.ClassLabel, name)
    mode = "L" if all(image.mode in ("1", "L", "LA") for part in parts.values() for image in part[images]) else "RGB"
    return Source(
        _pixels(parts["train"][images], mode, f"hf:{name}: the training"),
        torch.tensor(parts["train"][labels]),
        _pixels(parts["test"][images], mode, f"hf:{name}: the test"),
        torch.tensor(parts["test"][labels]),
        tuple(parts["train"].features[labels].names),
    )


def _column(part: Any, kind: type, name: str) -> str:
    """The one column of this type."""
    columns = [column for column, feature in part.features.items() if isinstance(feature, kind)]
    if len(columns) != 1:
        own = ", ".join(f"{column} ({type(feature).__name__})" for column, feature in part.features.items())
        raise DataError(f"hf:{name} has the columns {own}: expected one of the type {kind.__name__}, not {len(columns)}")
    return columns[0]


def _pixels(images: Any, mode: str, what: str) -> Tensor:
    """(N, C, H, W) uint8."""
    arrays: list[np.ndarray] = []
    for position, image in enumerate(images):  # once: it may be decoded anew each time
        check_depth(image, f"{what} image at position {position}")
        arrays.append(np.atleast_3d(np.asarray(opaque(image)[0].convert(mode))))
        if arrays[-1].shape != arrays[0].shape:
            one, other = (f"{array.shape[1]}×{array.shape[0]}" for array in (arrays[0], arrays[-1]))
            raise DataError(f"{what} images differ in size: the first is {one}, that at position {position} {other}")
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
