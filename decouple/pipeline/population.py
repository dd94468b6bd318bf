"""The q0 stage of any task: trajectories, the learned prior, and what the population answers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from decouple import device as devices
from decouple.analysis import bootstrap_mean, tempered
from decouple.config import NetworkConfig, RunConfig, TextConfig
from decouple.data import ImageData, load_data
from decouple.data.images import in_unit_scale
from decouple.files import read_json, save_tensors, try_tensors
from decouple.networks import Stages
from decouple.networks.build import build_network
from decouple.pipeline.context import AnyRun, Run, base_of, check_images
from decouple.pipeline.directory import SharedDirectory
from decouple.pipeline.learning import Trained
from decouple.progress import Progress
from decouple.q0 import nll
from decouple.q0.architecture import Architecture, GptArchitecture, ImageArchitecture
from decouple.q0.compress import distill
from decouple.q0.ensemble import Ensemble
from decouple.q0.members import INDEX, Known, write_index
from decouple.q0.population import Order, fitted_prior, fitted_temperatures, running
from decouple.q0.prior import FLOOR, greedy_picks
from decouple.q0.trajectories import Chain, Snapshot, gradient_steps, missing_from, snapshots_of, train_trajectory
from decouple.q0.workers import distribute_trajectories
from decouple.results import NOTICEABLE_WEIGHT, Calibration, Gain, Member, Q0Results, Ways
from decouple.seeds import derive
from decouple.settings import fingerprint
from decouple.tasks import ImageTask, Task
from decouple.tasks.base import HELD_OUT
from decouple.text.corpus import kept_corpus
from decouple.text.task import TextTask


@dataclass(frozen=True)
class PopulationResults:
    """What a population gave."""

    results: Q0Results
    sizes: dict[str, list[float]]
    """Test NLL against the number of members: see `Curves.q0_size`."""
    calibration: dict[str, Calibration]
    """See `Curves.calibration`."""
    gradient_steps: int


@dataclass(frozen=True, kw_only=True)
class Population:
    """A run's population, trained or to be trained, on any task."""

    run: AnyRun
    task: Task
    identity: str
    """Of its snapshots: fingerprint of all that they depend on."""
    trajectories: int
    start: Callable[[int], nn.Module]
    """The network that a trajectory starts from."""
    architecture: Architecture
    suffix: Callable[[int], str] = lambda trajectory: ""
    """What a trajectory's name ends in, where its number does not tell what it starts from: see `snapshots_of`."""
    stream: str = "q0"
    """Name of its random streams."""
    compile: bool = False

    @cached_property
    def snapshots(self) -> list[list[Snapshot]]:
        """Those of each trajectory."""
        folder, seed = self.run.folder("q0", self.identity), self.run.config.seed
        return [
            snapshots_of(
                self.run.config.q0,
                folder,
                trajectory=trajectory,
                seed=seed,
                identity=self.identity,
                origin=self.suffix(trajectory),
            )
            for trajectory in range(self.trajectories)
        ]

    def results(self) -> PopulationResults | None:
        """Train, fit the prior, evaluate; nothing is done twice. None in all processes but the first."""
        with self.run.timed("q0", self.identity):
            self.train()
            return self.evaluate()

    def train(self) -> None:
        """Train the trajectories that are not there yet: the processes of the group share every step, or workers take one each."""
        run, config, every = self.run, self.run.config.q0, self.snapshots
        missing = [trajectory for trajectory, own in enumerate(every) if missing_from(own) < len(own)]
        epochs = config.epochs_before(config.cycles)
        if missing and run.execution.distributed and run.group.size == 1:
            with run.progress.task(f"q0, {len(every)} trajectories", len(missing) * epochs, "epochs") as advance:
                distribute_trajectories(
                    [self._chain(trajectory) for trajectory in missing],
                    [every[trajectory] for trajectory in missing],
                    execution=run.execution,
                    advance=advance,
                    log=lambda position, *rest: self._log(missing[position], *rest),
                )
            return
        for trajectory in missing:
            with run.progress.task(f"q0, trajectory {trajectory + 1}/{len(every)}", epochs, "epochs") as advance:
                log = partial(self._log, trajectory)
                train_trajectory(self._chain(trajectory), every[trajectory], group=run.group, advance=advance, log=log)

    def _chain(self, trajectory: int) -> Chain:
        config = self.run.config
        seed = derive(config.seed, self.stream, trajectory)
        return Chain(self.start(trajectory), self.task, config.q0, seed, config.precision, self.compile)

    def _log(self, trajectory: int, cycle: int, epoch: int, loss: float) -> None:
        step = self.run.config.q0.epochs_before(cycle) + epoch + 1
        self.run.log("q0", f"trajectory-{trajectory}", step, {"loss": loss})

    def answers(self, snapshot: Snapshot, network: nn.Module) -> dict[str, Tensor]:
        """What a snapshot answers on each held-out part, float32 (see `Task.predict`); kept beside it. Changes `network`."""
        path, unit = snapshot.path.with_suffix(".answers.safetensors"), f"{snapshot.unit}/answers"
        if (known := try_tensors(path, unit=unit)) is not None:
            return known[0]
        snapshot.load_into(network)
        precision = self.run.config.precision
        found = {part: self.task.predict(network, part, precision=precision).float() for part in HELD_OUT}
        save_tensors(path, found, {}, unit=unit)
        return found

    def evaluate(self) -> PopulationResults | None:
        """The prior on the prior part, and every figure on the test part; the processes share the members."""
        run, config, task = self.run, self.run.config.q0, self.task
        snapshots = [snapshot for own in self.snapshots for snapshot in own]
        network, answered = task.build(0).to(run.device), dict[int, dict[str, Tensor]]()
        with run.progress.task("q0, evaluation", len(snapshots), "members") as advance:
            for number, snapshot in enumerate(snapshots):
                if number % run.group.size == run.group.rank:
                    answered[number] = self.answers(snapshot, network)
                advance(1)
        run.group.wait()
        if not run.group.first:
            return None
        kept = [answered.get(number) or self.answers(snapshot, network) for number, snapshot in enumerate(snapshots)]
        answers = {part: [one[part] for one in kept] for part in HELD_OUT}
        truths = {part: torch.stack([task.p_truth(one, part) for one in own]) for part, own in answers.items()}
        fitted = fitted_prior(truths["prior"], config.prior, run.config.seed)
        temperatures = fitted_temperatures(answers["prior"], fitted.weights, task.true_classes("prior"))
        size, known = min(config.members or len(snapshots), len(snapshots)), Known(self.architecture)
        write_index(run.directory.path, INDEX, snapshots, fitted.weights, temperatures, size, known)
        orders = orders_of(fitted.weights, truths["prior"], snapshots)
        sizes, prior = (self._nlls(truths[part], answers[part], orders, temperatures, part) for part in ("test", "prior"))
        mixed = {way: _mixed(answers["test"], order, size) for way, order in orders.items()}
        if temperatures:
            mixed["calibrated"] = tempered(mixed["learned_prior"], temperatures[size - 1])
        shares = orders["learned_prior"].weights[:size]
        results = Q0Results(
            test_nll=Ways(**_at(sizes, size)),
            prior_nll=Ways(**_at(prior, size)),
            scores=self._scores(mixed, _at(sizes, size)),
            learned_minus_uniform=self._gain(truths["test"], orders, size),
            prior_strength=None if math.isinf(fitted.strength) else fitted.strength,
            temperature=temperatures[size - 1] if temperatures else None,
            size=size,
            members_used=int((shares >= NOTICEABLE_WEIGHT * shares.sum()).sum()),
            members_picked=len(set(orders["greedy"].positions[:size])),
            members=[
                self._member(snapshot, i, fitted.weights, truths, answers["test"]) for i, snapshot in enumerate(snapshots)
            ],
            epochs=self.trajectories * config.epochs_before(config.cycles),
        )
        steps = self.trajectories * gradient_steps(config, task.examples)
        by_size = {way: nlls for way, nlls in sizes.items() if way != "single"}
        return PopulationResults(results, by_size, self._calibration(mixed), steps)

    def _nlls(
        self,
        truths: Tensor,
        answers: Sequence[Tensor],
        orders: Mapping[str, Order],
        temperatures: Sequence[float],
        part: str,
    ) -> dict[str, list[float]]:
        """By way, for 1, 2, … M members.

        Args:
            truths: (M, N) probability of the truth by member.
            answers: (N, C) of each member.
            temperatures: of the learned prior's mixtures; none of a text.
        """
        found = {way: [float(nll(mixed)) for mixed in running(truths, order)] for way, order in orders.items()}
        if temperatures:
            by_size = zip(running(answers, orders["learned_prior"]), temperatures, strict=True)
            found["calibrated"] = [float(nll(self.task.p_truth(tempered(mixed, t), part))) for mixed, t in by_size]
        return found

    def _scores(self, mixed: Mapping[str, Tensor], nlls: Mapping[str, float]) -> dict[str, Ways]:
        of_ways = {way: self.task.scores(answers, nlls[way]) for way, answers in mixed.items()}
        return {name: Ways(**{way: scores[name] for way, scores in of_ways.items()}) for name in of_ways["single"]}

    def _calibration(self, mixed: Mapping[str, Tensor]) -> dict[str, Calibration]:
        found = {way: self.task.calibration(mixed[way]) for way in SHOWN if way in mixed}
        return {way: calibration for way, calibration in found.items() if calibration is not None}

    def _gain(self, truths: Tensor, orders: Mapping[str, Order], size: int) -> Gain:
        """Of the learned prior over equal weights, on the test part."""
        learned, uniform = (_mixed(truths, orders[way], size).clamp_min(FLOOR).log() for way in ("learned_prior", "uniform"))
        gain = bootstrap_mean(self.task.samples(uniform - learned), seed=derive(self.run.config.seed, "q0"))
        return Gain(value=gain.value, low=gain.low, high=gain.high)

    def _member(
        self, snapshot: Snapshot, i: int, weights: Tensor, truths: Mapping[str, Tensor], tests: Sequence[Tensor]
    ) -> Member:
        nlls = {part: float(nll(truths[part][i])) for part in HELD_OUT}
        return Member(
            trajectory=snapshot.trajectory,
            cycle=snapshot.cycle,
            weight=float(weights[i]),
            **{f"{part}_nll": value for part, value in nlls.items()},
            scores=self.task.scores(tests[i], nlls["test"]),
        )


