"""Tuning: as many trials of the same length for every method, chosen by validation accuracy. The test part is not used."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from decouple import settings
from decouple.config import LearnConfig, RunConfig, TuneConfig
from decouple.data import ImageData
from decouple.errors import ConfigError, NotFiniteError, expect
from decouple.files import load_record, save_record, try_record
from decouple.learn.fitting import Checkpoint, fit
from decouple.learn.objective import cross_entropy, regression
from decouple.loggers import LoggerLike
from decouple.networks import Stages
from decouple.networks.build import build_network
from decouple.pipeline.context import Run, open_run
from decouple.pipeline.directory import RunDirectory
from decouple.pipeline.learning import Trained, learn, networks_of
from decouple.pipeline.population import image_task, origin_of, q0_identity
from decouple.pipeline.searching import search
from decouple.pipeline.trials import Trial, Tuning, configured, grids_of, ordered
from decouple.progress import Progress
from decouple.q0.population import train_population
from decouple.search import TargetStore
from decouple.seeds import derive
from decouple.settings import fingerprint
from decouple.torch_state import torch_defaults
from decouple.training.evaluate import accuracy
from decouple.training.objectives import Objective
from decouple.training.processes import refuse_launch
from decouple.workers import Execution, Job, distribute


@torch_defaults()
def tune(
    config: RunConfig,
    out: Path | str,
    *,
    tuning: TuneConfig = TuneConfig(),  # noqa: B008 (frozen)
    resume: bool = False,
    device: str = "auto",
    data_root: Path | str | None = None,
    workers: int = 1,
    quiet: bool = True,
    logger: str | LoggerLike = None,
) -> Tuning:
    """Tune every method with the same number of trials and epochs, and write the results into `out`.

    All trials share data, seed and searched targets. A trial trains the network that `decouple.run` would train with its settings; a
    trial of q0 is one trajectory. The first trials are drawn before any result is known. If a method's best value is then the
    smallest or largest that was tried, every method gets a quarter more trials; those of that method start with the next value beyond
    its best. This happens up to `tuning.extensions` times. `Tuning.remarks` reports best values that are still at an edge.

    Args:
        config: the settings around the tuned ones.
        out: a run directory.
        resume: continue what `out` holds; more trials or other grids use what was done.
        workers: trials side by side, and processes that search; more than one are Ray's.
        logger: as in `decouple.run`; told the validation accuracy of each trial once it is done.

    Raises:
        ConfigError: a setting that cannot be tuned, a value out of its range, too few combinations, no Optuna; or under torchrun.
        DecoupleError: what a run raises; see `decouple.run`.
    """
    expect(config, RunConfig, "config", "such as decouple.preset('digits')")
    expect(tuning, TuneConfig, "tuning")
    refuse_launch("torchrun shares one training among its processes, and a tuning has many: use --workers")
    config, progress = settings.located(config, data_root), Progress(quiet=quiet)
    first = _drawn(Tuning(_budgeted(config, tuning), grids_of(config, tuning), (), config.data.validation), tuning.trials)
    with (
        RunDirectory.create(Path(out), config, resume=resume) as directory,
        open_run(
            directory,
            config,
            device=device,
            data_root=data_root,
            progress=progress,
            logger=logger,
            execution=Execution(workers),
        ) as run,
    ):
        found = _tuned(run, first, tuning)
        found.write(directory.path)
        return found


def _budgeted(config: RunConfig, tuning: TuneConfig) -> RunConfig:
    """The settings with the same epochs for every method."""
    epochs, cycles = tuning.epochs or config.learn.epochs, config.q0.cycles
    values: dict[str, Any] = {"sgd.epochs": epochs, "learn.epochs": epochs}
    if "q0" in tuning.methods:
        if epochs % cycles:
            raise ConfigError(f"{epochs} epochs a trial: q0 takes a multiple of its {cycles} cycles; give other --epochs")
        values |= {"q0.epochs": epochs // cycles, "q0.first_epochs": None}
    return configured(config, values)


def _single(config: RunConfig) -> RunConfig:
    """The settings with one network for each method, of the same depth, and next to no recordings."""
    shared = config.search.for_solutions().es.subspaces
    values: dict[str, Any] = {"search.solutions": 1, "search.es.subspaces": shared, "rounds.count": 0}
    values |= {"sgd.groups": (config.network.groups,)}
    values |= {"q0.trajectories": 1, "q0.members": None, "compare.images": 7, "compare.records": 2}
    return configured(config, values)


def _drawn(tuning: Tuning, count: int) -> Tuning:
    """With the trials before any result: those with the settings' own values first, where the grid has them."""
    trials: list[Trial] = []
    for method, grid in tuning.grids.items():
        own = {name: settings.flattened(tuning.base)[name] for name in grid}
        drawn = tuning.draw(method, count, [own] if all(own[name] in grid[name] for name in grid) else [])
        if len(drawn) < count:
            raise ConfigError(
                f"trials = {count}: {method} has {len(drawn)} combinations of values; give fewer --trials, or more values by --grid"
            )
        trials += [Trial(method, values, 0, None) for values in drawn]
    return replace(tuning, trials=trials)


