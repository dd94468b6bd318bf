"""Data sets of Hugging Face's `datasets`, from a folder on this disk."""

from pathlib import Path

import numpy as np
import pytest
import torch

from decouple.config import DataConfig
from decouple.data import ImageData, load_data
from decouple.errors import DataError

datasets = pytest.importorskip("datasets")

IMAGES = np.random.default_rng(0).integers(0, 256, (24, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(24) % 3
SIZES = {"validation": 3, "prior": 3}


def _part(images: np.ndarray, labels: np.ndarray) -> "datasets.Dataset":
    species = datasets.ClassLabel(names=["ape", "bee", "cat"])
    kinds = {"picture": datasets.Image(), "species": species, "note": datasets.Value("string")}
    columns = {"picture": list(images), "species": labels.tolist(), "note": ["x"] * len(labels)}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


def _saved(folder: Path, **parts: "datasets.Dataset") -> str:
    datasets.DatasetDict(parts).save_to_disk(folder)
    return f"hf:{folder}"


def test_a_folder_is_the_images_and_labels_that_were_saved(tmp_path: Path) -> None:
    name = _saved(tmp_path, train=_part(IMAGES, LABELS), validation=_part(IMAGES[:6], LABELS[:6]))
    found = load_data(DataConfig(name, **SIZES))
    images = IMAGES.transpose(0, 3, 1, 2)
    own = ImageData.from_tensors(images, LABELS, test_images=images[:6], test_labels=LABELS[:6], **SIZES)
    assert found.digest == own.digest
    assert found.classes == ("ape", "bee", "cat")


def test_grey_images_keep_one_channel(tmp_path: Path) -> None:
    name = _saved(tmp_path, train=_part(IMAGES[..., 0], LABELS), test=_part(IMAGES[:6, ..., 0], LABELS[:6]))
    assert load_data(DataConfig(name, **SIZES)).image_shape == (1, 6, 5)


def test_transparent_images_are_laid_over_white_as_those_of_folders_are(tmp_path: Path) -> None:
    seen = np.concatenate([IMAGES, np.full((*IMAGES.shape[:3], 1), 255, np.uint8)], axis=3)
    seen[0, 0, 0, 3] = 0
    name = _saved(tmp_path, train=_part(seen, LABELS), test=_part(seen[:6], LABELS[:6]))
    found = load_data(DataConfig(name, **SIZES)).test.images
    assert (found[:, :, 0, 0] == 255).all(1).sum() == 1
    assert sum(torch.equal(image, torch.from_numpy(own).permute(2, 0, 1)) for image in found for own in IMAGES[1:6]) == 5


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has the splits train: expected one of test, validation, valid, val"):
        load_data(_saved(tmp_path / "a", train=_part(IMAGES, LABELS)))
    part = _part(IMAGES, LABELS)
    with pytest.raises(DataError, match=r"picture \(Image\), note \(Value\): expected one of the type ClassLabel, not 0"):
        load_data(_saved(tmp_path / "b", train=part.remove_columns("species"), test=part))
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match=r"cannot be loaded \(\w+: "):
        load_data(f"hf:{tmp_path / 'c'}")
    deep = _part(IMAGES[..., 0].astype(np.uint16) * 256, LABELS)
    with pytest.raises(DataError, match=r"the training image at position 0 has more than 8 bits a channel \(mode I;16\)"):
        load_data(_saved(tmp_path / "e", train=deep, test=deep))
    small = _part(IMAGES[:, :4], LABELS)
    mixed = datasets.concatenate_datasets([part, small])
    with pytest.raises(DataError, match="the training images differ in size: the first is 5×6, that at position 24 5×4"):
        load_data(_saved(tmp_path / "d", train=mixed, test=part))
