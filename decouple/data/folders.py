"""Images from train/<class>/ and test/<class>/ folders, decoded once and then kept as arrays."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import xxhash
from PIL import ExifTags, Image
from torch import Tensor

from decouple.data.images import Source
from decouple.errors import DamagedFileError, DataError, RunDirectoryError, did_you_mean
from decouple.files import cache_folder, load_tensors, save_tensors

_LOG = logging.getLogger("decouple")

PARTS = ("train", "test")

VERSION = 2
"""Of the decoding; another version ignores the arrays that this one has kept."""

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".dib"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2"),
)
"""Files taken for images, by the end of their names in any case; others are left out, and counted."""

SYSTEM_FOLDERS = {
    *("__macosx", "__pycache__", "lost+found", "$recycle.bin", "system volume information"),
    *("@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),
}
"""Folders (in lower case) of systems and NAS devices, hidden as is every name that begins with a dot."""

_FAINT = 32
"""Levels of 256 between which an image over white has nearly nothing to see."""

_CHUNK = 256
"""Images a task of a thread: small images decode faster than tasks are handed out."""

_Result = TypeVar("_Result")


def read_folder(path: Path) -> Source:
    """Read `path`/train/<class>/ and `path`/test/<class>/ (files at any depth below), in sorted order.

    Grey images keep one channel if all are grey; otherwise all become RGB. Images are turned upright as their EXIF
    orientation says. Transparent ones are laid over white; over black where nearly nothing could be seen over white.

    Every real folder and file is read once, where it lies rather than where a link leads to it, so that no image is in
    train and in test. Links that lead out of `path` are followed. Links to what is read anyway, hidden names (`.x`, and those in
    `SYSTEM_FOLDERS`) and files that are no images (`EXTENSIONS`) are left out; a line in the log of "decouple" counts them, and
    the transparent images.

    The decoded arrays are kept under `$XDG_CACHE_HOME/decouple/folders` (or `~/.cache/...`) until a file is added,
    removed or altered. Files there may be deleted at any time.

    Returns:
        images (N, C, H, W) uint8 with C 1 or 3 and labels (N,) int64, for training and test.

    Raises:
        DataError: a folder is missing, cannot be entered or holds no images, a test class is not a training class, an
            image cannot be decoded or holds several frames, or images differ in size.
    """
    path = Path(os.path.realpath(os.path.expanduser(path)))
    walk = _Walk(path)
    classes = walk.classes("train")
    if not classes:
        raise DataError(f"{path / 'train'} has no class folders; put the images of each class in a folder named after it")
    for name in walk.classes("test"):
        if name not in classes:
            raise DataError(
                f"{path / 'test' / name} is a class that {path / 'train'} does not have{did_you_mean(name, classes)}"
            )
    train, test = walk.images("train"), walk.images("test")
    if not test:
        raise DataError(f"{path / 'test'} has no class folders; put the test images of each class in a folder of its name")
    if left_out := walk.left_out():
        _LOG.warning("%s: left out: %s", path, left_out)

    images = _decode_kept(path, [*train, *test])
    labels = torch.tensor([classes.index(image.place.name) for image in chain(train, test)])
    return Source(images[: len(train)], labels[: len(train)], images[len(train) :], labels[len(train) :], classes)


class _Place(NamedTuple):
    path: Path
    part: str
    name: str
    """Of the class folder; "" for the part itself."""


class _Image(NamedTuple):
    place: _Place
    status: os.stat_result


class _Walk:
    """The class folders and images below `root`: those that lie there first, then those that links lead to."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: list[_Place] = []
        self._images: list[_Image] = []
        self._left_out: dict[str, list[Path]] = defaultdict(list)
        self._links: list[_Place] = []
        self._known: dict[object, str] = {}
        """The part of each real folder and image, by identity."""
        for folder in (root, *root.parents):  # a link to one of them leads in a circle
            with contextlib.suppress(OSError):
                self._known[_identity(folder, os.stat(folder))] = ""
        for part in PARTS:
            self._walk(_Place(root / part, part, ""))
        while self._links:
            self._links.sort(key=lambda link: (PARTS.index(link.part), link.path), reverse=True)
            self._walk(self._links.pop())

    def classes(self, part: str) -> tuple[str, ...]:
        """The names of the class folders, sorted."""
        return tuple(sorted(folder.name for folder in self._folders if folder.part == part))

    def images(self, part: str) -> list[_Image]:
        """Sorted by class, folder and name. Raises DataError: a class folder holds none."""
        found = [image for image in self._images if image.place.part == part]
        filled = {image.place.name for image in found}
        for folder in sorted(self._folders):
            if folder.part == part and folder.name not in filled:
                raise DataError(
                    f"{folder.path} holds no images ({', '.join(EXTENSIONS)}); add some or remove the folder"
                    + (f" (left out: {self.left_out()})" if self._left_out else "")
                )
        return sorted(found, key=lambda image: (image.place.name, str(image.place.path.parent), image.place.path.name))

    def left_out(self) -> str:
        """What was left out, by kind, each with an example; empty if nothing was."""
        return ", ".join(
            f"{len(paths)} {kind} ({min(paths).relative_to(self._root)}{', …' if len(paths) > 1 else ''})"
            for kind, paths in sorted(self._left_out.items())
        )

    def _walk(self, place: _Place) -> None:
        pending = [place]
        while pending:
            pending += self._take(pending.pop())

    def _take(self, place: _Place) -> list[_Place]:
        """Note what is at a place; returns what a folder there holds, but for links, the first name last."""
        try:
            status = os.stat(place.path)
            is_folder = stat.S_ISDIR(status.st_mode) or not place.name
            entries = sorted(os.scandir(place.path), key=lambda entry: entry.name, reverse=True) if is_folder else []
        except OSError as error:
            advice = "replace or remove it" if place.name else "a folder of images needs train/<class>/ and test/<class>/"
            raise DataError(f"{place.path} cannot be read ({error.strerror}); {advice}") from None
        if kind := self._kind_left_out(place, status):
            if not place.name:
                raise DataError(f"{place.path} leads to images that are read already; training and test need their own")
            self._left_out[kind].append(place.path)
        elif not is_folder:
            self._images.append(_Image(place, status))
        else:
            if place.name and self._is_outermost(place):
                self._folders.append(place)
            return self._inside(place, entries)
        return []

    def _kind_left_out(self, place: _Place, status: os.stat_result) -> str:
        if not stat.S_ISDIR(status.st_mode):
            if not stat.S_ISREG(status.st_mode):
                return "no plain file"
            if not place.path.name.lower().endswith(EXTENSIONS):
                return place.path.suffix.lower() or "without an extension"
            if self._is_outermost(place):
                return "outside the class folders"
        identity = _identity(place.path, status)
        if identity in self._known:
            return "linked twice" if self._known[identity] in ("", place.part) else "linked from both train and test"
        self._known[identity] = place.part
        return ""

    def _is_outermost(self, place: _Place) -> bool:
        """Whether it lies where class folders do."""
        return place.path.parent == self._root / place.part

    def _inside(self, place: _Place, entries: Sequence[os.DirEntry[str]]) -> list[_Place]:
        found: list[_Place] = []
        for entry in entries:
            inner = _Place(Path(entry.path), place.part, place.name or entry.name)
            if entry.name.startswith(".") or entry.name.lower() in SYSTEM_FOLDERS:
                self._left_out["hidden"].append(inner.path)
            else:
                (self._links if entry.is_symlink() else found).append(inner)
        return found


