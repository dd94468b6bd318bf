"""Live search: what it finds, against the gradient that it must not use."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from decouple.config import EsConfig, LearnConfig, LiveConfig, NetworkConfig, SearchConfig
from decouple.data import ImageData
from decouple.errors import ConfigError
from decouple.fitness import Candidates, Peers, fitness, similarity
from decouple.learn import Checkpoint, CrossEntropy, Watch, fit
from decouple.learn.live import LiveSearch
from decouple.learn.objective import Regression, regression
from decouple.networks import Stages, paper_network
from decouple.search import TargetStore, search_solution
from decouple.training.processes import Group
from decouple.training.stream import Batch

SHAPE, CLASSES, IMAGES = (6, 2, 3), 5, 40
EVERY = LiveConfig(weight=1, directions=1000, radius=1e-3)
"""All directions, and hardly any smoothing: what it finds is the gradient."""


class Unknown(nn.Module):
    """Changes nothing, but is made of operations that are not affine, so that candidates are written out."""

    def forward(self, values: Tensor) -> Tensor:
        return values.relu() - (-values).relu()


class Stairs(nn.Module):
    """Has no gradient anywhere."""

    def forward(self, values: Tensor) -> Tensor:
        return (4 * values).round() / 4


def _head(*behind: nn.Module, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES), *behind)


@pytest.fixture
def values() -> Tensor:
    return 1 + torch.randn(IMAGES, *SHAPE, generator=torch.Generator().manual_seed(1))


def _batch(seed: int = 0) -> Batch:
    labels = torch.arange(IMAGES) % CLASSES
    return Batch(torch.arange(IMAGES), torch.empty(IMAGES, 0), labels, [], seed=seed)


def _gradient(head: nn.Module, values: Tensor) -> Tensor:
    leaf = values.clone().requires_grad_()
    loss = functional.cross_entropy(head(leaf), _batch().labels, reduction="sum")
    return torch.autograd.grad(-loss, leaf)[0]


@pytest.mark.parametrize("head", [_head(), _head(Unknown()), _head(nn.GELU(), nn.Linear(CLASSES, CLASSES))])
def test_with_every_direction_and_a_small_radius_it_is_the_gradient(head: nn.Module, values: Tensor) -> None:
    found = LiveSearch(EVERY).displacement(head, values, _batch())
    assert found.shape == values.shape
    assert torch.allclose(found, _gradient(head, values), rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("radius", [0.01, 0.3, 3.0])
def test_an_affine_head_is_scored_as_its_candidates_are(values: Tensor, radius: float) -> None:
    live = LiveConfig(weight=1, directions=7, radius=radius)
    short, long = (LiveSearch(live).displacement(head, values, _batch()) for head in (_head(), _head(Unknown())))
    assert torch.allclose(short, long, rtol=1e-3, atol=1e-4)


def test_candidates_are_scored_in_parts(values: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = LiveSearch(LiveConfig(weight=1)).displacement(_head(Unknown()), values, _batch())
    monkeypatch.setattr("decouple.learn.live.CANDIDATE_BYTES", 7 * values.nbytes)
    parts = LiveSearch(LiveConfig(weight=1)).displacement(_head(Unknown()), values, _batch())
    assert torch.allclose(parts, whole, rtol=1e-4, atol=1e-5)


def test_the_difference_is_that_of_a_mirrored_pair_of_candidates(values: Tensor) -> None:
    """One direction, by hand."""
    head, live = _head(), LiveConfig(weight=1, directions=1, radius=0.5)
    found = LiveSearch(live).displacement(head, values, _batch()).flatten(1)
    direction = functional.normalize(found[0], dim=0)
    cosines = functional.cosine_similarity(found, direction.expand_as(found), dim=1)
    assert torch.allclose(cosines.abs(), torch.ones(IMAGES), atol=1e-4), "all images share the direction"
    radius = 0.5 * values.flatten(1).std(1, keepdim=True) * 36**0.5
    sides = []
    for sign in (1, -1):
        logits = head((values.flatten(1) + sign * radius * direction).view(values.shape))
        sides.append(-functional.cross_entropy(logits, _batch().labels, reduction="none"))
    slope = (sides[0] - sides[1]) / (2 * radius.squeeze(1))
    assert torch.allclose(found @ direction, slope, rtol=1e-3, atol=1e-4)


def test_it_learns_where_to_look(values: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head reads 4 of 36 dimensions; the displacements of one step guide the next to them."""
    head, wanted = _head(), _gradient(_head(), values)

    def captured(guided: float) -> list[float]:
        monkeypatch.setattr("decouple.learn.live.GUIDED", guided)
        search = LiveSearch(LiveConfig(weight=1, directions=8, radius=1e-3))
        found = [search.displacement(head, values, _batch(seed=step)) for step in range(40)]
        return [float(functional.cosine_similarity(f.flatten(), wanted.flatten(), dim=0)) for f in found]

    guided, blind = captured(0.5), captured(0.0)
    assert guided[0] == blind[0]
    assert guided[-1] > 0.97
    assert max(blind) < 0.7


