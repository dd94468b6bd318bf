"""A run directory that is only read: nothing is locked, written or run, and each part is loaded when it is asked for."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
from torch import nn

from decouple.config import RunConfig, TextConfig
from decouple.errors import RunDirectoryError, did_you_mean, expect
from decouple.files import load_tensors
from decouple.formats import html_table
from decouple.networks import Stages
from decouple.networks.state import load_state
from decouple.pipeline.directory import SharedDirectory
from decouple.pipeline.learning import Trained, networks_of
from decouple.pipeline.searching import search_identity
from decouple.q0.architecture import ImageArchitecture
from decouple.q0.ensemble import Ensemble
from decouple.q0.members import INDEX
from decouple.report.inputs import Inputs, RunInfo, TextInputs, bringing, read_inputs
from decouple.results import Curves, Results, TextResults
from decouple.search.solutions import shards_of
from decouple.search.store import TargetStore
from decouple.trajectories import Recording

T = TypeVar("T")


class Parts(Mapping[str, T]):
    """Parts of a run by name, each loaded when it is asked for, and then kept.

    Args:
        load: by name, of the parts that are there.
        missing: names of those that are not there yet.
        command: that makes them.

    >>> parts = Parts({"search-0": lambda: 3}, ["sgd-1"], "decouple learn runs/x")
    >>> parts, parts["search-0"]
    (search-0 (sgd-1: not there yet), 3)
    """

    def __init__(self, load: Mapping[str, Callable[[], T]], missing: list[str], command: str) -> None:
        self._load, self._missing, self._command = dict(load), missing, command
        self._kept: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        """Raises RunDirectoryError of a part that is not there yet, KeyError of one that the run does not have."""
        if name in self._missing:
            raise RunDirectoryError(f"{name} is not there yet; make it with '{self._command}'")
        if name not in self._load:
            raise KeyError(f"{name}{did_you_mean(str(name), [*self._load, *self._missing])}")
        if name not in self._kept:
            self._kept[name] = self._load[name]()
        return self._kept[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The part, or `default` where it is not there."""
        return default if name not in self._load else self[name]

    def __contains__(self, name: object) -> bool:
        return name in self._load

    def __iter__(self) -> Iterator[str]:
        return iter(self._load)

    def __len__(self) -> int:
        return len(self._load)

    def __repr__(self) -> str:
        missing = f"({', '.join(self._missing)}: not there yet)" if self._missing else ""
        return " ".join(filter(None, [", ".join(self._load), missing])) or "none"


class Picture(NamedTuple):
    """A figure of the report, which a notebook shows."""

    png: Path
    svg: Path

    def _repr_svg_(self) -> str:
        return self.svg.read_text(encoding="utf-8")


