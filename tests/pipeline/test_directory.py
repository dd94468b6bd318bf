"""What a run directory holds when nothing was done in it, and what it says when it cannot be had."""

import dataclasses
import errno
import os
from pathlib import Path

import pytest

from decouple import files
from decouple.config import RunConfig
from decouple.errors import ConfigError, DataError, RunDirectoryError
from decouple.files import write_json
from decouple.pipeline import RunDirectory, run
from decouple.pipeline.directory import SharedDirectory
from decouple.settings import from_builtins


def _refused(number: int):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize(
    ("values", "options", "error"),
    [
        ({"data": {"name": "folder:/nowhere"}}, {}, DataError),
        ({"data": {"train": 99999}}, {}, DataError),
        ({"compare": {"images": 2}}, {}, ConfigError),
        ({}, {"device": "cuda:77"}, ConfigError),
        ({}, {"workers": 0}, ConfigError),
    ],
)
def test_a_refused_run_leaves_nothing(
    tiny: RunConfig, tmp_path: Path, values: dict[str, object], options: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"."):
        run(from_builtins(values, tiny), tmp_path / "runs" / "one", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_before_a_refusal_stays(tiny: RunConfig, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    (folder / ".partial-x").write_text("what a kill has left")
    with pytest.raises(ConfigError, match="cuda:77"):
        run(tiny, folder, device="cuda:77")
    assert [path.name for path in folder.iterdir()] == ["run.json"]


@pytest.mark.parametrize("work", ["unit", "log"])
def test_an_error_after_work_was_done_leaves_it(tiny: RunConfig, tmp_path: Path, work: str) -> None:
    directory = RunDirectory.create(tmp_path / "run", tiny, resume=False)
    if work == "unit":
        files.write_bytes(directory.path / "search" / "unit", b"work")
    else:
        directory.log("q0", loss=1.0)  # it may show why
    directory.__exit__(ValueError, ValueError(), None)
    kept = {path.name for path in (tmp_path / "run").iterdir()} - {".lock"}
    assert kept == {"config.json", "search" if work == "unit" else "metrics.jsonl"}


def test_an_error_in_a_finished_run_touches_nothing(tiny: RunConfig, finished: Path) -> None:
    def contents() -> dict[Path, bytes]:
        found = (path for path in sorted(finished.rglob("*")) if path.is_file() and path.name != ".lock")
        return {path: path.read_bytes() for path in found if path.name != "run.json"}

    before = contents()
    with pytest.raises(ConfigError, match="cuda:77"):
        run(tiny, finished, resume=True, device="cuda:77")
    assert contents() == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a" * 300, "File name too long"),
        (f"new/{'a' * 300}", "File name too long"),
        ("file/run", "Not a directory"),
        ("new/a\udcff", "its name is not UTF-8"),
    ],
)
def test_a_place_that_no_run_can_have(tiny: RunConfig, tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match=rf"cannot be written \({reason}\); choose another (--)?out$"):
        RunDirectory.create(tmp_path / name, tiny, resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_name_that_is_too_long_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"cannot be read \(File name too long\)"):
        RunDirectory.open(tmp_path / ("a" * 300))


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EROFS, "choose another (--)?out"),
        (errno.EACCES, "choose another (--)?out"),
        (errno.ENOSPC, "free some space or choose another (--)?out"),
    ],
)
def test_the_remedy_of_a_new_run_is_another_place(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    monkeypatch.setattr("decouple.pipeline.directory.write_bytes", _refused(number))
    with pytest.raises(RunDirectoryError, match=rf"run cannot be written \({os.strerror(number)}\); {remedy}$"):
        RunDirectory.create(tmp_path / "run", tiny, resume=False)
    assert list(tmp_path.iterdir()) == []


def test_the_remedy_of_a_run_that_is_read_is_a_copy(
    tiny: RunConfig, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("decouple.files.os.fsync", _refused(errno.EROFS))
        with pytest.raises(
            RunDirectoryError, match=r"run cannot be written \(Read-only file system\); work on a copy of it$"
        ):
            RunDirectory.open(finished)
    with RunDirectory.open(finished), pytest.raises(RunDirectoryError, match=r"wait for it to end or work on a copy of it$"):
        RunDirectory.open(finished)


def test_a_line_of_the_log_that_cannot_be_written_is_an_error(tiny: RunConfig, tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run", tiny, resume=False) as directory:
        (tmp_path / "run" / "metrics.jsonl").mkdir()
        with pytest.raises(
            RunDirectoryError, match=r"cannot write .*metrics.jsonl: Is a directory \(a folder has that name"
        ):
            directory.log("learn", step=1)


def test_the_umask_holds_for_all_of_a_run(tiny: RunConfig, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with RunDirectory.create(tmp_path / "run", tiny, resume=False) as directory:
            directory.log("learn", step=1)
            files.write_json(directory.path / "search" / "unit.json", {})
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [tmp_path / "run", *(tmp_path / "run").rglob("*")]}
    assert modes.pop("run") == modes.pop("search") == 0o700
    assert set(modes) >= {"config.json", "metrics.jsonl", "unit.json"}
    assert set(modes.values()) == {0o600}


def test_a_relative_place_is_cleaned_up_too(tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = dataclasses.replace(tiny, data=dataclasses.replace(tiny.data, name="folder:nowhere"))
    with pytest.raises(DataError, match="nowhere"):
        run(wrong, "runs/one")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("told", "writer"),
    [({"format": 1, "versions": {"decouple": "0.1.0"}}, r"0\.1\.0"), ({"format": 99, "versions": 3}, r"\(unknown\)")],
)
def test_a_directory_of_another_format_is_refused_in_one_line(
    tiny: RunConfig, tmp_path: Path, told: dict[str, object], writer: str
) -> None:
    (tmp_path / "learn").mkdir()
    write_json(tmp_path / "config.json", {"setting": "of long ago"})
    write_json(tmp_path / "run.json", told)
    for use in (
        lambda: RunDirectory.open(tmp_path),
        lambda: RunDirectory.create(tmp_path, tiny, resume=True),
        lambda: SharedDirectory(tmp_path).read_config(),
    ):
        with pytest.raises(RunDirectoryError, match=rf"format {told['format']}, written by decouple {writer}; ") as error:
            use()
        assert "\n" not in str(error.value)
