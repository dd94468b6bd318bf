"""A task of one's own: what it defines, and the defaults of the rest."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from decouple.config import Q0Config
from decouple.errors import ConfigError
from decouple.q0 import train_population
from decouple.tasks import Task
from decouple.tasks.base import RowLoader
from decouple.training.processes import Group
from decouple.training.stream import Batch


class Reddish(Task):
    """Which pixels have more red than green."""

    examples = 96

    def __init__(self, digest: str = "reddish") -> None:
        self.pictures = torch.rand(128, 9, 3, generator=torch.Generator().manual_seed(0))
        self.labels = (self.pictures[..., 0] > self.pictures[..., 1]).long()
        self._digest = digest

    @property
    def digest(self) -> str:
        return self._digest

    def rows(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.pictures[positions], self.labels[positions]

    def predict(self, network: nn.Module, part: str, *, precision: str = "float32") -> Tensor:
        assert part == "prior"
        with torch.no_grad():
            probabilities = network.eval()(self.pictures[96:]).softmax(-1)
        return probabilities.gather(-1, self.labels[96:, :, None]).flatten()


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.1), ("muon", 0.01)])
def test_a_population_is_trained_on_it(tmp_path: Path, optimizer: Any, lr: float) -> None:
    task, networks = Reddish(), [network(0), network(1)]
    config = Q0Config(cycles=2, epochs=8, batch=16, lr=lr, alpha=0.3, optimizer=optimizer)
    ensemble = train_population(networks, task, tmp_path, config=config)
    assert len(list(tmp_path.rglob("cycle-*.safetensors"))) == 4
    right = (ensemble(task.pictures[96:]).argmax(-1) == task.labels[96:]).double().mean()
    share = (networks[0](task.pictures[96:]).argmax(-1) == task.labels[96:]).double().mean()
    assert right > 0.9 > share
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    train_population(networks, task, tmp_path, config=config)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before
    train_population(networks[:1], Reddish("another"), tmp_path, config=config)
    assert len(list(tmp_path.rglob("cycle-*.safetensors"))) == 6, "other examples have snapshots of their own"


def test_a_loss_that_changes_is_trained_anew(tmp_path: Path) -> None:
    class Smooth(Reddish):
        def loss(self, network: nn.Module, batch: Batch) -> Tensor:
            return 0.5 * super().loss(network, batch)

    for task, folders in ((Reddish(), 1), (Smooth(), 2), (Smooth(), 2)):
        train_population([network(0)], task, tmp_path, config=Q0Config(cycles=1, epochs=1))
        assert len(list(tmp_path.glob("*-seed0"))) == folders


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"examples": 0}, r"Wrong\.examples = 0: expected a number above 0"),
        ({"digest": None}, r"Wrong\.digest = None: expected text"),
        ({"rows": Task.rows}, r"Wrong has no rows\(positions\): expected it, or a loader of its own"),
        (
            {"rows": lambda self, positions: (self.pictures[positions], self.labels)},
            r"rows gives 2 inputs and 128 labels for 2",
        ),
        (
            {"loss": lambda self, network, batch: network(batch.inputs)},
            r"Wrong\.loss gives a tensor \(2, 9, 2\) of values from",
        ),
        ({"loss": lambda self, network, batch: 1.0}, r"Wrong\.loss gives a float: expected one number"),
        ({"predict": lambda self, network, part, **_: None}, r"Wrong\.predict gives a NoneType: expected probabilities"),
        (
            {"predict": lambda self, network, part, **_: network(self.pictures[96:])},
            r"Wrong\.predict gives a tensor \(32, 9, 2\)",
        ),
        (
            {"predict": lambda self, *_, **__: 2 * torch.ones(3)},
            r"Wrong\.predict gives a tensor \(3,\) of values from 2 to 2",
        ),
    ],
)
def test_what_a_task_gives_is_checked_before_anything_is_trained(
    tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    task = type("Wrong", (Reddish,), wrong)()
    with pytest.raises(ConfigError, match=message):
        train_population([network(0)], task, tmp_path / "population", config=Q0Config(cycles=1, epochs=1))
    assert not (tmp_path / "population").exists()


def test_to_try_a_task_draws_nothing(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    Reddish().check(nn.Sequential(network(0), nn.Dropout(0.5)), 8)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_builder_cycles_cannot_start_anew(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"q0\.restart = new .*: expected a task that builds one; use continue"):
        train_population([network(0)], Reddish(), tmp_path, config=Q0Config(cycles=2, epochs=1, restart="new"))


def test_the_default_loss_is_the_mean_over_what_counts() -> None:
    """Also when the rows are shared out."""
    task = Reddish()
    task.labels[5, 3:] = -100
    one, positions = network(0), torch.tensor([4, 5, 6])

    def share(group: Group) -> float:
        batch = RowLoader(task.rows, torch.device("cpu"), group).make((0, positions))
        return float(task.loss(one, batch).detach()) * batch.counted / batch.counted_by_all

    logits, labels = one(task.pictures[4:7]).flatten(0, 1), task.labels[4:7].flatten()
    p_truth = logits[labels >= 0].softmax(-1).gather(1, labels[labels >= 0, None])
    assert share(Group()) == pytest.approx(float(-p_truth.log().mean().detach()), abs=1e-6)
    assert share(Group(rank=0, size=2)) + share(Group(rank=1, size=2)) == pytest.approx(share(Group()), abs=1e-6)
