import itertools
import os
import random
import re
import shutil
from collections import Counter

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


# Each real folder and image is read once, and nothing hidden


def _tree(root, seed):
    """A random tree of images with what is found beside them on real disks.

    Returns where each image may be found, by the number that its two pixels hold, and how many names of each kind are to be
    left out.
    """
    draw, numbers = random.Random(seed), itertools.count(256)
    places, left_out, images, homes = {}, Counter(), [], {}

    def image(folder, name="", home=None):
        number = next(numbers)
        path = folder / (name or f"{number}{draw.choice(['.png', '.PNG', '.jfif', '.gif', '.webp'])}")
        path.write_bytes(b"P5 2 1 255 " + bytes(divmod(number, 256)))  # PGM, whatever its name
        if home:
            places[number] = home
        return path

    def clutter(folder):
        if draw.random() < 0.3:
            hidden = folder / draw.choice([".ipynb_checkpoints", "__MACOSX", "@eaDir", "lost+found"])
            hidden.mkdir()
            image(hidden)
            left_out["hidden"] += 1
        for kind, name in (("hidden", "._x.png"), (".heic", "x.HEIC"), ("without an extension", "x")):
            if draw.random() < 0.2:
                image(folder, name)
                left_out[kind] += 1

    def fill(folder, home, depth):
        folder.mkdir(parents=True)
        homes[folder] = home
        images.extend(image(folder, home=home) for _ in range(draw.randint(1, 3)))
        clutter(folder)
        for name in draw.sample("abc", draw.randint(0, 2) if depth else 0):
            fill(folder / name, home, depth - 1)

    for part, name in itertools.product(("train", "test"), ("cat", "dog")):
        fill(root / part / name, {(part, name)}, depth=2)
    for part in ("train", "test"):
        clutter(root / part)
        image(root / part, "loose.png")
        left_out["outside the class folders"] += 1
    inside = list(homes)
    around = [root, root / "train", root / "test", root.parent]
    for number in range(draw.randint(0, 6)):
        target = draw.choice([draw.choice(images), draw.choice(inside), draw.choice(around)])
        (draw.choice(inside) / f"link-{number}{target.suffix}").symlink_to(target)
        left_out["linked"] += 1
    if links := draw.sample(inside, draw.randint(0, 3)):
        fill(root.parent / "far", set.union(*(homes[folder] for folder in links)), depth=0)
        for folder in links:
            (folder / "far").symlink_to(root.parent / "far")
        left_out["linked"] += len(links) - 1
    return places, left_out


@pytest.mark.parametrize("seed", range(25))
def test_every_image_of_a_tree_is_read_once_from_where_it_lies(tmp_path, caplog, seed):
    places, left_out = _tree(tmp_path / "on" / "root", seed)
    source = read_folder(tmp_path / "on" / "root")
    found = []
    for part, images, labels in (
        ("train", source.images, source.labels),
        ("test", source.test_images, source.test_labels),
    ):
        numbers = (images.long().flatten(1) * torch.tensor([256, 1])).sum(1).tolist()
        found += [(number, (part, source.classes[label])) for number, label in zip(numbers, labels.tolist(), strict=True)]
    assert sorted(number for number, _ in found) == sorted(places), "each once, and no other"
    assert all(place in places[number] for number, place in found)
    assert source.classes == ("cat", "dog")
    said = Counter()
    for count, kind in re.findall(r"(\d+) ([^(]+) \(", " ".join(caplog.messages)):
        said["linked" if kind.startswith("linked") else kind] += int(count)
    assert said == +left_out


def test_links_are_read_where_they_lead_out_of_the_tree(folder, tmp_path, caplog):
    for index in range(2):
        _write(tmp_path / "far" / f"{index}.png", (50 + index,) * 3)
    _write(tmp_path / "file.png", (60, 60, 60))
    (folder / "train" / "ant").symlink_to(tmp_path / "far")
    (folder / "train" / "bee" / "other.png").symlink_to(tmp_path / "file.png")
    source = read_folder(folder)
    assert source.classes == ("ant", "bee", "cat")
    assert source.images[:, 0, 0, 0].tolist() == [50, 51, 10, 11, 12, 13, 60, 20, 21, 22]
    assert not caplog.messages


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_the_same_image_in_train_and_test_is_read_once(folder, caplog, link):
    link(folder / "train" / "cat" / "0.png", folder / "test" / "cat" / "leak.png")
    link(folder / "train" / "cat" / "1.png", folder / "train" / "cat" / "twice.png")
    source = read_folder(folder)
    assert source.images[:, 0, 0, 0].tolist() == [10, 11, 12, 13, 20, 21, 22]
    assert source.test_images[:, 0, 0, 0].tolist() == [30, 31, 40]
    assert caplog.messages == [
        f"{folder}: left out: 1 linked from both train and test (test/cat/leak.png), 1 linked twice (train/cat/twice.png)"
    ]


