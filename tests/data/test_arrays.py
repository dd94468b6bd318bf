"""Arrays in .npz and safetensors files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from decouple.config import DataConfig, NetworkConfig, SgdConfig
from decouple.data import ImageData, load_data
from decouple.data.arrays import read_npz, read_safetensors
from decouple.errors import DataError, NetworkError
from decouple.learn import train_sgd
from decouple.networks import Stages, paper_network

IMAGES = np.random.default_rng(0).integers(0, 256, (24, 3, 6, 5), dtype=np.uint8)
LABELS = np.arange(24) % 3
TEST = {"x_test": IMAGES[:12], "y_test": LABELS[:12]}


def _npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path / "data.npz", **arrays)
    return path / "data.npz"


def test_both_kinds_of_file_give_what_was_put_in(tmp_path: Path) -> None:
    arrays = {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES[:12], "test_labels": LABELS[:12]}
    save_file({name: torch.from_numpy(values) for name, values in arrays.items()}, tmp_path / "data.safetensors")
    for read, path in (
        (read_npz, _npz(tmp_path, **arrays, class_names=np.array(["a", "b", "c"]))),
        (read_safetensors, tmp_path / "data.safetensors"),
    ):
        found = read(path)
        for name, values in zip(("images", "labels", "test_images", "test_labels"), arrays.values(), strict=True):
            assert torch.equal(torch.as_tensor(getattr(found, name)), torch.from_numpy(values))
        assert found.classes == (["a", "b", "c"] if read is read_npz else None)


def test_class_names_may_be_bytes(tmp_path: Path) -> None:
    arrays = {"x_train": IMAGES, "y_train": LABELS, **TEST}
    path = _npz(tmp_path, **arrays, class_names=np.array([b"cat", b"dog", "Käfer".encode()]))
    assert load_data(DataConfig(f"npz:{path}", validation=3, prior=3)).classes == ("cat", "dog", "Käfer")
    path = _npz(tmp_path, **arrays, class_names=np.array([b"cat", b"dog", b"\xff"]))
    with pytest.raises(DataError, match="the name of a class is in bytes that are not UTF-8; give the names as texts"):
        load_data(DataConfig(f"npz:{path}", validation=3, prior=3))


def test_by_name_it_is_a_data_set_with_splits(tmp_path: Path) -> None:
    path = _npz(tmp_path, X_train=IMAGES, Y_train=LABELS[:, None], **TEST)
    sizes = {"validation": 3, "prior": 3}
    found = load_data(DataConfig(f"npz:{path}", **sizes))
    own = ImageData.from_tensors(IMAGES, LABELS, test_images=IMAGES[:12], test_labels=LABELS[:12], **sizes)
    assert found.digest == own.digest
    assert load_data(DataConfig("npz:data.npz", **sizes), data_root=tmp_path).digest == own.digest


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (IMAGES[:, 0], IMAGES[:, :1]),
        (IMAGES.transpose(0, 2, 3, 1), IMAGES),
        (IMAGES.astype(np.int64), IMAGES),
        (IMAGES.astype(np.uint16), IMAGES),
        (IMAGES / 255, (IMAGES / 255).astype(np.float32)),
        (IMAGES[:, 0, :, 0].astype(np.float32), IMAGES[:, 0, :, 0].astype(np.float32)),
    ],
    ids=["grey", "channels last", "int64", "uint16", "float64", "vectors"],
)
def test_the_usual_layouts_and_types_are_understood(tmp_path: Path, values: np.ndarray, expected: np.ndarray) -> None:
    found = torch.as_tensor(read_npz(_npz(tmp_path, x_train=values, y_train=LABELS, **TEST)).images)
    assert torch.equal(found, torch.from_numpy(np.ascontiguousarray(expected)))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": IMAGES}, "holds x_test, x_train, y_test: expected labels as one of train_labels, y_train, labels, y"),
        ({"x_train": IMAGES, "images": IMAGES, "y": LABELS}, "holds x_train and images, both of which may be the images"),
        ({"x_train": np.array([{}, {}]), "y": LABELS}, "cannot be read as an .npz file: it holds Python objects"),
        ({"x_train": IMAGES.astype(np.int64) * 9, "y": LABELS}, "images must be uint8 or float32, not int64"),
        ({"x_train": IMAGES, "y": LABELS.astype(str)}, "labels are strings: expected integers counted from 0; np.unique"),
        (
            {"x_train": IMAGES, "y": np.eye(3)[LABELS]},
            r"not \(24, 3\); of one-hot labels take the positions of the ones with",
        ),
        ({"x_train": IMAGES, "y": LABELS[:5]}, r"labels must have shape \(N,\) = \(24,\)"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    path = _npz(tmp_path, **arrays, **TEST)
    with pytest.raises(DataError, match=message):
        load_data(DataConfig(f"npz:{path}", validation=3, prior=3))


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_a_damaged_or_missing_file_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"data.{kind}"
    with pytest.raises(DataError, match=f"data.{kind} cannot be read as an? .?{kind} file: "):
        load_data(f"{kind}:{path}")
    whole = _npz(tmp_path, x_train=IMAGES, y_train=LABELS, **TEST).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=f"data.{kind} cannot be read as an? .?{kind} file: "):
        load_data(f"{kind}:{path}")


def test_a_single_array_is_no_npz_file(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", IMAGES)
    with pytest.raises(DataError, match=r"one\.npy holds a single array without a name: expected an \.npz file"):
        load_data(f"npz:{tmp_path / 'one.npy'}")


def test_channels_that_seem_to_come_last_are_pointed_out(caplog: pytest.LogCaptureFixture) -> None:
    images, labels = np.zeros((24, 8, 8, 3), np.uint8), np.arange(24) % 3
    sizes = {"validation": 3, "prior": 3}
    ImageData.from_tensors(images, labels, test_images=images, test_labels=labels, **sizes)
    assert caplog.records[0].message == (
        "tensors: images are taken for 8×3 of 8 channels; where the channels come last, give images.transpose(0, 3, 1, 2)"
    )
    first = images.transpose(0, 3, 1, 2)
    ImageData.from_tensors(first, labels, test_images=first, test_labels=labels, **sizes)
    assert len(caplog.records) == 1


def test_many_classes_without_images_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    images, labels = np.zeros((24, 1, 8, 8), np.uint8), np.arange(24) % 3 * 100
    ImageData.from_tensors(images, labels, test_images=images, test_labels=labels, validation=3, prior=3)
    assert "of class 1, 2, 3, 4, 5, … (198 of 201): are" in caplog.records[0].message


def test_what_is_left_out_and_classes_without_images_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _npz(tmp_path, x_train=IMAGES, y_train=LABELS + 1, x_test=IMAGES[:12], y_test=LABELS[:12] + 1, val_images=IMAGES)
    load_data(DataConfig(f"npz:{path}", validation=3, prior=3))
    said = [record.message for record in caplog.records]
    assert said == [
        f"{path}: left out: val_images",
        f"npz:{path}: no training image is of class 0: are classes counted from 0?",
    ]


def test_vectors_train_networks_that_take_them() -> None:
    rows = torch.randn(200, 7, generator=torch.Generator().manual_seed(0))
    labels = (rows[:, 0] > 0).long()
    data = ImageData.from_tensors(rows, labels, test_images=rows, test_labels=labels, validation=40, prior=8)
    assert data.image_shape == (7,)
    module = torch.nn.Sequential(torch.nn.Linear(7, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    network = Stages.from_sequential(module, [1, 2])
    found = train_sgd(network, data.train, validation=data.validation, config=SgdConfig(epochs=5, batch=16, lr=0.1))
    assert found.best_validation > 0.9
    with pytest.raises(DataError, match="augment = crop is for images"):
        train_sgd(network, data.train, validation=data.validation, config=SgdConfig(epochs=1, augment="crop"))
    with pytest.raises(NetworkError, match=r"takes images \(N, C, H, W\), not \(152, 7\)"):
        paper_network(data.train.images, 2, NetworkConfig(), groups=1, seed=0)
