import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from decouple.config import DataConfig
from decouple.data import folders, load_data
from decouple.data.folders import read_folder
from decouple.errors import DataError


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """Where decoded arrays are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "decouple" / "folders"


def _write(path, value=0, *, size=(4, 3), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


@pytest.fixture
def folder(tmp_path):
    """train: 4 bees filled with 10..13, 3 cats with 20..22; test: 2 bees with 30 and 31, 1 cat with 40; RGB, 4×3."""
    root = tmp_path / "images"
    for part, name, start, count in (
        ("train", "cat", 20, 3),
        ("train", "bee", 10, 4),
        ("test", "bee", 30, 2),
        ("test", "cat", 40, 1),
    ):
        for index in range(count):
            _write(root / part / name / f"{index}.png", (start + index,) * 3)
    return root


def test_reads_sorted_classes_and_files(folder):
    _write(folder / "train" / "bee" / "deep" / "x.PNG", (14, 14, 14))
    (folder / "train" / "bee" / "notes.txt").write_text("not an image")
    source = read_folder(folder)
    assert source.classes == ("bee", "cat")
    assert source.images.shape == (8, 3, 3, 4)
    assert source.images.dtype == torch.uint8
    assert source.images[:, 0, 0, 0].tolist() == [10, 11, 12, 13, 14, 20, 21, 22]
    assert source.labels.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert source.test_images[:, 2, 2, 3].tolist() == [30, 31, 40]
    assert source.test_labels.tolist() == [0, 0, 1]


def test_channels_rows_and_columns_stay_in_place(folder):
    pixels = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    Image.fromarray(pixels).save(folder / "train" / "bee" / "0.png")
    assert torch.equal(read_folder(folder).images[0], torch.from_numpy(pixels).permute(2, 0, 1))


def test_grey_images_keep_one_channel(tmp_path):
    for part in ("train", "test"):
        for name in ("a", "b"):
            _write(tmp_path / part / name / "0.png", 7, mode="L")
    assert read_folder(tmp_path).images.shape == (2, 1, 3, 4)


def test_grey_among_colour_becomes_rgb(folder):
    _write(folder / "test" / "cat" / "0.png", 99, mode="L")
    _write(folder / "test" / "cat" / "1.png", (98, 98, 98, 255), mode="RGBA")
    source = read_folder(folder)
    assert source.images.shape[1] == 3
    assert source.test_images[-2:, :, 0, 0].tolist() == [[99] * 3, [98] * 3]


def test_the_training_class_order_counts_where_test_lacks_a_class(folder):
    shutil.rmtree(folder / "test" / "bee")
    assert read_folder(folder).test_labels.tolist() == [1]


def test_load_data_resolves_a_relative_folder(folder, monkeypatch):
    config = DataConfig("folder:images", validation=2, prior=2)
    data = load_data(config, data_root=folder.parent)
    assert (data.name, data.classes, len(data.train), len(data.test)) == ("folder:images", ("bee", "cat"), 3, 3)
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("DECOUPLE_DATA", "/nowhere")  # the default root is for torchvision's files
    assert load_data(config).digest == data.digest
    assert load_data(DataConfig(f"folder:{folder}", validation=2, prior=2), data_root="/nowhere").digest == data.digest


# What is kept


@pytest.fixture
def decodes(monkeypatch):
    """The calls of `_decode`, counted in a list."""
    calls = []
    decode = folders._decode
    monkeypatch.setattr(folders, "_decode", lambda files: calls.append(len(files)) or decode(files))
    return calls


def test_decodes_once(folder, kept, decodes):
    first, second = read_folder(folder), read_folder(folder)
    assert decodes == [10]
    assert len(list(kept.iterdir())) == 1
    assert all(torch.equal(one, other) for one, other in zip(first[:4], second[:4], strict=True))


def test_decodes_again_when_a_file_changes(folder, decodes):
    read_folder(folder)
    changed = folder / "train" / "bee" / "0.png"
    status = changed.stat()
    _write(changed, (77, 77, 77))
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert read_folder(folder).images[0, 0, 0, 0] == 77
    (folder / "train" / "bee" / "3.png").unlink()
    assert len(read_folder(folder).images) == 6
    assert decodes == [10, 10, 9]


def test_damaged_arrays_are_written_anew(folder, kept, decodes):
    expected = read_folder(folder).images
    (path,) = kept.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert torch.equal(read_folder(folder).images, expected)
    assert path.read_bytes() == whole
    assert decodes == [10, 10]


def test_nowhere_to_keep_arrays_is_no_error(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(read_folder(folder).images) == 7


# What is refused


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_missing_part(folder, part):
    shutil.rmtree(folder / part)
    with pytest.raises(
        DataError, match=rf"images/{part} cannot be read \(No such file.*needs train/<class>/ and test/<class>/"
    ):
        read_folder(folder)


@pytest.mark.parametrize("part", ["train", "test"])
def test_no_classes(folder, part):
    shutil.rmtree(folder / part)
    (folder / part).mkdir()
    with pytest.raises(DataError, match=rf"images/{part} has no class folders; put"):
        read_folder(folder)


@pytest.mark.parametrize("part", ["train", "test"])
def test_an_empty_class(folder, part):
    shutil.rmtree(folder / part / "cat")
    (folder / part / "cat").mkdir()
    with pytest.raises(DataError, match=rf"images/{part}/cat holds no images \(.jpg, .*add some or remove the folder"):
        read_folder(folder)


def test_an_unknown_test_class(folder):
    _write(folder / "test" / "cats" / "0.png", (0, 0, 0))
    with pytest.raises(DataError, match=r"test/cats is a class that .*images/train does not have; did you mean 'cat'\?"):
        read_folder(folder)


def test_one_class(tmp_path):
    for part in ("train", "test"):
        for index in range(3):
            _write(tmp_path / part / "a" / f"{index}.png", (0, 0, 0))
    with pytest.raises(DataError, match=r"folder:.* has 1 class, and telling classes apart takes 2"):
        load_data(DataConfig(f"folder:{tmp_path}", validation=1, prior=1))


def test_images_of_mixed_sizes(folder):
    _write(folder / "test" / "cat" / "0.png", (0, 0, 0), size=(5, 3))
    with pytest.raises(DataError, match=r"train/bee/0.png is 4×3, .*test/cat/0.png is 5×3 \(width×height\); resize"):
        read_folder(folder)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
@pytest.mark.parametrize("share", [0, 0.1, 0.6])
def test_a_truncated_image(folder, suffix, share):
    path = folder / "train" / "cat" / f"broken.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(
        DataError, match=rf"train/cat/broken.{suffix} cannot be decoded as an image \(.*\); replace or remove"
    ):
        read_folder(folder)


def test_a_broken_link(folder):
    (folder / "train" / "cat" / "link.png").symlink_to("nothing.png")
    with pytest.raises(DataError, match=r"train/cat/link.png cannot be read \(No such file"):
        read_folder(folder)


def test_sixteen_bit_grey_is_refused(folder):
    Image.fromarray(np.full((3, 4), 1000, np.uint16)).save(folder / "train" / "bee" / "0.png")
    with pytest.raises(DataError, match=r"train/bee/0.png has more than 8 bits a channel \(mode I(;16)?\); convert"):
        read_folder(folder)