def test_a_second_name_of_a_class_is_no_class(folder, caplog):
    for part in ("train", "test"):
        (folder / part / "aaa").symlink_to(folder / "train" / "cat")
    assert read_folder(folder).classes == ("bee", "cat")
    assert caplog.messages == [
        f"{folder}: left out: 1 linked from both train and test (test/aaa), 1 linked twice (train/aaa)"
    ]


@pytest.mark.parametrize("target", ["train", "train/cat", "."])
def test_training_images_are_no_test_images(folder, target):
    shutil.rmtree(folder / "test")
    (folder / "test").symlink_to(folder / target)
    with pytest.raises(DataError, match=r"images/test leads to images that are read already"):
        read_folder(folder)


def test_a_pipe_is_not_waited_for(folder, caplog):
    os.mkfifo(folder / "train" / "cat" / "pipe.png")
    assert len(read_folder(folder).images) == 7
    assert caplog.messages == [f"{folder}: left out: 1 no plain file (train/cat/pipe.png)"]


# What an image shows


def _shown(folder, image, suffix="png", **how):
    """What is read of the image; the others of the folder have its size."""
    for path in sorted(folder.rglob("*.png")):
        Image.new("RGB", image.size, (0, 0, 0)).save(path)
    (folder / "train" / "bee" / "0.png").unlink()
    image.save(folder / "train" / "bee" / f"0.{suffix}", **how)
    return read_folder(folder).images[0].permute(1, 2, 0).numpy()


SHAPE = np.array([[0, 0, 255, 255], [0, 255, 255, 0], [0, 0, 0, 0]], np.uint8)
"""An icon's alpha."""


def _icon(colour, mode="RGBA"):
    flat = Image.new("RGB" if mode != "LA" else "L", (4, 3), colour)
    flat.putalpha(Image.fromarray(SHAPE))
    return flat


@pytest.mark.parametrize(
    ("colour", "ground"), [((0, 0, 0), 255), ((200, 0, 0), 255), ((255, 255, 0), 255), ((255,) * 3, 0), ((240, 250, 255), 0)]
)
def test_an_icon_drawn_in_alpha_keeps_its_shape(folder, caplog, colour, ground):
    shown = _shown(folder, _icon(colour))
    assert np.array_equal(shown, np.where(SHAPE[..., None] > 0, np.uint8(colour), np.uint8(ground)))
    assert caplog.messages == [
        f"{folder}: transparent images are laid over one colour: 1 over {'white' if ground else 'black'}"
    ]
    caplog.clear()
    read_folder(folder)
    assert len(caplog.messages) == 1, "also when it is kept"


def test_partial_transparency_is_mixed_with_white(folder):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4), np.uint8)
    alpha = pixels[..., 3:].astype(float) / 255
    expected = alpha * pixels[..., :3] + (1 - alpha) * 255
    assert np.abs(_shown(folder, Image.fromarray(pixels)) - expected).max() <= 1


@pytest.mark.parametrize(("transparency", "kind"), [(0, "png"), (bytes([0, 255, 255]), "png"), (0, "gif")])
def test_a_transparent_colour_of_a_palette_is_laid_over_white(folder, transparency, kind):
    image = Image.fromarray(np.uint8([[0, 1, 1, 0], [1, 2, 2, 1], [2, 2, 2, 2]])).convert("P")
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 0, 200])
    colours = np.uint8([[255] * 3, [200, 0, 0], [0, 0, 200]])
    shown = _shown(folder, image, kind, transparency=transparency)
    assert np.array_equal(shown, colours[[[0, 1, 1, 0], [1, 2, 2, 1], [2, 2, 2, 2]]])


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_colour_without_alpha_is_laid_over_white(folder, mode):
    values = np.uint8([[5, 50, 50, 5], [5, 90, 90, 5], [7, 7, 7, 7]])
    image = Image.fromarray(values).convert(mode)
    shown = _shown(folder, image, transparency=5 if mode == "L" else (5, 5, 5))
    assert np.array_equal(shown[..., 0], np.where(values == 5, 255, values))


def test_grey_images_with_alpha_stay_grey(tmp_path):
    for part, name in itertools.product(("train", "test"), ("a", "b")):
        (tmp_path / part / name).mkdir(parents=True)
        _icon(60, "LA").save(tmp_path / part / name / "0.png")
    assert np.array_equal(read_folder(tmp_path).images[0], np.where(SHAPE, 60, 255)[None])


