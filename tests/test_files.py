"""Files are whole or absent; damage is noticed and named; loading runs no code."""

import contextlib
import errno
import os
import pickle
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch

from decouple import files
from decouple.errors import DamagedFileError, RunDirectoryError


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "unit.safetensors"
    tensors = {"a": torch.arange(600).reshape(20, 30).half(), "ids": torch.arange(7), "empty": torch.zeros(0, 3)}
    files.save_tensors(path, tensors, {"best": 3, "name": "é\n"}, unit="stage/0")
    return path


def test_tensors_and_metadata_come_back(saved: Path) -> None:
    tensors, meta = files.load_tensors(saved, unit="stage/0")
    assert torch.equal(tensors["a"], torch.arange(600).reshape(20, 30).half())
    assert tensors["a"].dtype == torch.float16
    assert tensors["empty"].shape == (0, 3)
    assert meta == {"best": 3, "name": "é\n"}


def test_equal_contents_are_equal_bytes(saved: Path, tmp_path: Path) -> None:
    tensors, meta = files.load_tensors(saved, unit="stage/0")
    files.save_tensors(tmp_path / "again", dict(reversed(list(tensors.items()))), meta, unit="stage/0")
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


def test_channels_last_tensors_keep_their_values(tmp_path: Path) -> None:
    value = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5).to(memory_format=torch.channels_last)
    files.save_tensors(tmp_path / "x", {"v": value}, {}, unit="u")
    assert torch.equal(files.load_tensors(tmp_path / "x", unit="u")[0]["v"], value)


def test_shared_memory_is_kept_once_and_comes_back_shared(tmp_path: Path) -> None:
    flat, apart = torch.arange(1000.0), torch.arange(1000.0)
    tensors = {
        "tied": flat[:600].view(20, 30),
        "again": flat[:600].view(20, 30),
        "turned": flat[:600].view(20, 30).T,
        "part": flat[590:1000],
        "apart": apart,
        "columns": apart.view(10, 100)[:, ::2],
    }
    files.save_tensors(tmp_path / "x", tensors, {"a": 1}, unit="u")
    assert (tmp_path / "x").stat().st_size < 4 * (1000 + 1000 + 500) + 2000
    found, meta = files.load_tensors(tmp_path / "x", unit="u")
    assert meta == {"a": 1}
    assert set(found) == set(tensors)
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
    assert files.sharing(found) == [["again", "tied", "turned", "part"]]
    files.save_tensors(tmp_path / "y", found, meta, unit="u")
    assert (tmp_path / "y").read_bytes() == (tmp_path / "x").read_bytes()
    data = bytearray((tmp_path / "x").read_bytes())
    place = data.index(b"aliases") + 20
    data[place] ^= 1
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(DamagedFileError, match="x"):
        files.load_tensors(tmp_path / "x", unit="u")


def test_without_shared_memory_the_bytes_are_those_of_before() -> None:
    golden = Path(__file__).parent / "golden" / "unit.safetensors"
    tensors, meta = files.load_tensors(golden, unit="learn/golden")
    assert files.pack_tensors(tensors, meta, unit="learn/golden") == golden.read_bytes()
    both = torch.arange(12.0)
    halves = files.pack_tensors({"a": both[:6], "b": both[6:]}, {}, unit="u")
    assert halves == files.pack_tensors({"a": both[:6].clone(), "b": both[6:].clone()}, {}, unit="u")
    conjugate = torch.tensor([1 + 2j])
    assert files.sharing({"a": conjugate, "b": conjugate.conj()}) == [], "one memory, other values"


@pytest.mark.parametrize("size", [0, 1, 7, 8, 0.5, -1])
def test_truncation_is_named(saved: Path, size: float) -> None:
    data = saved.read_bytes()
    keep = int(len(data) * size) if 0 < size < 1 else (len(data) + size if size < 0 else size)
    saved.write_bytes(data[: int(keep)])
    with pytest.raises(DamagedFileError, match=re.escape(str(saved))):
        files.load_tensors(saved, unit="stage/0")


