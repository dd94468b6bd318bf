"""One run for each of several seeds, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from decouple import device as devices, settings
from decouple.config import RunConfig
from decouple.errors import ConfigError, RunDirectoryError, expect
from decouple.loggers import check_logger
from decouple.pipeline import run
from decouple.pipeline.directory import RunDirectory, SharedDirectory
from decouple.progress import Progress
from decouple.tensors import whole_number
from decouple.training.processes import refuse_launch
from decouple.workers import Execution, Job, distribute

if TYPE_CHECKING:
    from decouple.report.table import Table


def run_seeds(
    config: RunConfig,
    seeds: Sequence[int],
    out: Path | str,
    *,
    resume: bool = False,
    device: str = "auto",
    data_root: Path | str | None = None,
    workers: int = 1,
    quiet: bool = True,
    logger: str = "",
) -> Table:
    """Run `config` once for each seed, into `out`/seed-N, and write the table of all that `out` holds of these settings into `out`.

    Args:
        config: its own seed is not used.
        seeds: each once; all runs have the same data and splits (`config.data.seed`).
        resume: continue what `out` holds; seeds may be added.
        workers: runs side by side, each in a process of its own with its share of the cores.
        logger: names, as in `decouple.run`: each run has its own.

    Raises:
        ConfigError: no seeds, or one twice; or under torchrun.
        DecoupleError: what `decouple.run` raises.
    """
    from decouple.report.table import read_table  # matplotlib takes a while to import

    expect(config, RunConfig, "config", "such as decouple.preset('digits')")
    refuse_launch("torchrun shares one run among its processes, and --seeds makes several runs: use --workers, or one seed")
    check_logger(logger)
    execution = Execution(workers)
    folders = _folders(settings.located(config, data_root), seeds, Path(out), resume)
    shared = (config, folders, resume, data_root, logger, quiet or workers > 1)
    with Progress(quiet=quiet).task("seeds", len(folders), "runs") as advance:
        jobs = [Job(f"ran seed {seed}", partial(tuple, [seed]), lambda _: advance(1)) for seed in folders]
        place, mend = str(devices.resolve(device)), "--workers or --search.batch"
        distribute(_run_seed, shared, jobs, device=place, execution=execution, result_bytes=1000, mend=mend)
    table = read_table(_finished(next(iter(folders.values())), Path(out), Progress(quiet=quiet)))
    table.write(out)
    return table


def _finished(like: Path, out: Path, progress: Progress) -> list[Path]:
    """The finished runs in `out` whose settings are those of the run `like`, but for the seed; also those of an earlier call, if their
    data and code were the same, and else a line says that they are left out."""
    from decouple.report.inputs import RunInfo, other_origin

    def origin(folder: Path) -> RunInfo:
        return msgspec.convert(SharedDirectory(folder).read_run(), RunInfo)

    wanted, found = SharedDirectory(like).read_config(), []
    for folder in _runs(out):
        if replace(SharedDirectory(folder).read_config(), seed=wanted.seed) != wanted:
            continue
        if differ := other_origin(origin(like), origin(folder)):
            progress.say(f"Note: {folder} is left out of the table: it and {like} were made from different {differ}.")
        else:
            found.append(folder)
    return found


def _runs(out: Path) -> list[Path]:
    found = [path.parent for path in out.glob("seed-*/results.json") if path.parent.name.removeprefix("seed-").isdecimal()]
    return sorted(found, key=lambda folder: int(folder.name.removeprefix("seed-")))


def _folders(config: RunConfig, seeds: Sequence[int], out: Path, resume: bool) -> dict[int, Path]:
    """By seed, once it is clear that a run can be made in each."""
    seeds = [whole_number(seed, "a seed", least=0) for seed in seeds]
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds = {seeds}: expected at least one, and each once")
    if (out / "config.json").exists():
        raise RunDirectoryError(f"{out} is a run, and not a folder for several; choose another --out")
    folders = {seed: out / f"seed-{seed}" for seed in seeds}
    for seed, folder in folders.items():
        RunDirectory.check(folder, replace(config, seed=seed), resume=resume)
    return folders


Shared = tuple[RunConfig, dict[int, Path], bool, Path | str | None, str, bool]


def _run_seed(shared: Shared, device: str, seed: int) -> None:
    """May run in a worker."""
    config, folders, resume, data_root, logger, quiet = shared
    again = resume and (folders[seed] / "config.json").exists()
    run(
        replace(config, seed=seed),
        folders[seed],
        resume=again,
        device=device,
        data_root=data_root,
        quiet=quiet,
        logger=logger,
    )
