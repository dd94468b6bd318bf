"""A run directory: its configuration, its lock, its log and what is known about how it was made.

config.json      resolved settings; what decides the results
run.json         how they came about: versions, commit, device, seconds by stage
metrics.jsonl    a line for every epoch, batch or cycle as it happened (a unit that is redone logs again)
search/ learn/ compare/ q0/ tune/
                 <stage>/<fingerprint>/…: the units of each stage, by the settings that they depend on
results.json, curves.json, figures/, report.html
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import shlex
import shutil
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, overload

import filelock
import torch

from decouple import device as devices, settings
from decouple._version import commit, versions
from decouple.config import RunConfig, TextConfig
from decouple.errors import DamagedFileError, RunDirectoryError
from decouple.files import FULL, TEMPORARY, read_json, remove_partial, why_not_written, write_bytes, write_json
from decouple.loggers import LOGGED
from decouple.results import RUN_FORMAT, expect_format, read_run
from decouple.search import Execution
from decouple.training.processes import Group

Directory = TypeVar("Directory", bound="SharedDirectory")
Code = dict[str, dict[str, str | None]]
"""By setting, what names code that is not decouple's, and the digest of its file."""

_WORK = ("search", "learn", "compare", "q0", "tune", "results.json")
"""What shows that a run has begun."""
_SETTINGS = ("config.json", "run.json", "metrics.jsonl", ".lock", ".lock-owner", *LOGGED)
"""What a run leaves that ended before it had begun."""