def test_every_flipped_bit_is_noticed(saved: Path) -> None:
    """Wherever it lies: length, header, values. Only the padding after the header's JSON may differ unnoticed."""
    data = bytearray(saved.read_bytes())
    header_length = int.from_bytes(data[:8], "little")
    padding = range(8 + len(bytes(data[8 : 8 + header_length]).rstrip()), 8 + header_length)
    for position in range(0, len(data), 3):
        if position in padding:
            continue
        data[position] ^= 1 << (position % 8)
        saved.write_bytes(data)
        with pytest.raises(DamagedFileError, match=re.escape(str(saved))):
            files.load_tensors(saved, unit="stage/0")
        data[position] ^= 1 << (position % 8)


def test_swapped_files_are_noticed(tmp_path: Path) -> None:
    for number in range(2):
        files.save_tensors(tmp_path / f"{number}", {"a": torch.ones(3) * number}, {}, unit=f"batch-{number}")
    os.replace(tmp_path / "0", tmp_path / "swap")
    os.replace(tmp_path / "1", tmp_path / "0")
    with pytest.raises(DamagedFileError, match=r"holds unit 'batch-1', expected 'batch-0'"):
        files.load_tensors(tmp_path / "0", unit="batch-0")


def test_another_format_version_is_refused_by_name(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FORMAT", files.FORMAT + 1)
    with pytest.raises(DamagedFileError, match=r"has format version '1', this release reads 2"):
        files.load_tensors(saved, unit="stage/0")


@pytest.mark.parametrize("kind", ["missing", "directory", "empty"])
def test_what_is_no_file_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "unit.safetensors"
    if kind == "directory":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    with pytest.raises(DamagedFileError, match=r"unit\.safetensors"):
        files.load_tensors(path, unit="u")
    with pytest.raises(DamagedFileError, match=r"unit\.safetensors"):
        files.load_record(path, unit="u")


class _Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.marker,))


def test_a_pickle_under_our_name_is_not_executed(tmp_path: Path) -> None:
    marker, path = tmp_path / "executed", tmp_path / "unit.safetensors"
    path.write_bytes(pickle.dumps(_Malicious(marker)))
    with pytest.raises(DamagedFileError, match="not a safetensors file"):
        files.load_tensors(path, unit="u")
    torch.save({"a": torch.ones(2)}, path)
    with pytest.raises(DamagedFileError, match="not a safetensors file"):
        files.load_tensors(path, unit="u")
    assert not marker.exists()


def test_the_package_never_unpickles() -> None:
    sources = Path(files.__file__).parent.rglob("*.py")
    used = [
        path.name
        for path in sources
        if re.search(r"pickle\.load|(?<!safetensors\.)torch\.load\(|allow_pickle=True", path.read_text())
    ]
    assert used == []


def test_a_failing_replace_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    files.write_bytes(path, b"old")

    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(RunDirectoryError, match=r"cannot write .*file: Permission denied"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some space and resume"),
        (errno.EDQUOT, "free some space and resume"),
        (errno.EACCES, "change its permissions, or choose another place"),
        (errno.EROFS, "change its permissions, or choose another place"),
        (errno.EIO, "choose another place"),
    ],
)
def test_the_advice_fits_what_the_system_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", fail)
    expected = f"{tmp_path / 'file'}: {os.strerror(number)} ({advice}); earlier files are intact"
    with pytest.raises(RunDirectoryError, match=re.escape(expected)):
        files.write_bytes(tmp_path / "file", b"new")


