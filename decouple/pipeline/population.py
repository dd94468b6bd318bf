"""The q0 stage: trajectories from the learned networks, the learned prior, and what the population answers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from decouple.analysis import bootstrap_mean
from decouple.config import NetworkConfig
from decouple.data import load_data
from decouple.data.images import Split, in_unit_scale
from decouple.errors import ConfigError
from decouple.files import read_json, save_tensors, try_tensors
from decouple.networks import Stages, paper_network
from decouple.pipeline.context import Run
from decouple.pipeline.directory import SharedDirectory
from decouple.pipeline.learning import Trained
from decouple.progress import Progress
from decouple.q0 import greedy_members, mixture, nll, select_members
from decouple.q0.architecture import GptArchitecture, PaperArchitecture
from decouple.q0.compress import distill
from decouple.q0.ensemble import Ensemble, write_index
from decouple.q0.measures import brier_score, calibration_error
from decouple.q0.population import fitted_prior
from decouple.q0.prior import FLOOR
from decouple.q0.trajectories import Chain, Snapshot, gradient_steps, missing_from, snapshots_of, train_trajectory
from decouple.results import NOTICEABLE_WEIGHT, Gain, Member, Q0Results, Ways
from decouple.seeds import derive
from decouple.settings import fingerprint
from decouple.tasks.images import ImageTask
from decouple.training.evaluate import logits


@dataclass(frozen=True)
class Population:
    results: Q0Results
    sizes: dict[str, list[float]]
    """Test NLL against the number of members: see `Curves.q0_size`."""
    gradient_steps: int


def population(run: Run, networks: list[Trained]) -> Population:
    """Train the trajectories that are not there yet, fit the prior, and evaluate."""
    identity = q0_identity(run, networks)
    with run.timed("q0", identity):
        return evaluate(run, train(run, networks, identity))


def q0_identity(run: Run, networks: list[Trained]) -> str:
    """Fingerprint of what a snapshot depends on: not of how many trajectories there are, nor of the prior."""
    config = run.config.q0
    origin = next(trained.identity for trained in networks if trained.kind == "search")
    return fingerprint(origin if config.init == "searched" else run.base, config)


def train(run: Run, networks: list[Trained], identity: str) -> list[Snapshot]:
    """The snapshots of every trajectory; trains those that are not there yet, as many at a time as there are workers."""
    config = run.config.q0
    learned = [trained for trained in networks if trained.kind == "search"]
    count = config.trajectories or len(learned)
    all_snapshots = [
        snapshots_of(config, run.folder("q0", identity), trajectory=trajectory, seed=run.config.seed, identity=identity)
        for trajectory in range(count)
    ]
    missing = [t for t, own in enumerate(all_snapshots) if missing_from(own) < len(own)]

    def chain(trajectory: int) -> Chain:
        if config.init == "searched":
            network = learned[trajectory % len(learned)].network(run)
        else:
            network = empty_member(run, seed=derive(run.config.seed, "q0", "network", trajectory))
        new = partial(_new_member, run.data.train.images, run.data.num_classes, run.config.network)
        task = ImageTask(run.data.train, config.augment, new)
        return Chain(network, task, config, derive(run.config.seed, "q0", trajectory), run.config.precision)

    def log(trajectory: int, cycle: int, epoch: int, loss: float) -> None:
        run.log("q0", config.epochs_before(cycle) + epoch + 1, f"trajectory-{trajectory}", {"loss": loss})

    epochs = config.epochs_before(config.cycles)
    if missing and (run.execution.distributed):
        from decouple.q0.workers import distribute_trajectories  # it takes Ray, which one process does without

        with run.progress.task(f"q0, {count} trajectories", len(missing) * epochs, "epochs") as advance:
            distribute_trajectories(
                [chain(trajectory) for trajectory in missing],
                [all_snapshots[trajectory] for trajectory in missing],
                workers=run.execution.workers,
                address=run.execution.ray_address,
                advance=advance,
                log=lambda position, *rest: log(missing[position], *rest),
            )
        missing = []
    for trajectory in missing:
        with run.progress.task(f"q0, trajectory {trajectory + 1}/{count}", epochs, "epochs") as advance:
            train_trajectory(
                chain(trajectory),
                all_snapshots[trajectory],
                device=run.device,
                advance=advance,
                log=partial(log, trajectory),
            )
    return [snapshot for own in all_snapshots for snapshot in own]


def _new_member(images: Tensor, classes: int, settings: NetworkConfig, seed: int) -> Stages:
    return paper_network(images, classes, settings, groups=settings.groups, seed=seed)


def empty_member(run: Run, *, seed: int = 0) -> Stages:
    """A network of the members' shape."""
    return run.network(run.config.network, groups=run.config.network.groups, seed=seed)


