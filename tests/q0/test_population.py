"""A population of one's own networks, without a run directory."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from decouple.analysis import p_truth
from decouple.config import NetworkConfig, Q0Config
from decouple.data import ImageData
from decouple.errors import ConfigError, DataError, NetworkError
from decouple.files import load_tensors, unit_of
from decouple.networks import Stages, paper_network
from decouple.q0 import Ensemble, fit_prior, train_population
from decouple.q0.population import fitted_prior
from decouple.q0.trajectories import weights_in
from decouple.tasks import ImageTask
from decouple.training.evaluate import logits

CONFIG = Q0Config(cycles=2, epochs=1, batch=24, prior="exact")


@pytest.fixture(scope="module")
def networks(data: ImageData) -> list[Stages]:
    return [paper_network(data.train.images, 3, NetworkConfig(width=8), groups=1, seed=seed) for seed in (0, 1)]


def _answers(ensemble: Ensemble, data: ImageData) -> torch.Tensor:
    return ensemble(data.test.images.float())


def test_every_snapshot_has_the_weight_of_the_prior(networks: list[Stages], data: ImageData, tmp_path: Path) -> None:
    before = [network.digest for network in networks]
    ensemble = train_population(networks, data, tmp_path, config=CONFIG)
    assert [network.digest for network in networks] == before
    every = Ensemble.load(tmp_path, network=networks[0], equal=True)
    assert len(every.members) == len(list(tmp_path.rglob("cycle-*.safetensors"))) == 4
    answers = [logits(member, data.prior).double().softmax(1) for member in every.members]  # type: ignore[arg-type]
    weights = fit_prior(torch.stack([p_truth(each, data.prior.labels) for each in answers])).weights.float()
    assert torch.allclose(weights[weights > 0], ensemble.weights, atol=1e-4), "what has no weight is no member"


def test_any_number_of_members_is_weighted_and_calibrated(networks: list[Stages], data: ImageData, tmp_path: Path) -> None:
    config = replace(CONFIG, prior="shrunk")
    four = train_population(networks, data, tmp_path, config=config)
    two = train_population(networks, data, tmp_path, config=replace(config, members=2))
    assert torch.allclose(two.weights, four.weights[:2] / four.weights[:2].sum(), atol=1e-6)
    loaded = Ensemble.load(tmp_path, network=networks[0])
    assert torch.equal(_answers(loaded, data), _answers(two, data)), "as many as were asked for"
    more = Ensemble.load(tmp_path, 4, network=networks[0])
    assert more.temperature == four.temperature != 1
    assert torch.equal(_answers(more, data), _answers(four, data))


def test_another_augmentation_and_other_new_networks_are_trained_anew(data: ImageData, tmp_path: Path) -> None:
    config = replace(CONFIG, cycles=2)
    for augment, count in (("none", 1), ("none", 1), ("crop", 2)):
        train_population([own()], ImageTask(data, augment), tmp_path / "a", config=config)
        assert len(list((tmp_path / "a").glob("*/trajectory-0"))) == count
    again = replace(config, restart="new")
    for activation, count in ((None, 1), (None, 1), (torch.nn.Tanh(), 2)):
        train_population([own()], ImageTask(data, new=lambda seed, a=activation: own(a)), tmp_path / "b", config=again)
        assert len(list((tmp_path / "b").glob("*/trajectory-0"))) == count
    with pytest.raises(ConfigError, match=r"q0\.restart = new begins each cycle with a new network"):
        train_population([own()], data, tmp_path / "c", config=again)
    assert not (tmp_path / "c").exists()
    with pytest.raises(ConfigError, match=r"precision = 'bf16': expected one of float32, bfloat16, mixed"):
        train_population([own()], data, tmp_path / "c", config=config, precision="bf16")


def test_without_prior_images_nothing_is_trained(networks: list[Stages], data: ImageData, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="prior has no images: expected some, by which the members of a population are weighed"
    ):
        train_population(networks, replace(data, prior=data.prior.subset([])), tmp_path / "none", config=CONFIG)
    assert not (tmp_path / "none").exists()


def test_what_is_there_is_not_trained_again(networks: list[Stages], data: ImageData, tmp_path: Path) -> None:
    first = train_population(networks, data, tmp_path, config=CONFIG)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = train_population(networks, data, tmp_path, config=replace(CONFIG, members=3, prior="shrunk"))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == stamps
    assert len(again.members) == 3
    max(stamps).unlink()
    assert torch.equal(_answers(train_population(networks, data, tmp_path, config=CONFIG), data), _answers(first, data))
    assert {path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp} == {max(stamps)}
    train_population(networks[:1], data, tmp_path, config=replace(CONFIG, lr=0.1))
    assert len(list(tmp_path.rglob("*.safetensors"))) == len(stamps) + 2, "other settings stay beside them"


def test_validation_and_test_images_decide_nothing(networks: list[Stages], data: ImageData, tmp_path: Path) -> None:
    other = replace(data, validation=data.test, test=data.validation)
    one, two = (train_population(networks[:1], d, tmp_path / name, config=CONFIG) for d, name in ((data, "a"), (other, "b")))
    assert torch.equal(_answers(one, data), _answers(two, data))


def test_what_does_not_fit_is_named(networks: list[Stages], data: ImageData, tmp_path: Path) -> None:
    wider = paper_network(data.train.images, 3, NetworkConfig(width=16), groups=1, seed=0)
    with pytest.raises(NetworkError, match=r"members of one shape: member 0 has .* \(8, .*, member 1 \(16, "):
        train_population([networks[0], wider], data, tmp_path, config=CONFIG)
    with pytest.raises(NetworkError, match="at least one member; got none"):
        train_population([], data, tmp_path, config=CONFIG)
    with pytest.raises(NetworkError, match=r"must be a sequence of them, not one Stages; pass \[network\]"):
        train_population(networks[0], data, tmp_path, config=CONFIG)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"members = 99: expected at most \d+, the snapshots of 2 × \d cycles"):
        train_population(networks, data, tmp_path, config=replace(CONFIG, members=99))
    with pytest.raises(ConfigError, match=r"network must be a Stages, not Linear"):
        train_population([torch.nn.Linear(2, 2)], data, tmp_path)  # type: ignore[list-item]
    assert not list(tmp_path.iterdir()), "nothing was trained"


class Own(torch.nn.Module):
    """Its second layer has the first one's weight."""

    def __init__(self, activation: torch.nn.Module | None = None) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.flat, self.a, self.b = torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)
            self.head, self.activation = torch.nn.Linear(64, 3), activation or torch.nn.ReLU()
        self.b.weight = self.a.weight

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.activation(self.b(self.activation(self.a(self.flat(images))))))


