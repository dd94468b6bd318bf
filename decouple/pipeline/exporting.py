"""`decouple export`: a network or the population of a run, in a file for use elsewhere."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from decouple.config import TextConfig
from decouple.errors import ConfigError
from decouple.formats import plural
from decouple.networks import Stages
from decouple.networks.build import build_module
from decouple.pipeline.context import code_of
from decouple.pipeline.directory import SharedDirectory
from decouple.pipeline.opened import OpenedRun
from decouple.pipeline.population import compressed
from decouple.q0.architecture import GptArchitecture, ImageArchitecture
from decouple.q0.ensemble import Ensemble
from decouple.q0.export import check_target, export
from decouple.torch_state import torch_defaults

ENSEMBLE = "ensemble"
EXAMPLES = 4
"""Made-up images that a file is checked with."""


@torch_defaults()
def export_run(
    source: Path,
    path: Path,
    *,
    what: str = ENSEMBLE,
    members: int | None = None,
    equal: bool = False,
    distil: int | None = None,
    device: str = "auto",
    data_root: Path | None = None,
    named: Collection[str] = (),
    overwrite: bool = False,
) -> str:
    """Write a network or the population of a run to a file, as `decouple.export` does; returns a line that says what it holds.

    An ensemble of several members in `.safetensors` is for `Ensemble.load`.

    Args:
        source: a run directory, or a file of an ensemble.
        path: of the file to write.
        what: "ensemble", or the name of a network, such as search-0.
        members, equal: as in `Ensemble.load`.
        distil: compress the ensemble into one network, in so many epochs.
        device, data_root: where to distil, and the folder of the data.
        named: settings that name code and that the user has given; see `open_run`.
        overwrite: replace a file that is there.

    Raises:
        ConfigError: a wrong request, code that is not named, or a file that is there already.
        RunDirectoryError, NetworkError: the run has no such part yet; see `decouple.export`.
    """
    check_target(path, overwrite=overwrite)
    run = _opened(source, named) if source.is_dir() else None
    if what != ENSEMBLE:
        if run is None or members is not None or equal or distil is not None:
            raise ConfigError(f"--what {what} is one network of a run: --members, --equal and --distill go with an ensemble")
        export(_network(run, what), path, _images_of(run), overwrite=overwrite)
        return f"{path}: {what}"
    ensemble = Ensemble.load(source, members, equal=equal) if run is None else run.ensemble(members, equal=equal)
    said, examples = f"{path}: {plural(len(ensemble.members), 'member')}", _examples(ensemble, run)
    if distil is not None:
        if run is None:
            raise ConfigError(f"--distill trains on the data of a run: give its directory, not {source}")
        ensemble = compressed(source, ensemble, epochs=distil, device=device, data_root=data_root)
        said += " in one network"
    if path.suffix == ".safetensors" and len(ensemble.members) > 1:
        ensemble.save(path)
    else:
        export(ensemble, path, examples, overwrite=overwrite)
    return said


def _network(run: OpenedRun, name: str) -> Stages:
    try:
        return run.networks[name]
    except KeyError:
        raise ConfigError(f"--what {name}: expected {ENSEMBLE}, or one of the run's networks: {run.networks!r}") from None


def _opened(folder: Path, named: Collection[str]) -> OpenedRun:
    """The run, with a network by the user's own code if its networks are such."""
    run = OpenedRun(folder)
    if isinstance(run.config, TextConfig):
        return run
    code_of(SharedDirectory(folder), run.config, named)
    settings = run.config.network
    if not settings.is_code:
        return run
    classes, channels = len(run.known("classes")), run.known("image_shape")[0]
    return replace(run, network=build_module(settings.name, settings.args, classes=classes, channels=channels, seed=0))


def _examples(ensemble: Ensemble, run: OpenedRun | None) -> Tensor:
    if isinstance(ensemble.architecture, ImageArchitecture):
        return _images(ensemble.architecture.image_shape, ensemble.architecture.unit_scale)
    if isinstance(ensemble.architecture, GptArchitecture):
        shape = (EXAMPLES, ensemble.architecture.network.context)
        return torch.randint(ensemble.architecture.vocabulary, shape, generator=torch.Generator().manual_seed(0))
    if run is None:
        raise ConfigError("a file of networks of your own does not say what images they take: use decouple.export in Python")
    return _images_of(run)


def _images_of(run: OpenedRun) -> Tensor:
    return _images(run.known("image_shape"), run.info.data.get("unit_scale"))


def _images(shape: tuple[int, ...], unit_scale: bool | None) -> Tensor:
    stream = torch.Generator().manual_seed(0)
    return (torch.randn if unit_scale is False else torch.rand)(EXAMPLES, *shape, generator=stream)
