"""A run of q0 on text, from settings to report."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from decouple import device as devices, results
from decouple.config import TextConfig
from decouple.errors import expect
from decouple.files import write_json
from decouple.loggers import LoggerLike, check_logger
from decouple.pipeline.context import AnyRun, check_data, logging_to
from decouple.pipeline.directory import RunDirectory, SharedDirectory
from decouple.pipeline.population import Population
from decouple.progress import Progress
from decouple.q0.architecture import GptArchitecture
from decouple.results import Curves, TextResults
from decouple.seeds import derive
from decouple.settings import fingerprint
from decouple.tasks.base import HELD_OUT
from decouple.text.corpus import Corpus, load_corpus
from decouple.text.gpt import Gpt
from decouple.text.task import TextTask
from decouple.torch_state import torch_defaults
from decouple.training.processes import process_group
from decouple.workers import Execution


@dataclass(frozen=True, kw_only=True)
class TextRun(AnyRun):
    """A run on text."""

    config: TextConfig
    corpus: Corpus

    @property
    def identity(self) -> str:
        """Fingerprint of what a snapshot depends on: not of how many trajectories there are, nor of the prior."""
        config = self.config
        return fingerprint(self.corpus.digest, config.network, config.precision, config.compile, config.seed, config.q0)

    @cached_property
    def population(self) -> Population:
        """Its population; every trajectory starts from a new network."""
        config, task, stream = self.config, TextTask(self.corpus, self.config.network), "q0-text"

        def start(trajectory: int) -> Gpt:
            return task.build(derive(config.seed, stream, "network", trajectory)).to(self.device)

        return Population(
            run=self,
            task=task,
            identity=self.identity,
            trajectories=config.q0.trajectories or 1,
            start=start,
            architecture=GptArchitecture(config.network, self.corpus.vocabulary),
            stream=stream,
            compile=config.compile,
        )

    @cached_property
    def parameters(self) -> int:
        """Of a member."""
        return sum(parameter.numel() for parameter in self.population.task.build(0).parameters())


@torch_defaults()
def run_text(
    config: TextConfig,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    workers: int = 1,
    quiet: bool = True,
    logger: str | LoggerLike = None,
) -> TextResults | None:
    """Do everything that `decouple q0 text` does; returns the results, but under torchrun only in the first process.

    Args:
        config: such as `decouple.text_preset("tiny")`.
        data: a text file, read as by `decouple.text.corpus.read_text`.
        out: run directory, on a disk that all processes see.
        resume: continue the run that `out` holds.
        workers: processes that train trajectories at once; more than one are Ray's.
        logger: as in `decouple.run`.

    Raises:
        DecoupleError: whatever the user can mend; see `decouple.errors`.
    """
    expect(config, TextConfig, "config", "such as decouple.text_preset('tiny')")
    out = Path(out)
    check_logger(logger)
    execution = Execution(workers)
    devices.prepare()
    with ExitStack() as stack:
        group = stack.enter_context(process_group(device))
        with group.first_alone():  # it makes the token file
            opened = RunDirectory.create(out, config, resume=resume) if group.first else SharedDirectory(out)
            directory = stack.enter_context(opened)
            corpus, settings = load_corpus(data, config.corpus, out / "q0"), fingerprint(config.corpus)
            check_data(directory, settings, corpus.digest, f"text than {data} holds")
            described = {"digest": corpus.digest, "settings": settings, "file": str(Path(data).resolve())}
            directory.describe(seed=config.seed, data=described, group=group, execution=execution, code={})
        loggers = stack.enter_context(logging_to(logger if group.first else None, out, config))
        shared: dict[str, Any] = {"directory": directory, "group": group, "execution": execution, "logger": loggers}
        run = TextRun(config=config, corpus=corpus, progress=Progress(quiet=quiet or not group.first), **shared)
        run.progress.say(_about(run))
        run.say_changes()
        found = _results(run)
        group.wait()  # no process leaves while another still reads
        return found


def _results(run: TextRun) -> TextResults | None:
    """Train, evaluate, and write results and report; None in all processes but the first."""
    corpus, folder = run.corpus, run.directory.path
    found = run.population.results()
    if found is None:
        return None
    record = TextResults(
        format=results.FORMAT,
        preset=run.config.preset,
        seed=run.config.seed,
        parameters=run.parameters,
        vocabulary=corpus.vocabulary,
        bytes={name: getattr(corpus, name).bytes for name in ("train", *HELD_OUT)},
        tokens={name: len(getattr(corpus, name)) for name in ("train", *HELD_OUT)},
        q0=found.results,
    )
    write_json(folder / "results.json", results.to_json(record))
    write_json(folder / "curves.json", results.to_json(Curves(format=results.FORMAT, q0_size=found.sizes)))
    from decouple.report import build_report  # matplotlib takes a while to import

    with run.timed("report", ""):
        build_report(folder)
    return record


def _about(run: TextRun) -> str:
    processes = f", {run.group.size} processes" if run.group.size > 1 else ""
    read = f" ({'; '.join(run.corpus.notes)})" if run.corpus.notes else ""
    return (
        f"q0 text, {run.config.preset}, seed {run.config.seed}: {run.corpus.train.bytes:,} bytes of training text{read}, "
        f"{run.parameters:,} parameters, on {run.group.device}{processes}; in {run.directory.path}"
    )
