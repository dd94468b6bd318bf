"""Arrays in one file, by their usual names: NumPy's .npz and safetensors."""

from __future__ import annotations

import logging
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from decouple.data.images import CHANNELS, Source
from decouple.errors import DataError, first_line
from decouple.tensors import as_tensor

_LOG = logging.getLogger("decouple")

NAMES = {
    "images": ("train_images", "x_train", "images", "x"),
    "labels": ("train_labels", "y_train", "labels", "y"),
    "test_images": ("test_images", "x_test"),
    "test_labels": ("test_labels", "y_test"),
}
"""What the arrays of a `Source` are called in files, in any case: as by MedMNIST, Keras, or us."""
CLASSES = ("classes", "class_names", "label_names")


def read_npz(path: Path) -> Source:
    """Images and labels of an .npz file. Arrays of Python objects, whose loading runs code, are refused. Raises DataError:
    no such file, a damaged one, or one without the arrays of `NAMES`."""
    try:
        with open(path, "rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise DataError(f"{path} holds a single array without a name: expected an .npz file; save one with np.savez")
            with file:
                wanted = _wanted(file.files, path)
                return _source({name: file[own] for name, own in wanted.items()}, path)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read as an .npz file: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Why NumPy cannot read a file; its own words advise to load Python objects unsafely."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if "allow_pickle" in str(error):
        return "it holds Python objects, whose loading can run code, or no arrays; save arrays of numbers with np.savez"
    return first_line(error)


def read_safetensors(path: Path) -> Source:
    """As `read_npz`, of a .safetensors file. Raises DataError: as there."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            wanted = _wanted(list(file.keys()), path)
            return _source({name: file.get_tensor(own) for name, own in wanted.items()}, path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read as a safetensors file: {first_line(error)}") from None


def _wanted(there: list[str], path: Path) -> dict[str, str]:
    """What each array of a `Source` is called in the file."""
    own = {name.lower(): name for name in there}
    found = {}
    for what, names in NAMES.items():
        known = [own[name] for name in names if name in own]
        if not known:
            raise DataError(
                f"{path} holds {', '.join(sorted(there)) or 'no arrays'}: expected {what.replace('_', ' ')} as one of "
                f"{', '.join(names)}"
            )
        if len(known) > 1:
            raise DataError(f"{path} holds {' and '.join(known)}, both of which may be the {what}: expected one of them")
        found[what] = known[0]
    classes = [own[name] for name in CLASSES if name in own]
    if unused := sorted(set(there) - {*found.values(), *classes}):
        _LOG.warning("%s: left out: %s", path, ", ".join(unused))
    return found | ({"classes": classes[0]} if classes else {})


def _source(arrays: Mapping[str, Any], path: Path) -> Source:
    classes = arrays.get("classes")
    images, test_images = (_images(arrays[name], f"{path}: {name}") for name in ("images", "test_images"))
    labels, test_labels = (_labels(arrays[name], f"{path}: {name}") for name in ("labels", "test_labels"))
    return Source(images, labels, test_images, test_labels, None if classes is None else classes.tolist())


def _images(values: Any, what: str) -> Tensor:
    """(N, C, H, W) from that, (N, H, W) or (N, H, W, C); vectors (N, D) as they are. Floats become float32, and whole numbers in
    0..255 uint8."""
    images = as_tensor(values, what)
    if images.is_floating_point():
        images = images.float()
    elif images.dtype not in (torch.uint8, torch.bool):
        images = images.to(torch.int64)  # the larger unsigned types lack most operations
        images = images.byte() if images.numel() and int(images.min()) >= 0 and int(images.max()) <= 255 else images
    if images.dim() == 3:
        return images.unsqueeze(1)
    if images.dim() == 4 and images.shape[3] in CHANNELS and images.shape[1] not in CHANNELS:
        return images.permute(0, 3, 1, 2).contiguous()
    return images


def _labels(values: Any, what: str) -> Tensor:
    """(N,) from that or (N, 1)."""
    if getattr(getattr(values, "dtype", None), "kind", None) in ("U", "S", "O"):
        raise DataError(
            f"{what} are strings: expected integers counted from 0; np.unique(labels, return_inverse=True) gives them"
        )
    labels = as_tensor(values, what)
    return labels[:, 0] if labels.dim() == 2 and labels.shape[1] == 1 else labels
