"""A population of one's own networks, without a run directory."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from decouple.config import NetworkConfig, Q0Config
from decouple.data import ImageData
from decouple.errors import ConfigError, NetworkError
from decouple.networks import Stages, paper_network
from decouple.q0 import Ensemble, fit_prior, train_population
from decouple.q0.population import fitted_prior
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
    assert len(ensemble.members) == len(list(tmp_path.rglob("cycle-*.safetensors"))) == 4
    labels = data.prior.labels
    p_truth = torch.stack(
        [logits(m, data.prior).double().softmax(1)[torch.arange(len(labels)), labels] for m in ensemble.members]  # type: ignore[arg-type]
    )
    assert torch.allclose(fit_prior(p_truth).weights.float(), ensemble.weights, atol=1e-4)
    two = train_population(networks, data, tmp_path, config=replace(CONFIG, members=2))
    assert torch.allclose(two.weights, ensemble.weights[:2] / ensemble.weights[:2].sum(), atol=1e-6)


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
    with pytest.raises(ConfigError, match="cycles = 0: expected int >= 1; give Q0Config's cycles"):
        train_population(networks, data, tmp_path, config=Q0Config(cycles=0))
    with pytest.raises(ConfigError, match=r"networks\[…\] must be a Stages, not Linear"):
        train_population([torch.nn.Linear(2, 2)], data, tmp_path)  # type: ignore[list-item]
    assert not list(tmp_path.iterdir()), "nothing was trained"


def test_the_prior_is_the_one_that_the_settings_name() -> None:
    p_truth = torch.tensor([[0.9, 0.8, 0.1, 0.7], [0.2, 0.3, 0.9, 0.6]], dtype=torch.float64)
    for method in ("exact", "softmax"):
        assert torch.equal(fitted_prior(p_truth, method, 0).weights, fit_prior(p_truth, method=method).weights)
    assert fitted_prior(p_truth, "shrunk", 0).strength > 0