def _identity(path: Path, status: os.stat_result) -> object:
    """Equal for all names of one folder or file."""
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)  # not every system has numbers


def _decode_kept(path: Path, images: Sequence[_Image]) -> Tensor:
    """`_decode` of the images, from what an earlier call kept if no file has changed since."""
    key = _key(images)
    folder, unit = cache_folder(), f"images of folder {key}"
    kept = None if folder is None else folder / "decouple" / "folders" / f"{key}.safetensors"
    known = None
    if kept is not None:
        with contextlib.suppress(DamagedFileError):  # also when there is none yet
            tensors, known = load_tensors(kept, unit=unit)
            decoded = tensors["images"]
    if known is None:
        decoded, transparent = _decode([image.place.path for image in images])
        known = {"folder": str(path), "transparent": transparent}
        if kept is not None:
            with contextlib.suppress(RunDirectoryError):  # no room to keep them: the next call decodes again
                save_tensors(kept, {"images": decoded}, known, unit=unit)
    if known["transparent"]:
        _LOG.warning("%s: transparent images are laid over one colour: %s", path, known["transparent"])
    return decoded


def _key(images: Sequence[_Image]) -> str:
    """Changes whenever a file is added, removed, renamed or written to."""
    digest = xxhash.xxh3_128(f"{VERSION}".encode())
    for place, status in images:
        digest.update(f"|{place.path}|{status.st_size}|{status.st_mtime_ns}".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _decode(files: Sequence[Path]) -> tuple[Tensor, str]:
    """(N, C, H, W) uint8; C is 1 if all images are grey, else 3. And how many of them were laid over which colour."""
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

    def decode(position: int) -> str:
        with _opened(files[position]) as image:
            image.load()
            turn = _TURNS.get(_orientation(image))
            laid, ground = opaque(image if turn is None else image.transpose(turn))
            images[position] = np.asarray(laid.convert(mode)).reshape(images.shape[1:])
            return ground

    grounds = Counter(filter(None, _in_threads(decode, range(len(files)))))
    transparent = ", ".join(f"{count} over {ground}" for ground, count in sorted(grounds.items(), reverse=True))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), transparent


def _header(file: Path) -> tuple[tuple[int, int], bool]:
    """((width, height) of the upright image, whether it is grey), without decoding it."""
    with _opened(file) as image:
        check_depth(image, str(file))
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # a camera's JPEG with previews behind the image
            raise DataError(f"{file} holds {frames} images (an animation, or pages); keep the one to read, or remove it")
        width, height = image.size
        size = (height, width) if _orientation(image) in _ON_THEIR_SIDE else (width, height)
        return size, image.mode in ("1", "L", "LA")


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its EXIF orientation."""

_ON_THEIR_SIDE = (5, 6, 7, 8)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, upright, where there is none that can be read. Pillow itself turns TIFF images."""
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):  # it would decode to look for one
        return 1
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF is common, and of many kinds; the pixels are whole
        return 1


def check_depth(image: Image.Image, what: str) -> None:
    """Raise DataError: an image has more than 8 bits a channel."""
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{what} has more than 8 bits a channel (mode {image.mode}); convert it to 8-bit grey or RGB")


def opaque(image: Image.Image) -> tuple[Image.Image, str]:
    """The image without transparency, and the colour that it was laid over, if any of it was transparent."""
    if not image.has_transparency_data:
        return image, ""
    image = image.convert("RGBA")
    if not (np.asarray(image)[..., 3] < 255).any():
        return image, ""
    over = {
        ground: Image.alpha_composite(Image.new("RGBA", image.size, ground), image).convert("RGB")
        for ground in ("white", "black")
    }
    contrast = {ground: np.ptp(np.asarray(laid), axis=(0, 1)).max() for ground, laid in over.items()}
    ground = "black" if contrast["white"] < min(_FAINT, contrast["black"]) else "white"
    return over[ground], ground


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
