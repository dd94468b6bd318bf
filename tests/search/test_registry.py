"""Algorithms by name: the registered ones, and code that a user names."""

import importlib.metadata
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from decouple import registry
from decouple.config import EsConfig, SearchConfig
from decouple.data import ImageData
from decouple.errors import ConfigError
from decouple.networks import Stages
from decouple.registry import about
from decouple.search import EvolutionStrategy, Judge, PaperSearch, register, search_batch, search_solution
from decouple.search.solutions import algorithm_of

CODE = """
from dataclasses import dataclass
from decouple.search import Algorithm


@dataclass(frozen=True)
class Nudge(Algorithm):
    size: float = {size}

    def generations(self, point):
        return 2

    def init(self, start, point, seed, population, fitness):
        return start.float(), start.float().flatten(1).mean(1) * 0 - float("inf")

    def ask(self, state):
        return (state[0] * (1 + self.size)).unsqueeze(1), state

    def tell(self, state, candidates, fitness):
        return candidates[:, 0].float(), fitness[:, 0]

    def best(self, state):
        return state


nothing = 1
"""
CONFIG = SearchConfig(batch=36, es=EsConfig(population=4, generations=2), paper=replace(SearchConfig().paper, generations=2))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(CODE.format(size=0.1))
    return path


@pytest.mark.parametrize("statistics", ["batch", "frozen"])
@pytest.mark.parametrize("name", [*registry.OWN, "evotorch:SNES"])
def test_every_algorithm_scores_as_many_candidates_as_it_says(
    name: str, statistics: str, network: Stages, data: ImageData
) -> None:
    paper = replace(CONFIG.paper, population=8, parents=3, explorers=2)
    algorithm = algorithm_of(replace(CONFIG, algorithm=name, paper=paper), seed=0)
    images, labels = data.train.images[:4], data.train.labels[:4]
    judge = Judge(network, statistics=statistics, pilot=images)
    found = search_batch(judge, images, labels, algorithm, seed=0)
    points = judge.points(images[:2])
    assert found.evaluations == sum(algorithm.evaluations(point, coupled=judge.couples(point)) for point in points)
    assert about(name).label
    assert about(name).backpropagates == (name == "gradient")
    assert type(algorithm).sections in (("es",), ("paper",))


def test_an_algorithm_in_a_file_searches(file: Path, network: Stages, data: ImageData, tmp_path: Path) -> None:
    config = replace(CONFIG, algorithm=f"{file}:Nudge")
    found = search_solution(network, data.train, tmp_path / "targets", config=config)
    own = registry.load(config.algorithm)()
    same = search_solution(network, data.train, tmp_path / "same", config=CONFIG, algorithm=own)
    everywhere = torch.arange(72)
    assert all(torch.equal(a, b) for a, b in zip(found.rows(everywhere), same.rows(everywhere), strict=True))
    assert found.evaluations == 2 * 2
    (folder,) = (tmp_path / "targets").iterdir()
    search_solution(network, data.train, tmp_path / "targets", config=config)
    assert list((tmp_path / "targets").iterdir()) == [folder]
    file.write_text(CODE.format(size=0.2))
    search_solution(network, data.train, tmp_path / "targets", config=config)
    assert len(list((tmp_path / "targets").iterdir())) == 2, "other code, other targets"


def test_an_algorithm_in_a_module_searches(
    file: Path, network: Stages, data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(file.parent)
    config = replace(CONFIG, algorithm="mine:Nudge")
    assert search_solution(network, data.train, tmp_path / "targets", config=config).evaluations == 4
    sys.modules.pop("mine")


def test_a_registered_name_is_an_algorithms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})

    @register_as("mine")
    class Mine(EvolutionStrategy):
        label = "my own"

    assert type(algorithm_of(replace(CONFIG, algorithm="mine"), seed=0)) is Mine
    assert about("mine").label == "my own"
    with pytest.raises(ConfigError, match="the name 'mine' is taken"):
        register("mine", PaperSearch)
    with pytest.raises(ConfigError, match="the name 'es' is taken"):
        register("es", PaperSearch)
    with pytest.raises(ConfigError, match=r"is not a subclass of decouple\.search\.Algorithm"):
        register("other", int)  # type: ignore[arg-type]


def register_as(name: str):  # type: ignore[no-untyped-def]
    return lambda kind: register(name, kind)


def test_an_installed_package_may_bring_one(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("brought", "decouple.search.paper:PaperSearch", registry.GROUP)
    monkeypatch.setattr(registry, "_installed", lambda: (point,))
    assert "brought" in registry.names()
    assert registry.load("brought") is PaperSearch


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "algorithm = '': expected one of es, paper"),
        ("pape", "expected one of es, paper.*did you mean 'paper'"),
        ("{file}:", "expected one of es, paper"),
        ("{file}:Missing", r"mine\.py defines no 'Missing'"),
        ("{file}:nothing", r"mine\.py:nothing is not a subclass of decouple\.search\.Algorithm"),
        ("{file}x.py:Nudge", r"cannot be loaded \(FileNotFoundError: "),
        ("no.such.module:Nudge", r"cannot be loaded \(ModuleNotFoundError: No module named 'no'\)"),
        ("evotorch:Nudge", "EvoTorch has no algorithm 'Nudge'"),
        ("evotorch:Cosyne", "evotorch:Cosyne cannot search here: it has no default for mutation_stdev, tournament_size"),
        ("evotorch:SteadyStateGA", "evotorch:SteadyStateGA cannot search here: it has no default for operators"),
    ],
)
def test_what_is_no_algorithm_is_named(
    name: str, message: str, file: Path, network: Stages, data: ImageData, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        search_solution(network, data.train, tmp_path / "targets", config=replace(CONFIG, algorithm=name.format(file=file)))


def test_search_points_that_are_not_there_are_named(network: Stages, data: ImageData, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"search.points = blok1: the network has no such .* did you mean 'block1'"):
        search_solution(network, data.train, tmp_path, config=replace(CONFIG, points=("block0", "blok1")))
    es = EsConfig(population=4, generations={"blocks": 2, "logit": 3})
    with pytest.raises(ConfigError, match=r"search.es.generations has a value for 'logit', which is no search point"):
        search_solution(network, data.train, tmp_path, config=replace(CONFIG, es=es))
    es = EsConfig(population=4, generations={"logits": 3})
    with pytest.raises(ConfigError, match=r"has no value for the search point 'block1': add one for block1 or blocks"):
        search_solution(network, data.train, tmp_path, config=replace(CONFIG, es=es))


def test_points_by_name_are_those_of_last_and_all(network: Stages, data: ImageData) -> None:
    judge, images, labels = Judge(network), data.train.images[:6], data.train.labels[:6]
    algorithm = EvolutionStrategy(CONFIG.es)
    for group, names in (("last", ("block1", "logits")), ("all", ("block0", "block1", "logits")), ("block0", ("block0",))):
        one, other = (search_batch(judge, images, labels, algorithm, seed=0, points=chosen) for chosen in (group, names))
        assert one.stops == other.stops
        assert [stop != "not searched" for stop in one.stops] == [name in names for name in ("block0", "block1", "logits")]
        assert all(torch.equal(a, b) for a, b in zip(one.targets, other.targets, strict=True))
