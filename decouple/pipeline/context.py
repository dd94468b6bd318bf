"""A run: its directory, settings, data and device, which every stage works with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch

from decouple import device as devices, own_code, registry
from decouple.config import NetworkConfig, RunConfig, TextConfig
from decouple.data import ImageData, load_data
from decouple.data.images import in_unit_scale
from decouple.errors import ConfigError, RunDirectoryError
from decouple.learn.heads import check_heads
from decouple.learn.objective import blocks_without_target
from decouple.loggers import Logger, LoggerLike, Loggers, check_logger, opened
from decouple.networks import Stages
from decouple.networks.build import build_network, network_to_search
from decouple.pipeline.directory import Code, SharedDirectory
from decouple.progress import Progress
from decouple.search import search_points
from decouple.search.algorithm import chosen
from decouple.seeds import derive
from decouple.settings import fingerprint, flattened
from decouple.training.processes import Group
from decouple.workers import Execution


class Placed(Protocol):
    """What decides where the units of a run on images are: a `Run`, or a run that is only read."""

    @property
    def config(self) -> RunConfig: ...

    @property
    def digest(self) -> str:
        """Of its data."""

    @property
    def algorithm_digest(self) -> str | None:
        """See `Run.algorithm_digest`."""

    def folder(self, stage: str, identity: str) -> Path:
        """Where a stage keeps its units."""


def base_of(run: Placed) -> str:
    """Fingerprint of what every stage depends on."""
    config = run.config
    return fingerprint(config.data, run.digest, config.network, config.precision, config.seed)


@dataclass(frozen=True, kw_only=True)
class AnyRun:
    """A run directory at work, on images or on text."""

    directory: SharedDirectory
    config: RunConfig | TextConfig
    group: Group
    """The processes that train together: those of a torchrun, or only this one."""
    progress: Progress = field(default_factory=Progress)
    execution: Execution = field(default_factory=Execution)
    """How many workers search or train, and where."""
    logger: Loggers = field(default_factory=Loggers)
    """What is told beside metrics.jsonl."""

    @property
    def device(self) -> torch.device:
        """This process's."""
        return self.group.device

    def folder(self, stage: str, identity: str) -> Path:
        """Where a stage keeps its units."""
        return self.directory.path / stage / identity

    def log(self, stage: str, unit: str, step: int, values: Mapping[str, float]) -> None:
        """Log figures to metrics.jsonl and to the run's loggers: a run is a `Logger`, too."""
        self.directory.log(stage, unit=unit, step=step, **values)
        self.logger.log(stage, unit, step, values)

    @property
    def watchers(self) -> list[Logger]:
        """What takes figures and progress of the run's work."""
        return [self.progress, self]

    @contextmanager
    def timed(self, stage: str, identity: str) -> Iterator[None]:
        """Adds the time spent inside to run.json, by stage and fingerprint of its settings, also when interrupted."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.directory.add_seconds(stage, identity, time.monotonic() - began)

    def say_changes(self) -> None:
        """Say which of device, threads and versions have changed since the run began: results may then differ in rounding."""
        sittings = self.directory.read_run()["sittings"]
        if changed := _changes(sittings[0], sittings[-1]):
            self.progress.say(f"Note: this run was started with {changed}; new results may differ in their last digits.")


@dataclass(frozen=True, kw_only=True)
class Run(AnyRun):
    """A run on images. Build with `open_run`."""

    config: RunConfig
    data: ImageData
    named: Collection[str] = ()
    """Settings that name code and that the user has given, rather than the run directory: it may be loaded."""
    algorithm_digest: str | None = None
    """Of the file that defines the algorithm; None: it is decouple's own."""

    @property
    def digest(self) -> str:
        """Of its data."""
        return self.data.digest

    @cached_property
    def network_to_search(self) -> Stages:
        """The untrained network, whose representations are searched."""
        seed, images = derive(self.config.seed, "network"), self.data.train.images
        return network_to_search(self.config, images, self.data.num_classes, seed=seed).to(self.device)

    def network(self, settings: NetworkConfig, *, groups: int, seed: int) -> Stages:
        """A new network for the run's data, on its device."""
        network = build_network(settings, self.data.train.images, self.data.num_classes, groups=groups, seed=seed)
        return network.to(self.device)


@contextmanager
def open_run(
    directory: SharedDirectory,
    config: RunConfig,
    *,
    device: str = "auto",
    group: Group | None = None,
    data_root: str | Path | None = None,
    progress: Progress | None = None,
    logger: str | LoggerLike = None,
    execution: Execution = Execution(),  # noqa: B008 (frozen)
    named: Collection[str] | None = None,
    load: Callable[..., ImageData] | None = None,
) -> Iterator[Run]:
    """Load the data, note how the run is made, and give the `Run`.

    Args:
        group: the processes of a torchrun, each with its device; every one calls this. None: this process alone, on `device`.
        logger: see `decouple.run`.
        named: settings of `RunConfig.code` whose code the user has given, so that it may be run; None: all.
        load: in place of `load_data`.

    Raises:
        ConfigError, DataError: device, logger, workers or data are not there, or the network does not fit the images.
        RunDirectoryError: the directory's results were made from other data, or with another version of the algorithm's file.
    """
    check_logger(logger)
    group = group or Group(devices.resolve(device))
    devices.prepare()
    with group.first_alone():  # it may download, and what it has found about the directory holds for the others
        named = config.code if named is None else named
        code = code_of(directory, config, named)
        data = _data_of(directory, config, data_root, group, execution, code, load or load_data)
    with logging_to(logger if group.first else None, directory.path, config) as loggers:
        run = Run(
            directory=directory,
            config=config,
            group=group,
            progress=progress or Progress(),
            execution=execution,
            logger=loggers,
            data=data,
            named=named,
            algorithm_digest=code.get("search.algorithm", {}).get("digest"),
        )
        run.say_changes()
        _check(run)
        yield run