def own(activation: torch.nn.Module | None = None) -> Stages:
    return Stages.from_module(Own(activation), ["a", "b", "head"])


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_tied_weights_train_as_tied_and_are_kept_once(data: ImageData, tmp_path: Path, optimizer: Any) -> None:
    config = replace(CONFIG, optimizer=optimizer, perturb=0.1, prior="shrunk")
    ensemble = train_population([own()], data, tmp_path, config=config)
    paths = sorted(tmp_path.rglob("cycle-*.safetensors"))
    assert len(paths) == len(ensemble.members) == 2
    states = [weights_in(load_tensors(path, unit=unit_of(path))) for path in paths]
    for state in states:
        first, second = (next(value for name, value in state.items() if name.endswith(f"{x}.weight")) for x in "ab")
        assert first.data_ptr() == second.data_ptr()
        assert torch.equal(first, second)
        assert not torch.equal(first, Own().a.weight)
    for member in ensemble.members:
        assert (
            next(s for n, s in member.named_modules() if n.endswith(".a")).weight
            is next(s for n, s in member.named_modules() if n.endswith(".b")).weight
        )
    paths[1].unlink()
    again = train_population([own()], data, tmp_path, config=config)
    assert torch.equal(_answers(again, data), _answers(ensemble, data)), "what goes on from a tied snapshot is the same"


def test_snapshots_of_another_network_with_the_same_weights_are_not_taken(data: ImageData, tmp_path: Path) -> None:
    one, other = own(), own(torch.nn.Tanh())
    assert one.digest == other.digest
    train_population([one], data, tmp_path, config=CONFIG)
    found = train_population([other], data, tmp_path, config=CONFIG)
    alone = train_population([other], data, tmp_path / "alone", config=CONFIG)
    assert torch.equal(_answers(found, data), _answers(alone, data))
    assert len(list(tmp_path.glob("*/trajectory-0"))) == 2
    both = train_population([one, other], data, tmp_path, config=replace(CONFIG, prior="shrunk"))
    assert len(both.members) == 4
    expected = torch.stack([member(data.test.images).softmax(-1) for member in both.members])
    mixed = (both.weights[:, None, None] * expected).sum(0)
    torch.testing.assert_close(_answers(both, data).exp(), mixed)


def test_what_cannot_be_trained_or_kept_is_refused_before_training(data: ImageData, tmp_path: Path) -> None:
    class Extra(torch.nn.Linear):
        def get_extra_state(self) -> object:
            return {"a": 1}

        def set_extra_state(self, state: object) -> None: ...

    sequential = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), Extra(8, 3))
    with pytest.raises(NetworkError, match=r"'stages\.1\.0\._extra_state' of networks\[0\] is a dict"):
        train_population([Stages.from_sequential(sequential, [1, 2])], data, tmp_path, config=CONFIG)
    with pytest.raises(NetworkError, match=r"no parameter of networks\[1\] requires a gradient"):
        train_population([own(), own().requires_grad_(False)], data, tmp_path, config=CONFIG)
    lazy = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(8), torch.nn.Linear(8, 3))
    with pytest.raises(NetworkError, match=r"'stages\.0\.1\.weight' of networks\[0\] is not initialised"):
        train_population([Stages.from_sequential(lazy, [1, 2])], data, tmp_path, config=CONFIG)
    assert not list(tmp_path.iterdir()), "nothing was trained"


def test_the_prior_is_the_one_that_the_settings_name() -> None:
    p_truth = torch.tensor([[0.9, 0.8, 0.1, 0.7], [0.2, 0.3, 0.9, 0.6]], dtype=torch.float64)
    for method in ("exact", "softmax"):
        assert torch.equal(fitted_prior(p_truth, method, 0).weights, fit_prior(p_truth, method=method).weights)
    assert fitted_prior(p_truth, "shrunk", 0).strength > 0


def test_another_seed_has_a_population_of_its_own(networks: list[Stages], data: ImageData, tmp_path: Path) -> None:
    for seed in (0, 1, 0):
        train_population(networks[:1], data, tmp_path, config=CONFIG, seed=seed)
        if seed == 0:
            found = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("cycle-*.safetensors") if "seed0" in str(path)}
            assert len(found) == CONFIG.cycles
    assert len(list(tmp_path.rglob("cycle-*.safetensors"))) == 2 * CONFIG.cycles
    assert all(path.stat().st_mtime_ns == time for path, time in found.items())
