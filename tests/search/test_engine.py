"""The layerwise search over a batch."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from decouple.config import EsConfig, PaperConfig, SearchConfig
from decouple.data import ImageData
from decouple.errors import ConfigError, DataError, NotFiniteError
from decouple.fitness import Candidates, Peers, Terms, similarity
from decouple.networks import Stages
from decouple.networks.factored import Factored
from decouple.search import Budget, EvolutionStrategy, Judge, PaperSearch, search_batch, search_solution
from decouple.search.algorithm import EsAlgorithm
from decouple.search.engine import NOT_SEARCHED, search_batches, search_points
from decouple.search.random_search import RandomSearch

ES = EvolutionStrategy(EsConfig(population=8, generations=6, step=0.1, moments="own"))


def test_scores_equal_a_plain_forward_pass(network: Stages, data: ImageData) -> None:
    scorer = Judge(network, statistics="batch", dtype=torch.float32)
    point = search_points(network, data.image_shape)[0]
    candidates = torch.randn(4, 5, *point.shape, generator=torch.Generator().manual_seed(0))
    labels = data.train.labels[:4]
    fitness = scorer.fitness(point, candidates, labels)
    plain = network.train()
    expected = plain.run(candidates.flatten(0, 1), 1)
    wanted = functional.cross_entropy(expected, labels.repeat_interleave(5), reduction="none").view(4, 5)
    assert torch.allclose(fitness, -wanted, atol=1e-5)


def test_the_search_lowers_the_loss_point_by_point(network: Stages, data: ImageData) -> None:
    scorer = Judge(network, statistics="batch", dtype=torch.float32)
    found = search_batch(scorer, data.train.images[:24], data.train.labels[:24], ES, seed=1)
    assert [tuple(t.shape[1:]) for t in found.targets] == [p.shape for p in search_points(network, data.image_shape)]
    assert found.after.mean(1)[-1] < 0.5 * found.before.mean(1)[0]
    assert torch.allclose(found.after[0], found.before[1], atol=1e-5), "each point starts where the one before ended"
    assert found.evaluations == 3 * (5 * 9 + 1)
    assert [len(curve) for curve in found.curves] == [7, 7, 7]
    assert all((curve[1:].diff() <= 1e-6).all() for curve in found.curves), "the best so far never gets worse"
    reached = torch.stack([curve[-1] for curve in found.curves])
    assert torch.allclose(reached, found.after.mean(1), atol=2e-3), "a curve ends at what is kept, in any company"
    assert found.failed == 0


def test_zero_generations_return_the_networks_own_activations(network: Stages, data: ImageData) -> None:
    scorer = Judge(network, statistics="batch", dtype=torch.float32)
    images, labels = data.train.images[:6], data.train.labels[:6]
    found = search_batch(scorer, images, labels, EvolutionStrategy(EsConfig(generations=0)), seed=0)
    for target, value in zip(found.targets, scorer.network.activations(images), strict=True):
        assert torch.allclose(target, value, atol=1e-5)
    assert found.displacement.abs().max() < 1e-5
    assert found.evaluations == 0


def test_seed_and_contents_decide_the_result(network: Stages, data: ImageData) -> None:
    scorer = Judge(network, statistics="batch", dtype=torch.float32)
    images, labels = data.train.images[:8], data.train.labels[:8]
    one, same = (search_batch(scorer, images, labels, ES, seed=1) for _ in range(2))
    other = search_batch(scorer, images, labels, ES, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(one.targets, same.targets, strict=True))
    assert not torch.equal(one.targets[0], other.targets[0])


def test_frozen_statistics_make_images_independent(network: Stages, data: ImageData) -> None:
    scorer = Judge(network, statistics="frozen", dtype=torch.float32, pilot=data.train.images[:32])
    images, labels = data.train.images[:8], data.train.labels[:8]
    together = search_batch(scorer, images, labels, ES, seed=1)
    alone = search_batch(scorer, images[3:4], labels[3:4], ES, seed=1)
    for a, b in zip(together.targets, alone.targets, strict=True):
        assert torch.allclose(a[3:4], b, atol=1e-3)
    with pytest.raises(DataError, match="frozen statistics need pilot images"):
        Judge(network, statistics="frozen", dtype=torch.float32)


def test_the_judge_is_a_copy(network: Stages) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    scorer = Judge(network, statistics="batch", dtype=torch.bfloat16)
    assert scorer.network.stages[0][1].weight.dtype == torch.bfloat16
    assert scorer.network.stages[-1][1].weight.dtype == torch.float32
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_bfloat16_finds_nearly_what_float32_finds(network: Stages, data: ImageData) -> None:
    images, labels = data.train.images[:48], data.train.labels[:48]
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        found = search_batch(Judge(network, statistics="batch", dtype=dtype), images, labels, ES, seed=1)
        losses.append(float(found.after[0].mean()))
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


class _Fails(EvolutionStrategy):
    """Makes some candidates NaN."""

    def ask(self, state: Any) -> tuple[Tensor, Any]:
        candidates, state = super().ask(state)
        candidates = candidates.clone()
        candidates[0] = torch.nan  # every candidate of image 0
        candidates[1, 2:4] = torch.nan  # some of image 1's
        return candidates, state

    def pending(self, state: Any) -> Tensor:
        return torch.where(torch.arange(4)[:, None, None] == 0, torch.nan, super().pending(state))


def test_images_whose_candidates_all_fail_keep_their_start_and_are_counted() -> None:
    stream = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Stages([nn.Sequential(nn.Flatten(), nn.Linear(16, 12)), nn.Linear(12, 3)], ["hidden", "logits"])
    images, labels = torch.rand(4, 1, 4, 4, generator=stream), torch.tensor([0, 1, 2, 0])
    scorer = Judge(net, statistics="batch", dtype=torch.float32)
    found = search_batch(scorer, images, labels, _Fails(EsConfig(population=8, generations=3, moments="own")), seed=0)
    assert found.failed == 2 * 3, "3 generations at each of 2 search points, of one image"
    assert torch.equal(found.targets[0][0], net.stages[0](images)[0])
    assert all(torch.isfinite(target).all() for target in found.targets)
    assert (found.after[0][1:] <= found.before[0][1:]).all()


def test_a_network_that_yields_nan_is_named(network: Stages, data: ImageData) -> None:
    scorer = Judge(network, statistics="batch", dtype=torch.float32)
    images = data.train.images[:4].clone()
    images[2] = torch.nan
    with pytest.raises(NotFiniteError, match=r"output for image \d of those searched together is not finite at 'block0'"):
        search_batch(scorer, images, data.train.labels[:4], ES, seed=0)


@pytest.mark.parametrize("smoothing", ["map", "noise"])
def test_the_papers_search_runs_through_all_points(network: Stages, data: ImageData, smoothing: Any) -> None:
    config = PaperConfig(population=20, parents=4, explorers=6, generations=8, alpha=0.3, smoothing=smoothing)
    scorer = Judge(network, statistics="batch", dtype=torch.float32)
    found = search_batch(scorer, data.train.images[:12], data.train.labels[:12], PaperSearch(config), seed=1)
    # The initial population is scored too. Behind the last block nothing couples candidates: parents keep their score.
    assert found.evaluations == 9 * 20 + 2 * (20 + 8 * 16)
    assert found.after.mean(1)[-1] < found.before.mean(1)[0]


def test_parents_that_cannot_have_changed_are_not_scored_again(network: Stages, data: ImageData) -> None:
    """With frozen statistics nothing is coupled, and the result is the one that scoring everything gives."""
    config = PaperConfig(population=20, parents=4, explorers=6, generations=5, alpha=0.3, smoothing="noise")
    scorer = Judge(network, statistics="frozen", pilot=data.train.images[:32])
    images, labels = data.train.images[:6], data.train.labels[:6]

    class Forgetful(PaperSearch):
        def known(self, state: Any) -> None:  # type: ignore[override]
            return None

    quick = search_batch(scorer, images, labels, PaperSearch(config), seed=1)
    slow = search_batch(scorer, images, labels, Forgetful(config), seed=1)
    assert quick.evaluations == 3 * (20 + 5 * 16)
    assert slow.evaluations == 3 * 6 * 20
    for a, b in zip(quick.targets, slow.targets, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize(
    ("budget", "reason"),
    [(Budget(evaluations=80), "evaluations"), (Budget(target=1e-6), "target")],
)
def test_a_budget_ends_the_search_and_says_why(network: Stages, data: ImageData, budget: Budget, reason: str) -> None:
    scorer = Judge(network)
    images, labels = data.train.images[:24], data.train.labels[:24]
    found = search_batch(scorer, images, labels, ES, seed=1, budget=budget)
    assert set(found.stops) == {reason}
    if reason == "evaluations":
        assert 80 - 9 <= found.evaluations <= 80, "as many generations as fit"
        assert [len(curve) - 1 for curve in found.curves] == [3, 4, 4], (
            "each point has its share, and its last update is scored"
        )
    else:
        assert found.evaluations == 0
        assert found.displacement.abs().max() < 1e-5


def test_a_budget_is_used_to_the_last_update(network: Stages, data: ImageData) -> None:
    """With the generations that fit planned from the start, the result is the same."""
    images, labels = data.train.images[:6], data.train.labels[:6]
    planned = EvolutionStrategy(EsConfig(population=8, generations=4, step=0.1, moments="own"))
    stopped = EvolutionStrategy(EsConfig(population=8, generations=100, step=0.1, moments="own"))
    expected = search_batch(Judge(network), images, labels, planned, seed=1)
    found = search_batch(Judge(network), images, labels, stopped, seed=1, budget=Budget(evaluations=3 * (3 * 9 + 1)))
    assert found.evaluations == expected.evaluations
    assert all(torch.equal(a, b) for a, b in zip(found.targets, expected.targets, strict=True))


class _Misshapen(EvolutionStrategy):
    def best(self, state: Any) -> tuple[Tensor, Tensor]:
        best, fitness = super().best(state)
        return best[:, :1], fitness


class _Swapped(EvolutionStrategy):
    def ask(self, state: Any) -> Any:
        return super().ask(state)[::-1]


class _Forgetful(EvolutionStrategy):
    def tell(self, state: Any, candidates: Tensor, fitness: Tensor) -> Any:
        super().tell(state, candidates, fitness)


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        (_Swapped, "_Swapped.ask gives EsState at .block0.: expected .images, candidates"),
        (_Forgetful, "_Forgetful.tell returns None: expected the new state"),
    ],
)
def test_what_an_algorithm_returns_in_the_wrong_place_is_named(
    network: Stages, data: ImageData, algorithm: type[EvolutionStrategy], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        search_batch(Judge(network), data.train.images[:6], data.train.labels[:6], algorithm(ES.config), seed=1)


def test_an_algorithm_whose_activations_have_another_shape_is_named(network: Stages, data: ImageData) -> None:
    with pytest.raises(
        ConfigError, match=r"_Misshapen.best gives activations of shape \(6, 1, .* at 'block0': expected \(images, …\)"
    ):
        search_batch(Judge(network), data.train.images[:6], data.train.labels[:6], _Misshapen(ES.config), seed=1)


def test_other_statistics_than_there_are_are_refused(network: Stages) -> None:
    with pytest.raises(ConfigError, match="statistics = 'frzen': expected 'batch' or 'frozen'"):
        Judge(network, statistics="frzen")


def test_points_end_when_every_image_has_the_wanted_probability(network: Stages, data: ImageData) -> None:
    algorithm = EvolutionStrategy(EsConfig(population=16, generations=200, step=0.1))
    images, labels = data.train.images[:6], data.train.labels[:6]
    found = search_batch(Judge(network), images, labels, algorithm, seed=1, budget=Budget(target=0.5))
    assert found.stops[-1] == "target"
    assert len(found.curves[-1]) < 200
    assert (found.after[-1] <= -torch.tensor(0.5).log() + 1e-4).all()


def test_the_cosine_with_the_gradient_is_that_of_a_plain_backward_pass(network: Stages, data: ImageData) -> None:
    images, labels = data.train.images[:12], data.train.labels[:12]
    found = search_batch(Judge(network), images, labels, ES, seed=1)
    plain = copy.deepcopy(network).train()
    start = plain.stages[0](images).detach().requires_grad_()
    loss = functional.cross_entropy(plain.run(start, 1), labels, reduction="sum")
    (downhill,) = torch.autograd.grad(-loss, start)
    expected = functional.cosine_similarity((found.targets[0] - start).flatten(1), downhill.flatten(1))
    assert torch.allclose(found.cosine[0], expected, atol=1e-3)
    assert found.cosine[0].mean() > 0.05, "downhill on the whole"


def test_the_last_block_alone_is_evolved_from_what_the_network_makes(network: Stages, data: ImageData) -> None:
    images, labels = data.train.images[:6], data.train.labels[:6]
    judge = Judge(network)
    with torch.no_grad():
        untouched = judge.advance(0, images)
    found = search_batch(
        judge, images, labels, EvolutionStrategy(EsConfig(population=8, generations=3)), seed=3, points="last"
    )
    assert torch.equal(found.targets[0], untouched)
    assert found.stops == [NOT_SEARCHED, "generations", "generations"]
    assert found.displacement[0].max() == 0 < found.displacement[1].min()
    assert torch.equal(found.before[0], found.after[0])
    assert found.evaluations == 2 * (2 * 9 + 1)


def test_the_papers_population_goes_through_a_block_that_is_not_evolved(network: Stages, data: ImageData) -> None:
    images, labels = data.train.images[:6], data.train.labels[:6]
    algorithm = PaperSearch(PaperConfig(population=6, parents=2, explorers=2, generations=2, blur=0))
    found = search_batch(Judge(network), images, labels, algorithm, seed=3, points="last")
    assert found.displacement[0].max() == 0 < found.displacement[1].min()
    assert torch.isfinite(found.after).all()


@pytest.mark.parametrize("algorithm", [ES, RandomSearch(ES.config), EvolutionStrategy(replace(ES.config, scale="channel"))])
@pytest.mark.parametrize("options", [{}, {"statistics": "frozen"}])
def test_described_candidates_give_the_same_search(
    algorithm: EsAlgorithm, options: dict[str, Any], network: Stages, data: ImageData
) -> None:
    images, labels = data.train.images[:6], data.train.labels[:6]
    quick, slow = (
        search_batch(Judge(network, pilot=images, factored=factored, **options), images, labels, algorithm, seed=1)
        for factored in (True, False)
    )
    assert quick.evaluations == slow.evaluations
    for a, b in zip(quick.targets, slow.targets, strict=True):
        assert torch.allclose(a, b, atol=1e-3)
    assert torch.allclose(quick.after, slow.after, atol=1e-3)


def test_only_the_centres_and_directions_go_through_the_head(network: Stages, data: ImageData) -> None:
    judge, sizes = Judge(network), []
    judge.network.stages[-1][1].register_forward_hook(lambda module, given, logits: sizes.append(len(given[0]._rows)))
    point = search_points(network, data.image_shape)[1]
    start = torch.randn(6, *point.shape, generator=torch.Generator().manual_seed(0))
    candidates, _ = ES.ask(ES.init(start, point, 0, None, lambda candidates: candidates))
    assert judge.fitness(point, candidates, data.train.labels[:6]).shape == (6, 9)
    assert sizes == [6 + 4 + 1]
    assert isinstance(candidates, Factored)
    assert candidates.described


@pytest.mark.parametrize("described", [True, False])
def test_where_memory_is_short_half_as_many_candidates_are_scored_at_a_time(
    network: Stages, data: ImageData, monkeypatch: pytest.MonkeyPatch, described: bool
) -> None:
    """Only where they do not influence each other, and from then on at once."""
    point, labels = search_points(network, data.image_shape)[0], data.train.labels[:4]
    judges = {kind: Judge(network, statistics=kind, pilot=data.train.images[:32]) for kind in ("frozen", "batch")}
    start = judges["frozen"].advance(0, data.train.images[:4])
    candidates, _ = ES.ask(ES.init(start, point, 0, None, torch.sum))
    assert isinstance(candidates, Factored)
    candidates = candidates if described else candidates.whole()
    whole, passes = judges["frozen"].fitness(point, candidates, labels), []
    logits = Judge.logits

    def limited(judge: Judge, point: Any, values: Tensor) -> Tensor:
        passes.append(len(values))
        if len(values) > 12:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return logits(judge, point, values)

    monkeypatch.setattr(Judge, "logits", limited)
    for tried in ([36, 20, 12, 12, 12], [12, 12, 12]):
        passes.clear()
        found = judges["frozen"].fitness(point, candidates, labels)
        assert passes == tried
        assert torch.allclose(found, whole, atol=1e-5)
    with pytest.raises(torch.OutOfMemoryError):
        judges["batch"].fitness(point, candidates, labels)


@pytest.mark.parametrize(
    "algorithm", [replace(ES, shared_seed=5), replace(ES, config=EsConfig(generations=0), shared_seed=5)]
)
def test_batches_that_are_searched_together_find_what_each_finds(
    network: Stages, data: ImageData, algorithm: EvolutionStrategy
) -> None:
    scorer = Judge(network, statistics="batch", dtype=torch.float64)
    batches = [(data.train.images[start:end], data.train.labels[start:end]) for start, end in ((0, 12), (12, 19), (19, 40))]
    assert algorithm.joins
    assert not ES.joins
    together = search_batches(scorer, batches, algorithm, seed=0, points="last")
    for (images, labels), found in zip(batches, together, strict=True):
        wanted = search_batch(scorer, images, labels, algorithm, seed=1, points="last")
        for name in ("targets", "curves"):
            for one, other in zip(getattr(found, name), getattr(wanted, name), strict=True):
                torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
        for name in ("before", "after", "displacement", "cosine"):
            torch.testing.assert_close(getattr(found, name), getattr(wanted, name), atol=1e-3, rtol=1e-3)
        assert torch.equal(found.solved, wanted.solved)
        assert (found.stops, found.evaluations, found.failed) == (wanted.stops, wanted.evaluations, wanted.failed)


@pytest.mark.parametrize("factored", [True, False])
def test_a_search_follows_the_terms_of_its_fitness(network: Stages, data: ImageData, factored: bool) -> None:
    images, labels = data.train.images[:20], data.train.labels[:20]
    algorithm = EvolutionStrategy(EsConfig(population=32, generations=30))
    found = {
        weight: search_batch(
            Judge(network, terms=[(weight, similarity)], factored=factored), images, labels, algorithm, seed=0, points="last"
        )
        for weight in (0.0, 30.0)
    }
    alike = [float(_similarity_of(result.targets[1], labels)) for result in found.values()]
    assert alike[1] > alike[0] + 0.1, "the higher, the more alike are features of a class"
    assert found[30.0].solved[-1].all()
    curve = found[30.0].curves[1]
    assert curve[0] > 25, "which holds the fitness"
    assert curve[-1] < 2


def _similarity_of(values: Tensor, labels: Tensor) -> Tensor:
    return similarity(Candidates(values, torch.zeros(len(labels), 3), labels, Peers(values, labels), nn.Identity())).mean()


def test_a_term_that_looks_at_other_images_couples_them(network: Stages, data: ImageData) -> None:
    """So parents are scored again, and batches are searched one by one; at the logits there are no terms."""
    point, logits = search_points(network, data.image_shape)[1:]
    assert not Judge(network).couples(point)
    assert Judge(network, terms=[(1.0, similarity)]).couples(point)
    assert not Judge(network, terms=[(1.0, similarity)]).couples(logits)


def test_an_algorithm_may_bring_terms(network: Stages, data: ImageData, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Alike(EvolutionStrategy):
        terms: ClassVar[Terms] = ((30.0, similarity),)

    config = SearchConfig(batch=24, es=EsConfig(population=8, generations=6))
    own, setting, without = (
        search_solution(network, data.train, tmp_path / name, config=each, algorithm=algorithm(each.es, shared_seed=1))
        for name, each, algorithm in (
            ("own", config, Alike),
            ("setting", replace(config, similarity=30.0), EvolutionStrategy),
            ("without", config, EvolutionStrategy),
        )
    )
    rows = [store.rows(torch.arange(24))[1] for store in (own, setting, without)]
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])