def test_opaque_alpha_changes_nothing_and_is_not_mentioned(folder, caplog):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4), np.uint8)
    pixels[..., 3] = 255
    assert np.array_equal(_shown(folder, Image.fromarray(pixels)), pixels[..., :3])
    assert not caplog.messages


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "webp", "tif"])
def test_images_are_turned_upright(folder, kind, orientation):
    upright = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
    # How a camera held in each way stores the same picture (EXIF 2.32, Orientation).
    stored = [
        upright,
        upright[:, ::-1],
        upright[::-1, ::-1],
        upright[::-1],
        upright.transpose(1, 0, 2),
        np.rot90(upright),
        np.rot90(upright, 2).transpose(1, 0, 2),
        np.rot90(upright, -1),
    ][orientation - 1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    how = {"exif": exif, **({"lossless": True} if kind == "webp" else {})}
    for path in sorted(folder.rglob("*.png")):
        Image.new("RGB", (4, 3)).save(path)
    (folder / "train" / "bee" / "0.png").unlink()
    Image.fromarray(np.ascontiguousarray(stored)).save(folder / "train" / "bee" / f"0.{kind}", **how)
    assert np.array_equal(read_folder(folder).images[0].permute(1, 2, 0).numpy(), upright)


def test_broken_exif_is_no_reason_to_refuse_an_image(folder):
    _write(folder / "train" / "bee" / "0.png", (9, 9, 9))
    Image.open(folder / "train" / "bee" / "0.png").save(folder / "train" / "bee" / "0.png", exif=b"Exif\0\0nonsense")
    assert read_folder(folder).images[0, 0, 0, 0] == 9


def test_cmyk_and_bilevel_images_show_their_colours(folder):
    red = Image.new("CMYK", (4, 3), (0, 255, 255, 0))
    shown = _shown(folder, red, "jpg")
    assert (np.abs(shown.astype(int) - [255, 0, 0]) < 4).all()
    bits = np.array([[0, 1, 1, 0], [1, 0, 0, 1], [1, 1, 1, 1]], bool)
    (folder / "train" / "bee" / "0.jpg").unlink()
    Image.fromarray(bits).save(folder / "train" / "bee" / "0.pbm")
    assert np.array_equal(read_folder(folder).images[0, 0], bits * np.uint8(255))


@pytest.mark.parametrize("kind", ["jfif", "jpe", "gif", "tga", "dib", "pbm", "TIFF"])
def test_still_images_of_other_types_are_read(folder, kind):
    form = {"jfif": "JPEG", "jpe": "JPEG", "pbm": "PPM"}.get(kind)
    image = Image.new("1" if kind == "pbm" else "RGB", (4, 3), 1 if kind == "pbm" else (255, 255, 255))
    assert (_shown(folder, image, kind, **({"format": form} if form else {})) == 255).all()


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tif"])
def test_several_frames_are_refused(folder, kind):
    frames = [Image.new("RGB", (4, 3), (level,) * 3) for level in (0, 99, 200)]
    frames[0].save(folder / "train" / "bee" / f"moving.{kind}", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=rf"train/bee/moving.{kind} holds 3 images \(an animation, or pages\); keep the one"):
        read_folder(folder)


def test_previews_behind_a_photograph_are_no_frames(folder):
    photograph, preview = (Image.new("RGB", (4, 3), (level,) * 3) for level in (255, 0))
    shown = _shown(folder, photograph, "jpg", format="MPO", save_all=True, append_images=[preview])
    assert (shown == 255).all()


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


def test_without_a_home_nothing_is_kept(folder, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pathlib.Path.home", homeless)
    monkeypatch.chdir(folder.parent)
    assert len(read_folder(folder).images) == 7
    assert [path.name for path in folder.parent.iterdir()] == ["images"], "nor where the command runs"


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


@pytest.mark.parametrize("place", ["train/cat", "train/cat/deep"])
def test_a_folder_that_may_not_be_entered(folder, monkeypatch, place):
    def scan(path):
        if str(path) == str(folder / place):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    _write(folder / "train" / "cat" / "deep" / "x.png", (0, 0, 0))
    scandir = os.scandir
    monkeypatch.setattr("os.scandir", scan)
    with pytest.raises(DataError, match=rf"images/{place} cannot be read \(Permission denied\); replace or remove it"):
        read_folder(folder)


def test_a_name_that_is_too_long(folder):
    with pytest.raises(DataError, match=r"cannot be read \(File name too long\); a folder of images needs"):
        read_folder(folder / ("a" * 300))


@pytest.mark.parametrize("name", ["link.png", "dog", "notes"])
def test_a_link_that_leads_nowhere_is_not_passed_over(folder, name):
    (folder / "train" / name).symlink_to("nothing")
    with pytest.raises(DataError, match=rf"train/{name} cannot be read \(No such file"):
        read_folder(folder)


def test_an_empty_class_says_what_is_there_instead(folder):
    shutil.rmtree(folder / "train" / "cat")
    (folder / "train" / "cat").mkdir()
    (folder / "train" / "cat" / "0.heic").touch()
    with pytest.raises(DataError, match=r"train/cat holds no images .* \(left out: 1 .heic \(train/cat/0.heic\)\)"):
        read_folder(folder)


def test_a_broken_link(folder):
    (folder / "train" / "cat" / "link.png").symlink_to("nothing.png")
    with pytest.raises(DataError, match=r"train/cat/link.png cannot be read \(No such file"):
        read_folder(folder)


def test_sixteen_bit_grey_is_refused(folder):
    Image.fromarray(np.full((3, 4), 1000, np.uint16)).save(folder / "train" / "bee" / "0.png")
    with pytest.raises(DataError, match=r"train/bee/0.png has more than 8 bits a channel \(mode I(;16)?\); convert"):
        read_folder(folder)
