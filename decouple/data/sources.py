"""Data sets by name: scikit-learn's digits, torchvision's, those in files and folders, and what the user's own code gives."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import socket
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from decouple import own_code
from decouple.config import DataConfig
from decouple.data.arrays import read_npz, read_safetensors
from decouple.data.folders import read_folder
from decouple.data.hub import read_hub
from decouple.data.images import ImageData, Source, divided
from decouple.data.splits import draw
from decouple.errors import DataError, DecoupleError, RunDirectoryError, did_you_mean, expect, failure
from decouple.files import write_bytes
from decouple.seeds import generator
from decouple.torch_state import torch_defaults

IDX = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
"""Sources in MNIST's file format, and their torchvision classes."""

CIFAR = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}
"""Sources in CIFAR's file format, and their torchvision classes."""

READERS: dict[str, Callable[[Path], Source]] = {"folder": read_folder, "npz": read_npz, "safetensors": read_safetensors}
"""Readers of what lies at a path, by what stands before its colon."""

_PATIENCE = 15.0
"""Seconds that a silent server gets before the download counts as failed."""


def load_data(config: DataConfig | str, *, data_root: Path | str | None = None, download: bool = True) -> ImageData:
    """Load a data set and draw its splits.

    Args:
        config: the settings, or a name (`DataConfig.name`) to take with the default settings.
        data_root: folder of torchvision's files (such as MNIST/raw/...). None: the environment's DECOUPLE_DATA, or
            ~/.cache/decouple/data. The PATH of folder:PATH and its like, where relative, is looked up here if given, else in
            the current folder.
        download: fetch files that are missing.

    Raises:
        DataError: an unknown name, files that are missing or damaged, or whatever `ImageData.from_tensors` refuses.
        ConfigError: a setting out of its range.
    """
    if isinstance(config, str):
        config = replace(DataConfig(), name=config)
    expect(config, DataConfig, "config")
    kind, _, path = config.name.partition(":")
    if kind in READERS and path:
        source = READERS[kind](Path(os.path.expanduser(data_root or ""), os.path.expanduser(path)))
    elif kind == "hf" and path:
        source = read_hub(path)
    elif config.is_code:
        return _own(config)
    elif config.name == "digits":
        source = _digits()
    elif config.name in IDX:
        source = _idx(config.name, _root(data_root), download)
    elif config.name in CIFAR:
        source = _cifar(config.name, _root(data_root), download)
    else:
        known = ["digits", *IDX, *CIFAR, *(f"{kind}:PATH" for kind in READERS), "hf:NAME", "FILE.py:FUNCTION"]
        suffix = Path(config.name).suffix.removeprefix(".")
        hint = f"; did you mean '{suffix}:{config.name}'?" if suffix in READERS else did_you_mean(config.name.lower(), known)
        raise DataError(f"unknown data set '{config.name}'{hint}")
    return divided(
        source,
        config.name,
        train=config.train,
        validation=config.validation,
        prior=config.prior,
        test=config.test,
        seed=config.seed,
    )


def _root(given: Path | str | None) -> Path:
    if chosen := given or os.environ.get("DECOUPLE_DATA"):
        return Path(os.path.expanduser(chosen))
    try:
        return Path.home() / ".cache" / "decouple" / "data"
    except RuntimeError:
        raise DataError(
            "this user has no home folder to keep data sets in; give --data-root, or set DECOUPLE_DATA to a folder"
        ) from None


def _own(config: DataConfig) -> ImageData:
    """What a function of the user's own makes of the settings."""
    make = own_code.load(config.name, "data.name")
    try:
        data = make(config)
    except DecoupleError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise DataError(f"data.name = {config.name}: the function fails ({failure(error)})") from error
    if not isinstance(data, ImageData):
        raise DataError(f"data.name = {config.name}: the function must return an ImageData, not {type(data).__name__}")
    for part in ("train", "validation", "prior", "test"):
        wanted, images = getattr(config, part), len(getattr(data, part))
        if wanted is not None and wanted != images:
            raise DataError(
                f"data.{part} = {wanted}, but {config.name} returns {images} images there: expected the function to divide the "
                "images as the DataConfig says that it is given"
            )
    return replace(data, name=config.name)


