"""Trajectories on text: the loss, the rates, resuming, and two processes for one."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from decouple.config import TEXT_Q0, CorpusConfig, GptConfig, TextConfig
from decouple.errors import ConfigError, NotFiniteError
from decouple.q0.trajectories import Chain, Snapshot, snapshots_of, train_trajectory
from decouple.seeds import derive
from decouple.tasks.base import RowLoader
from decouple.text import Corpus, Gpt, load_corpus
from decouple.text.task import TextTask
from decouple.training.processes import Group

CONFIG = TextConfig(
    precision="float32",
    corpus=CorpusConfig(validation=200, prior=200, test=200, train=1500),
    network=GptConfig(layers=1, width=16, heads=2, context=16),
    q0=replace(TEXT_Q0, trajectories=1, cycles=3, first_epochs=2, epochs=1, restart="continue", batch=8, perturb=0.1),
)
CPU = Group()


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("\n\n".join(f"number {i}: {'tick tock ' * (i % 4 + 1)}" for i in range(120)))
    return file


@pytest.fixture(scope="module")
def corpus(text: Path) -> Corpus:
    return load_corpus(text, CONFIG.corpus, text.parent)


def new(corpus: Corpus, config: TextConfig = CONFIG) -> Gpt:
    return Gpt(config.network, vocabulary=corpus.vocabulary, seed=0)


def train(corpus: Corpus, folder: Path, config: TextConfig = CONFIG, **options: object) -> list[dict[str, Tensor]]:
    """Every snapshot's tensors."""
    snapshots = places(folder, config)
    train_trajectory(chain(corpus, config), snapshots, group=CPU, **options)  # type: ignore[arg-type]
    return [snapshot.read()[0] for snapshot in snapshots]


def places(folder: Path, config: TextConfig = CONFIG) -> list[Snapshot]:
    return snapshots_of(config.q0, folder, trajectory=0, seed=config.seed, identity="test")


def task(corpus: Corpus, config: TextConfig = CONFIG) -> TextTask:
    return TextTask(corpus, config.network)


def chain(corpus: Corpus, config: TextConfig = CONFIG) -> Chain:
    return Chain(new(corpus, config), task(corpus, config), config.q0, 1, config.precision)


def equal(one: list[dict[str, Tensor]], other: list[dict[str, Tensor]]) -> bool:
    return all(a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("optimizer", "restart"), [("muon", "continue"), ("adamw", "continue"), ("muon", "new")])
def test_a_resumed_trajectory_is_the_whole_one(corpus: Corpus, tmp_path: Path, optimizer: Any, restart: Any) -> None:
    q0 = replace(CONFIG.q0, optimizer=optimizer, restart=restart, perturb=0.1 if restart == "continue" else 0.0)
    config = replace(CONFIG, network=replace(CONFIG.network, dropout=0.2), q0=q0)
    whole = train(corpus, tmp_path, config)
    for cycle in (2, 1, 0):
        for later in range(cycle, 3):
            places(tmp_path, config)[later].path.unlink()
        torch.manual_seed(cycle)
        assert equal(train(corpus, tmp_path, config), whole)


