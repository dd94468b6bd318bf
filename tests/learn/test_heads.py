"""Heads at the earlier blocks: what they teach, against the gradient, and how they learn."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from decouple.config import EsConfig, LearnConfig, LiveConfig, NetworkConfig, SearchConfig, SgdConfig, identity
from decouple.data import ImageData
from decouple.errors import ConfigError
from decouple.learn import Checkpoint, CrossEntropy, Watch, fit, regression
from decouple.learn.heads import Heads
from decouple.learn.objective import cross_entropy
from decouple.networks import Stages, paper_network
from decouple.search import TargetStore, search_solution
from decouple.training.stream import Batch

IMAGES, CLASSES = 60, 3
EVERY = LiveConfig(directions=1000, radius=1e-3)


def _batch(seed: int = 0) -> Batch:
    return Batch(torch.arange(IMAGES), torch.empty(IMAGES, 0), torch.arange(IMAGES) % CLASSES, [], seed=seed)


def _points(scale: float = 1.0) -> list[Tensor]:
    """Of two blocks: maps whose means tell the class, more or less."""
    stream, labels = torch.Generator().manual_seed(0), _batch().labels
    means = functional.one_hot(labels, 6).float()[:, :, None, None]
    return [(scale * (means + torch.randn(IMAGES, 6, size, size, generator=stream))).requires_grad_() for size in (4, 2)]


def _loss(heads: Heads, maps: Tensor, step: int = 0) -> float:
    return float(heads([maps], CLASSES, _batch(step)).detach())


def _gradients(heads: Heads, points: list[Tensor]) -> tuple[Tensor, ...]:
    heads(points, CLASSES, _batch(1))  # so that the heads have learned something
    return torch.autograd.grad(heads(points, CLASSES, _batch(2)), points)


def test_a_search_teaches_a_block_what_the_gradient_of_its_head_does() -> None:
    """Where every direction is tried."""
    found, wanted = (_gradients(Heads(0.7, search), _points()) for search in (EVERY, None))
    for a, b in zip(found, wanted, strict=True):
        assert b.abs().max() > 0
        assert torch.allclose(a, b, rtol=0.02, atol=0.01 * float(b.abs().max()))


def test_a_head_is_a_linear_classifier_of_the_means() -> None:
    """By hand: the step that it learns, and its loss afterwards."""
    heads, labels, (maps, _) = Heads(1.0), _batch().labels, _points()
    assert _loss(heads, maps) == pytest.approx(float(torch.tensor(3.0).log()))
    given = torch.cat([maps.detach().mean((2, 3)), torch.ones(IMAGES, 1)], 1)
    weights = torch.zeros(CLASSES, 7, requires_grad=True)
    functional.cross_entropy(given @ weights.T, labels).backward()
    assert weights.grad is not None
    learned = -2 / float(given.square().sum(1).mean()) * weights.grad
    assert torch.allclose(heads.memory()["head 0"], learned, atol=1e-6)
    loss = float(functional.cross_entropy(given @ learned.T, labels).detach())
    assert _loss(heads, maps) == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_heads_learn_whatever_the_size_of_the_activations(scale: float) -> None:
    heads, (maps, _) = Heads(1.0), _points(scale)
    losses = [_loss(heads, maps, step) for step in range(300)]
    assert all(after <= before * (1 + 1e-5) for before, after in pairwise(losses)), "no step is too long"
    if scale >= 1:
        assert losses[-1] < 0.7 * losses[0]


@pytest.fixture(scope="module")
def store(data: ImageData, tmp_path_factory: pytest.TempPathFactory) -> TargetStore:
    config = SearchConfig(batch=24, es=EsConfig(population=4, generations=2))
    searched = paper_network(data.train.images, 3, NetworkConfig(width=8), groups=1, seed=0)
    return search_solution(searched, data.train, tmp_path_factory.mktemp("targets"), config=config)


def _network(data: ImageData, seed: int = 1) -> Stages:
    return paper_network(data.train.images, 3, NetworkConfig(width=8), groups=1, seed=seed)


def test_the_same_setting_moves_the_blocks_of_both_methods_alike(data: ImageData, store: TargetStore) -> None:
    """With every direction, and nothing else to learn from."""
    positions, network, gradients = torch.arange(len(data.train)), _network(data), []
    learn = LearnConfig(heads=0.5, target_weight=0.0, live=EVERY)
    for objective in (regression(store, learn, 2), cross_entropy(SgdConfig(heads=0.5))):
        rows = [rows.float() for rows in objective.fetch(positions)] if objective.__class__ is not CrossEntropy else []
        batch = Batch(positions, data.train.images.float(), data.train.labels, rows)
        for _ in range(2):  # the heads know nothing at the first step
            network.zero_grad()
            objective(network, batch).backward()
        body = [p.grad.flatten() for stage in list(network)[:-1] for p in stage.parameters() if p.grad is not None]
        gradients.append(torch.cat(body))
    assert functional.cosine_similarity(*gradients, dim=0) > 0.999
    assert float(gradients[0].norm() / gradients[1].norm()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("method", ["learn", "sgd"])
def test_a_killed_training_goes_on_as_if_it_had_not_been(
    data: ImageData, store: TargetStore, tmp_path: Path, method: str
) -> None:
    learn = LearnConfig(epochs=4, batch=24, heads=0.5, live=LiveConfig(directions=4))
    sgd = SgdConfig(epochs=4, batch=24, heads=0.5)

    def train(checkpoint: Checkpoint | None = None, stop: int = 99) -> tuple[list[float], Stages]:
        def record(epoch: int, _: Stages) -> None:
            if epoch == stop:
                raise KeyboardInterrupt

        network, options = _network(data), {"seed": 3, "checkpoint": checkpoint, "watch": Watch(record)}
        objective: Any = regression(store, learn, 2) if method == "learn" else cross_entropy(sgd)
        settings = learn if method == "learn" else sgd
        return fit(network, data.train, data.validation, objective, settings, **options).losses, network

    losses, whole = train()
    for stop in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            train(Checkpoint(tmp_path / "checkpoint", "unit", seconds=0), stop)
    again, resumed = train(Checkpoint(tmp_path / "checkpoint", "unit", seconds=0))
    assert again == losses
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True))


def test_an_objective_that_is_used_again_begins_anew(data: ImageData) -> None:
    settings = SgdConfig(epochs=2, batch=24, heads=0.5)
    objective, losses = cross_entropy(settings), []
    for _ in range(2):
        losses.append(fit(_network(data), data.train, data.validation, objective, settings, seed=0).losses)
    assert losses[0] == losses[1]
    assert losses[0] != fit(_network(data), data.train, data.validation, CrossEntropy(), settings, seed=0).losses


def test_vectors_and_tokens_have_heads_too() -> None:
    stream = torch.Generator().manual_seed(0)
    for shape in ((5,), (7, 5)):
        values = torch.randn(IMAGES, *shape, generator=stream).requires_grad_()
        (gradient,) = _gradients(Heads(1.0, LiveConfig()), [values])
        assert gradient.abs().max() > 0


def test_a_network_of_one_block_has_no_place_for_a_head(data: ImageData) -> None:
    network = paper_network(data.train.images, 3, NetworkConfig(width=8, blocks=1), groups=1, seed=0)
    with pytest.raises(ConfigError, match=r"heads = 0\.5: the network has one block before the logits"):
        fit(network, data.train, data.validation, cross_entropy(SgdConfig(heads=0.5)), SgdConfig(epochs=1), seed=0)


def test_heads_judge_what_live_search_tries() -> None:
    with pytest.raises(
        ConfigError, match=r"live\.weight = 0\.0: expected above 0, since heads = 0\.5 judge what live search tries"
    ):
        LearnConfig(heads=0.5, live=LiveConfig(weight=0.0))
    assert LearnConfig(live=LiveConfig(directions=16)).candidates(3) == 32
    assert LearnConfig(heads=0.5, live=LiveConfig(directions=16)).candidates(3) == 96
    assert LearnConfig(heads=0.5, similarity=1.0, live=LiveConfig(directions=16)).candidates(3) == 128
    with pytest.raises(
        ConfigError, match=r"live\.weight = 0\.0: expected above 0, since similarity = 1\.0 is a part of its fitness"
    ):
        LearnConfig(similarity=1.0, live=LiveConfig(weight=0.0))


def test_settings_without_heads_are_those_from_before_there_were_any() -> None:
    assert "heads" not in identity(SgdConfig())
    assert identity(SgdConfig(heads=0.5)) == identity(SgdConfig()) | {"heads": 0.5}


def test_what_a_checkpoint_kept_goes_to_the_features_device() -> None:
    """A checkpoint is read to the CPU; `meta` stands in for a GPU."""
    heads = Heads(1.0)
    heads.remember({"head 0": torch.zeros(CLASSES, 7)})
    batch = _batch()._replace(labels=_batch().labels.to("meta"))
    loss = heads._loss("head 0", torch.empty(IMAGES, 6, device="meta"), CLASSES, batch)  # autocast does not know this device
    assert loss.device.type == heads.memory()["head 0"].device.type == "meta"


def test_a_search_stays_the_same_object_when_it_remembers() -> None:
    """What it has found out of the device's memory must not be asked again within a CUDA graph's capture."""
    heads, (maps, _) = Heads(1.0, LiveConfig(directions=4)), _points()
    heads([maps], CLASSES, _batch())
    before = heads._searches["head 0"]
    heads.remember(heads.memory())
    assert heads._searches["head 0"] is before
    heads.remember({})
    assert heads.memory() == {}