def test_what_stands_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for path, expected in (
        (tmp_path / "folder", r"Is a directory \(a folder has that name: choose another\)"),
        (tmp_path / "file" / "x", r"(File exists|Not a directory) \(a part of the path is a file: choose another place\)"),
        (tmp_path / "file" / "x" / "y", r"Not a directory \(a part of the path is a file: choose another place\)"),
        (tmp_path / ("x" * 300), r"File name too long \(choose a shorter name\)"),
        (tmp_path / ("x" * 300) / "y", r"File name too long \(choose a shorter name\)"),
    ):
        with pytest.raises(RunDirectoryError, match=rf"cannot write {re.escape(str(path))}: {expected}"):
            files.write_bytes(path, b"new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


@pytest.mark.parametrize("refused", ["open", "fsync"])
def test_a_file_system_that_does_not_flush_folders_is_tolerated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """CIFS and FUSE may refuse it."""
    real_open, real_fsync = os.open, os.fsync

    def open_(path: object, flags: int, *rest: object, **more: object) -> int:
        if refused == "open" and os.path.isdir(path):  # type: ignore[arg-type]
            raise PermissionError(errno.EACCES, "Permission denied")
        return real_open(path, flags, *rest, **more)  # type: ignore[arg-type]

    def fsync(descriptor: int) -> None:
        if refused == "fsync" and os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        real_fsync(descriptor)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "chmod", lambda *_: pytest.fail("the permissions were changed"))
    files.write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_a_name_that_cannot_be_read_again_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"its name is not UTF-8 \(choose another place\)"):
        files.write_bytes(tmp_path / "a\udcff" / "file", b"x")
    assert not list(tmp_path.iterdir())
    files.write_bytes(tmp_path / "ü $x\n😀" / "file", b"x")
    assert (tmp_path / "ü $x\n😀" / "file").read_bytes() == b"x"


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o077, 0o600, 0o700), (0o002, 0o664, 0o775), (0o022, 0o644, 0o755)])
def test_the_umask_decides_the_permissions(tmp_path: Path, mask: int, file: int, folder: int) -> None:
    with _umask(mask):
        files.write_bytes(tmp_path / "new" / "file", b"x")
    assert (tmp_path / "new").stat().st_mode & 0o777 == folder
    assert (tmp_path / "new" / "file").stat().st_mode & 0o777 == file


def test_a_foreign_file_is_called_foreign(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(DamagedFileError, match=r"other.safetensors is a safetensors file that decouple has not written"):
        files.load_tensors(tmp_path / "other.safetensors", unit="u")
    for name, text in (("list", "[1]"), ("table", '{"format": 1}')):
        (tmp_path / name).write_text(text)
        with pytest.raises(DamagedFileError, match=rf"{name} is a JSON file that is no record of decouple's"):
            files.load_record(tmp_path / name, unit="u")


def test_the_cache_needs_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def homeless() -> None:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", homeless)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_folder() == tmp_path
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert files.cache_folder() is None


def test_a_value_that_json_does_not_hold_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"a": float("nan")})
    assert files.read_json(path) == {"a": 1}


def test_partial_files_of_a_kill_are_removed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / f"{files.TEMPORARY}x1").write_bytes(b"half")
    files.write_bytes(tmp_path / "deep" / "kept", b"1")
    assert files.remove_partial(tmp_path) == 1
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["kept"]


def test_records_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    files.save_record(path, {"accuracy": 0.25}, unit="u")
    assert files.load_record(path, unit="u") == {"accuracy": 0.25}
    with pytest.raises(DamagedFileError, match="expected 'v'"):
        files.load_record(path, unit="v")
    path.write_text(path.read_text().replace("0.25", "0.26"))
    with pytest.raises(DamagedFileError, match="checksum"):
        files.load_record(path, unit="u")


def test_files_of_format_1_are_read() -> None:
    """Written by 0.1.0; a release that changes the format must raise FORMAT, or read these."""
    golden = Path(__file__).parent / "golden"
    tensors, meta = files.load_tensors(golden / "unit.safetensors", unit="learn/golden")
    assert tensors["half"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert tensors["ids"].tolist() == [5, 7]
    assert meta == {"losses": [0.5, 0.25]}
    assert files.load_record(golden / "record.json", unit="learn/golden") == {"accuracy": 0.25}


def test_writing_holds_a_tensor_twice_and_no_third_time(tmp_path: Path) -> None:
    tensor = torch.zeros(2**21)
    files.save_tensors(tmp_path / "first", {"a": tensor}, {}, unit="u")
    tracemalloc.start()  # which does not see the tensor itself
    try:
        files.save_tensors(tmp_path / "second", {"a": tensor}, {}, unit="u")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * tensor.nbytes
    assert (tmp_path / "second").read_bytes() == files.pack_tensors({"a": tensor}, {}, unit="u")