@torch_defaults()
def _digits() -> Source:
    """1797 grey images of 8×8, values in 0..1; a fifth of them is the test set, the same one whatever the seed."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images).float().div_(16).unsqueeze(1)
    labels = torch.from_numpy(digits.target)
    order = torch.randperm(len(labels), generator=generator(0, "digits", "test"))
    test, train = draw(order, labels, round(0.2 * len(labels)))
    return Source(images[train], labels[train], images[test], labels[test], tuple("0123456789"))


def _idx(name: str, root: Path, download: bool) -> Source:
    from torchvision import datasets
    from torchvision.datasets import mnist

    dataset = getattr(datasets, IDX[name])
    files = [root / IDX[name] / "raw" / Path(archive).stem for archive, _ in dataset.resources]
    missing = [file for file in files if not file.is_file()]
    faults = {file: fault for file in missing if (fault := _fault(_packed(file))) is not None}
    _fetch(name, dataset, root, list(faults), download, "".join(faults.values()))
    # The files are read one by one, rather than by the class, in order to name the one that is damaged.
    images, labels, test_images, test_labels = (
        _read_idx(file, read) for file, read in zip(files, [mnist.read_image_file, mnist.read_label_file] * 2, strict=True)
    )
    classes = tuple("0123456789") if name == "mnist" else tuple(dataset.classes)
    return Source(images.unsqueeze(1), labels, test_images.unsqueeze(1), test_labels, classes)


def _packed(file: Path) -> Path:
    return file.with_name(f"{file.name}.gz")


def _fault(archive: Path) -> str | None:
    """What is wrong with a gzip file, for a message: nothing to say of one that is not there; None: it is whole."""
    if not archive.is_file():
        return ""
    try:
        with gzip.open(archive) as file:
            while file.read(2**20):
                pass
    except _BROKEN as error:
        return f"; {archive.name} is there, but damaged: {error}"
    return None


_BROKEN = (OSError, EOFError, zlib.error, tarfile.TarError)
"""What reading a damaged archive raises."""


def _read_idx(file: Path, read: Callable[[str], Tensor]) -> Tensor:
    archive = _packed(file)
    try:
        if file.is_file():
            return read(str(file))
        with tempfile.TemporaryDirectory() as folder:  # the data's own may be read-only
            plain = Path(folder) / file.name
            plain.write_bytes(gzip.decompress(archive.read_bytes()))
            return read(str(plain))
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AssertionError) as error:
        raise _damaged(file if file.is_file() else archive) from error


def _cifar(name: str, root: Path, download: bool) -> Source:
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

    dataset = getattr(datasets, CIFAR[name])
    meta = dataset.meta["filename"], dataset.meta["md5"]
    sums = {root / dataset.base_folder / file: md5 for file, md5 in [*dataset.train_list, *dataset.test_list, meta]}
    fault = _unpack(root / dataset.filename, root, sums)
    _fetch(name, dataset, root, [file for file in sums if not file.is_file()], download, fault)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy, about files pickled by old releases of it
            # These files are pickles, which can run code. The class compares each with its known md5 before it opens it.
            train, test = dataset(root, train=True), dataset(root, train=False)
    except (OSError, RuntimeError) as error:
        for file, md5 in sums.items():
            if not os.access(file, os.R_OK) or not check_integrity(file, md5):
                raise _damaged(file) from error
        raise
    return Source(
        _channels_first(train.data),
        torch.tensor(train.targets),
        _channels_first(test.data),
        torch.tensor(test.targets),
        tuple(train.classes),
    )


def _unpack(archive: Path, root: Path, sums: dict[Path, str]) -> str:
    """Take from an archive those of its files that are missing, whoever has packed it: each is known by its md5.

    Returns:
        What is wrong with the archive, for a message.
    """
    missing = [file for file in sums if not file.is_file()]
    if not missing or not archive.is_file():
        return ""
    try:
        with tarfile.open(archive) as packed:
            for file in missing:
                name = file.relative_to(root).as_posix()
                content = packed.extractfile(name)
                data = b"" if content is None else content.read()
                if hashlib.md5(data, usedforsecurity=False).hexdigest() != sums[file]:
                    return f"; {archive.name} is there, but its {name} is not the published one"
                write_bytes(file, data)
    except KeyError:
        return f"; {archive.name} is there, but holds no {name}"
    except (*_BROKEN, RunDirectoryError) as error:
        return f"; {archive.name} is there, but cannot be unpacked: {str(error).partition(';')[0]}"
    return ""


def _channels_first(images: Any) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _damaged(file: Path) -> DataError:
    return DataError(
        f"{file} is damaged or cannot be read; remove it and let it be downloaded again, or copy a whole one there"
    )


def _fetch(name: str, dataset: Any, root: Path, missing: list[Path], download: bool, fault: str) -> None:
    """Have torchvision download the files that are missing; `fault` says what is wrong with archives that are there."""
    if not missing:
        return
    reason = "downloading is turned off"
    if download:
        try:
            with _impatient():
                dataset(root, download=True)
            return
        except (OSError, RuntimeError, ValueError, http.client.HTTPException) as error:
            lines = str(error).split("\n")
            reason = "the download failed: " + next((line for line in reversed(lines) if line.strip()), type(error).__name__)
    raise DataError(
        f"{name}: {', '.join(file.name for file in missing)} not found in {missing[0].parent} ({reason}{fault}).\n"
        f"Let it download them on a connected machine, or copy them there; --data-root gives another folder than {root}"
    )


@contextmanager
def _impatient() -> Iterator[None]:
    """Give up on a server that does not answer. urllib waits without end, and torchvision sets it no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