def test_the_same_seed_and_memory_give_the_same(values: Tensor) -> None:
    one, other = LiveSearch(LiveConfig(weight=1, directions=8)), LiveSearch(LiveConfig(weight=1, directions=8))
    first = [search.displacement(_head(), values, _batch()) for search in (one, other)]
    assert torch.equal(*first)
    assert not torch.equal(one.displacement(_head(), values, _batch(1)), first[0])
    other.guides = one.guides
    assert torch.equal(*(search.displacement(_head(), values, _batch(2)) for search in (one, other)))


def test_it_needs_no_gradient_of_the_head(values: Tensor) -> None:
    head = _head(Stairs())
    assert _gradient(head, values).abs().max() == 0
    found = LiveSearch(LiveConfig(weight=1, directions=36, radius=0.5)).displacement(head, values, _batch())
    labels = _batch().labels
    before, after = (functional.cross_entropy(head(v), labels) for v in (values, values + found))
    assert after < before


def test_the_head_is_left_as_it_is(values: Tensor) -> None:
    head = nn.Sequential(nn.BatchNorm2d(6), nn.Dropout(0.5), *_head())
    state = {name: value.clone() for name, value in head.state_dict().items()}
    head[1].eval()
    search = LiveSearch(LiveConfig(weight=1))
    found = search.displacement(head, values, _batch())
    assert torch.equal(found, LiveSearch(search.config).displacement(head, values, _batch())), "no dropout"
    assert [part.training for part in head] == [True, False, True, True]
    assert all(torch.equal(value, state[name]) for name, value in head.state_dict().items())


def test_a_constant_activation_moves_nowhere() -> None:
    values = torch.full((IMAGES, *SHAPE), 2.0)
    assert LiveSearch(LiveConfig(weight=1)).displacement(_head(), values, _batch()).abs().max() == 0


@pytest.fixture(scope="module")
def store(data: ImageData, tmp_path_factory: pytest.TempPathFactory) -> TargetStore:
    config = SearchConfig(batch=24, points="all", es=EsConfig(population=4, generations=2))
    searched = paper_network(data.train.images, 3, NetworkConfig(width=8), groups=1, seed=0)
    return search_solution(searched, data.train, tmp_path_factory.mktemp("targets"), config=config)


@pytest.mark.parametrize("supervise", ["last", "all"])
def test_the_body_then_gets_the_gradient_of_the_fitness(data: ImageData, store: TargetStore, supervise: str) -> None:
    """Where every direction is tried, and the stored targets have no weight."""
    net = paper_network(data.train.images, 3, NetworkConfig(width=8), groups=1, seed=1)
    images, labels = data.train.images.float(), data.train.labels
    positions = torch.arange(len(labels))
    config = LearnConfig(supervise=supervise, target_weight=0.0, live=replace(EVERY, weight=0.7))  # type: ignore[arg-type]
    objective = regression(store, config, 2)
    rows = [rows.float() for rows in objective.fetch(positions)]
    objective(net, Batch(positions, images, labels, rows)).backward()
    ours = [p.grad for stage in list(net)[:-1] for p in stage.parameters() if p.grad is not None]
    net.zero_grad()
    (0.7 * functional.cross_entropy(net(images), labels)).backward()
    wanted = [p.grad for stage in list(net)[:-1] for p in stage.parameters() if p.grad is not None]
    for a, b in zip(ours, wanted, strict=True):
        assert torch.allclose(a, b, rtol=0.03, atol=0.03 * float(b.abs().max()))


def test_weight_0_is_no_live_search(store: TargetStore) -> None:
    without = LearnConfig(live=LiveConfig(weight=0))
    assert regression(store, without, 2) == Regression(store, 1.0, 1, 0.5)
    assert regression(store, replace(without, target_weight=1.0, kl_weight=0.03), 2) == Regression(store, 0.03, 1)
    assert regression(store, LearnConfig(live=LiveConfig(weight=2)), 2).live is not None
    with pytest.raises(ConfigError, match=r"terms are a part of live search's fitness: expected live.weight above 0"):
        regression(store, without, 2, [(1.0, similarity)])


def test_candidates_are_counted() -> None:
    assert LearnConfig(epochs=3, live=LiveConfig(weight=0)).evaluations(3) == 0
    assert LearnConfig(epochs=3, live=LiveConfig(directions=16)).evaluations(3) == 3 * 32


