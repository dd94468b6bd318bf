import gzip
import hashlib
import io
import pickle
import socket
import struct
import tarfile
import urllib.error
import urllib.request
import warnings

import numpy as np
import pytest
import torch
import torchvision

from decouple.config import DataConfig
from decouple.data import load_data
from decouple.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def requests(monkeypatch):
    """Nothing leaves this machine; a list of the addresses that were tried, with the time limit of each."""
    tried = []

    def refuse(request, *args, **kwargs):
        tried.append((request.full_url, socket.getdefaulttimeout()))
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return tried


def _sizes(data):
    return [len(split) for split in (data.train, data.validation, data.prior, data.test)]


# digits


def test_digits():
    data = load_data("digits")
    assert _sizes(data) == [1138, 150, 150, 359]
    assert data.image_shape == (1, 8, 8)
    assert data.classes == tuple("0123456789")
    assert data.train.images.dtype == torch.float32
    assert (data.train.images.min(), data.train.images.max()) == (0, 1)
    counts = torch.bincount(data.test.labels)
    assert (counts.min(), counts.max()) == (35, 37)


def test_the_test_digits_are_the_same_for_all_seeds():
    one, other = load_data("digits"), load_data(DataConfig("digits", seed=5))
    assert torch.equal(one.test.ids.sort().values, other.test.ids.sort().values)
    assert torch.equal(one.test.images[one.test.ids.argsort()], other.test.images[other.test.ids.argsort()])
    assert not torch.equal(one.train.ids, other.train.ids)


def test_the_configuration_reaches_the_splits():
    data = load_data(DataConfig("digits", train=100, validation=20, prior=30, test=40, seed=1))
    assert _sizes(data) == [100, 20, 30, 40]


# mnist and fashion-mnist


def _write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    )


def _write_mnist(root, name="MNIST"):
    """40 training and 10 test images of 5×6, image i filled with the value i."""
    for part, count in (("train", 40), ("t10k", 10)):
        images = np.broadcast_to(np.arange(count)[:, None, None], (count, 5, 6))
        _write_idx(root / name / "raw" / f"{part}-images-idx3-ubyte", images)
        _write_idx(root / name / "raw" / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    return root / name / "raw"


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_files_in_mnist_format(tmp_path, requests, name, folder):
    _write_mnist(tmp_path, folder)
    data = load_data(DataConfig(name, validation=10, prior=10), data_root=tmp_path)
    assert _sizes(data) == [20, 10, 10, 10]
    assert data.image_shape == (1, 5, 6)
    assert data.train.images.dtype == torch.uint8
    assert torch.equal(data.train.images[:, 0, 4, 5].long(), data.train.ids)
    assert torch.equal(data.test.labels, data.test.ids - 40)
    assert data.classes[1] == {"mnist": "1", "fashion-mnist": "Trouser"}[name]
    assert requests == []


def test_the_data_root_may_come_from_the_environment(tmp_path, monkeypatch):
    _write_mnist(tmp_path)
    monkeypatch.setenv("DECOUPLE_DATA", str(tmp_path))
    assert len(load_data(DataConfig("mnist", validation=10, prior=10)).test) == 10


def test_the_data_root_is_the_cache_folder_otherwise(tmp_path, monkeypatch):
    _write_mnist(tmp_path / ".cache" / "decouple" / "data")
    monkeypatch.delenv("DECOUPLE_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(load_data(DataConfig("mnist", validation=10, prior=10)).test) == 10


@pytest.mark.parametrize("content", [b"", b"\0\0\x08", b"not an image file", None])
def test_a_damaged_mnist_file_is_named(tmp_path, content):
    file = _write_mnist(tmp_path) / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1] if content is None else content)
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte is damaged or cannot be read; remove it"):
        load_data("mnist", data_root=tmp_path)


