"""A run from settings to report: the glue that composes the stages."""

from __future__ import annotations

from pathlib import Path

from decouple import settings
from decouple.config import RunConfig
from decouple.errors import expect
from decouple.loggers import LoggerLike
from decouple.pipeline.context import Run, open_run
from decouple.pipeline.directory import RunDirectory
from decouple.pipeline.stages import STAGES, run_stages
from decouple.progress import Progress
from decouple.results import Results
from decouple.search import Execution
from decouple.torch_state import torch_defaults

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
        out: run directory.
        resume: go on with the run that `out` holds.
        workers: processes that search at once; more than one are Ray's.
        ray_address: a Ray cluster that is there already, to search on in place of this machine.
        logger: what is told of it beside metrics.jsonl: names such as "tensorboard,wandb" (see `decouple.loggers`), which write into
            `out`, or objects with a method `log` (see `decouple.Logger`).

    Raises:
        DecoupleError: whatever the user can mend; see `decouple.errors`.
    """
    import msgspec

    from decouple.files import read_json

    expect(config, RunConfig, "config", "such as decouple.preset('digits')")
    config = settings.located(config, data_root)
    with (
        RunDirectory.create(Path(out), config, resume=resume) as directory,
        open_run(
            directory,
            config,
            device=device,
            data_root=data_root,
            progress=Progress(quiet=quiet),
            logger=logger,
            execution=Execution(workers, ray_address),
        ) as opened,
    ):
        run_stages(opened)
        return msgspec.convert(read_json(directory.path / "results.json"), Results)