def test_a_killed_training_goes_on_as_if_it_had_not_been(data: ImageData, store: TargetStore, tmp_path: Path) -> None:
    config = LearnConfig(epochs=4, batch=24, augment="flip-crop", live=LiveConfig(weight=1, directions=8))

    def train(checkpoint: Checkpoint | None = None, stop: int = 99) -> tuple[list[float], Stages]:
        net = paper_network(data.train.images, 3, NetworkConfig(width=8), groups=1, seed=1)

        def record(epoch: int, _: Stages) -> None:
            if epoch == stop:
                raise KeyboardInterrupt

        objective = regression(store, config, 2)
        found = fit(net, data.train, data.validation, objective, config, seed=3, checkpoint=checkpoint, watch=Watch(record))
        return found.losses, net

    losses, whole = train()
    checkpoint = Checkpoint(tmp_path / "checkpoint", "unit", seconds=0)
    for stop in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            train(checkpoint, stop)
    again, resumed = train(checkpoint)
    assert again == losses
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True))
    assert all(a != b for a, b in pairwise(losses))


@pytest.mark.parametrize("head", [_head(), _head(Unknown())])
def test_a_term_is_followed_as_its_gradient_would_be(head: nn.Module, values: Tensor) -> None:
    leaf, labels = values.clone().requires_grad_(), _batch().labels
    candidates = Candidates(leaf, head(leaf), labels, Peers(values, labels), head)
    terms = [(10.0, similarity)]
    (wanted,) = torch.autograd.grad(fitness(candidates, terms).sum(), leaf)
    found = LiveSearch(EVERY, terms).displacement(head, values, _batch())
    assert torch.allclose(found, wanted, rtol=0.02, atol=2e-3)
    assert not torch.allclose(found, LiveSearch(EVERY).displacement(head, values, _batch()), atol=0.1)


def test_what_processes_sum_is_summed_once_whatever_the_parts(values: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process may have another number of parts, and a sum waits for all of them."""
    sums: list[int] = []

    class Counting(Group):
        def sum(self, value: Tensor) -> Tensor:
            sums.append(value.numel())
            return super().sum(value)

    batch, terms = _batch()._replace(group=Counting()), [(10.0, similarity)]
    whole = LiveSearch(LiveConfig(), terms).displacement(_head(Unknown()), values, batch)
    monkeypatch.setattr("decouple.learn.live.CANDIDATE_BYTES", 7 * values.nbytes)
    parts = LiveSearch(LiveConfig(), terms).displacement(_head(Unknown()), values, batch)
    assert torch.allclose(parts, whole, rtol=1e-4, atol=1e-5)
    assert sums[:4] == sums[4:]


def test_terms_are_looked_for_in_the_means(values: Tensor) -> None:
    """As many further directions as there are means suffice for a term that reads nothing else."""
    terms = [(1.0, similarity)]
    search = LiveSearch(LiveConfig(directions=6, radius=1e-3), terms)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES))
    nn.init.zeros_(flat[1].weight)
    found = search.displacement(flat, values, _batch())
    leaf, labels = values.clone().requires_grad_(), _batch().labels
    candidates = Candidates(leaf, flat(leaf), labels, Peers(values, labels), flat)
    (wanted,) = torch.autograd.grad(fitness(candidates, terms).sum(), leaf)
    assert functional.cosine_similarity(found.flatten(), wanted.flatten(), dim=0) > 0.999


def test_similarity_is_a_setting_of_learning_and_of_the_baseline(data: ImageData, store: TargetStore) -> None:
    """With every direction, and nothing else to learn from, the bodies of both move alike."""
    images, labels, terms = data.train.images.float(), data.train.labels, [(3.0, similarity)]
    config = LearnConfig(target_weight=0.0, live=EVERY, similarity=3.0)
    network = paper_network(data.train.images, 3, NetworkConfig(width=8), groups=1, seed=1)
    objective, gradients = regression(store, config, 2), []
    batch = Batch(torch.arange(len(labels)), images, labels, [r.float() for r in objective.fetch(torch.arange(len(labels)))])
    for each in (objective, CrossEntropy(terms)):
        network.zero_grad()
        each(network, batch).backward()
        body = [p.grad.flatten() for stage in list(network)[:-1] for p in stage.parameters() if p.grad is not None]
        gradients.append(torch.cat(body))
    assert functional.cosine_similarity(*gradients, dim=0) > 0.999
    assert float(gradients[0].norm() / gradients[1].norm()) == pytest.approx(1, abs=0.03)


def test_terms_of_a_users_own_are_learned_with(data: ImageData, store: TargetStore) -> None:
    def small(candidates: Candidates) -> Tensor:
        return -candidates.features().square().mean(2)

    config, sizes = LearnConfig(epochs=3, batch=24), []
    for terms in ([], [(100.0, small)]):
        for objective in (regression(store, config, 2, terms), CrossEntropy(terms)):
            network = paper_network(data.train.images, 3, NetworkConfig(width=8), groups=1, seed=1)
            fit(network, data.train, data.validation, objective, config, seed=0)
            with torch.no_grad():
                sizes.append(float(network.eval().activations(data.train.images)[-2].mean((2, 3)).square().mean()))
    assert sizes[2] < 0.7 * sizes[0]
    assert sizes[3] < 0.7 * sizes[1]