def test_missing_files_without_a_network(tmp_path, requests):
    raw = _write_mnist(tmp_path)
    (raw / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(
        DataError, match=r"mnist: train-labels-idx1-ubyte not found in .*MNIST/raw \(the download failed: .*no net"
    ) as e:
        load_data("mnist", data_root=tmp_path)
    assert "on a connected machine, or copy them there; --data-root" in e.value.message
    assert len(str(e.value).splitlines()) == 2
    assert requests
    assert all(limit is not None and limit < 60 for _, limit in requests)
    assert socket.getdefaulttimeout() is None


def test_a_server_that_does_not_answer(tmp_path, monkeypatch):
    def wait(*_, **__):
        raise TimeoutError

    monkeypatch.setattr(urllib.request, "urlopen", wait)
    with pytest.raises(DataError, match="the download failed: TimeoutError"):
        load_data("mnist", data_root=tmp_path)


def test_nothing_is_asked_for_where_downloads_are_off(tmp_path, requests):
    with pytest.raises(DataError, match=r"not found in .*FashionMNIST/raw \(downloading is turned off\)"):
        load_data("fashion-mnist", data_root=tmp_path / "none", download=False)
    assert requests == []
    assert not (tmp_path / "none").exists()


def test_archives_that_are_there_are_unpacked(tmp_path, monkeypatch, requests):
    raw = _write_mnist(tmp_path)
    resources = []
    for file in sorted(raw.iterdir(), key=lambda path: ("t10k" in path.name, "labels" in path.name)):
        archive = raw / f"{file.name}.gz"
        archive.write_bytes(gzip.compress(file.read_bytes()))
        resources.append((archive.name, hashlib.md5(archive.read_bytes()).hexdigest()))
        file.unlink()
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    assert len(load_data(DataConfig("mnist", validation=10, prior=10), data_root=tmp_path).test) == 10
    assert requests == []


def _pack(raw, change=lambda data: data):
    """Leave each file as .gz alone, with checksums that nobody knows."""
    for file in list(raw.iterdir()):
        (raw / f"{file.name}.gz").write_bytes(change(gzip.compress(file.read_bytes(), 1)))
        file.unlink()


def test_archives_with_other_checksums_are_read_where_they_lie(tmp_path, requests):
    plain = load_data(DataConfig("mnist", validation=10, prior=10), data_root=_write_mnist(tmp_path / "plain").parents[1])
    raw = _write_mnist(tmp_path / "packed")
    _pack(raw)
    names = sorted(file.name for file in raw.iterdir())
    packed = load_data(DataConfig("mnist", validation=10, prior=10), data_root=tmp_path / "packed")
    assert (packed.digest, requests) == (plain.digest, [])
    assert sorted(file.name for file in raw.iterdir()) == names, "nothing is written beside them"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-9], "is there, but damaged: Compressed file ended before"),
        (lambda data: data[:-8] + bytes(4) + data[-4:], "is there, but damaged: CRC check failed"),
        (lambda data: b"not gzip", "is there, but damaged: Not a gzipped file"),
    ],
)
def test_what_is_wrong_with_an_archive_is_said(tmp_path, change, message):
    _pack(_write_mnist(tmp_path), change)
    with pytest.raises(DataError, match=f"(?s)train-images-idx3-ubyte, .* not found .*train-images-idx3-ubyte.gz {message}"):
        load_data("mnist", data_root=tmp_path)


def test_an_archive_of_something_else_is_named(tmp_path):
    raw = _write_mnist(tmp_path)
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"no images")
    _pack(raw)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz is damaged or cannot be read; remove it"):
        load_data("mnist", data_root=tmp_path)


# cifar10 and cifar100


class _Warning:
    """Warns when it is unpickled, as NumPy does about old files."""

    def __reduce__(self):
        return warnings.warn, ("pickled long ago",)


def _write_cifar(root, monkeypatch, name):
    """20 training and 10 test images of 3×32×32, image i filled with the value i and marked in one corner."""
    dataset = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[name]
    folder = root / dataset.base_folder
    folder.mkdir(parents=True)

    def write(file, content):
        data = pickle.dumps(content)
        (folder / file).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    def images(start, count):
        pixels = np.broadcast_to(
            np.arange(start, start + count, dtype=np.uint8)[:, None, None, None], (count, 3, 32, 32)
        ).copy()
        pixels[:, 2, 0, 31] = 255
        labels = {"cifar10": "labels", "cifar100": "fine_labels"}[name]
        return {"data": pixels.reshape(count, -1), labels: [i % 10 for i in range(count)], "old": _Warning()}

    train = [["one", write("one", images(0, 10))], ["two", write("two", images(10, 10))]]
    monkeypatch.setattr(dataset, "train_list", train)
    monkeypatch.setattr(dataset, "test_list", [["test", write("test", images(20, 10))]])
    classes = {dataset.meta["key"]: [f"class {i}" for i in range(10)]}
    monkeypatch.setattr(dataset, "meta", dataset.meta | {"md5": write(dataset.meta["filename"], classes)})
    return folder


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_files_in_cifar_format(tmp_path, monkeypatch, requests, name):
    _write_cifar(tmp_path, monkeypatch, name)
    data = load_data(DataConfig(name, validation=5, prior=5), data_root=tmp_path)
    assert _sizes(data) == [10, 5, 5, 10]
    assert data.image_shape == (3, 32, 32)
    assert data.classes[9] == "class 9"
    assert torch.equal(data.train.images[:, 0, 0, 0].long(), data.train.ids)
    assert torch.equal(data.test.images[:, 2, 31, 0].long(), data.test.ids)
    assert (data.train.images[:, 2, 0, 31] == 255).all()
    assert torch.equal(data.train.labels, data.train.ids % 10)
    assert requests == []


