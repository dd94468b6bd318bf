from dataclasses import replace

import numpy as np
import pytest
import torch

from decouple.data import ImageData, Split, as_float
from decouple.errors import ConfigError, DataError


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
    data = _data(train=9, test=6, classes=["ape", "bee", "cat"])
    assert (data.name, data.classes, data.num_classes, data.image_shape) == ("tensors", ("ape", "bee", "cat"), 3, (2, 4, 3))
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
    assert digest == replace(_data(), name="other").digest
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
        ({"images": torch.rand(30, 4, 3)}, r"not \(30, 4, 3\); add the channel of images \(N, H, W\) with images.unsqueeze"),
        ({"images": torch.rand(30, 2, 4, 3, 1)}, r"\(N, C, H, W\), or \(N, D\) of vectors, not \(30, 2, 4, 3, 1\)$"),
        ({"images": torch.rand(30, 12)}, r"training images are \(12,\) float32, test images \(2, 4, 3\) uint8"),
        ({"test_images": torch.rand(0, 2, 4, 3)}, r"test images are empty: their shape is \(0, 2, 4, 3\)"),
        ({"labels": torch.rand(30)}, "training labels must be integers, not float32; convert them with .long()"),
        (
            {"labels": torch.eye(30)},
            r"must have shape \(N,\) = \(30,\), not \(30, 30\); of one-hot labels take the positions",
        ),
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
        ({"test": 13}, "tensors has 12 test images, but 13 are asked for"),
    ],
)
def test_from_tensors_refuses(changes, message):
    with pytest.raises(DataError, match=message):
        _data(**changes)


def _arrays(dtype="uint8", labels="int64"):
    """Arguments of from_tensors as numpy arrays, with values that tell every element from its neighbours."""
    images = np.arange(30 * 2 * 4 * 3).reshape(30, 2, 4, 3) % 251
    images = images.astype(dtype) if dtype == "uint8" else (images / 250).astype(dtype)
    counted = (np.arange(30) % 3).astype(labels)
    return {"images": images, "labels": counted, "test_images": images[:12], "test_labels": counted[:12]}


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("labels", ["int64", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", ">i4", ">u2"])
@pytest.mark.parametrize(
    "made",
    [
        lambda array: array,
        np.asfortranarray,
        lambda array: array[::-1].copy()[::-1],  # negative strides
        lambda array: np.repeat(array, 2, 0)[::2],
        lambda array: array.astype(array.dtype.newbyteorder(">")),
    ],
)
def test_numpy_arrays_are_as_tensors(dtype, labels, made):
    wanted = _data(**{name: torch.from_numpy(array.copy()) for name, array in _arrays(dtype).items()})
    arrays = {name: made(array) for name, array in _arrays(dtype, labels).items()}
    for array in arrays.values():
        array.flags.writeable = False
    found = _data(**arrays)
    assert found.digest == wanted.digest
    assert found.classes == ("0", "1", "2")


def test_data_from_arrays_shares_nothing_with_them():
    arrays = _arrays()
    data, before = _data(**arrays), arrays["images"].copy()
    data.train.images.zero_()
    assert np.array_equal(arrays["images"], before)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, torch.tensor])
def test_counts_and_seeds_of_any_integer_type(kind):
    sizes = {"train": 12, "validation": 6, "prior": 3, "test": 5, "seed": 2}
    assert _data(**{name: kind(size) for name, size in sizes.items()}).digest == _data(**sizes).digest


@pytest.mark.parametrize("name", ["train", "validation", "prior", "test", "seed"])
@pytest.mark.parametrize("value", [0.2, 6.0, "6", np.float64(6), torch.tensor([6, 6])])
def test_counts_that_are_no_whole_numbers_are_refused(name, value):
    with pytest.raises(ConfigError, match=rf"{name} must be a whole number, not "):
        _data(**{name: value})


@pytest.mark.parametrize(
    "classes", [np.array(["ape", "bee", "cat"]), np.array([b"ape", b"bee", b"cat"]), ("ape", "bee", "cat")]
)
def test_names_of_classes_are_texts(classes):
    names = _data(classes=classes).classes
    assert names == ("ape", "bee", "cat")
    assert {type(name) for name in names} == {str}