@contextmanager
def logging_to(logger: str | LoggerLike, folder: Path, config: RunConfig | TextConfig) -> Iterator[Loggers]:
    """The loggers of a run, closed afterwards, whatever becomes of it."""
    loggers, failed = opened(logger, folder, folder.resolve().name, flattened(config)), True
    try:
        yield loggers
        failed = False
    finally:
        if isinstance(logger, str):  # others are the caller's
            loggers.close(failed=failed)


def _check(run: Run) -> None:
    """Refuse now what would fail after hours."""
    config, points = run.config, search_points(run.network_to_search, run.data.image_shape)
    blocks_without_target(config.learn.supervise, len(points) - 1, chosen(points, config.search.points)[0].index)
    check_heads(config.learn.heads or config.sgd.heads, len(points) - 1)
    _refuse_poor_probe(run)
    _refuse_single_images(run)


def check_data(directory: SharedDirectory, settings: str, digest: str, what: str) -> None:
    """A run can only be resumed with the same data and splits: its units hold examples by position.

    Args:
        settings: fingerprint of those of the data.
        what: the data now, for the message.

    Raises:
        RunDirectoryError: the directory's results were made from other data with the same settings.
    """
    known = directory.read_run().get("data", {})
    if known.get("settings") == settings and known.get("digest") not in (None, digest):
        raise RunDirectoryError(
            f"{directory.path} was made from different {what} now (the digests differ); restore that data, or choose another --out"
        )


def check_images(directory: SharedDirectory, config: RunConfig, data: ImageData) -> None:
    """See `check_data`."""
    check_data(directory, fingerprint(config.data), data.digest, f"images than '{config.data.name}' holds")


def _data_of(
    directory: SharedDirectory,
    config: RunConfig,
    data_root: str | Path | None,
    group: Group,
    execution: Execution,
    code: Code,
    load: Callable[..., ImageData],
) -> ImageData:
    """The data, if they are those that the directory's results were made from; noted in run.json."""
    known = directory.read_run().get("data", {})
    root = data_root if data_root is not None else known.get("root")
    data = load(config.data, data_root=root)
    check_images(directory, config, data)
    where = os.path.realpath(os.path.expanduser(root)) if root is not None else None
    directory.describe(
        seed=config.seed,
        data={
            "digest": data.digest,
            "settings": fingerprint(config.data),
            "root": where,
            "train": len(data.train),
            "image_shape": data.image_shape,
            "classes": data.classes,
            "unit_scale": in_unit_scale(data.train.images),
        },
        group=group,
        execution=execution,
        code=code,
    )
    return data


def code_of(directory: SharedDirectory, config: RunConfig, named: Collection[str]) -> Code:
    """The code that the settings name, if its files are those that the directory's results were made with.

    Raises:
        ConfigError: code that the user has not named, which the data or the network need; or it cannot be loaded.
        RunDirectoryError: a file has changed.
    """
    made_with = directory.read_run().get("code", {})
    found = {}
    for setting, name in {"search.algorithm": config.search.algorithm, **config.code}.items():
        known = made_with.get(setting, {})
        known = known if known.get("name") == name else {}
        if setting in config.code and setting not in named:
            if setting != "search.algorithm":  # which is needed only where something is left to search
                raise ConfigError(
                    f"{directory.path} was made with {name}, code that is only run when you name it: repeat the command with "
                    f"--{setting} {name} (to compare several runs: --code {name})"
                )
            found[setting] = {"name": name, "digest": known.get("digest")}
            continue
        digest = registry.digest_of(name) if setting == "search.algorithm" else own_code.digest_of(name, setting)
        if digest is None:
            continue
        if known.get("digest") not in (None, digest):
            raise RunDirectoryError(
                f"{directory.path} was made with another version of {name} (the digest of its file differs); bring that file back, "
                "or choose another --out"
            )
        found[setting] = {"name": name, "digest": digest}
    return found


def _refuse_poor_probe(run: Run) -> None:
    """The comparison needs two classes with two images each; say so before the compute that leads up to it."""
    counts = run.data.validation.labels[: run.config.compare.images].bincount()
    if int((counts >= 2).sum()) < 2:
        enough = 3 * run.data.num_classes
        more = "--data.validation and " if len(run.data.validation) < enough else ""
        raise ConfigError(
            f"compare.images = {run.config.compare.images}: among these validation images fewer than two classes have two "
            f"images, so classes cannot be compared; give {more}--compare.images at least {enough}"
        )


def _refuse_single_images(run: Run) -> None:
    """A batch that normalises itself needs two images at least."""
    splits = {"validation": run.data.validation, "prior": run.data.prior, "test": run.data.test}
    for name, split in splits.items():
        if run.config.network.statistics == "batch" and len(split) < 2:
            raise ConfigError(
                f"data.{name} = {len(split)}: with network.statistics = batch an evaluated batch normalises itself, which takes two "
                f"images; give --data.{name} at least 2, or --network.statistics running"
            )


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What the promise of equal results asks to stay the same, and has not."""
    pairs = {
        name: (before.get(name), now[name]) for name in ("device_name", "device", "threads", "processes", "search_threads")
    }
    pairs |= {name: (before.get("versions", {}).get(name), version) for name, version in now["versions"].items()}
    return ", ".join(f"{name} {old} (now {new})" for name, (old, new) in pairs.items() if old not in (None, new))