class SharedDirectory:
    """A run directory that this process only reads; what it is told to write, the process that holds it writes."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def __enter__(self: Directory) -> Directory:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def is_text(self) -> bool:
        """Whether it holds a run on text."""
        try:
            return "corpus" in read_json(self.path / "config.json")
        except DamagedFileError:
            return False

    @overload
    def read_config(self, kind: type[RunConfig] = ...) -> RunConfig: ...

    @overload
    def read_config(self, kind: type[TextConfig]) -> TextConfig: ...

    def read_config(self, kind: type[RunConfig] | type[TextConfig] = RunConfig) -> RunConfig | TextConfig:
        """The configuration that the run was made with.

        Raises:
            RunDirectoryError: no run directory, or a run on text where one on images is wanted.
            DamagedFileError: config.json is damaged.
        """
        _expect_run(self.path)
        try:
            values = read_json(self.path / "config.json")
        except DamagedFileError:
            raise DamagedFileError(
                f"{self.path / 'config.json'} is damaged; remove it and repeat the 'decouple run' command with its settings "
                "and --resume: finished work is found again"
            ) from None
        if kind is RunConfig and "corpus" in values:
            raise RunDirectoryError(
                f"{self.path} is a run of 'decouple q0 text', which has no other stages; resume it with 'decouple q0 text "
                f"--out {self.path} --resume'"
            )
        if kind is TextConfig and "corpus" not in values:
            raise RunDirectoryError(f"{self.path} is a run on images, not on text; choose another --out")
        return settings.from_builtins(values, kind(), source=str(self.path / "config.json"))

    def read_run(self) -> dict[str, Any]:
        """run.json, or the beginning of a new one when it is missing or damaged: nothing in it decides a result."""
        return read_run(self.path)

    def write_config(self, config: RunConfig | TextConfig) -> None:
        pass

    def log(self, stage: str, **values: Any) -> None:
        pass

    def describe(self, *, seed: int, data: dict[str, Any], group: Group, execution: Execution, code: Code) -> None:
        pass

    def add_seconds(self, stage: str, identity: str, seconds: float) -> None:
        pass


class RunDirectory(SharedDirectory):
    """An open, locked run directory. Use as a context manager: leaving it releases the lock.

    If an error leaves it before any work is done, what was not there before goes with it.

    Args:
        path: of the folder, which is made if it is not there.
        otherwise: remedy to suggest where the directory cannot be opened.

    Raises:
        RunDirectoryError: in use by another process, cannot be written, or another configuration's.
    """

    def __init__(self, path: Path, *, otherwise: str = "work on a copy of it") -> None:
        super().__init__(path)
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise RunDirectoryError(f"{self.path} is a file, not a folder; {otherwise}")
        self._made = [folder for folder in (self.path, *self.path.parents) if not os.path.lexists(folder)]
        self._before: set[str] = set()
        self._lock = filelock.FileLock(self.path / ".lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._before = set(os.listdir(self.path))
            self._lock.acquire(timeout=0)
            write_bytes(self.path / ".lock-owner", f"{os.getpid()}\n".encode())  # also proves that files can be written
            remove_partial(self.path)
            self._mend_log()
        except filelock.Timeout:
            raise RunDirectoryError(
                f"{self.path} is in use by another decouple process; wait for it to end or {otherwise}"
            ) from None
        except (OSError, NotImplementedError, RunDirectoryError) as error:  # not implemented: locks, by the file system
            self._leave(undo=True)
            cause = error.__cause__ if isinstance(error, RunDirectoryError) else error
            reason = getattr(cause, "strerror", None) or cause
            remedy = f"free some space or {otherwise}" if getattr(cause, "errno", None) in FULL else otherwise
            raise RunDirectoryError(f"{self.path} cannot be written ({reason}); {remedy}") from None
        except BaseException:
            self._leave(undo=True)
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leave(undo=error is not None)

    def _leave(self, *, undo: bool) -> None:
        """Release the lock; and `undo` what opening the directory has made, if no work was done in it."""
        undo = undo and not self._has_work()
        _remove(self.path / ".lock-owner")
        if undo:
            for name in {*_SETTINGS, *_WORK} - self._before:
                _remove(self.path / name)
        self._lock.release()
        if undo:
            for folder in self._made:
                with contextlib.suppress(OSError):  # it has not been made, or somebody else uses it
                    folder.rmdir()

    def _has_work(self) -> bool:
        """Whether a unit or a line of the log is kept."""
        units = [name for stage in _WORK for _, _, names in os.walk(self.path / stage) for name in names]
        kept = [path for name in ("results.json", "metrics.jsonl") if os.path.isfile(path := self.path / name)]
        # The tokens of a text are made before anything is trained.
        return any(not name.startswith((".", "tokens-")) for name in units) or any(path.stat().st_size > 0 for path in kept)

    @classmethod
    def create(cls, path: Path, config: RunConfig | TextConfig, *, resume: bool) -> RunDirectory:
        """Open a new run directory, or with `resume` one that holds the same configuration. Raises RunDirectoryError: it
        holds something else; for another configuration, the differing fields are named."""
        path = Path(path)
        cls.check(path, config, resume=resume)
        directory = cls(path, otherwise="choose another --out")
        try:
            cls.check(path, config, resume=resume)  # again, since another process may have had it before the lock was ours
            directory.write_config(config)
        except BaseException:
            directory._leave(undo=True)
            raise
        return directory

    @classmethod
    def check(cls, path: Path, config: RunConfig | TextConfig, *, resume: bool) -> None:
        """Refuse what `create` would refuse, and change nothing."""
        found = {entry.name for entry in _entries(path) if not entry.name.startswith(TEMPORARY)}
        begun = not found.isdisjoint(_WORK)
        if not begun and not found.issubset(_SETTINGS):
            raise RunDirectoryError(f"{path} is not empty and is not a run directory; choose another --out")
        if not begun:  # settings by themselves, of a run that ended before it did anything, bind nobody
            return
        if not resume:
            raise RunDirectoryError(f"{path} is not empty: continue it with --resume, or choose another --out")
        expect_format(path)
        if (path / "config.json").exists():
            other = SharedDirectory(path).read_config(type(config))
            if changed := settings.differences(other, config):
                own = (
                    f", or continue it with its own settings: decouple report {shlex.quote(str(path))}"
                    if isinstance(other, RunConfig)
                    else ""
                )
                raise RunDirectoryError(
                    f"{path} holds a run with different settings ({'; '.join(changed)}); give the same settings, choose "
                    f"another --out{own}"
                )

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open an existing run directory. Raises RunDirectoryError: there is none, or it is in use."""
        _expect_run(Path(path))
        return cls(path)

    def write_config(self, config: RunConfig | TextConfig) -> None:
        write_json(self.path / "config.json", settings.to_builtins(config))

    def log(self, stage: str, **values: Any) -> None:
        """Append a line to metrics.jsonl."""
        path = self.path / "metrics.jsonl"
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"stage": stage, **values}) + "\n")
        except OSError as error:
            raise RunDirectoryError(f"cannot write {path}: {why_not_written(error)}; earlier files are intact") from error

    def describe(self, *, seed: int, data: dict[str, Any], group: Group, execution: Execution, code: Code) -> None:
        """Note in run.json how and on what this run is being made: the first sitting, and every one."""
        run, address = self.read_run(), execution.ray_address
        sitting = {
            "command": shlex.join(["decouple", *sys.argv[1:]]),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "versions": versions(),
            "commit": commit(),
            "device": str(group.device),
            "device_name": devices.name_of(group.device),
            "threads": torch.get_num_threads(),
            "processes": group.size,
            "workers": execution.workers,
            "ray_address": address,
            # What a worker of a cluster computes with is known when it is there, which it need not be.
            "search_threads": None if address is not None else devices.threads_of(execution.workers),
            "platform": platform.platform(),
        }
        sittings = [*run.get("sittings", []), sitting]
        begun = {name: value for name, value in sittings[0].items() if name != "date"}
        write_json(
            self.path / "run.json",
            {
                "format": RUN_FORMAT,
                "created": sittings[0]["date"],
                "seed": seed,
                **begun,
                "data": data,
                "code": code,
                "stages": run.get("stages", {}),
                "sittings": sittings,
            },
        )

    def add_seconds(self, stage: str, identity: str, seconds: float) -> None:
        """Add to the time that a stage has taken with these settings, over all sittings."""
        run = self.read_run()
        stages = run.setdefault("stages", {})
        by_settings = stages.get(stage, {}).get("by_settings", {})
        by_settings[identity] = round(by_settings.get(identity, 0.0) + seconds, 2)
        stages[stage] = {"seconds": by_settings[identity], "by_settings": by_settings}
        write_json(self.path / "run.json", run)

    def _mend_log(self) -> None:
        """Cut off a last line that a kill has left unfinished."""
        log = self.path / "metrics.jsonl"
        if log.is_file() and (data := log.read_bytes()) and not data.endswith(b"\n"):
            write_bytes(log, data[: data.rfind(b"\n") + 1])


def _expect_run(path: Path) -> None:
    try:
        os.stat(path / "config.json")
    except (FileNotFoundError, NotADirectoryError):
        if inner := sorted(config.parent.name for config in path.glob("*/config.json")):
            raise RunDirectoryError(
                f"{path} is a folder of runs ({', '.join(inner[:5])}{', …' * (len(inner) > 5)}), not one: give {path / inner[0]}, say"
            ) from None
        raise RunDirectoryError(
            f"{path} is not a run directory (it has no config.json); make one with 'decouple run PRESET'"
        ) from None
    except OSError as error:
        raise RunDirectoryError(f"{path} cannot be read ({error.strerror})") from None
    expect_format(path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing, if there is none or it may not be read, of which opening it will tell."""
    try:
        return list(os.scandir(folder))
    except OSError:
        return []


def _remove(path: Path) -> None:
    """A file or folder; one that cannot be removed stays."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
