"""A run directory: its configuration, its lock, its log and what is known about how it was made.

config.json      resolved settings; what decides the results
run.json         how they came about: versions, commit, device, seconds by stage
metrics.jsonl    a line for every epoch, batch or cycle as it happened (a unit that is redone logs again)
search/ learn/ compare/ q0/
                 <stage>/<fingerprint>/…: the units of each stage, by the settings that they depend on
results.json, curves.json, figures/, report.html
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import filelock
import torch

import decouple
from decouple import device as devices
from decouple import settings
from decouple.config import RunConfig, TextConfig
from decouple.errors import DamagedFileError, RunDirectoryError
from decouple.files import read_json, remove_partial, write_bytes, write_json

RUN_FORMAT = 1

_WORK = ("search", "learn", "compare", "q0", "results.json")
"""What shows that a run has begun."""
_SETTINGS = ("config.json", "run.json", "metrics.jsonl", "tensorboard", ".lock", ".lock-owner")
"""What a run leaves that ended before it had begun."""


class RunDirectory:
    """An open, locked run directory. Use as a context manager: leaving it releases the lock.

    Raises:
        RunDirectoryError: in use by another process, cannot be written, or another configuration's.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise RunDirectoryError(f"{self.path} is a file, not a folder; choose another --out")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(self.path / ".lock")
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise RunDirectoryError(
                f"{self.path} is in use by another decouple process; wait for it to end or choose another --out"
            ) from None
        except OSError as error:
            raise RunDirectoryError(f"{self.path} cannot be written ({error.strerror}); choose another --out") from None
        try:
            write_bytes(self.path / ".lock-owner", f"{os.getpid()}\n".encode())  # also proves that files can be written
            remove_partial(self.path)
            self._mend_log()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        (self.path / ".lock-owner").unlink(missing_ok=True)
        self._lock.release()

    @classmethod
    def create(cls, path: Path, config: RunConfig | TextConfig, *, resume: bool) -> RunDirectory:
        """Open a new run directory, or with `resume` one that holds the same configuration.

        Raises:
            RunDirectoryError: it holds something else; for another configuration, the differing fields are named.
        """
        path = Path(path)
        begun = any((path / name).exists() for name in _WORK)
        if not begun and path.is_dir() and any(entry.name not in _SETTINGS for entry in path.iterdir()):
            raise RunDirectoryError(f"{path} is not empty, and it is no run directory; choose another --out")
        if begun and not resume:
            raise RunDirectoryError(f"{path} is not empty: continue it with --resume, or choose another --out")
        directory = cls(path)
        try:
            # Settings alone, of a run that ended before it did anything, bind nobody.
            if begun and (path / "config.json").exists():
                found = directory.read_config(type(config))
                if changed := settings.differences(found, config):
                    own = (
                        f", or go on with its own: decouple report {shlex.quote(str(path))}"
                        if isinstance(found, RunConfig)
                        else ""
                    )
                    raise RunDirectoryError(
                        f"{path} holds a run of another configuration ({'; '.join(changed)}); give the same settings, choose "
                        f"another --out{own}"
                    )
            directory.write_config(config)
        except BaseException:
            directory.__exit__(None, None, None)
            raise
        return directory

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open an existing run directory.

        Raises:
            RunDirectoryError: there is none, or it is in use.
        """
        _expect_run(Path(path))
        return cls(path)

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
                f"{self.path} is a run of 'decouple q0 text', which has no other stages; go on with it by 'decouple q0 text "
                f"--data FILE --out {self.path} --resume'"
            )
        return settings.from_builtins(values, kind(), source=str(self.path / "config.json"))

    def write_config(self, config: RunConfig | TextConfig) -> None:
        write_json(self.path / "config.json", settings.to_builtins(config))

    def log(self, stage: str, **values: Any) -> None:
        """Append a line to metrics.jsonl."""
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": stage, **values}) + "\n")

    def read_run(self) -> dict[str, Any]:
        """run.json, or the beginning of a new one when it is missing or damaged: nothing in it decides a result."""
        try:
            run = read_json(self.path / "run.json")
        except DamagedFileError:
            run = {}
        return run if isinstance(run, dict) else {}

    def describe(
        self,
        *,
        seed: int,
        device: torch.device,
        data: dict[str, Any],
        processes: int = 1,
        workers: int = 1,
        ray_address: str | None = None,
    ) -> None:
        """Note in run.json how and on what this run is being made: the first sitting, and every one."""
        run = self.read_run()
        sitting = {
            "command": shlex.join(["decouple", *sys.argv[1:]]),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "versions": versions(),
            "commit": commit(),
            "device": str(device),
            "device_name": devices.name_of(device),
            "threads": torch.get_num_threads(),
            "processes": processes,
            "workers": workers,
            "ray_address": ray_address,
            # What a worker of a cluster computes with is known when it is there, which it need not be.
            "search_threads": None if ray_address is not None else devices.threads_of(workers),
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


class SharedDirectory(RunDirectory):
    """The run directory that the first process of a torchrun has open, as the other processes see it: they only read."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def write_config(self, config: RunConfig | TextConfig) -> None:
        pass

    def log(self, stage: str, **values: Any) -> None:
        pass

    def describe(self, **_: Any) -> None:
        pass

    def add_seconds(self, stage: str, identity: str, seconds: float) -> None:
        pass


def _expect_run(path: Path) -> None:
    if not (path / "config.json").is_file():
        raise RunDirectoryError(
            f"{path} is not a run directory (it has no config.json); make one with 'decouple run PRESET'"
        )


def versions() -> dict[str, str]:
    """Versions of Python and of what decides results."""
    found = {
        "decouple": "decouple-learn",
        **{name: name for name in ("torch", "torchvision", "evotorch", "numpy", "scikit-learn")},
    }
    known = {"python": platform.python_version()}
    for name, distribution in found.items():
        try:
            known[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            known[name] = decouple.__version__ if name == "decouple" else "not installed"
    return known


def commit() -> str | None:
    """The commit of the checkout that decouple is imported from, marked when it has local changes; None elsewhere."""
    here = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        tracked = subprocess.run(
            ["git", "-C", str(here), "ls-files", "--error-unmatch", "directory.py"], capture_output=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() if tracked.returncode == 0 else None
