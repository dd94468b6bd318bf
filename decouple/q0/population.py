"""A population of networks of one's own: a trajectory from each, and the learned prior over their snapshots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from decouple import own_code
from decouple.analysis.temperature import fit_temperature
from decouple.config import Q0Config
from decouple.data.images import ImageData
from decouple.errors import NetworkError, expect
from decouple.loggers import LoggerLike, Loggers
from decouple.networks.checks import check_trainable
from decouple.networks.state import check_values, own_copy, state_of, weights_digest
from decouple.networks.structure import structure_text
from decouple.q0.ensemble import Ensemble
from decouple.q0.members import OWN_INDEX, about, check_members, chosen_members, write_index
from decouple.q0.prior import Prior, cross_validated_strength, fit_prior, select_members
from decouple.q0.trajectories import Chain, Snapshot, batch_of, snapshots_of, train_trajectory
from decouple.seeds import derive
from decouple.settings import fingerprint
from decouple.tasks.base import Task
from decouple.tasks.images import ImageTask
from decouple.tensors import whole_number
from decouple.torch_state import plain_torch, torch_defaults


@plain_torch()
def train_population(
    networks: Sequence[nn.Module],
    data: ImageData | Task,
    folder: Path | str,
    *,
    config: Q0Config = Q0Config(),  # noqa: B008 (frozen)
    seed: int = 0,
    precision: str = "float32",
    logger: LoggerLike = None,
) -> Ensemble:
    """Train a trajectory from each network, weigh all their snapshots by the learned prior, and calibrate the mixture.

    Args:
        networks: new or trained, with equal names and shapes of weights; not changed. On images they must be `Stages`. Each trajectory
            is trained on the device of its network.
        data: trajectories train on `train`, the prior is fitted on `prior`. Or a task of your own (`decouple.tasks.Task`).
        folder: where the snapshots go; those that it holds already are not trained again. `Ensemble.load(folder, network=…)` loads
            the population that was trained there last.
        config: cycles, epochs, rates, distillation, `members` and `prior`; `init` and `trajectories` are not used.
        seed: of batches, views and noise.
        precision: "float32" or "bfloat16" (autocast).
        logger: told the loss of each epoch once its cycle is kept; a `decouple.Progress` shows a bar.

    Raises:
        ConfigError: a setting out of its range.
        NetworkError: no networks, one that does not fit the data or cannot be kept in a file, or networks of different shapes.
        NotFiniteError: a loss or gradient became NaN or infinite; names the step.

    >>> import tempfile, decouple
    >>> data = decouple.load_data("digits")
    >>> small = decouple.NetworkConfig(width=8)
    >>> new = [decouple.paper_network(data.train.images, 10, small, groups=1, seed=seed) for seed in (0, 1)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ensemble = train_population(new, data, folder, config=Q0Config(cycles=2, epochs=1))
    >>> ensemble(data.test.images[:5]).shape
    torch.Size([5, 10])
    """
    task, seed = _checked(networks, data, config), whole_number(seed, "seed")
    loggers, every = Loggers(logger), []
    for trajectory, network in enumerate(networks):
        chain = Chain(network, task, config, derive(seed, "q0", trajectory), precision)
        every += _trained(chain, Path(folder), trajectory, seed, loggers)
    members = [_member(networks[snapshot.trajectory], task, snapshot) for snapshot in every]
    answers = [task.predict(member, "prior", precision=precision) for member in members]
    truths = torch.stack([task.p_truth(each, "prior") for each in answers])
    weights, size = fitted_prior(truths, config.prior, seed).weights, config.members or len(members)
    temperatures = fitted_temperatures(answers, weights, task.true_classes("prior"))
    ensemble = _heaviest(members, weights, size, temperatures)
    write_index(Path(folder), OWN_INDEX, every, weights, temperatures, size, about(members, ensemble.classes, None))
    return ensemble


@torch_defaults()
def _heaviest(members: Sequence[nn.Module], weights: Tensor, size: int, temperatures: Sequence[float]) -> Ensemble:
    chosen, share = chosen_members(weights, size=size)
    temperature = temperatures[len(chosen) - 1] if temperatures else 1.0
    return Ensemble([members[i] for i in chosen], share, temperature=temperature)


def _trained(chain: Chain, folder: Path, trajectory: int, seed: int, logger: Loggers) -> list[Snapshot]:
    """The snapshots of a trajectory; those that are not there yet are trained."""
    config, network, epochs = chain.config, chain.network, chain.config.epochs_before(chain.config.cycles)
    known = [config, chain.precision, weights_digest(network), structure_text(network), chain.task.digest]
    if config.restart == "new" and config.cycles > 1:
        new = chain.task.build(chain.seed)  # before anything is trained: a task may not know how
        known += [weights_digest(new), structure_text(new)]
    identity = fingerprint(*known, *own_code.behaviour(type(chain.task)))
    place = folder / f"{identity}-seed{seed}"
    snapshots = snapshots_of(config, place, trajectory=trajectory, seed=seed, identity=identity)

    def log(cycle: int, epoch: int, loss: float) -> None:
        logger.log("q0", f"trajectory-{trajectory}", config.epochs_before(cycle) + epoch + 1, {"loss": loss})

    with logger.task(f"q0, trajectory {trajectory + 1}", epochs, "epochs") as advance:
        train_trajectory(chain, snapshots, advance=advance, log=log)
    return snapshots


def _member(network: nn.Module, task: Task, snapshot: Snapshot) -> nn.Module:
    member = own_copy(network)
    task.mark(member)
    snapshot.load_into(member)
    return member


def _checked(networks: Sequence[nn.Module], data: ImageData | Task, config: Q0Config) -> Task:
    """The task, if a population can be trained on it from these networks."""
    expect(config, Q0Config, "config")
    hint = "such as decouple.load_data('digits'), or a Task"
    task = data if isinstance(data, Task) else ImageTask(expect(data, ImageData, "data", hint), config.augment)
    if isinstance(networks, nn.Module):
        raise NetworkError(f"networks must be a sequence of them, not one {type(networks).__name__}; pass [network]")
    for number, network in enumerate(networks):
        check_values(network, f"networks[{number}]")
        task.check(network, min(batch_of(config, cycle) for cycle in range(config.cycles)))
        check_trainable(network, f"networks[{number}]")
        state_of(network, f"networks[{number}]")
    check_members(networks)
    config.check_members(len(networks))
    return task


@torch_defaults()
def fitted_prior(p_truth: Tensor, method: str, seed: int) -> Prior:
    """The prior as `Q0Config.prior` asks for it.

    Args:
        p_truth: (M, N) probability of the true class on the prior split, by member.
        method: "shrunk", "exact" or "softmax".
        seed: of the folds of the cross-validation.
    """
    if method != "shrunk" or p_truth.shape[1] < 2:
        return fit_prior(p_truth, method="exact" if method == "shrunk" else method)
    return fit_prior(p_truth, strength=cross_validated_strength(p_truth, seed=seed).strength)


def fitted_temperatures(answers: Sequence[Tensor], weights: Tensor, labels: Tensor | None) -> list[float]:
    """The temperature of the 1, 2, … M heaviest members, whose weights are (M,), by their answers (N, C) on the prior part; none,
    where answers are the probability of the truth and there are no labels (N,)."""
    return [] if labels is None else [fit_temperature(mixed, labels) for mixed in running(answers, Order.heaviest(weights))]


class Order(NamedTuple):
    """Members in the order in which an ensemble that grows takes them, some perhaps more than once."""

    positions: Sequence[int]
    weights: Tensor
    """(K,) float64, in that order."""

    @classmethod
    def heaviest(cls, weights: Tensor) -> Order:
        """The heaviest first, by weights (M,)."""
        positions, shares = select_members(weights.double(), len(weights))
        return cls(positions.tolist(), shares)


def running(answers: Sequence[Tensor] | Tensor, order: Order) -> Iterator[Tensor]:
    """What the first 1, 2, … K of an order answer together, (N, …) float64, from the members' answers (N, …)."""
    total = torch.zeros_like(answers[0], dtype=torch.float64)
    for position, weight, whole in zip(order.positions, order.weights, order.weights.cumsum(0), strict=True):
        total += weight * answers[position].double()
        yield total / whole
