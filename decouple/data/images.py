"""Labelled images in memory, and the checks that all of them pass."""

from __future__ import annotations

import html
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor

from decouple.data.splits import split_test, split_training
from decouple.errors import DataError
from decouple.formats import count, html_table, plural
from decouple.tensors import as_tensor, digest_of
from decouple.torch_state import torch_defaults


class Source(NamedTuple):
    """What a source of images gives, unchecked and undivided: the arguments of `ImageData.from_tensors`."""

    images: Tensor | NDArray[Any]
    labels: Tensor | NDArray[Any]
    test_images: Tensor | NDArray[Any]
    test_labels: Tensor | NDArray[Any]
    classes: Sequence[str] | NDArray[Any] | None


IMAGE_TYPES = (torch.uint8, torch.float32)

CHANNELS = (1, 3, 4)
"""Sizes of a last axis that is taken for the channels."""
SHOWN_CLASSES = 20
"""That a notebook lists."""

_LOG = logging.getLogger("decouple")

MARGIN = 0.5
"""How far images may go beyond 0..1 (by noise or resampling, say) before they are taken for images on another scale."""


@dataclass(frozen=True, eq=False)
class Split:
    """N images of one split, on the CPU."""

    images: Tensor
    """(N, C, H, W), uint8 in 0..255 or finite float32; or vectors (N, D)."""
    labels: Tensor
    """(N,) int64, in 0..classes-1."""
    ids: Tensor
    """(N,) int64: position in the source, test images counted on from the training images. Unique in a data set."""
    classes: tuple[str, ...] = ()
    """Name of each class, where known; not part of the identity."""

    def __post_init__(self) -> None:
        """Refuse what would be broadcast, or cut off where the shorter part ends.

        Raises:
            DataError: a part with another type or shape.
        """
        for part, types in (("images", IMAGE_TYPES), ("labels", [torch.int64]), ("ids", [torch.int64])):
            tensor = getattr(self, part)
            if not isinstance(tensor, Tensor) or tensor.dtype not in types or tensor.device.type != "cpu":
                found = f"{_type(tensor)} on {tensor.device}" if isinstance(tensor, Tensor) else type(tensor).__name__
                kinds = " or ".join(str(kind).removeprefix("torch.") for kind in types)
                raise DataError(f"a split's {part} must be a tensor of {kinds} on the CPU, not {found}")
        count = len(self.images) if self.images.dim() else -1
        if not self.labels.shape == self.ids.shape == (count,):
            raise DataError(
                f"a split's images {tuple(self.images.shape)}, labels {tuple(self.labels.shape)} and ids {tuple(self.ids.shape)} do "
                "not fit: expected (N, C, H, W), (N,) and (N,)"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        """
        >>> Split(torch.zeros(2, 1, 8, 8), torch.tensor([0, 4]), torch.tensor([7, 3]))
        Split(2 images (1, 8, 8) float32, 2 classes)
        """
        classes = plural(len(self.labels.unique()), "class", "classes")
        return f"Split({plural(len(self), 'image')} {tuple(self.images.shape[1:])} {_type(self.images)}, {classes})"

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits of xxh3 over ids, labels and images: the identity of these images in this order."""
        return digest_of([("", self.ids), ("", self.labels), ("", self.images)])

    def subset(self, positions: Tensor | Sequence[int]) -> Split:
        """The images at `positions` (each in 0..N-1), in that order, as copies."""
        index = torch.as_tensor(positions, dtype=torch.int64, device="cpu")
        # index_select lays them out one way, whatever the layout of the source, on which the rounding of convolutions depends.
        return Split(self.images.index_select(0, index), self.labels[index], self.ids[index], self.classes)


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set, divided into four splits that share no image."""

    name: str
    classes: tuple[str, ...]
    """Name of each class; a label is a position in it."""
    train: Split
    """What networks are trained on."""
    validation: Split
    """What epochs and settings are chosen by."""
    prior: Split
    """What q0's learned prior is fitted on."""
    test: Split
    """What the reported figures come from."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W) of every image, or (D,) of vectors."""
        return tuple(self.train.images.shape[1:])

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def _splits(self) -> dict[str, Split]:
        return {"train": self.train, "validation": self.validation, "prior": self.prior, "test": self.test}

    def __repr__(self) -> str:
        """
        >>> split = Split(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), torch.tensor([0, 1]))
        >>> ImageData("mine", ("cat", "dog"), split, split, split, split)
        ImageData('mine': 2 classes, images (1, 8, 8) float32; train 2, validation 2, prior 2, test 2)
        """
        sizes = ", ".join(f"{name} {count(len(split))}" for name, split in self._splits.items())
        images = f"images {self.image_shape} {_type(self.train.images)}"
        return f"ImageData({self.name!r}: {plural(self.num_classes, 'class', 'classes')}, {images}; {sizes})"

    def _repr_html_(self) -> str:
        counts = [split.labels.bincount(minlength=self.num_classes).tolist() for split in self._splits.values()]
        rows = [(name, *map(count, sizes)) for name, *sizes in zip(self.classes, *counts, strict=True)]
        if len(rows) > SHOWN_CLASSES:
            rows[SHOWN_CLASSES:] = [(f"… {len(rows) - SHOWN_CLASSES} more", "", "", "", "")]
        total = ("all", *(count(sum(sizes)) for sizes in counts))
        return f"<p>{html.escape(repr(self))}</p>" + html_table([*rows, total], ("class", *self._splits))

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits of xxh3 over the digests of all splits: the identity of the data."""
        return xxhash.xxh3_128("|".join(split.digest for split in self._splits.values()).encode()).hexdigest()

    @classmethod
    @torch_defaults()
    def from_tensors(
        cls,
        images: Tensor | NDArray[Any],
        labels: Tensor | NDArray[Any],
        *,
        test_images: Tensor | NDArray[Any],
        test_labels: Tensor | NDArray[Any],
        train: SupportsIndex | None = None,
        validation: SupportsIndex,
        prior: SupportsIndex,
        test: SupportsIndex | None = None,
        seed: SupportsIndex = 0,
        classes: Sequence[str] | NDArray[Any] | None = None,
    ) -> ImageData:
        """Check your own tensors or numpy arrays and draw the splits. Every other source goes through here too.

        Args:
            images: (N, C, H, W) training images, uint8 in 0..255 or finite float32; or vectors (N, D), for networks that take
                them.
            labels: (N,) any integer type, in 0..classes-1.
            test_images: (M, C, H, W) of the same type and image shape.
            test_labels: (M,) as `labels`.
            train: training images, at least 1; None takes all that validation and prior leave.
            validation: images held out of the training images, at least 1.
            prior: further images held out of the training images, at least 1.
            test: test images, at least 1; None takes all.
            seed: draws the splits, stratified by class.
            classes: class names, in the order of the labels; None names them "0", "1", ... up to the largest training label.

        Raises:
            ConfigError: a size or a seed that is no whole number.
            DataError: a wrong type or shape, no images, lengths that differ, a label out of range, fewer than two
                classes, an image with NaN or infinity, or sizes beyond what there is. The message names it.
        """
        source = Source(images, labels, test_images, test_labels, classes)
        return divided(source, "tensors", train=train, validation=validation, prior=prior, test=test, seed=seed)


@torch_defaults()
def divided(
    source: Source,
    name: str,
    *,
    train: SupportsIndex | None,
    validation: SupportsIndex,
    prior: SupportsIndex,
    test: SupportsIndex | None,
    seed: SupportsIndex,
) -> ImageData:
    """As `ImageData.from_tensors`, for data that errors and reports call by name."""
    images, labels = _checked(source.images, source.labels, f"{name}: the training")
    if images.dim() == 4 and images.shape[3] in CHANNELS and images.shape[1] == images.shape[2] > 4:
        _LOG.warning(
            "%s: images are taken for %s of %d channels; where the channels come last, give images.transpose(0, 3, 1, 2)",
            name,
            "×".join(map(str, images.shape[2:])),
            images.shape[1],
        )
    test_images, test_labels = _checked(source.test_images, source.test_labels, f"{name}: the test")
    if images.shape[1:] != test_images.shape[1:] or images.dtype != test_images.dtype:
        raise DataError(
            f"{name}: training images are {_describe(images[0])}, test images {_describe(test_images[0])}; "
            "(C, H, W) and the type must be the same"
        )
    check_scale(test_images, in_unit_scale(images), f"{name}: the test images", "the training images are")
    names = _names(range(int(labels.max()) + 1) if source.classes is None else source.classes, name)
    if len(names) < 2:
        raise DataError(f"{name} has {len(names)} class, and telling classes apart takes 2; add images of another class")
    _check_range(labels, len(names), f"{name}: the training")
    _check_range(test_labels, len(names), f"{name}: the test")

    if empty := [names[label] for label, images_of in enumerate(labels.bincount(minlength=len(names))) if not images_of]:
        more = f", … ({len(empty)} of {len(names)})" if len(empty) > 5 else ""
        _LOG.warning("%s: no training image is of class %s%s: are classes counted from 0?", name, ", ".join(empty[:5]), more)
    whole = Split(images, labels, torch.arange(len(labels)), names)
    ids = torch.arange(len(labels), len(labels) + len(test_labels))
    whole_test = Split(test_images, test_labels, ids, names)
    positions = split_training(labels, train=train, validation=validation, prior=prior, seed=seed, name=name)
    return ImageData(
        name=name,
        classes=names,
        train=whole.subset(positions.train),
        validation=whole.subset(positions.validation),
        prior=whole.subset(positions.prior),
        test=whole_test.subset(split_test(test_labels, test=test, seed=seed, name=name)),
    )


def as_float(images: Tensor) -> Tensor:
    """Images as float32: uint8 in 0..255 becomes 0..1, float32 is passed through without a copy.

    >>> as_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
    tensor([0.0000, 0.2000, 1.0000])

    Raises:
        DataError: another type.
    """
    if images.dtype == torch.uint8:
        return images.float().div_(255)
    if images.dtype == torch.float32:
        return images
    raise DataError(f"images must be uint8 or float32, not {_type(images)}; {_conversion(images)}")


def in_unit_scale(images: Tensor) -> bool:
    """Whether images lie in 0..1, as uint8 images do once they are scaled.

    >>> in_unit_scale(torch.tensor([0, 255], dtype=torch.uint8)), in_unit_scale(torch.tensor([-1.0, 1.0]))
    (True, False)
    """
    return images.dtype == torch.uint8 or bool(images.min() >= 0 and images.max() <= 1)


def check_scale(
    images: Tensor, unit_scale: bool | None, what: str = "the images", others: str = "the network was trained on"
) -> None:
    """Refuse images that are surely on another scale than those of a training.

    Args:
        unit_scale: whether those lay in 0..1; None: not known.
        what, others: these and those, in the message.

    Raises:
        DataError: says both scales; or the type, of integers that are no bytes, whose scale cannot be told.
    """
    if images.dtype == torch.uint8:
        if unit_scale is False:
            raise DataError(f"{what} are uint8, and {others} float images that do not lie in 0..1: scale these like those")
    elif unit_scale is not None and not images.is_floating_point():
        raise DataError(f"{what} are {_type(images)}: expected uint8, or floats as in training; {_conversion(images)}")
    elif unit_scale:
        low, high = (float(bound) for bound in images.aminmax())
        if low < -MARGIN or high > 1 + MARGIN:
            raise DataError(
                f"{what} reach from {low:.4g} to {high:.4g}, and {others} uint8 images or floats in 0..1: pass uint8 images as they "
                "are, or scale floats to 0..1"
            )


def _checked(images: object, labels: object, what: str) -> tuple[Tensor, Tensor]:
    """The two as plain tensors on the CPU, the labels as int64. `what` begins the message: "mnist: the training"."""
    images, labels = _tensor(images, f"{what} images"), _tensor(labels, f"{what} labels")
    if images.dtype not in IMAGE_TYPES:
        raise DataError(f"{what} images must be uint8 or float32, not {_type(images)}; {_conversion(images)}")
    if images.ndim not in (2, 4):
        hint = ""
        if images.ndim == 3:
            hint = (
                "; add the channel of images (N, H, W) with images.unsqueeze(1), and give signals (N, C, L) as images.unsqueeze(2) "
                "to a network that begins with squeeze(2)"
            )
        raise DataError(f"{what} images must have shape (N, C, H, W), or (N, D) of vectors, not {tuple(images.shape)}{hint}")
    if images.numel() == 0:
        raise DataError(f"{what} images are empty: their shape is {tuple(images.shape)}; give at least one image")
    if labels.ndim == 2 and len(labels) == len(images) and labels.shape[1] > 1:
        raise DataError(
            f"{what} labels must have shape (N,) = ({len(images)},), not {tuple(labels.shape)}; of one-hot labels take the positions "
            "of the ones with labels.argmax(1)"
        )
    if labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise DataError(
            f"{what} labels must be integers, not {_type(labels)}; convert them with .long() (numpy: .astype('int64'))"
        )
    if labels.ndim != 1 or len(labels) != len(images):
        raise DataError(
            f"{what} labels must have shape (N,) = ({len(images)},), one for each image, not {tuple(labels.shape)}"
        )
    images, labels = images.cpu(), labels.cpu().long()
    if images.is_floating_point():
        broken = ~torch.isfinite(images).flatten(1).all(1)
        if broken.any():
            raise DataError(
                f"{what} images hold NaN or infinity in {int(broken.sum())} of {len(images)}, the first at position "
                f"{int(broken.nonzero()[0])}; fix or remove these images"
            )
    return images, labels


def _tensor(values: object, what: str) -> Tensor:
    """A tensor, or the values of a numpy array (or of what gives one by itself, such as a column of a table)."""
    if isinstance(values, Tensor):
        if values.layout != torch.strided or values.is_meta:
            raise DataError(
                f"{what} must be a tensor that holds its values, not a {'meta' if values.is_meta else 'sparse'} one"
            )
        return values.detach()
    if not hasattr(values, "__array__"):
        raise DataError(f"{what} must be a torch.Tensor, not {type(values).__name__}; a numpy array is taken too")
    return as_tensor(values, what)


def _conversion(images: Tensor) -> str:
    """How to mend the type without another scale in silence."""
    if images.is_floating_point():
        return "convert them with .float() (numpy: .astype('float32'))"
    return "convert values in 0..255 with .byte() (numpy: .astype('uint8')), and others to float32 on a scale of your choice"


def _names(classes: object, name: str) -> tuple[str, ...]:
    """Names of classes as texts; refuses what has no order, and a text, which is a sequence of letters."""
    if isinstance(classes, str | bytes) or not isinstance(classes, Sequence | np.ndarray):
        raise DataError(f"{name}: classes must be a list of names, one for each class, not {type(classes).__name__}")
    try:
        return tuple(each.decode() if isinstance(each, bytes) else str(each) for each in classes)
    except UnicodeDecodeError:
        raise DataError(f"{name}: the name of a class is in bytes that are not UTF-8; give the names as texts") from None


def _check_range(labels: Tensor, classes: int, what: str) -> None:
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        position = int(outside.nonzero()[0])
        raise DataError(
            f"{what} labels must be in 0..{classes - 1}, for {classes} classes; the one at position {position} is "
            f"{int(labels[position])}: count classes from 0, and name every class in `classes`"
        )


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {_type(tensor)}"


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