@dataclass(frozen=True, eq=False)
class OpenedRun:
    """A run directory, read-only, with what was there when each part was first asked for. Make one with `decouple.open`.

    What a run on text does not have, or what is not there yet, raises RunDirectoryError, which names the command that makes it;
    a damaged file raises DamagedFileError.
    """

    path: Path
    _: KW_ONLY
    network: nn.Module | None = None
    """A network to load weights into, where code of your own builds the run's networks."""

    @cached_property
    def _directory(self) -> SharedDirectory:
        return SharedDirectory(self.path)

    @cached_property
    def config(self) -> RunConfig | TextConfig:
        """The settings."""
        return self._directory.read_config(TextConfig if self._directory.is_text() else RunConfig)

    @cached_property
    def info(self) -> RunInfo:
        """How the run was made: command, versions, device, seconds by stage."""
        try:
            return msgspec.convert(self._directory.read_run(), RunInfo)
        except msgspec.ValidationError:  # as good as missing: nothing in it decides a result
            return RunInfo()

    def known(self, name: str) -> Any:
        """A fact about the data, from run.json. Raises RunDirectoryError: it is not there."""
        if name not in self.info.data:
            raise RunDirectoryError(
                f"{self.path / 'run.json'} does not hold data.{name}, by which parts of the run are found; "
                f"'decouple report {shlex.quote(str(self.path))}' writes it again"
            )
        return self.info.data[name]

    @cached_property
    def _inputs(self) -> Inputs | TextInputs:
        self._expect("results.json", "results", "report")
        return read_inputs(self.path)

    @property
    def results(self) -> Results | TextResults:
        """Every figure: results.json."""
        return self._inputs.results

    @property
    def curves(self) -> Curves:
        """The series behind the pictures: curves.json."""
        return self._inputs.curves

    @cached_property
    def networks(self) -> Parts[Stages]:
        """The trained networks with their best weights, in eval mode, on the CPU: search-0, …, sgd-1, …"""
        return self._parts(lambda each: each.path.exists(), self._network)

    @cached_property
    def recordings(self) -> Parts[Recording]:
        """The activations of each network while it was trained, on the comparison's images."""
        return self._parts(lambda each: any(each.folder.glob("record-*")), Trained.recording)

    @cached_property
    def targets(self) -> Parts[TargetStore]:
        """The targets of each searched solution, by the network that learns them first: search-0, search-1, …"""
        run = self._images
        identity, split = search_identity(run), range(self.known("train"))
        shards = {
            f"search-{solution}": shards_of(
                split,
                run.config.search,
                run.folder("search", identity),
                seed=run.config.seed,
                solution=solution,
                identity=identity,
            )
            for solution in range(run.config.search.solutions)
        }
        whole = {name: partial(TargetStore, of) for name, of in shards.items() if all(one.path.exists() for one in of)}
        return Parts(whole, [name for name in shards if name not in whole], self._command("search"))

    def ensemble(self, k: int | None = None, *, equal: bool = False) -> Ensemble:
        """The `k` heaviest members of the population; see `Ensemble.load`."""
        self._expect(INDEX, "population", "q0")
        return Ensemble.load(self.path, k, network=self.network, equal=equal)

    @property
    def figures(self) -> Parts[Picture]:
        """The report's figures."""
        self._expect("figures", "figures", "report")
        return Parts(
            {
                png.stem: partial(Picture, png, png.with_suffix(".svg"))
                for png in sorted((self.path / "figures").glob("*.png"))
            },
            [],
            self._command("report"),
        )

    def _parts(self, there: Callable[[Trained], bool], load: Callable[[Trained], T]) -> Parts[T]:
        networks = networks_of(self._images)
        found = {each.name: partial(load, each) for each in networks if there(each)}
        return Parts(found, [each.name for each in networks if each.name not in found], self._command("learn"))

    def _network(self, trained: Trained) -> Stages:
        settings = self._images.config.network
        shape, names, scale = tuple(self.known("image_shape")), tuple(self.known("classes")), self.known("unit_scale")
        architecture = ImageArchitecture(settings, trained.groups, shape, len(names), scale, names)
        network = architecture.build(self.network)
        load_state(network, load_tensors(trained.path, unit=trained.unit)[0])
        return network.eval()

    @cached_property
    def _images(self) -> _Images:
        if not isinstance(self.config, RunConfig):
            raise RunDirectoryError(
                f"{self.path} is a run on text, which has results, figures and a population only: see ensemble()"
            )
        algorithm = self.info.code.get("search.algorithm", {})
        return _Images(self.path, self.config, self.known("digest"), algorithm.get("digest"))

    def _expect(self, name: str, what: str, stage: str) -> None:
        if not (self.path / name).exists():
            raise RunDirectoryError(
                f"{self.path} has no {what} yet; '{self._command(stage)}' makes {'it' if stage == 'q0' else 'them'}"
            )

    def _command(self, stage: str) -> str:
        return bringing(stage, self.path, self.config)

    @property
    def _about(self) -> list[tuple[str, str]]:
        config = self.config
        rows = [("preset", config.preset), ("seed", str(config.seed))]
        if isinstance(config, RunConfig):
            rows += [("data", config.data.name), ("network", config.network.name)]
            rows += [("targets", repr(self.targets)), ("networks", repr(self.networks))] if "train" in self.info.data else []
        return [*rows, ("results", "there" if (self.path / "results.json").exists() else "not there yet")]

    def __repr__(self) -> str:
        return f"OpenedRun({self.path}; {'; '.join(f'{name} {value}' for name, value in self._about)})"

    def _repr_html_(self) -> str:
        results = self.results._repr_html_() if (self.path / "results.json").exists() else ""
        return html_table([("run", str(self.path)), *self._about]) + results


@dataclass(frozen=True)
class _Images:
    """Where the units of a run on images are, by what its folder holds of settings and data: see `Placed`."""

    path: Path
    config: RunConfig
    digest: str
    algorithm_digest: str | None

    def folder(self, stage: str, identity: str) -> Path:
        return self.path / stage / identity


def open(folder: Path | str, *, network: nn.Module | None = None) -> OpenedRun:
    """A run directory, to read what is in it: settings, results, networks, targets, recordings, ensemble and figures.

    No lock is taken, nothing is written and no code that the run names is run; a part is loaded when it is asked for.

    Args:
        folder: of a run on images or on text, finished or not.
        network: of the run's, to load weights into; needed only where code of your own builds them.

    Raises:
        RunDirectoryError: there is no run.
        DamagedFileError: its config.json is damaged.
    """
    if network is not None:
        expect(network, nn.Module, "network")
    opened = OpenedRun(Path(folder), network=network)
    _ = opened.config
    return opened