@pytest.mark.parametrize("classes", ["abc", {"ape", "bee", "cat"}, 3])
def test_names_without_an_order_are_refused(classes):
    with pytest.raises(DataError, match=r"classes must be a list of names, one for each class, not (str|set|int)"):
        _data(classes=classes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": _arrays("float64")["images"]}, r"must be uint8 or float32, not float64; convert them with .float\(\)"),
        ({"images": _arrays("float16")["images"]}, "must be uint8 or float32, not float16"),
        ({"images": np.zeros((30, 2, 4, 3), "int64")}, r"not int64; convert values in 0..255 with .byte\(\) .* on a scale"),
        ({"images": np.zeros((30, 2, 4, 3), "uint16")}, r"not uint16; convert values in 0..255 with .byte\(\)"),
        ({"labels": np.array(["ape"] * 30)}, "training labels must be .* of numbers, not an array of <U3"),
        ({"labels": np.array([None] * 30)}, "training labels must be .* of numbers, not an array of object"),
        ({"labels": np.zeros((30, 1), "int64")}, r"labels must have shape \(N,\) = \(30,\), .* not \(30, 1\)"),
        ({"labels": np.full(30, 2**64 - 1, "uint64")}, "tensors has 0 class"),
        ({"labels": np.ma.masked_equal(np.arange(30) % 3, 2)}, "labels are a masked array, and what is masked has no value"),
        (
            {"images": torch.zeros(30, 2, 4, 3, device="meta")},
            "images must be a tensor that holds its values, not a meta one",
        ),
        (
            {"images": torch.zeros(30, 2, 4, 3).to_sparse()},
            "images must be a tensor that holds its values, not a sparse one",
        ),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        _data(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": torch.zeros(4, 1).long()}, r"labels \(4, 1\) and ids \(4,\) do not fit"),  # would be broadcast
        ({"labels": torch.zeros(3).long()}, r"images \(4, 1, 2, 2\), labels \(3,\) and ids \(4,\) do not fit"),
        ({"ids": torch.arange(5)}, r"ids \(5,\) do not fit: expected \(N, C, H, W\), \(N,\) and \(N,\)"),
        ({"labels": torch.zeros(4)}, "a split's labels must be a tensor of int64 on the CPU, not float32 on cpu"),
        ({"labels": np.zeros(4, "int64")}, "a split's labels must be a tensor of int64 on the CPU, not ndarray"),
        ({"images": torch.rand(4, 1, 2, 2).double()}, "images must be a tensor of uint8 or float32 on the CPU, not float64"),
        ({"images": torch.rand(4, 1, 2, 2, device="meta")}, "images must be .* on the CPU, not float32 on meta"),
    ],
)
def test_a_split_whose_parts_do_not_fit_is_refused(changes, message):
    parts = {"images": torch.rand(4, 1, 2, 2), "labels": torch.arange(4) % 2, "ids": torch.arange(4)}
    with pytest.raises(DataError, match=message):
        Split(**(parts | changes))


@pytest.mark.parametrize("state", [torch.inference_mode, torch.no_grad, lambda: torch.device("meta")])
def test_data_is_the_same_under_what_the_caller_has_set(state):
    arguments = _arguments()
    wanted = ImageData.from_tensors(**arguments)
    with state():
        found = ImageData.from_tensors(**arguments)
    assert found.digest == wanted.digest
    assert not found.train.images.is_inference()


def test_test_images_on_another_scale_are_refused() -> None:
    images, labels = torch.rand(12, 1, 4, 4), torch.arange(12) % 3
    sizes = {"validation": 3, "prior": 3}
    with pytest.raises(
        DataError, match=r"the test images reach from .* and the training images are uint8 images or floats in 0..1"
    ):
        ImageData.from_tensors(images, labels, test_images=images * 255, test_labels=labels, **sizes)
    for factor in (0.5, 1.2):
        ImageData.from_tensors(images, labels, test_images=images * factor, test_labels=labels, **sizes)
    ImageData.from_tensors(images * 255, labels, test_images=images, test_labels=labels, **sizes)


def test_the_layout_of_the_source_in_memory_leaves_no_trace() -> None:
    rows = torch.rand(12, 6, 5, 1)
    for images in (rows.permute(0, 3, 1, 2), rows.expand(-1, -1, -1, 3).permute(0, 3, 1, 2)):
        labels = torch.arange(12) % 2
        data = ImageData.from_tensors(images, labels, test_images=images, test_labels=labels, validation=2, prior=2)
        channels = images.shape[1]
        assert data.train.images.stride() == (30 * channels, 30, 5, 1), "of one channel torch takes either layout for both"