@pytest.mark.parametrize("file", ["two", "test", "batches.meta"])
def test_a_damaged_cifar_file_is_named_and_not_unpickled(tmp_path, monkeypatch, file):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("unpickled a file with a wrong checksum",)

    folder = _write_cifar(tmp_path, monkeypatch, "cifar10")
    (folder / file).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match=f"{file} is damaged or cannot be read; remove it"):
        load_data("cifar10", data_root=tmp_path)


def test_missing_cifar_files(tmp_path):
    with pytest.raises(
        DataError, match=r"cifar100: train, test, meta not found in .*cifar-100-python \(the download failed"
    ):
        load_data("cifar100", data_root=tmp_path)


def _pack_cifar(root, folder, change=lambda name, data: data):
    """The files as an archive that somebody has packed anew."""
    archive = root / torchvision.datasets.CIFAR10.filename
    with tarfile.open(archive, "w:gz") as packed:
        for file in folder.iterdir():
            data = change(file.name, file.read_bytes())
            if data is not None:
                member = tarfile.TarInfo(f"{folder.name}/{file.name}")
                member.size = len(data)
                packed.addfile(member, io.BytesIO(data))
            file.unlink()
    return archive


def test_an_archive_that_was_packed_anew_is_unpacked(tmp_path, monkeypatch, requests):
    folder = _write_cifar(tmp_path, monkeypatch, "cifar10")
    plain = load_data(DataConfig("cifar10", validation=5, prior=5), data_root=tmp_path)
    _pack_cifar(tmp_path, folder)
    assert not list(folder.iterdir())
    assert load_data(DataConfig("cifar10", validation=5, prior=5), data_root=tmp_path).digest == plain.digest
    assert requests == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name, data: data + b"x" * (name == "two"), "its cifar-10-batches-py/two is not the published one"),
        (lambda name, data: None if name == "test" else data, "holds no cifar-10-batches-py/test"),
        (None, "cannot be unpacked: "),
    ],
)
def test_what_is_wrong_with_the_archive_of_cifar_is_said(tmp_path, monkeypatch, change, message):
    folder = _write_cifar(tmp_path, monkeypatch, "cifar10")
    archive = _pack_cifar(tmp_path, folder, *[change] * (change is not None))
    if change is None:
        archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(DataError, match=rf"not found in .*cifar-10-python\.tar\.gz is there, but {message}"):
        load_data("cifar10", data_root=tmp_path)


# names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits", r"unknown data set 'mnits'; did you mean 'mnist'\?"),
        ("CIFAR10", r"unknown data set 'CIFAR10'; did you mean 'cifar10'\?"),
        ("mine.npz", r"unknown data set 'mine.npz'; did you mean 'npz:mine.npz'\?"),
        ("folder:", r"unknown data set 'folder:'; did you mean 'folder:PATH'\?"),
        ("imagenet", "unknown data set 'imagenet'; known: .*cifar100, digits, .*hf:NAME, mnist, npz:PATH"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(DataError, match=message):
        load_data(name)


# the user's own code

OWN = """
import torch

from decouple import DataConfig, ImageData

calls = []


def stripes(config: DataConfig) -> ImageData:
    calls.append(config)
    images = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(40) % 2
    return ImageData.from_tensors(
        images[:30], labels[:30], test_images=images[30:], test_labels=labels[30:], validation=config.validation, prior=6
    )


def wrong(config):
    return [1]


def broken(config):
    raise KeyError("column")
"""


def test_a_function_of_the_users_own_gives_the_data(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    name = f"{tmp_path / 'mine.py'}:stripes"
    found = load_data(DataConfig(name, validation=4, prior=6))
    assert found.name == name
    assert _sizes(found) == [20, 4, 6, 10]
    with pytest.raises(DataError, match=r"data.prior = 5, but .*stripes returns 6 images there"):
        load_data(DataConfig(name, validation=4, prior=5))
    for function, message in (
        ("wrong", "must return an ImageData, not list"),
        ("broken", "the function fails \\(KeyError: 'column', mine.py:23\\)"),
    ):
        with pytest.raises(DataError, match=message):
            load_data(DataConfig(f"{tmp_path / 'mine.py'}:{function}"))
    with pytest.raises(ConfigError, match=r"data.name = .*:none: .* defines no 'none'"):
        load_data(DataConfig(f"{tmp_path / 'mine.py'}:none"))
