"""Whatever the caller has set in torch, what is searched and trained has the same values, and the setting stays."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from decouple.config import EsConfig, GptConfig, LearnConfig, NetworkConfig, PaperConfig, Q0Config, SearchConfig, SgdConfig
from decouple.data import ImageData, load_data
from decouple.learn import learn_targets, train_sgd
from decouple.networks import Stages, paper_network
from decouple.networks.build import build_module
from decouple.networks.points import cut_points
from decouple.q0 import cross_validated_strength, fit_prior, greedy_members, train_population
from decouple.q0.compress import distill
from decouple.search import search_solution
from decouple.tasks import ImageTask
from decouple.text.gpt import Gpt
from decouple.torch_state import plain_torch, torch_defaults

State = Callable[[], AbstractContextManager[object]]


@contextmanager
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


STATES: dict[str, State] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": _float64,
    "device": lambda: torch.device("meta"),  # whoever does not name a device gets tensors without values
    "deterministic": _deterministic,
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
}


@pytest.fixture(params=STATES)
def state(request: pytest.FixtureRequest) -> State:
    return STATES[request.param]


@torch_defaults()
def _own() -> Stages:
    """A network with what a training has to carry: BatchNorm, dropout, a part that is frozen."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(144, 3)]
    layers[0].requires_grad_(False)
    return Stages.from_sequential(nn.Sequential(*layers), ["3", "5"])


def _weights(network: nn.Module) -> list[Tensor]:
    return [value.clone() for value in network.state_dict().values()]


def _same(found: list[Tensor], wanted: list[Tensor]) -> None:
    assert [value.dtype for value in found] == [value.dtype for value in wanted]
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def _sgd(data: ImageData, folder: Path) -> list[Tensor]:
    network = _own()
    found = train_sgd(
        network, data.train, validation=data.validation, config=SgdConfig(epochs=2, batch=24, augment="flip-crop")
    )
    return [*_weights(network), torch.tensor([*found.losses, *found.validation], dtype=torch.float64, device="cpu")]


def _learn(data: ImageData, folder: Path) -> list[Tensor]:
    config = SearchConfig(batch=24, es=EsConfig(population=4, generations=2))
    store = search_solution(_own(), data.train, folder, config=config)
    network = _own()
    found = learn_targets(network, data.train, store, validation=data.validation, config=LearnConfig(epochs=1, batch=24))
    losses = torch.tensor(found.losses, dtype=torch.float64, device="cpu")
    return [*_weights(network), *store.rows(torch.arange(len(store), device="cpu")), *store.curves(), losses]


def _search(algorithm: str) -> Callable[[ImageData, Path], list[Tensor]]:
    def found(data: ImageData, folder: Path) -> list[Tensor]:
        config = SearchConfig(
            algorithm=algorithm,  # type: ignore[arg-type]
            batch=24,
            points="all",
            es=EsConfig(population=4, generations=2, subspaces=2),
            paper=PaperConfig(population=6, parents=2, explorers=2, generations=2),
        )
        split = data.train.subset(range(24))
        store = search_solution(
            paper_network(data.train.images, 3, NetworkConfig(width=4), groups=1, seed=0), split, folder, config=config
        )
        return [*store.rows(torch.arange(24, device="cpu")), *store.diagnostics().values()]

    return found


def _population(data: ImageData, folder: Path) -> list[Tensor]:
    config = Q0Config(cycles=2, epochs=1, batch=24, alpha=0.5, distill_after=1, perturb=0.1)
    ensemble = train_population([_own(), _own()], data, folder, config=config)
    student = distill(ensemble, _own(), ImageTask(data), Q0Config(cycles=1, epochs=1, batch=24))
    return [*_weights(ensemble), *_weights(student)]


def _gpt(data: ImageData, folder: Path) -> list[Tensor]:
    return [
        *(
            p.detach()
            for p in Gpt(GptConfig(width=8, heads=2, layers=1, context=4), vocabulary=5, seed=0).state_dict().values()
        )
    ]


WORK = {
    "train_sgd": _sgd,
    "learn_targets": _learn,
    "train_population": _population,
    "gpt": _gpt,
    **{name: _search(name) for name in ("es", "paper", "random", "gradient", "pgpe", "cem")},
}


@pytest.fixture(scope="module")
def plain(data: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Tensor]]:
    """What each gives where nothing is set, computed once."""
    known: dict[str, list[Tensor]] = {}

    def of(name: str) -> list[Tensor]:
        if name not in known:
            known[name] = WORK[name](data, tmp_path_factory.mktemp(name))
        return known[name]

    return of


@pytest.mark.parametrize("name", WORK)
def test_the_result_does_not_depend_on_the_callers_state(
    data: ImageData, tmp_path: Path, plain: Callable[[str], list[Tensor]], state: State, name: str
) -> None:
    wanted = plain(name)
    with state():
        before = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"))
        defaults = torch.get_default_dtype(), torch.get_default_device()
        found = WORK[name](data, tmp_path)
        assert before == (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"))
        assert defaults == (torch.get_default_dtype(), torch.get_default_device())
    _same([value.clone() for value in found], wanted)


def test_what_is_put_aside_comes_back_after_an_error() -> None:
    with torch.inference_mode(), pytest.raises(ValueError, match="here"), torch_defaults():
        raise ValueError("here")
    assert not torch.is_inference_mode_enabled()
    with torch.autocast("cpu"):
        with plain_torch():
            assert not torch.is_autocast_enabled("cpu")
        assert torch.is_autocast_enabled("cpu")


def test_building_a_network_seeds_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a GPU's generator was seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", fail)
    monkeypatch.setattr(torch.cuda, "manual_seed", fail)
    build_module("torchvision:squeezenet1_1", {}, classes=3, channels=3, seed=0)
    paper_network(torch.rand(4, 1, 12, 12), 3, NetworkConfig(width=4), groups=1, seed=0)


def test_what_needs_no_network_is_the_same_in_any_state(state: State) -> None:
    answers = torch.rand(4, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0), device="cpu")
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)).to("cpu")

    def found() -> list[object]:
        strength = cross_validated_strength(answers, repeats=1)
        chosen = [each.tolist() for each in greedy_members(answers, 3)]
        weights = fit_prior(answers, strength=strength.strength).weights.tolist()
        return [load_data("digits").train.digest, weights, chosen, [point.name for point in cut_points(network, (1, 8, 8))]]

    wanted = found()
    with state():
        assert found() == wanted
