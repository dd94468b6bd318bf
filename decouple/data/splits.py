"""Which images make up each split: stratified, repeatable and nested."""

from __future__ import annotations

from typing import NamedTuple, SupportsIndex

import torch
from torch import Tensor

from decouple import seeds
from decouple.errors import DataError
from decouple.tensors import whole_number
from decouple.torch_state import torch_defaults


class TrainingPositions(NamedTuple):
    """Positions among a source's training images, int64, without overlap."""

    train: Tensor
    validation: Tensor
    prior: Tensor


@torch_defaults()
def split_training(
    labels: Tensor,
    *,
    train: SupportsIndex | None,
    validation: SupportsIndex,
    prior: SupportsIndex,
    seed: SupportsIndex,
    name: str = "the data",
) -> TrainingPositions:
    """Divide a source's training images, labels (N,); train = None takes all that validation and prior leave.

    Validation and prior do not depend on `train`, and a smaller `train` is a subset of a larger one, so that the runs
    of a data-efficiency curve share everything but the images that were added. `name` is what errors call the data. Raises
    ConfigError or DataError: a size that is no whole number, is below 1, or adds up with the others to more than N."""
    available = len(labels)
    train = None if train is None else _size(name, "train", train)
    validation, prior = _size(name, "validation", validation), _size(name, "prior", prior)
    left = available - validation - prior
    if left < 1:
        raise DataError(
            f"{name} has {available} training images: validation {validation} + prior {prior} = {validation + prior} leave "
            "none to train on; give --data.validation and --data.prior smaller values"
        )
    if train is not None and train > left:
        raise DataError(
            f"{name} has {available} training images, but train {train} + validation {validation} + prior {prior} = "
            f"{train + validation + prior} are asked for; give --data.train {left} or less"
        )
    order = torch.randperm(available, generator=seeds.generator(seed, "data", "split"))
    validation_positions, rest = draw(order, labels, validation)
    prior_positions, rest = draw(rest, labels, prior)
    train_positions, _ = draw(rest, labels, left if train is None else train)
    return TrainingPositions(train_positions, validation_positions, prior_positions)


@torch_defaults()
def split_test(labels: Tensor, *, test: SupportsIndex | None, seed: SupportsIndex, name: str = "the data") -> Tensor:
    """Positions of `test` test images (None: all), in a random order. Raises ConfigError or DataError: `test` is no whole
    number, below 1 or above N."""
    test = None if test is None else _size(name, "test", test)
    if test is not None and test > len(labels):
        raise DataError(f"{name} has {len(labels)} test images, but {test} are asked for; give --data.test a smaller value")
    # Permuted even when all are taken: a folder's test images come sorted by class, and a BatchNorm that uses the
    # statistics of the evaluated batch would then normalise each class by itself.
    order = torch.randperm(len(labels), generator=seeds.generator(seed, "data", "test"))
    return draw(order, labels, len(labels) if test is None else test)[0]


@torch_defaults()
def draw(order: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Draw `count` of the positions in `order`, holding the classes in proportion; returns (drawn, rest).

    The classes take turns: the r-th image of a class with n images comes at "time" (r + ½) / n, and the first `count`
    are drawn. Of classes of equal size none gets more than one image more than another. Larger draws contain smaller
    ones. Both results keep the order of `order`: were the classes left taking turns, every batch would be balanced,
    and its statistics would know more about the labels than those of a random batch.

    Args:
        order: (M,) int64, distinct positions.
        labels: (N,) int64, at least 0, of all positions.
        count: 0..M.
    """
    classes = labels[order]
    by_class = torch.argsort(classes, stable=True)
    sizes = torch.bincount(classes)
    first = sizes.cumsum(0) - sizes
    rank = torch.empty_like(order)
    rank[by_class] = torch.arange(len(order)) - first.repeat_interleave(sizes)
    time = (rank.double() + 0.5) / sizes[classes]
    drawn = torch.zeros(len(order), dtype=torch.bool)
    drawn[torch.argsort(time, stable=True)[:count]] = True
    return order[drawn], order[~drawn]


def _size(name: str, option: str, size: SupportsIndex) -> int:
    count = whole_number(size, f"{name}: {option}")
    if count < 1:
        raise DataError(f"{name}: {option} = {count} must be at least 1; give --data.{option} another value")
    return count