SHOWN = ("single", "learned_prior", "calibrated")
"""Ways whose calibration is shown."""


def orders_of(weights: Tensor, truths: Tensor, snapshots: Sequence[Snapshot]) -> dict[str, Order]:
    """Members in the order in which each way to choose them (see `Ways`) takes them.

    Args:
        weights: (M,) of the learned prior.
        truths: (M, N) probability of the truth on the prior part.
    """
    picks = greedy_picks(truths, len(snapshots))
    latest = sorted(range(len(snapshots)), key=lambda i: (-snapshots[i].cycle, snapshots[i].trajectory))
    equal = torch.ones(len(snapshots), dtype=torch.float64)
    return {
        "single": Order(picks[:1] * len(snapshots), equal),
        "uniform": Order(latest, equal),
        "learned_prior": Order.heaviest(weights),
        "greedy": Order(picks, equal),
    }


def _mixed(answers: Sequence[Tensor] | Tensor, order: Order, count: int) -> Tensor:
    """What the first `count` members of an order answer together."""
    return next(itertools.islice(running(answers, order), count - 1, None))


def _at(nlls: Mapping[str, Sequence[float]], size: int) -> dict[str, float]:
    """By way, of `size` members."""
    return {way: of_way[size - 1] for way, of_way in nlls.items()}


