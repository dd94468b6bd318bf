"""A run from settings to report: the glue that composes the stages."""

from __future__ import annotations

from pathlib import Path

import msgspec

from decouple import settings
from decouple.config import RunConfig
from decouple.errors import expect
from decouple.files import read_json
from decouple.loggers import LoggerLike
from decouple.pipeline.context import Run, open_run
from decouple.pipeline.directory import RunDirectory
from decouple.pipeline.stages import STAGES, run_stages
from decouple.progress import Progress
from decouple.results import Results
from decouple.torch_state import torch_defaults
from decouple.workers import Execution

__all__ = ["STAGES", "Run", "RunDirectory", "open_run", "run", "run_stages"]


@torch_defaults()
def run(
    config: RunConfig,
    out: Path | str,
    *,
    resume: bool = False,
    device: str = "auto",
    data_root: Path | str | None = None,
    workers: int = 1,
    ray_address: str | None = None,
    quiet: bool = True,
    logger: str | LoggerLike = None,
) -> Results:
    """Do everything that `decouple run` does, and return the results.

    Args:
        config: such as `decouple.preset("digits")`, or one made from it with `dataclasses.replace`.
        out: run directory, made if it does not exist.
        resume: continue the run that `out` holds; without it, a directory that holds a run is refused.
        device: "auto" (the first GPU, or else the CPU), "cpu", "cuda" or "cuda:N".
        data_root: folder of the data sets; None: the run's own, or else $DECOUPLE_DATA, or ~/.cache/decouple/data.
        workers: number of processes that search batches, or train q0 trajectories, in parallel; more than one run in Ray.
        ray_address: Ray cluster to run the workers on instead of this machine: "host:port" or "auto".
        quiet: show no progress.
        logger: where metrics go in addition to metrics.jsonl: names such as "tensorboard,wandb" (see `decouple.loggers`), which write
            into `out`, or objects with a method `log` (see `decouple.Logger`).

    Raises:
        DecoupleError: anything that the user can fix; see `decouple.errors`.
    """
    expect(config, RunConfig, "config", "such as decouple.preset('digits')")
    config, execution = settings.located(config, data_root), Execution(workers, ray_address)
    with (
        RunDirectory.create(Path(out), config, resume=resume) as directory,
        open_run(
            directory,
            config,
            device=device,
            data_root=data_root,
            progress=Progress(quiet=quiet),
            logger=logger,
            execution=execution,
        ) as opened,
    ):
        run_stages(opened)
        return msgspec.convert(read_json(directory.path / "results.json"), Results)
