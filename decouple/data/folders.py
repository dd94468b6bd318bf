"""Images from train/<class>/ and test/<class>/ folders, decoded once and then kept as arrays."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import xxhash
from PIL import Image
from torch import Tensor

from decouple.data.images import Source
from decouple.errors import DamagedFileError, DataError, RunDirectoryError, did_you_mean
from decouple.files import load_tensors, save_tensors

VERSION = 1
"""Of the decoding; another version ignores the arrays that this one has kept."""

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Files taken for images (torchvision's list); others are left alone."""

_CHUNK = 256
"""Images a task of a thread: small images decode faster than tasks are handed out."""

_Result = TypeVar("_Result")


def read_folder(path: Path) -> Source:
    """Read `path`/train/<class>/ and `path`/test/<class>/ (files at any depth below), in sorted order.

    Grey images keep one channel if all are grey; otherwise all become RGB. The decoded arrays are kept under
    `$XDG_CACHE_HOME/decouple/folders` (or `~/.cache/...`) until a file is added, removed or altered. Files there may be
    deleted at any time.

    Returns:
        images (N, C, H, W) uint8 with C 1 or 3 and labels (N,) int64, for training and test.

    Raises:
        DataError: a folder is missing or holds no images, a test class is not a training class, an image cannot be
            decoded, or images differ in size.
    """
    path = Path(path).expanduser().resolve()
    classes = tuple(_subfolders(path, "train"))
    if not classes:
        raise DataError(f"{path / 'train'} has no class folders; put the images of each class in a folder named after it")
    for name in _subfolders(path, "test"):
        if name not in classes:
            raise DataError(
                f"{path / 'test' / name} is a class that {path / 'train'} does not have{did_you_mean(name, classes)}"
            )
    train, test = _list(path / "train", classes), _list(path / "test", classes)
    if not test:
        raise DataError(f"{path / 'test'} has no class folders; put the test images of each class in a folder of its name")

    files = [file for file, _ in chain(train, test)]
    images = _decode_kept(path, files)
    labels = torch.tensor([label for _, label in chain(train, test)])
    return Source(images[: len(train)], labels[: len(train)], images[len(train) :], labels[len(train) :], classes)


def _subfolders(path: Path, part: str) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(path / part) if entry.is_dir())
    except OSError as error:
        raise DataError(
            f"{path / part} cannot be read ({error.strerror}); a folder of images needs train/<class>/ and test/<class>/"
        ) from None


def _list(part: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    """The image files below `part` with their labels; a class without a folder is left out, an empty folder refused."""
    found = []
    for label, name in enumerate(classes):
        if not (part / name).is_dir():
            continue
        files = [
            Path(folder, file)
            for folder, _, names in sorted(os.walk(part / name, followlinks=True))
            for file in sorted(names)
            if file.lower().endswith(EXTENSIONS)
        ]
        if not files:
            raise DataError(f"{part / name} holds no images ({', '.join(EXTENSIONS)}); add some or remove the folder")
        found += [(file, label) for file in files]
    return found


def _decode_kept(path: Path, files: Sequence[Path]) -> Tensor:
    """`_decode(files)`, from what an earlier call kept if no file has changed since."""
    key = _key(files)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "decouple" / "folders" / f"{key}.safetensors"
    unit = f"images of folder {key}"
    with contextlib.suppress(DamagedFileError):  # also when there is none yet
        return load_tensors(cache, unit=unit)[0]["images"]
    images = _decode(files)
    with contextlib.suppress(RunDirectoryError):  # no room to keep them: the next call decodes again
        save_tensors(cache, {"images": images}, {"folder": str(path)}, unit=unit)
    return images


def _key(files: Sequence[Path]) -> str:
    """Changes whenever a file is added, removed, renamed or written to."""
    digest = xxhash.xxh3_128(f"{VERSION}".encode())
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise DataError(f"{file} cannot be read ({error.strerror}); replace or remove it") from None
        digest.update(f"|{file}|{status.st_size}|{status.st_mtime_ns}".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _decode(files: Sequence[Path]) -> Tensor:
    """(N, C, H, W) uint8; C is 1 if all images are grey, else 3."""
    headers = _in_threads(_header, files)
    (width, height), _ = headers[0]
    for file, (size, _) in zip(files, headers, strict=True):
        if size != (width, height):
            raise DataError(
                f"images differ in size: {files[0]} is {width}×{height}, {file} is {size[0]}×{size[1]} (width×height); "
                "resize all to one size"
            )
    mode = "L" if all(grey for _, grey in headers) else "RGB"
    images = np.empty((len(files), height, width, len(mode)), np.uint8)

    def decode(position: int) -> None:
        with _opened(files[position]) as image:
            images[position] = np.asarray(image.convert(mode)).reshape(images.shape[1:])

    _in_threads(decode, range(len(files)))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _header(file: Path) -> tuple[tuple[int, int], bool]:
    """((width, height), whether the image is grey), without decoding it."""
    with _opened(file) as image:
        if image.mode.startswith(("I", "F")):
            raise DataError(f"{file} has more than 8 bits a channel (mode {image.mode}); convert it to 8-bit grey or RGB")
        return image.size, image.mode in ("1", "L", "LA")


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(file) as image:
            yield image
    except DataError:
        raise
    except Exception as error:  # PIL raises OSError, SyntaxError, ValueError, struct.error and more on broken files
        raise DataError(f"{file} cannot be decoded as an image ({error}); replace or remove it") from error


def _in_threads(function: Callable[..., _Result], items: Sequence[Any]) -> list[_Result]:
    """[function(item) for item in items], by several threads; the first item in order that fails raises."""
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        return list(chain.from_iterable(threads.map(lambda chunk: [function(item) for item in chunk], chunks)))