@dataclass(frozen=True)
class Origin:
    """What a trajectory of q0 on images starts from."""

    seed: int
    """Of the network's initialisation."""
    learned: Trained | None = None
    """The network that has learned; None: a new one."""
    suffix: str = ""
    """Of the trajectory's name, where it shares its start with an earlier one."""


def origin_of(config: RunConfig, networks: Sequence[Trained], trajectory: int) -> Origin:
    """How many solutions there are decides which network a trajectory beyond them shares."""
    if config.q0.init == "random":
        return Origin(derive(config.seed, "q0", "network", trajectory))
    learned = [trained for trained in networks if trained.kind == "search"]
    own = learned[trajectory % len(learned)]
    return Origin(own.seed, own, f"-of-{own.name}" if trajectory >= len(learned) else "")


def image_population(run: Run, networks: Sequence[Trained]) -> Population:
    """The population of a run on images: from its learned networks, or from new ones."""
    config, data = run.config, run.data
    task = image_task(config, data)

    def start(trajectory: int) -> nn.Module:
        origin = origin_of(config, networks, trajectory)
        return task.build(origin.seed).to(run.device) if origin.learned is None else origin.learned.network(run)

    return Population(
        run=run,
        task=task,
        identity=q0_identity(run, networks),
        trajectories=config.trajectories,
        start=start,
        suffix=lambda trajectory: origin_of(config, networks, trajectory).suffix,
        architecture=ImageArchitecture(
            config.network,
            config.network.groups,
            data.image_shape,
            data.num_classes,
            in_unit_scale(data.train.images),
            data.classes,
        ),
    )


def q0_identity(run: Run, networks: Sequence[Trained]) -> str:
    """Fingerprint of what a snapshot depends on: not of how many trajectories there are, nor of the prior."""
    config = run.config.q0
    origin = next(trained.identity for trained in networks if trained.kind == "search")
    return fingerprint(origin if config.init == "searched" else base_of(run), config)


def image_task(config: RunConfig, data: ImageData) -> ImageTask:
    """The task of a run's members."""
    new = partial(_new_member, data.train.images, data.num_classes, config.network)  # which can be sent to another process
    return ImageTask(data, config.q0.augment, new)


def _new_member(images: Tensor, classes: int, settings: NetworkConfig, seed: int) -> Stages:
    return build_network(settings, images, classes, groups=settings.groups, seed=seed)


def compressed(
    folder: Path, ensemble: Ensemble, *, epochs: int, device: str = "auto", data_root: Path | None = None
) -> Ensemble:
    """The ensemble of a run as one network, trained on the run's data with its q0 settings for so many epochs, on `device`.

    Raises:
        RunDirectoryError: the data are not those of the run."""
    config: RunConfig | TextConfig
    task: Task
    known = read_json(folder / "run.json").get("data", {})
    if isinstance(ensemble.architecture, GptArchitecture):
        config = SharedDirectory(folder).read_config(TextConfig)
        task = TextTask(kept_corpus(known.get("digest", ""), folder / "q0"), config.network)
    else:
        config = SharedDirectory(folder).read_config()
        data = load_data(config.data, data_root=data_root or known.get("root"))
        check_images(SharedDirectory(folder), config, data)
        task = image_task(config, data)
    seed, place = derive(config.seed, "q0", "compressed"), devices.resolve(device)
    student, q0 = task.build(seed).to(place), replace(config.q0, epochs=epochs)
    found = distill(ensemble.to(place), student, task, q0, seed=seed, precision=config.precision, logger=Progress())
    return found.cpu()