def test_a_resumed_trajectory_needs_the_optimisers_state(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above has teeth."""
    whole = train(corpus, tmp_path)
    places(tmp_path, CONFIG)[2].path.unlink()
    monkeypatch.setattr("decouple.q0.trajectories.restore_state", lambda optimizer, tensors, rest: None)
    assert not equal(train(corpus, tmp_path), whole)


def test_a_new_start_without_a_teacher_is_an_independent_model(corpus: Corpus, tmp_path: Path) -> None:
    """Neither weights nor moments nor rates of the cycle before are left in it."""
    q0 = replace(CONFIG.q0, restart="new", perturb=0.0, alpha=0.0, cycles=2, first_epochs=1, epochs=1)
    wanted = train(corpus, tmp_path / "chain", replace(CONFIG, q0=q0))
    fresh = Gpt(CONFIG.network, vocabulary=corpus.vocabulary, seed=derive(1, "restart", 1))
    begun = places(tmp_path / "alone", replace(CONFIG, q0=q0))
    begun[0].write(({f"network.{k}": v for k, v in fresh.state_dict().items()}, None))
    alone = replace(q0, restart="continue")
    assert equal(train(corpus, tmp_path / "alone", replace(CONFIG, q0=alone))[1:], wanted[1:])


def test_training_learns_and_reports_every_epoch(corpus: Corpus, tmp_path: Path) -> None:
    seen: list[tuple[int, int, float]] = []
    epochs: list[int] = []
    config = replace(CONFIG, q0=replace(CONFIG.q0, first_epochs=4, perturb=0.0))
    train(corpus, tmp_path, config, log=lambda *entry: seen.append(entry), advance=epochs.append)
    assert [(cycle, epoch) for cycle, epoch, _ in seen] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (2, 0)]
    assert sum(epochs) == config.q0.epochs_before(3) == 6
    assert seen[3][2] < 0.7 * seen[0][2]
    last = places(tmp_path, config)[-1]
    network = new(corpus)
    before = task(corpus).predict(network, "test")
    last.load_into(network)
    assert task(corpus).predict(network, "test").log().mean() > before.log().mean() + 1


def test_probabilities_are_those_of_the_network(corpus: Corpus) -> None:
    network = new(corpus)
    inputs, targets = corpus.test.stream().batch(torch.arange(corpus.test.rows(16)), 16)
    with torch.no_grad():
        expected = functional.cross_entropy(network(inputs).flatten(0, 1), targets.flatten())
    found = task(corpus).predict(network, "test")
    assert len(found) == len(corpus.test)
    assert float(-found.log().mean()) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("distilled", [False, True])
def test_the_loss_of_a_step_is_that_of_a_plain_reference(corpus: Corpus, distilled: bool) -> None:
    """Token by token; also when the rows are shared out."""
    student, teacher = new(corpus), Gpt(CONFIG.network, vocabulary=corpus.vocabulary, seed=5)
    rows = corpus.train.rows(16)
    inputs, targets = corpus.train.stream(seed=3).batch(torch.tensor([0, 4, rows - 1]), 16)
    alpha, temperature, losses = CONFIG.q0.alpha, CONFIG.q0.temperature, []
    with torch.no_grad():
        answers, taught = student(inputs).double(), teacher(inputs).double()
    for b, t in (targets != -100).nonzero().tolist():
        entropy = -answers[b, t].log_softmax(0)[targets[b, t]]
        p, q = (taught[b, t] / temperature).softmax(0), (answers[b, t] / temperature).softmax(0)
        divergence = (p * (p / q).log()).sum()
        losses.append((1 - alpha) * entropy + alpha * temperature**2 * divergence if distilled else entropy)
    expected = float(torch.stack(losses).mean())

    def share(group: Group) -> float:
        positions = torch.tensor([0, 4, rows - 1])
        batch = RowLoader(lambda rows: corpus.train.stream(seed=3).batch(rows, 16), CPU.device, group).make((0, positions))
        learned = task(corpus)
        if distilled:
            loss = learned.distillation_loss(student, teacher, batch, alpha=alpha, temperature=temperature)
        else:
            loss = learned.loss(student, batch)
        return float(loss.detach()) * batch.counted / batch.counted_by_all

    assert share(Group()) == pytest.approx(expected, abs=1e-5)
    assert share(Group(rank=0, size=2)) + share(Group(rank=1, size=2)) == pytest.approx(expected, abs=1e-5)


def test_a_loss_that_is_not_finite_is_named(corpus: Corpus, tmp_path: Path) -> None:
    broken = chain(corpus)
    with torch.no_grad():
        broken.network.head.weight[0, 0] = torch.nan  # type: ignore[union-attr]
    with pytest.raises(NotFiniteError, match="cycle 1, epoch 1: the loss is not finite at step 1"):
        train_trajectory(broken, places(tmp_path), group=CPU)


def test_more_processes_than_rows_are_refused() -> None:
    with pytest.raises(ConfigError, match="a batch of 2 is too small for 3 processes; use a larger batch, or start fewer"):
        Group(size=3).part(2)


Together = Callable[[list[str]], list[tuple[int, str, str]]]

PROGRAM = """
import json, sys, warnings
from pathlib import Path
import torch
from decouple import settings
from decouple.config import TextConfig
from decouple.text import Gpt, load_corpus
from decouple.training.processes import process_group
from decouple.text.task import TextTask
from decouple.q0.trajectories import Chain, snapshots_of, train_trajectory

torch.set_num_threads(1)
file, folder = Path(sys.argv[1]), Path(sys.argv[2])
config = settings.from_builtins(json.loads(sys.argv[3]), TextConfig())
corpus = load_corpus(file, config.corpus, file.parent)
with process_group("cpu") as group:
    network = Gpt(config.network, vocabulary=corpus.vocabulary, seed=0)
    snapshots = snapshots_of(config.q0, folder, trajectory=0, seed=config.seed, identity="test")
    chain = Chain(network, TextTask(corpus, config.network), config.q0, 1, config.precision)
    train_trajectory(chain, snapshots, group=group)
"""


def test_two_processes_give_what_one_gives(text: Path, corpus: Corpus, tmp_path: Path, together: Together) -> None:
    from decouple import settings

    config = replace(CONFIG, q0=replace(CONFIG.q0, optimizer="adamw", cycles=2))
    one = train(corpus, tmp_path / "one", config)
    arguments = [str(text), str(tmp_path / "two"), json.dumps(settings.to_builtins(config))]
    for status, _, errors in together(["-c", PROGRAM, *arguments]):
        assert status == 0, errors
    two = [snapshot.read()[0] for snapshot in places(tmp_path / "two", config)]
    for a, b in zip(one, two, strict=True):
        for name in a:
            assert torch.allclose(a[name], b[name], atol=2e-4, rtol=1e-3), name