def evaluate(run: Run, snapshots: list[Snapshot]) -> Population:
    """The prior on the prior split, and every figure on the test split."""
    config, data = run.config.q0, run.data
    network = empty_member(run)
    answers = [_answers(run, snapshot, network) for snapshot in snapshots]
    prior_truth = torch.stack([truth(prior, data.prior) for prior, _ in answers])
    tests = torch.stack([test for _, test in answers])
    fitted = fitted_prior(prior_truth, config.prior, run.config.seed)
    members = min(config.members or len(snapshots), len(snapshots))
    chosen, weights = select_members(fitted.weights, members)
    uniform = torch.full((len(snapshots),), 1 / len(snapshots), dtype=torch.float64)
    single = int(nll(prior_truth).argmin())
    ways = {
        "single": (tests[single], prior_truth[single]),
        "uniform": (mixture(tests, uniform), uniform @ prior_truth),
        "learned_prior": (mixture(tests[chosen], weights), weights @ prior_truth[chosen]),
    }
    picked, share = greedy_members(prior_truth, members)
    ways["greedy"] = (mixture(tests[picked], share), share @ prior_truth[picked])
    truths = {way: truth(test, data.test) for way, (test, _) in ways.items()}
    differences = truths["uniform"].clamp_min(FLOOR).log() - truths["learned_prior"].clamp_min(FLOOR).log()
    gain = bootstrap_mean(differences, seed=derive(run.config.seed, "q0"))
    labels = data.test.labels
    results = Q0Results(
        test_nll=Ways(**{way: float(nll(of_test)) for way, of_test in truths.items()}),
        test_accuracy=Ways(**{way: _accuracy(test, data.test) for way, (test, _) in ways.items()}),
        prior_nll=Ways(**{way: float(nll(prior)) for way, (_, prior) in ways.items()}),
        test_ece=Ways(**{way: calibration_error(test, labels) for way, (test, _) in ways.items()}),
        test_brier=Ways(**{way: brier_score(test, labels) for way, (test, _) in ways.items()}),
        learned_minus_uniform=Gain(value=gain.value, low=gain.low, high=gain.high),
        prior_strength=None if math.isinf(fitted.strength) else fitted.strength,
        members_used=int((weights >= NOTICEABLE_WEIGHT).sum()),
        members=[
            Member(
                trajectory=snapshot.trajectory,
                cycle=snapshot.cycle,
                weight=float(weight),
                prior_nll=float(nll(prior_truth[i])),
                test_nll=float(nll(truth(tests[i], data.test))),
                test_accuracy=_accuracy(tests[i], data.test),
            )
            for i, (snapshot, weight) in enumerate(zip(snapshots, fitted.weights, strict=True))
        ],
        epochs=len(snapshots) // config.cycles * config.epochs_before(config.cycles),
    )
    settings = run.config.network
    shape = PaperArchitecture(
        settings, settings.groups, tuple(data.image_shape), data.num_classes, in_unit_scale(data.train.images)
    )
    write_index(run.directory.path, snapshots, fitted.weights, members, shape)
    steps = len(snapshots) // config.cycles * gradient_steps(config, len(data.train))
    return Population(results, _sizes(tests, prior_truth, data.test, fitted.weights, snapshots), steps)


def truth(probabilities: Tensor, split: Split) -> Tensor:
    """(N,) probability given to the true class."""
    return probabilities[torch.arange(len(split)), split.labels]


def _answers(run: Run, snapshot: Snapshot, network: Stages) -> tuple[Tensor, Tensor]:
    """Probabilities (N, C) float64 of a snapshot on the prior and on the test split; kept beside it."""
    path = snapshot.path.with_suffix(".answers.safetensors")
    unit = f"{snapshot.unit}/answers/{run.data.digest}"
    if (known := try_tensors(path, unit=unit)) is not None:
        tensors = known[0]
    else:
        snapshot.load_into(network)
        tensors = {name: logits(network, split) for name, split in (("prior", run.data.prior), ("test", run.data.test))}
        save_tensors(path, tensors, {}, unit=unit)
    return tensors["prior"].double().softmax(1), tensors["test"].double().softmax(1)


def _accuracy(probabilities: Tensor, split: Split) -> float:
    return float((probabilities.argmax(1) == split.labels).double().mean())


def compressed(folder: Path, ensemble: Ensemble, *, epochs: int, data_root: Path | None = None) -> Ensemble:
    """The ensemble of a run as one network, trained on the run's images with its q0 settings for so many epochs."""
    if isinstance(ensemble.architecture, GptArchitecture):
        raise ConfigError(f"{folder} is a run on text, whose members are not made one network: leave out --distill")
    config = SharedDirectory(folder).read_config()
    known = read_json(folder / "run.json").get("data", {})
    data = load_data(config.data, data_root=data_root or known.get("root"))
    seed = derive(config.seed, "q0", "compressed")
    student = paper_network(data.train.images, data.num_classes, config.network, groups=config.network.groups, seed=seed)
    q0 = replace(config.q0, epochs=epochs)
    with Progress().task("distillation", epochs, "epochs") as advance:
        return distill(ensemble, student, data.train, q0, seed=seed, precision=config.precision, advance=advance)


def _sizes(
    tests: Tensor, prior_truth: Tensor, split: Split, weights: Tensor, snapshots: list[Snapshot]
) -> dict[str, list[float]]:
    """Test NLL by number of members: in the order of training, heaviest first, and by greedy picks."""
    trained = torch.tensor(sorted(range(len(snapshots)), key=lambda i: (snapshots[i].cycle, snapshots[i].trajectory)))
    p_truth = torch.stack([truth(test, split) for test in tests])
    sizes: dict[str, list[float]] = {"uniform": [], "learned_prior": [], "greedy": []}
    for k in range(1, len(snapshots) + 1):
        sizes["uniform"].append(float(nll(p_truth[trained[:k]].mean(0))))
        chosen, share = select_members(weights, k)
        sizes["learned_prior"].append(float(nll(share @ p_truth[chosen])))
        chosen, share = greedy_members(prior_truth, k)
        sizes["greedy"].append(float(nll(share @ p_truth[chosen])))
    return sizes
