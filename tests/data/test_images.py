import pytest
import torch

from decouple.data import ImageData, as_float
from decouple.errors import DataError


def _arguments(**changes):
    """Arguments of from_tensors: 30 training and 12 test images of 3 classes, image i filled with the value i."""
    arguments = {
        "images": torch.arange(30, dtype=torch.uint8).view(30, 1, 1, 1).expand(30, 2, 4, 3),
        "labels": torch.arange(30) % 3,
        "test_images": torch.arange(100, 112, dtype=torch.uint8).view(12, 1, 1, 1).expand(12, 2, 4, 3),
        "test_labels": torch.arange(12) % 3,
        "validation": 6,
        "prior": 3,
    }
    return arguments | changes


def _data(**changes):
    arguments = _arguments(**changes)
    return ImageData.from_tensors(arguments.pop("images"), arguments.pop("labels"), **arguments)


def test_from_tensors_divides_images_labels_and_ids_alike():
    data = _data(train=9, test=6, name="mine", classes=["ape", "bee", "cat"])
    assert (data.name, data.classes, data.num_classes, data.image_shape) == ("mine", ("ape", "bee", "cat"), 3, (2, 4, 3))
    assert [len(split) for split in (data.train, data.validation, data.prior, data.test)] == [9, 6, 3, 6]
    for split in (data.train, data.validation, data.prior):
        assert torch.equal(split.images[:, 0, 0, 0].long(), split.ids)
        assert torch.equal(split.labels, split.ids % 3)
    assert torch.equal(data.test.images[:, 0, 0, 0].long() - 100 + 30, data.test.ids)
    ids = torch.cat([split.ids for split in (data.train, data.validation, data.prior, data.test)])
    assert len(ids.unique()) == len(ids)


def test_from_tensors_leaves_its_inputs_alone_and_shares_nothing_with_them():
    images = torch.rand(30, 1, 2, 2)
    before = images.clone()
    data = _data(images=images, test_images=torch.rand(12, 1, 2, 2))
    data.train.images.zero_()
    assert torch.equal(images, before)


def test_classes_are_counted_from_the_training_labels():
    assert _data().classes == ("0", "1", "2")


def test_any_integer_labels_become_int64():
    data = _data(labels=(torch.arange(30) % 3).to(torch.uint8), test_labels=(torch.arange(12) % 3).to(torch.int32))
    assert data.train.labels.dtype == data.test.labels.dtype == torch.int64


def test_subset_takes_positions_in_order():
    split = _data().train
    part = split.subset([4, 0])
    assert len(part) == 2
    assert torch.equal(part.ids, split.ids[[4, 0]])
    assert torch.equal(part.images, split.images[[4, 0]])
    assert torch.equal(split.subset(torch.tensor([4, 0])).labels, part.labels)


def test_digest_depends_on_each_part_and_not_on_the_name():
    digest = _data().digest
    assert len(digest) == 32
    assert digest == _data(name="other").digest
    assert digest != _data(seed=1).digest
    assert digest != _data(train=20).digest
    assert digest != _data(test_labels=(torch.arange(12) + 1) % 3).digest
    for field in ("train", "validation", "prior", "test"):
        data = _data()
        getattr(data, field).images[-1, -1, -1, -1] += 1
        assert data.digest != digest


def test_as_float():
    images = torch.tensor([[0, 255], [51, 102]], dtype=torch.uint8)
    assert torch.allclose(as_float(images), torch.tensor([[0.0, 1.0], [0.2, 0.4]]))
    ready = torch.rand(2, 2)
    assert as_float(ready) is ready
    with pytest.raises(DataError, match="images must be uint8 or float32, not float64"):
        as_float(ready.double())


def _broken(value):
    images = torch.rand(30, 2, 4, 3)
    images[7, 1, 3, 2] = images[9, 0, 0, 0] = value
    return images


FLOATS = {"test_images": torch.rand(12, 2, 4, 3)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [1, 2]}, "tensors: the training images must be a torch.Tensor, not list"),
        ({"labels": (0, 1)}, "tensors: the training labels must be a torch.Tensor, not tuple"),
        ({"images": torch.rand(30, 2, 4, 3).double()}, "training images must be uint8 or float32, not float64"),
        ({"images": torch.rand(30, 4, 3)}, r"shape \(N, C, H, W\), not \(30, 4, 3\); add the channel with images.unsqueeze"),
        ({"images": torch.rand(30, 12)}, r"shape \(N, C, H, W\), not \(30, 12\)$"),
        ({"test_images": torch.rand(0, 2, 4, 3)}, r"test images are empty: their shape is \(0, 2, 4, 3\)"),
        ({"labels": torch.rand(30)}, "training labels must be integers, not float32; convert them with .long()"),
        ({"labels": torch.ones(30, dtype=torch.bool)}, "training labels must be integers, not bool"),
        (
            {"labels": torch.arange(29) % 3},
            r"training labels must have shape \(N,\) = \(30,\), one for each image, not \(29,\)",
        ),
        ({"test_labels": torch.zeros(12, 1).long()}, r"test labels must have shape \(N,\) = \(12,\).* not \(12, 1\)"),
        ({"labels": torch.arange(30) % 3 - 1}, "training labels must be in 0..1, .*position 0 is -1: count classes from 0"),
        ({"classes": ("ape", "bee")}, "training labels must be in 0..1, for 2 classes; the one at position 2 is 2"),
        ({"test_labels": torch.arange(12) % 4}, "test labels must be in 0..2, for 3 classes; the one at position 3 is 3"),
        ({"labels": torch.zeros(30).long()}, "tensors has 1 class, and telling classes apart takes 2"),
        (
            {"images": _broken(torch.nan), **FLOATS},
            "training images hold NaN or infinity in 2 of 30, the first at position 7",
        ),
        ({"images": _broken(-torch.inf), **FLOATS}, "training images hold NaN or infinity in 2 of 30"),
        (
            {"test_images": torch.zeros(12, 1, 4, 3, dtype=torch.uint8)},
            r"training images are \(2, 4, 3\) uint8, test images \(1, 4, 3\) uint8; \(C, H, W\) and the type must be",
        ),
        (FLOATS, r"training images are \(2, 4, 3\) uint8, test images \(2, 4, 3\) float32"),
        ({"validation": 28}, r"tensors has 30 training images: validation 28 \+ prior 3 = 31 leave none"),
        ({"test": 13, "name": "mine"}, "mine has 12 test images, but 13 are asked for"),
    ],
)
def test_from_tensors_refuses(changes, message):
    with pytest.raises(DataError, match=message):
        _data(**changes)
