"""One contract for every algorithm, and what is particular to each."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from decouple import registry
from decouple.config import EsConfig, PaperConfig, SearchConfig
from decouple.errors import NetworkError
from decouple.search import EvolutionStrategy, PaperSearch, SearchPoint, operators
from decouple.search.algorithm import Algorithm, EsAlgorithm, chosen, points_of
from decouple.search.evotorch_search import EvoTorchSearch
from decouple.search.gradient import GradientAscent
from decouple.search.random_search import RandomSearch
from decouple.search.stock import Cem, Pgpe
from decouple.seeds import derive, generator

ES = EsConfig(population=16, generations=30, step=0.1)
PAPER = PaperConfig(population=24, parents=4, explorers=8, generations=30, alpha=0.3, blur=0)
ALGORITHMS: dict[str, Algorithm] = {
    "es": EvolutionStrategy(ES),
    "es-image": EvolutionStrategy(EsConfig(population=16, generations=30, step=0.1, noise="image")),
    "paper-map": PaperSearch(PAPER),
    "paper-noise": PaperSearch(PaperConfig(**{**PAPER.__dict__, "smoothing": "noise", "blur": 1})),
    "pgpe": Pgpe(ES),
    "cem": Cem(ES),
    "random": RandomSearch(ES),
    "evotorch": EvoTorchSearch(replace(ES, generations=8), kind="SNES"),
}
POINTS = {
    "map": SearchPoint("block0", 0, 3, (3, 6, 6)),
    "tiny": SearchPoint("block1", 1, 3, (8, 1, 1)),
    "tokens": SearchPoint("layer0", 0, 3, (6, 4)),
    "vector": SearchPoint("hidden", 1, 3, (12,)),
    "logits": SearchPoint("logits", 2, 3, (10,)),
}


def test_the_contract_is_everyones() -> None:
    assert {kind for name in registry.OWN if (kind := registry.load(name)) is not GradientAscent} <= {
        type(algorithm) for algorithm in ALGORITHMS.values()
    }


def _start(point: SearchPoint, seed: int = 0) -> Tensor:
    return torch.randn(5, *point.shape, generator=torch.Generator().manual_seed(seed))


def _towards(point: SearchPoint) -> Tensor:
    return torch.randn(point.shape, generator=torch.Generator().manual_seed(9)).flatten()


def _fitness(candidates: Tensor, direction: Tensor) -> Tensor:
    """Cosine with a fixed direction: what normalisation leaves a search to improve."""
    flat = candidates.float().flatten(2)
    flat = flat - flat.mean(2, keepdim=True)
    return torch.nn.functional.cosine_similarity(flat, direction - direction.mean(), dim=2)


def _unused(candidates: Tensor) -> Tensor:
    raise AssertionError("a search only uses what tell is given")


def _run(algorithm: Algorithm, point: SearchPoint, generations: int, start: Tensor | None = None) -> Any:
    start = _start(point) if start is None else start
    state = algorithm.init(start, point, 7, None, _unused)
    for _ in range(generations):
        candidates, state = algorithm.ask(state)
        state = algorithm.tell(state, candidates, _fitness(candidates, _towards(point)))
    return state


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_search_improves_and_reports_what_it_found(name: str, point: SearchPoint) -> None:
    algorithm = ALGORITHMS[name]
    state = algorithm.init(_start(point), point, 7, None, _unused)
    candidates, _ = algorithm.ask(state)
    assert candidates.shape[0] == 5
    assert candidates.shape[2:] == point.shape
    early = algorithm.best(_run(algorithm, point, 1))[1]
    found, fitness = algorithm.best(_run(algorithm, point, algorithm.generations(point)))
    assert found.shape == (5, *point.shape)
    assert (fitness >= early).all()
    assert (fitness - early).mean() > (0.05 if name == "random" else 0.1)
    assert torch.allclose(fitness, _fitness(found.unsqueeze(1), _towards(point)).squeeze(1), atol=1e-4)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_seeds_decide_everything(name: str) -> None:
    point = POINTS["map"]
    torch.manual_seed(1)
    one = ALGORITHMS[name].best(_run(ALGORITHMS[name], point, 4))[0]
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    other = ALGORITHMS[name].best(_run(ALGORITHMS[name], point, 4))[0]
    assert torch.equal(one, other)
    torch.manual_seed(1)
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator was used"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_ask_and_tell_change_nothing_in_place(name: str) -> None:
    algorithm, point = ALGORITHMS[name], POINTS["map"]
    state = _run(algorithm, point, 1)
    before = algorithm.best(state)[0].clone()
    first, asked = algorithm.ask(state)
    algorithm.tell(asked, first, _fitness(first, _towards(point)))
    second, _ = algorithm.ask(state)
    assert torch.equal(first, second)
    assert torch.equal(algorithm.best(state)[0], before)


def test_with_shared_directions_a_batch_equals_its_images_one_by_one() -> None:
    algorithm, point = ALGORITHMS["es"], POINTS["map"]
    start = _start(point)
    together = algorithm.best(_run(algorithm, point, 5, start))[0]
    for image in range(5):
        alone = algorithm.best(_run(algorithm, point, 5, start[image : image + 1]))[0]
        assert torch.allclose(alone[0], together[image], atol=1e-5)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_failed_never_wins(name: str) -> None:
    algorithm, point = ALGORITHMS[name], POINTS["vector"]
    state = algorithm.init(_start(point), point, 7, None, _unused)
    for generation in range(6):
        candidates, state = algorithm.ask(state)
        fitness = _fitness(candidates, _towards(point))
        fitness[:, 1::3] = -torch.inf  # what the engine makes of anything that is not finite
        if generation == 3:
            fitness[:] = -torch.inf
        if generation == 4:
            fitness[2] = -torch.inf
        state = algorithm.tell(state, candidates, fitness)
    found, fitness = algorithm.best(state)
    assert torch.isfinite(found).all()
    assert torch.isfinite(fitness).all()


def test_es_candidates_are_mirrored_around_the_centre() -> None:
    point = POINTS["map"]
    algorithm = EvolutionStrategy(ES)
    candidates, state = algorithm.ask(_run(algorithm, point, 3))
    pairs = ES.population // 2
    assert torch.allclose(candidates[:, 0], state.center)
    middle = (candidates[:, 1 : pairs + 1] + candidates[:, pairs + 1 :]) / 2
    assert torch.allclose(middle, state.center.unsqueeze(1).expand_as(middle), atol=1e-6)
    size = (candidates[:, 1 : pairs + 1] - state.center.unsqueeze(1)) / state.scale.unsqueeze(1)
    assert abs(float(size.std()) - ES.radius) < 0.1 * ES.radius


def test_es_follows_the_gradient_of_a_linear_fitness() -> None:
    """On a plane the antithetic estimate is Σ (g·ε_i) ε_i: for many pairs, the gradient itself."""
    point = POINTS["vector"]
    algorithm = EvolutionStrategy(EsConfig(population=4000, generations=2, radius=0.01, momentum=0.0))
    state = algorithm.init(_start(point), point, 0, None, _unused)
    candidates, state = algorithm.ask(state)
    gradient = _towards(point)
    told = algorithm.tell(state, candidates, (candidates * gradient).sum(2))
    cosine = torch.nn.functional.cosine_similarity(told.velocity, gradient.expand_as(told.velocity))
    assert (cosine > 0.99).all()


def test_es_keeps_mean_and_deviation_of_what_the_network_produced() -> None:
    point = POINTS["map"]
    algorithm, start = EvolutionStrategy(replace(ES, moments="own")), 3 * _start(point) + 2
    state = _run(algorithm, point, 20, start)
    assert torch.allclose(state.center.flatten(1).mean(1), start.flatten(1).mean(1), atol=1e-4)
    assert torch.allclose(state.center.flatten(1).std(1), start.flatten(1).std(1), rtol=1e-3)


def test_es_can_keep_zero_mean_and_unit_variance_as_the_paper_does() -> None:
    config = EsConfig(population=16, generations=30, step=0.1, moments="unit")
    found, _ = EvolutionStrategy(config).best(_run(EvolutionStrategy(config), POINTS["map"], 30))
    assert found.flatten(1).mean(1).abs().max() < 1e-4
    assert (found.flatten(1).var(1, correction=0) - 1).abs().max() < 1e-3
    start = _start(POINTS["logits"])
    untouched = EvolutionStrategy(config).init(start, POINTS["logits"], 0, None, _unused)
    assert torch.equal(untouched.center, start)


@pytest.mark.parametrize("name", ["es", "pgpe", "cem"])
def test_what_the_last_update_made_is_pending(name: str) -> None:
    point, algorithm = POINTS["map"], ALGORITHMS[name]
    state = _run(algorithm, point, 29)
    candidates = algorithm.pending(state)
    assert candidates is not None
    assert candidates.shape[1] == 1
    told = algorithm.tell(state, candidates, torch.full((5, 1), 9.0))
    best, fitness = algorithm.best(told)
    assert torch.equal(best, candidates[:, 0].float())
    assert (fitness == 9.0).all()


def test_the_paper_keeps_its_parents_unchanged_and_in_front() -> None:
    point = POINTS["map"]
    algorithm = PaperSearch(PAPER)
    state = _run(algorithm, point, 3)
    best = state.fitness.topk(PAPER.parents, dim=1).indices
    candidates, _ = algorithm.ask(state)
    for image in range(5):
        assert torch.equal(candidates[image, : PAPER.parents], state.population[image, best[image]])
    assert candidates.shape[1] == PAPER.population


def test_the_papers_children_are_normalised() -> None:
    point = POINTS["map"]
    candidates, _ = PaperSearch(PAPER).ask(_run(PaperSearch(PAPER), point, 2))
    children = candidates[:, PAPER.parents :].flatten(2)
    assert children.mean(2).abs().max() < 1e-5
    assert (children.var(2, correction=0) - 1).abs().max() < 1e-3


def test_the_papers_logits_have_zero_mean() -> None:
    point = POINTS["logits"]
    candidates, _ = PaperSearch(PAPER).ask(_run(PaperSearch(PAPER), point, 2))
    assert candidates.mean(2).abs().max() < 1e-6


@pytest.mark.parametrize("kind", ["map", "tiny", "tokens", "vector", "logits"])
@pytest.mark.parametrize(("smoothing", "passes"), [("map", 0), ("map", 2), ("noise", 2)])
@pytest.mark.parametrize("room", [1, 10_000], ids=["child by child", "images together"])
def test_the_papers_generation_equals_a_plain_reference(
    kind: str, smoothing: str, passes: int, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Selection, crossover, mutation in units of the parents' mean deviation, smoothing and normalisation, child by child."""
    monkeypatch.setattr("decouple.search.paper._ROOM", {"cpu": room})
    point = POINTS[kind]
    config = PaperConfig(**{**PAPER.__dict__, "smoothing": smoothing, "blur": passes, "boost": 3.0})
    algorithm = PaperSearch(config)
    state = algorithm.init(_start(point).double(), point, 5, None, _unused)
    children = torch.randn(5, 24, *point.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    fitness = torch.randn(5, 24, generator=torch.Generator().manual_seed(4))
    state = algorithm.tell(state, children, fitness)
    found, _ = algorithm.ask(state)

    stream = generator(5, 1)
    pairs = [torch.randint(4, (5, 8, 2), generator=stream), torch.randint(12, (5, 12, 2), generator=stream)]
    noise = torch.randn(5 + 20, *point.shape, generator=stream).double()
    window = torch.randperm(5, generator=stream)
    for image in range(5):
        best = fitness[image].argsort(descending=True)[:4]
        individuals = [children[image, i] for i in best]
        plan = [(pairs[0][image, i], 0.9) for i in range(8)] + [(pairs[1][image, i], 0.3) for i in range(12)]
        for number, (pair, strength) in enumerate(plan):
            one, other = (individuals[i] for i in pair)
            sigma = (_deviation(one, kind) + _deviation(other, kind)) / 2
            mutation = strength * sigma * noise[window[image] + number]
            child = (one + other) / 2
            child = (
                _pooled(child + mutation, passes, kind) if smoothing == "map" else child + _pooled(mutation, passes, kind)
            )
            child = child - child.mean()
            if kind != "logits":
                child = child / (child.var(correction=0) + 1e-5).sqrt()
            individuals.append(child)
        for number, child in enumerate(individuals):
            # Noise is drawn, and smoothed, in float32.
            assert torch.allclose(found[image, number], child, atol=1e-5 if passes else 1e-9), f"individual {number}"


def _deviation(value: Tensor, kind: str) -> Tensor:
    if kind == "map":
        return value.flatten(1).std(1)[:, None, None]
    return value.std(0) if kind == "tokens" else value.std()


def _pooled(value: Tensor, passes: int, kind: str) -> Tensor:
    for _ in range(passes if kind in ("map", "tiny", "tokens") else 0):
        if kind == "tokens":
            value = functional.avg_pool1d(value.T[None], 3, 1, 1)[0].T
        else:
            value = functional.avg_pool2d(value[None], 3, 1, 1)[0]
    return value


def test_the_papers_noise_is_gaussian_and_independent_for_an_image() -> None:
    """Children of one parent are that parent plus noise: standard normal, uncorrelated between children and generations."""
    point = SearchPoint("block0", 0, 3, (2, 40, 40))
    config = PaperConfig(population=9, parents=1, explorers=4, alpha=0.5, boost=1.0, blur=0, smoothing="noise")
    algorithm = PaperSearch(config)
    parent = operators.normalise(_start(point), point)
    state = algorithm.init(parent, point, 5, None, _unused)
    drawn = []
    for generation in range(2):
        fitness = torch.full((5, 9), -1.0)
        fitness[:, 0] = 0.0
        first = torch.zeros(5, 9, *point.shape)
        first[:, 0] = parent
        state = algorithm.tell(state, first, fitness)._replace(generation=1 + generation)
        children, _ = algorithm.ask(state)
        mean = (children[:, 1:5] * parent[:, None]).mean((2, 3, 4), keepdim=True)  # what normalising left of the parent
        drawn.append((children[:, 1:5] - mean * parent[:, None]) / (0.5 * mean))
    noise = torch.stack(drawn, 1).flatten(3)  # (image, generation, child, values)
    one = noise[0].flatten(0, 1)
    assert (one.std(1) - 1).abs().max() < 0.05
    assert (one.pow(4).mean(1) - 3).abs().max() < 0.8, "the kurtosis of a Gaussian"
    correlations = torch.corrcoef(one) - torch.eye(len(one))
    assert correlations.abs().max() < 0.07
    between = torch.corrcoef(noise[:, 0, 0]) - torch.eye(5)
    assert between.abs().max() < 0.07, "each image has another window"


def test_cem_is_evotorchs_own() -> None:
    """Step by step the centre is that of the stock algorithm, called directly with the same seeds."""
    import evotorch.algorithms.functional as stock

    point, direction = POINTS["vector"], _towards(POINTS["vector"])
    start = _start(point)
    state = _run(Cem(ES), point, 3)
    scale = operators.noise_scale(start, point).expand_as(start)
    inner = stock.cem(
        center_init=start, stdev_init=ES.radius * scale, parenthood_ratio=0.5, stdev_max_change=0.05, objective_sense="max"
    )
    for generation in range(3):
        torch.manual_seed(derive(7, generation))
        values = stock.cem_ask(inner, popsize=ES.population)
        inner = stock.cem_tell(inner, values, _fitness(values, direction))
    assert torch.allclose(state.inner.center, inner.center)


def test_random_search_draws_without_regard_to_fitness() -> None:
    point = POINTS["map"]
    algorithm = RandomSearch(ES)
    one, other = (algorithm.init(_start(point), point, 7, None, _unused) for _ in range(2))
    highest = torch.full((5,), -torch.inf)
    for _ in range(3):
        candidates, one = algorithm.ask(one)
        same, other = algorithm.ask(other)
        assert torch.equal(candidates, same)
        fitness = _fitness(candidates, _towards(point))
        one, other = algorithm.tell(one, candidates, fitness), algorithm.tell(other, same, -fitness)
        highest = torch.maximum(highest, fitness.amax(1))
    assert torch.equal(algorithm.best(one)[1], highest)


@pytest.mark.parametrize("algorithm", [EvolutionStrategy, RandomSearch, GradientAscent])
@pytest.mark.parametrize("shape", ["map", "vector"])
def test_references_search_within_the_same_moments_as_es(algorithm: type[EsAlgorithm], shape: str) -> None:
    """Or what one gains over another would be what the mean and deviation of targets are worth."""
    point = POINTS[shape]
    start = 3 * _start(point) + 2
    of_start = start.flatten(1).mean(1), start.flatten(1).std(1, correction=0)
    for moments, wanted in {"unit": (torch.zeros(5), torch.ones(5)), "own": of_start}.items():
        searcher = algorithm(replace(ES, moments=moments))
        state = searcher.init(start, point, 7, None, lambda candidates: _fitness(candidates, _towards(point)))
        for _ in range(3):
            candidates, state = searcher.ask(state)
            state = searcher.tell(state, candidates, _fitness(candidates, _towards(point)))
        best = searcher.best(state)[0].flatten(1)
        torch.testing.assert_close((best.mean(1), best.std(1, correction=0)), wanted, atol=2e-3, rtol=2e-3)


def test_the_gradient_oracle_takes_the_step_of_a_plain_backward_pass_and_turns_back_when_it_fails() -> None:
    point, direction = POINTS["vector"], _towards(POINTS["vector"])
    config = EsConfig(population=2, generations=9, step=0.1, moments="own")
    algorithm = GradientAscent(config)
    start = _start(point)
    state = algorithm.init(start, point, 0, None, lambda candidates: _fitness(candidates, direction))
    candidates, state = algorithm.ask(state)
    assert candidates.shape == (5, 1, 12)
    state = algorithm.tell(state, candidates, _fitness(candidates, direction))
    leaf = start.clone().requires_grad_()
    _fitness(leaf.unsqueeze(1), direction).sum().backward()
    sigma = start.std(1, keepdim=True)
    uphill = sigma * leaf.grad
    expected = start + 0.1 * sigma * uphill / uphill.square().mean(1, keepdim=True).sqrt()
    expected = (expected - expected.mean(1, keepdim=True)) / expected.std(1, keepdim=True, correction=0)
    expected = expected * start.std(1, keepdim=True, correction=0) + start.mean(1, keepdim=True)
    assert torch.allclose(state.center, expected, atol=1e-4)
    candidates, state = algorithm.ask(state)
    worse = algorithm.tell(state, candidates, torch.full((5, 1), -9.0))
    assert torch.equal(worse.best.values, start)
    assert torch.allclose(worse.center - start, (expected - start) / 2, atol=2e-2), "half the step, from the best again"


def test_the_gradient_oracle_needs_the_fewest_generations() -> None:
    point, direction = POINTS["map"], _towards(POINTS["map"])

    def reached(algorithm: Algorithm) -> float:
        state = algorithm.init(_start(point), point, 7, None, lambda candidates: _fitness(candidates, direction))
        for _ in range(10):
            candidates, state = algorithm.ask(state)
            state = algorithm.tell(state, candidates, _fitness(candidates, direction))
        return float(algorithm.best(state)[1].mean())

    oracle = reached(GradientAscent(ES))
    assert all(reached(ALGORITHMS[name]) < oracle for name in ("es", "pgpe", "cem", "random"))


@pytest.mark.parametrize("name", ["pgpe", "cem"])
def test_where_all_candidates_failed_a_stock_algorithm_stays_where_it_was(name: str) -> None:
    point, algorithm = POINTS["vector"], ALGORITHMS[name]
    candidates, state = algorithm.ask(_run(algorithm, point, 3))
    fitness = _fitness(candidates, _towards(point))
    fitness[2] = -torch.inf
    told = algorithm.tell(state, candidates, fitness)
    before, after = (algorithm.ask(each)[0][:, 0] for each in (state, told))
    assert torch.equal(before[2], after[2])
    assert not torch.equal(before[1], after[1])


def test_solutions_move_elements_of_their_own() -> None:
    """Four parts of the elements; the fifth solution moves a part of another deal. Logits all solutions move alike."""
    config = SearchConfig(es=EsConfig(population=8, subspaces=4))
    moved = []
    for solution in range(5):
        algorithm = EvolutionStrategy.create(config, seed=0, solution=solution)
        for point in (POINTS["map"], POINTS["logits"]):
            candidates, _ = algorithm.ask(algorithm.init(_start(point), point, 7, None, _unused))
            differs = (candidates[:, 1:] != candidates[:, :1]).flatten(0, 1).any(0).flatten()
            if point.kind == "map":
                moved.append(differs)
            else:
                assert differs.all()
    assert torch.equal(torch.stack(moved[:4]).sum(0), torch.ones_like(moved[0], dtype=torch.int64))
    assert max(part.sum() for part in moved) - min(part.sum() for part in moved) <= 1
    assert not any(torch.equal(moved[4], part) for part in moved[:4])


def test_displacements_are_as_long_in_a_part_as_in_the_whole() -> None:
    size, point = {}, POINTS["map"]
    for parts in (1, 4):
        algorithm = EvolutionStrategy.create(SearchConfig(es=EsConfig(population=400, subspaces=parts)), 0, 0)
        candidates, _ = algorithm.ask(algorithm.init(_start(point), point, 7, None, _unused))
        size[parts] = float((candidates - candidates[:, :1]).square().mean())
    assert size[4] == pytest.approx(size[1], rel=0.05)


def test_more_parts_than_elements_leave_each_solution_one() -> None:
    point = SearchPoint("block0", 0, 2, (3,))
    for solution in range(6):
        algorithm = EvolutionStrategy.create(SearchConfig(es=EsConfig(population=8, subspaces=6)), 0, solution)
        candidates, _ = algorithm.ask(algorithm.init(_start(point), point, 7, None, _unused))
        assert int((candidates[:, 1:] != candidates[:, :1]).flatten(0, 1).any(0).sum()) == 1


def test_a_points_own_name_is_before_its_place() -> None:
    points = points_of(["block1", "block2", "block3", "fc"], [(4,)] * 4)
    assert [point.name for point in chosen(points, ["block2"])] == ["block2"]
    assert [point.setting({"block1": 300, "blocks": 100, "logits": 10}) for point in points] == [300, 100, 100, 10]
    assert [point.name for point in chosen(points, "last")] == ["block3", "fc"]
    with pytest.raises(NetworkError, match=r"'deep' have shape \(1, 2, 3, 4\)"):
        points_of(["deep", "out"], [(1, 2, 3, 4), (3,)])
