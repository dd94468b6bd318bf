"""Reads what a report is made of, and says what to do when it cannot."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from decouple.config import RunConfig, TextConfig
from decouple.errors import ConfigError, DamagedFileError, RunDirectoryError
from decouple.files import read_json
from decouple.formats import duration
from decouple.results import FORMAT, Curves, Results, TextResults, expect_format
from decouple.settings import from_builtins

Schema = TypeVar("Schema")


class Stage(msgspec.Struct):
    seconds: float = 0.0


class Sitting(msgspec.Struct):
    """One of the times that a command worked on the run."""

    command: str = ""
    device: str = ""
    device_name: str = ""
    threads: int | None = None
    versions: dict[str, str] = {}


class RunInfo(msgspec.Struct):
    """run.json: how a run was made. Nothing in it decides a result, so that anything may be missing."""

    command: str = ""
    created: str = ""
    versions: dict[str, str] = {}
    commit: str | None = None
    device: str = ""
    device_name: str = ""
    threads: int | None = None
    platform: str = ""
    data: dict[str, Any] = {}
    code: dict[str, dict[str, str | None]] = {}
    stages: dict[str, Stage] = {}
    sittings: list[Sitting] = []

    def __repr__(self) -> str:
        seconds = ", ".join(f"{name} {duration(value)}" for name, value in self.seconds().items())
        return f"RunInfo('{self.command}', {self.created}, on {self.device_name or self.device}: {seconds})"

    def seconds(self) -> dict[str, float]:
        """By stage, in the order in which they ran; without the report's own: it is not over while it is written, and a
        rebuilt report would differ from the first."""
        order = ["search", "learn", "compare", "q0"]
        known = {name: stage.seconds for name, stage in self.stages.items() if name != "report"}
        return {name: known[name] for name in sorted(known, key=lambda n: (order.index(n) if n in order else 99, n))}


def other_origin(one: RunInfo, other: RunInfo) -> str:
    """In which data or code two runs of equal settings differ, by the digests that both have noted; empty: in none.

    >>> other_origin(RunInfo(data={"digest": "a1"}), RunInfo(data={"digest": "b2"}))
    'data (digests a1 and b2)'
    """
    origins = [
        {"data": run.data.get("digest"), **{name: code.get("digest") for name, code in run.code.items()}}
        for run in (one, other)
    ]
    names = {name: code.get("name") or name for name, code in one.code.items()}
    found = []
    for name, digest in origins[0].items():
        if None not in (digest, against := origins[1].get(name)) and digest != against:
            what = "data" if name == "data" else f"versions of {names[name]}"
            found.append(f"{what} (digests {digest} and {against})")
    return ", ".join(found)


@dataclass(frozen=True)
class Inputs:
    config: RunConfig
    run: RunInfo
    results: Results
    curves: Curves


@dataclass(frozen=True)
class TextInputs:
    """Of a run on text."""

    config: TextConfig
    run: RunInfo
    results: TextResults
    curves: Curves


def bringing(stage: str, folder: Path, config: RunConfig | TextConfig) -> str:
    """The command that brings a stage of a run up to date, with the user's own code that it needs named."""
    path = shlex.quote(str(folder))
    if isinstance(config, TextConfig):
        return f"decouple q0 text --out {path} --resume"
    named = [f"--{setting} {shlex.quote(address)}" for setting, address in config.code.items()]
    return " ".join([f"decouple {stage} {path}", *named])


def read_inputs(folder: Path) -> Inputs | TextInputs:
    """The four files of a finished run, on images or on text.

    Raises:
        RunDirectoryError: it is not finished, and the command that finishes it is named; or another version has written it.
        DamagedFileError: names the file and the command that makes it again.
    """
    expect_format(folder)
    again = f"'decouple report {shlex.quote(str(folder))}' makes it again from the run's finished stages"
    config_path = folder / "config.json"
    try:
        values = read_json(config_path)
        base = TextConfig() if "corpus" in values else RunConfig()
        config: RunConfig | TextConfig = from_builtins(values, base, source=str(config_path))
    except (ConfigError, DamagedFileError) as error:
        raise DamagedFileError(
            f"{config_path} is missing or damaged ({error}); repeat the 'decouple run' command with its settings and --resume"
        ) from error
    if not (folder / "results.json").exists():
        if (folder / "tune").is_dir():
            best = shlex.quote(str(folder / "best.json"))
            raise RunDirectoryError(f"{folder} is a tuning, not a run; 'decouple run PRESET --config {best}' makes one")
        command = bringing("report", folder, config)
        raise RunDirectoryError(f"{folder} is not finished, since it has no results.json; '{command}' finishes it")
    run = _read(folder / "run.json", RunInfo, again)
    curves = _read(folder / "curves.json", Curves, again)
    if isinstance(config, TextConfig):
        return TextInputs(config, run, _read(folder / "results.json", TextResults, again), curves)
    results = _read(folder / "results.json", Results, again)
    _check_match(folder / "curves.json", results, curves, again)
    return Inputs(config, run, results, curves)


def _read(path: Path, schema: type[Schema], again: str) -> Schema:
    try:
        value = read_json(path)
    except DamagedFileError as error:
        reason = str(error).split(" cannot be read as JSON ", 1)[-1].split("; ", 1)[0]
        raise DamagedFileError(f"{path} is missing or damaged {reason}; {again}") from error
    found = value.get("format") if isinstance(value, dict) else None
    if schema is not RunInfo and isinstance(found, int) and found != FORMAT:
        raise DamagedFileError(f"{path} has format version {found}, this release reads {FORMAT}; {again}")
    try:
        return msgspec.convert(value, schema)
    except msgspec.ValidationError as error:
        raise DamagedFileError(f"{path} is damaged: {error}; {again}") from error


def _check_match(path: Path, results: Results, curves: Curves, again: str) -> None:
    """Refuse curves of another run: the figures would show what the tables do not say."""
    networks, points = set(results.networks), set(results.search.points)
    ways = {"uniform", "learned_prior", "greedy", *({"calibrated"} if results.q0.temperature else {})}
    for what, own, others in (
        ("networks", networks, set(curves.training)),
        ("networks", networks, set(curves.trajectories)),
        ("search points", points, set(curves.search)),
        ("q0_size", ways, set(curves.q0_size)),
    ):
        if own != others:
            raise DamagedFileError(
                f"{path} does not belong to results.json: its {what} are {', '.join(sorted(others)) or 'none'}, not "
                f"{', '.join(sorted(own))}; {again}"
            )