def _extended(tuning: Tuning, number: int, count: int) -> tuple[Tuning, list[Trial]]:
    """The grids with the next values beside those at an edge, and up to `count` further trials, equally many of each method;
    none, if no best value is at an edge."""
    best = {method: tuning.best(method) for method in tuning.grids}
    beyond = {method: tuning.beyond(trial) for method, trial in best.items()}
    if not any(beyond.values()):
        return tuning, []
    grids = {}
    for method, grid in tuning.grids.items():
        added = {name: [value for setting, value in beyond[method] if setting == name] for name in grid}
        grids[method] = {name: ordered([*values, *added[name]]) for name, values in grid.items()}
    grown = replace(tuning, grids=grids)
    beside = {method: [best[method].values | {name: value} for name, value in found] for method, found in beyond.items()}
    drawn = {method: grown.draw(method, count, beside[method]) for method in grids}
    count = min(map(len, drawn.values()))
    further = [Trial(method, values, number, None) for method in drawn for values in drawn[method][:count]]
    return (grown if further else tuning), further


def _tuned(run: Run, drawn: Tuning, tuning: TuneConfig) -> Tuning:
    """With all trials done, those that were drawn before any result and those of the extensions."""
    run = replace(run, config=_single(drawn.base))
    shared = _shared(run, tuning.methods)
    found = replace(drawn, trials=_train(run, shared, drawn.trials))
    for number in range(1, tuning.extensions + 1):
        found, further = _extended(found, number, -(-tuning.trials // 4))
        if not further:
            break
        found = replace(found, trials=[*found.trials, *_train(run, shared, further)])
    return found


@dataclass(frozen=True)
class _Shared:
    """What all trials need; it can be sent to another process."""

    data: ImageData
    """Without its test part."""
    targets: TargetStore | None
    start: dict[str, Tensor] | None
    """Weights that q0's trajectories begin with; None: those of a new network."""


@dataclass(frozen=True)
class _Plan:
    """A trial to be trained."""

    method: str
    config: RunConfig
    trained: Trained
    """The network that a run with this configuration would train; of q0, where its trajectory begins."""
    folder: Path
    unit: str

    @property
    def path(self) -> Path:
        return self.folder / "trial.json"

    @property
    def work(self) -> Path:
        """What is kept until the trial is done."""
        return self.folder / "work"


def _shared(run: Run, methods: Sequence[str]) -> _Shared:
    """The targets, and of q0 the network learned with the settings' own values, which are made where they are needed."""
    begun = "q0" in methods and run.config.q0.init == "searched"
    stores = search(run) if begun or "learn" in methods else []
    start = None
    if begun:
        (network,) = learn(run, stores, [trained for trained in networks_of(run) if trained.kind == "search"])
        start = {name: value.cpu() for name, value in network.network(run).state_dict().items()}
    return _Shared(replace(run.data, test=run.data.validation), stores[0] if stores else None, start)


def _plan(run: Run, trial: Trial) -> _Plan:
    own = replace(run, config=configured(run.config, trial.values))
    networks = networks_of(own)
    (trained,) = [network for network in networks if network.kind == ("sgd" if trial.method == "sgd" else "search")]
    identity = trained.identity
    if trial.method == "q0":  # the prior decides no snapshot, but what the population of a trial reaches
        identity = fingerprint(q0_identity(own, networks), own.config.q0.prior)
    return _Plan(trial.method, own.config, trained, run.folder("tune", identity), f"tune/{trial.method}/{identity}")


def _train(run: Run, shared: _Shared, trials: Sequence[Trial]) -> list[Trial]:
    """The trials with their accuracy; what is done already is not done again."""
    plans = [_plan(run, trial) for trial in trials]
    missing = [plan for plan in plans if try_record(plan.path, unit=plan.unit) is None]
    with (
        run.timed("tune", fingerprint([plan.unit for plan in plans])),
        run.progress.task("tune, extended" if trials[0].extension else "tune", len(plans), "trials") as advance,
    ):
        advance(len(plans) - len(missing))

        def keep(plan: _Plan, validation: list[float]) -> None:
            save_record(plan.path, validation, unit=plan.unit)
            for epoch, value in enumerate(validation, 1):
                run.log("tune", f"{plan.method}-{plan.folder.name}", epoch, {"validation_accuracy": value})
            shutil.rmtree(plan.work, ignore_errors=True)
            advance(1)

        distribute(
            _score,
            shared,
            [Job(f"trained {plan.unit}", partial(tuple, [plan]), partial(keep, plan)) for plan in missing],
            device=str(run.device),
            execution=run.execution,
            result_bytes=10_000,
            mend="--workers or a batch",
        )
    scores = [load_record(plan.path, unit=plan.unit) for plan in plans]
    return [replace(trial, accuracy=max(score, default=None)) for trial, score in zip(trials, scores, strict=True)]


def _score(shared: _Shared, device: str, plan: _Plan) -> list[float]:
    """Validation accuracy after each epoch, of q0 that of the population; nothing, if the training diverges. May run in a worker."""
    data, config, trained = shared.data, plan.config, plan.trained
    seed = origin_of(config, [trained], 0).seed if plan.method == "q0" else trained.seed
    network = build_network(config.network, data.train.images, data.num_classes, groups=trained.groups, seed=seed).to(device)
    try:
        if plan.method == "q0":
            network.load_state_dict(shared.start or network.state_dict())
            ensemble = train_population(
                [network],
                image_task(config, data),
                plan.work,
                config=config.q0,
                seed=config.seed,
                precision=config.precision,
            )
            return [accuracy(cast(Stages, ensemble), data.validation)]
        objective: Objective = cross_entropy(trained.settings)
        if shared.targets is not None and plan.method == "learn":
            objective = regression(shared.targets, cast(LearnConfig, trained.settings), len(network) - 1)
        return fit(
            network,
            data.train,
            data.validation,
            objective,
            trained.settings,
            seed=derive(config.seed, "learn", trained.folder.name),
            precision=config.precision,
            checkpoint=Checkpoint(plan.work / "checkpoint.safetensors", plan.unit),
        ).validation
    except NotFiniteError:
        return []
