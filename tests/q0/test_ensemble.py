"""An ensemble: the mixture by hand, every way of computing it, and files that are whole or refused."""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from decouple.config import NetworkConfig, Q0Config
from decouple.data import ImageData
from decouple.errors import ConfigError, DamagedFileError, DataError, NetworkError
from decouple.networks import Stages, paper_network
from decouple.q0.architecture import ImageArchitecture
from decouple.q0.compress import KnownAnswers, distill
from decouple.q0.ensemble import Ensemble, EvaluationMode
from decouple.q0.population import train_population
from decouple.q0.trajectories import ChainObjective
from decouple.tasks import ImageTask
from decouple.training.evaluate import logits
from decouple.training.stream import Batch

WEIGHTS = torch.tensor([0.2, 0.5, 0.3])
SHAPE = ImageArchitecture(NetworkConfig(width=8), 1, (1, 8, 8), 3)


def mlps(count: int = 3) -> list[nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 3)) for _ in range(count)]


def convolutional(data: ImageData, count: int = 3) -> list[nn.Module]:
    """Networks whose BatchNorm averages differ."""
    networks: list[nn.Module] = []
    for seed in range(count):
        network = paper_network(data.train.images, 3, SHAPE.network, groups=1, seed=seed).train()
        with torch.no_grad():
            network(data.train.images[10 * seed : 10 * seed + 20])
        networks.append(network.eval())
    return networks


def by_hand(members: list[nn.Module], weights: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        parts = [w * m.eval()(images).double().softmax(-1) for w, m in zip(weights.double(), members, strict=True)]
    return torch.stack(parts).sum(0).log()


@pytest.mark.parametrize("evaluation", ["batched", "loop"])
@pytest.mark.parametrize("kind", ["mlp", "convolutional"])
def test_every_way_gives_the_mixture(data: ImageData, kind: str, evaluation) -> None:
    members = mlps() if kind == "mlp" else convolutional(data)
    ensemble = Ensemble(members, WEIGHTS, evaluation=evaluation)
    found = ensemble(data.test.images)
    torch.testing.assert_close(found.double(), by_hand(members, WEIGHTS, data.test.images), rtol=0, atol=2e-5)


def test_batched_members_follow_their_weights(data: ImageData) -> None:
    ensemble = Ensemble(mlps(), WEIGHTS, evaluation="batched")
    before = ensemble(data.test.images)
    with torch.no_grad():
        ensemble.members[0][3].bias.add_(torch.tensor([3.0, 0.0, 0.0]))
    after = ensemble(data.test.images)
    assert not torch.equal(before, after)
    ensemble.evaluation = "loop"
    torch.testing.assert_close(after, ensemble(data.test.images))


def test_tokens_and_training_mode(data: ImageData) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        members = [nn.Embedding(5, 4) for _ in range(3)]
    ensemble = Ensemble(members, WEIGHTS)
    assert ensemble(torch.arange(5).view(1, 5)).exp().sum(-1) == pytest.approx(1)
    assert ensemble.evaluation == "batched"
    kept = Ensemble(convolutional(data), WEIGHTS).train()
    assert kept.evaluation == "loop"
    assert not any(module.training for module in kept.modules())


def test_a_file_gives_the_ensemble_back_and_its_heaviest_members(data: ImageData, tmp_path: Path) -> None:
    members = convolutional(data)
    ensemble = Ensemble(members, WEIGHTS, architecture=SHAPE)
    ensemble.save(tmp_path / "ensemble.safetensors")
    again = Ensemble.load(tmp_path / "ensemble.safetensors")
    assert torch.equal(again(data.test.images), ensemble(data.test.images))
    two = Ensemble.load(tmp_path / "ensemble.safetensors", k=2)
    expected = by_hand([members[1], members[2]], torch.tensor([0.625, 0.375]), data.test.images)
    torch.testing.assert_close(two(data.test.images).double(), expected, rtol=0, atol=2e-5)
    same = Ensemble.load(tmp_path / "ensemble.safetensors", equal=True)
    expected = by_hand(members, torch.ones(3) / 3, data.test.images)
    torch.testing.assert_close(same(data.test.images).double(), expected, rtol=0, atol=2e-5)
    with pytest.raises(ConfigError, match=r"there is no run directory or file .*none"):
        Ensemble.load(tmp_path / "none")
    for k in (0, 4, 2.5):
        with pytest.raises(ConfigError, match=rf"{k} members: expected a whole number from 1 to 3"):
            Ensemble.load(tmp_path / "ensemble.safetensors", k=k)  # type: ignore[arg-type]


def test_the_temperature_is_applied_to_the_mixture_and_kept(data: ImageData, tmp_path: Path) -> None:
    members = convolutional(data)
    ensemble = Ensemble(members, WEIGHTS, temperature=0.5, architecture=SHAPE)
    plain = by_hand(members, WEIGHTS, data.test.images).exp()
    expected = (plain**2 / (plain**2).sum(1, keepdim=True)).log()
    torch.testing.assert_close(ensemble(data.test.images).double(), expected, rtol=0, atol=5e-5)
    assert repr(ensemble).endswith("temperature 0.50)")
    ensemble.save(tmp_path / "ensemble.safetensors")
    assert Ensemble.load(tmp_path / "ensemble.safetensors").temperature == 0.5
    assert Ensemble.load(tmp_path / "ensemble.safetensors", equal=True).temperature == 1
    assert Ensemble.load(tmp_path / "ensemble.safetensors", k=2).temperature == 1, "it was that of all three"
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature = "):
            Ensemble(members, WEIGHTS, temperature=wrong)


def test_a_file_of_own_networks_needs_one(data: ImageData, tmp_path: Path) -> None:
    ensemble, path = Ensemble(mlps(), WEIGHTS), tmp_path / "own.safetensors"
    ensemble.save(path)
    with pytest.raises(ConfigError, match="holds networks of your own: pass network="):
        Ensemble.load(path)
    again = Ensemble.load(path, network=mlps(1)[0])
    assert torch.equal(again(data.test.images), ensemble(data.test.images))
    with pytest.raises(NetworkError, match=r"the members do not fit the network: .*weight"):
        Ensemble.load(path, network=nn.Linear(64, 3))
    with pytest.raises(ConfigError, match="is no run directory: give one whose q0 stage is done, or a file or folder"):
        Ensemble.load(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "ensemble.safetensors"
    Ensemble(mlps(), WEIGHTS).save(path)
    whole = bytearray(path.read_bytes())
    whole[-3] ^= 1
    path.write_bytes(whole if damage == "flipped" else whole[:-7])
    with pytest.raises(DamagedFileError, match=r"ensemble\.safetensors"):
        Ensemble.load(path, network=mlps(1)[0])


def test_members_that_do_not_fit_are_refused() -> None:
    with pytest.raises(NetworkError, match=r"one shape: member 0 has weight \(3, 2\), member 1 \(2, 3\)"):
        Ensemble([nn.Linear(2, 3), nn.Linear(3, 2)], torch.ones(2))
    with pytest.raises(NetworkError, match=r"one shape: member 0 has bias \(3,\), member 1 not at all"):
        Ensemble([nn.Linear(2, 3), nn.Linear(2, 3, bias=False)], torch.ones(2))
    with pytest.raises(NetworkError, match="at least one member; got none"):
        Ensemble([], torch.ones(0))
    with pytest.raises(ValueError, match=r"weights \(2,\) and 3 members do not fit"):
        Ensemble(mlps(), torch.ones(2))


def test_weights_may_be_numbers(data: ImageData) -> None:
    assert torch.equal(Ensemble(mlps(), WEIGHTS.tolist())(data.test.images), Ensemble(mlps(), WEIGHTS)(data.test.images))


def test_numbers_of_any_kind_are_accepted(data: ImageData, tmp_path: Path) -> None:
    images, expected = data.test.images, Ensemble(mlps(), WEIGHTS)(data.test.images)
    for weights in (
        WEIGHTS.numpy(),
        WEIGHTS.double(),
        list(WEIGHTS),
        tuple(np.float32(weight) for weight in WEIGHTS.tolist()),
        np.array([2, 5, 3]),
        torch.tensor([2, 5, 3]),
        WEIGHTS.clone().requires_grad_(),
    ):
        ensemble = Ensemble(mlps(), weights)
        torch.testing.assert_close(ensemble(images), expected)
        assert not ensemble.weights.requires_grad
    torch.testing.assert_close(ensemble(images.numpy()), expected)  # type: ignore[arg-type]
    ensemble.save(tmp_path / "e")
    for k in (np.int64(2), torch.tensor(2), 2):
        assert len(Ensemble.load(tmp_path / "e", k, network=mlps(1)[0]).members) == 2  # type: ignore[arg-type]
    for weights in (None, "abc", ["a", "b", "c"]):
        with pytest.raises(ValueError, match=r"weights = .*: expected \(M,\) numbers, one for each member"):
            Ensemble(mlps(), weights)  # type: ignore[arg-type]


def test_members_that_are_no_networks_or_have_no_values_are_refused() -> None:
    with pytest.raises(NetworkError, match=r"a sequence of networks, not one Sequential; pass \[network\]"):
        Ensemble(mlps(1)[0], [1])  # type: ignore[arg-type]
    with pytest.raises(NetworkError, match=r"member 1 is a str: expected an nn\.Module"):
        Ensemble([*mlps(1), "b"], [1, 1])  # type: ignore[list-item]
    with pytest.raises(NetworkError, match="'weight' of member 0 is not initialised"):
        Ensemble([nn.LazyLinear(3)], [1])
    with pytest.raises(NetworkError, match="'weight' of member 1 is on the meta device"):
        Ensemble([nn.Linear(2, 3), nn.Linear(2, 3, device="meta")], [1, 1])


class Tied(nn.Module):
    """Its second layer's weight is the first one's, the third one's another parameter in the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 32), nn.Linear(32, 3)
        self.b.weight = self.a.weight
        self.c.weight = nn.Parameter(self.a.weight.detach()[:32])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.c(self.b(self.a(images.flatten(1)).relu()).relu()).relu())


def test_tied_members_are_kept_once_and_restored_tied(data: ImageData, tmp_path: Path) -> None:
    members: list[nn.Module] = [Tied() for _ in WEIGHTS]
    ensemble = Ensemble(members, WEIGHTS)
    torch.testing.assert_close(
        ensemble(data.test.images).double(), by_hand(members, WEIGHTS, data.test.images), rtol=0, atol=2e-5
    )
    ensemble.save(tmp_path / "e")
    assert (tmp_path / "e").stat().st_size < 3 * 4 * (64 * 64 + 300) + 5000
    again = Ensemble.load(tmp_path / "e", network=Tied())
    assert torch.equal(again(data.test.images), ensemble(data.test.images))
    for member in again.members:
        assert member.b.weight is member.a.weight
        member.a.weight.detach().zero_()
        assert not member.c.weight.any()  # type: ignore[union-attr]


class Fixed(nn.Module):
    def __init__(self, temperature: float, kept: float = 1.0) -> None:
        super().__init__()
        self.l, self.temperature = nn.Linear(64, 3), temperature
        self.register_buffer("kept", torch.tensor(kept), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.l(images.flatten(1)) * self.kept / self.temperature


def test_members_that_differ_in_more_than_weights_are_not_saved_as_one_network(data: ImageData, tmp_path: Path) -> None:
    for other, what in (
        (Fixed(5.0), "'temperature' is 1.0 in member 0 and 5.0 in member 1"),
        (Fixed(1.0, 2.0), r"'kept' is float32 \(\) \w+ in member 0 and"),
    ):
        ensemble = Ensemble([Fixed(1.0), other], [1, 1])
        expected = by_hand(list(ensemble.members), torch.ones(2) / 2, data.test.images)
        torch.testing.assert_close(ensemble(data.test.images).double(), expected, rtol=0, atol=2e-5)
        with pytest.raises(NetworkError, match=rf"cannot be saved together: {what}"):
            ensemble.save(tmp_path / "e")
    other = paper_network(data.train.images, 3, NetworkConfig(width=8, eps=0.1), groups=1, seed=0)
    with pytest.raises(NetworkError, match=r"cannot be saved together: 'stages\.\S+\.eps' is 0\.1 in member 0 and 0\.01"):
        Ensemble([other], [1], architecture=SHAPE).save(tmp_path / "e")
    assert not list(tmp_path.iterdir())


def test_what_a_file_cannot_hold_is_refused_by_name(data: ImageData, tmp_path: Path) -> None:
    class Extra(Fixed):
        def get_extra_state(self) -> object:
            return {"temperature": self.temperature}

        def set_extra_state(self, state: object) -> None: ...

    ensemble = Ensemble([Extra(2.0), Extra(2.0)], [1, 1])
    assert ensemble(data.test.images).isfinite().all()
    with pytest.raises(NetworkError, match="'_extra_state' of member 0 is a dict, which a file of tensors cannot hold"):
        ensemble.save(tmp_path / "e")

    class Kept(Fixed):
        def get_extra_state(self) -> torch.Tensor:
            return torch.tensor(self.temperature)

        def set_extra_state(self, state: torch.Tensor) -> None:
            self.temperature = float(state)

    ensemble = Ensemble([Kept(2.0), Kept(2.0)], [1, 1])
    ensemble.save(tmp_path / "e")
    again = Ensemble.load(tmp_path / "e", network=Kept(1.0))
    assert torch.equal(again(data.test.images), ensemble(data.test.images))


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_a_file_loaded_in_any_mode_gives_gradients_later(data: ImageData, tmp_path: Path, mode: Any) -> None:
    ensembles = {"own": Ensemble(mlps(), WEIGHTS), "paper": Ensemble(convolutional(data), WEIGHTS, architecture=SHAPE)}
    for name, ensemble in ensembles.items():
        ensemble.save(tmp_path / name)
        with mode():
            again = Ensemble.load(tmp_path / name, network=mlps(1)[0] if name == "own" else None)
            torch.testing.assert_close(again(data.test.images), ensemble(data.test.images))
        images = data.test.images.clone().requires_grad_()
        again(images)[:, 0].sum().backward()
        assert images.grad is not None
        assert float(images.grad.abs().max()) > 0


def test_a_file_loaded_under_another_default_dtype_is_the_same(data: ImageData, tmp_path: Path) -> None:
    ensemble = Ensemble(convolutional(data), WEIGHTS, architecture=SHAPE)
    ensemble.save(tmp_path / "e")
    torch.set_default_dtype(torch.float64)
    try:
        again = Ensemble.load(tmp_path / "e")
        assert torch.equal(again(data.test.images), ensemble(data.test.images))
    finally:
        torch.set_default_dtype(torch.float32)


def test_no_images_are_refused(data: ImageData) -> None:
    member = paper_network(data.train.images.numpy(), 3, NetworkConfig(width=4), groups=1, seed=0)
    with pytest.raises(DataError, match=r"images have shape \(0, 1, 8, 8\): expected at least one"):
        Ensemble([member], [1.0])(data.test.images[:0])


def test_images_of_another_shape_are_refused_where_the_shape_is_known(data: ImageData) -> None:
    ensemble = Ensemble(convolutional(data), WEIGHTS, architecture=SHAPE)
    for shape in ((2, 1, 28, 28), (1, 8, 8)):
        with pytest.raises(DataError, match=r"images have shape .*: expected \(B, 1, 8, 8\)"):
            ensemble(torch.rand(shape))


def own_network(seed: int) -> Stages:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Stages.from_sequential(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(inplace=True), nn.Linear(16, 3)), ["1", "3"]
        )


@pytest.mark.parametrize("kind", ["own", "paper"])
@pytest.mark.parametrize("evaluation", ["batched", "loop"])
def test_an_ensemble_takes_the_images_that_its_members_were_trained_on(
    data: ImageData, tmp_path: Path, kind: str, evaluation: EvaluationMode
) -> None:
    """uint8 in 0..255 and float in 0..1 are the same images; what is on another scale is refused, also after loading."""
    images = (data.train.images * 127).byte()
    bytes_ = ImageData.from_tensors(
        images, data.train.labels, test_images=images[:9], test_labels=data.train.labels[:9], validation=9, prior=9
    )
    networks = [
        own_network(seed) if kind == "own" else paper_network(images, 3, SHAPE.network, groups=1, seed=seed)
        for seed in (0, 1)
    ]
    ensemble = train_population(networks, bytes_, tmp_path / "population", config=Q0Config(cycles=1, epochs=1))
    ensemble.save(tmp_path / "ensemble.safetensors")
    again = Ensemble.load(tmp_path / "ensemble.safetensors", network=copy.deepcopy(networks[0]))
    wanted = ensemble(bytes_.test.images)
    assert (wanted.argmax(1) == bytes_.test.labels).float().mean() == accuracy_of(ensemble.members, ensemble.weights, bytes_)
    for each in (ensemble, again):
        each.evaluation = evaluation
        torch.testing.assert_close(each(bytes_.test.images), wanted)
        torch.testing.assert_close(each(bytes_.test.images.float() / 255), wanted)
        with pytest.raises(
            DataError, match=r"the images reach from 0 to \d+, and the network was trained on uint8 images or floats in 0..1"
        ):
            each(bytes_.test.images.float())
        with pytest.raises(DataError, match="the images are int64: expected uint8, or floats as in training"):
            each(bytes_.test.images.long())


def accuracy_of(members: Iterable[nn.Module], weights: Tensor, data: ImageData) -> float:
    """Of the mixture, from what `decouple.training.evaluate` makes of the split."""
    mixture = sum(w * logits(member, data.test).softmax(1) for w, member in zip(weights, members, strict=True))
    return float((mixture.argmax(1) == data.test.labels).float().mean())


def test_members_of_different_scales_do_not_answer_together(data: ImageData) -> None:
    one, other = own_network(0), own_network(1)
    one.train_on(data.train.images)
    other.train_on((data.train.images * 100).byte())
    with pytest.raises(
        NetworkError, match=r"some members were trained on images in 0..1 and some on images on another scale"
    ):
        Ensemble([one, other], [1, 1])
    ensemble = Ensemble([one, own_network(1)], [1, 1])
    with pytest.raises(
        DataError, match=r"the images are uint8, and the network was trained on float images that do not lie in 0..1"
    ):
        ensemble(data.test.images.byte())


def test_distilled_one_network_answers_as_the_ensemble_does(data: ImageData) -> None:
    members = convolutional(data)
    ensemble = Ensemble(members, WEIGHTS, architecture=SHAPE)
    student = paper_network(data.train.images, 3, SHAPE.network, groups=1, seed=9)
    before = Ensemble([copy.deepcopy(student)], torch.ones(1))
    with pytest.raises(ConfigError, match="config must be a Q0Config, not dict"):
        distill(ensemble, student, ImageTask(data), {"epochs": 3})  # type: ignore[arg-type]
    one = distill(ensemble, student, ImageTask(data), Q0Config(epochs=25, batch=24, lr=0.1), alpha=1.0)
    assert len(one.members) == 1
    assert one.architecture == SHAPE

    def divergence(other: Ensemble) -> float:
        images = data.train.images
        return float(nn.functional.kl_div(other(images), ensemble(images), log_target=True, reduction="batchmean"))

    assert divergence(one) < 0.2 * divergence(before)


def test_answers_that_are_known_teach_as_an_ensemble_that_is_asked(data: ImageData) -> None:
    ensemble = Ensemble(convolutional(data), WEIGHTS, temperature=0.7)
    student = paper_network(data.train.images, 3, SHAPE.network, groups=1, seed=9)
    positions = torch.tensor([3, 1, 7, 0])
    batch = Batch(positions, data.train.images[positions], data.train.labels[positions], [])
    known = KnownAnswers(ImageTask(data), logits(ensemble, data.train), alpha=0.6, temperature=1.5)
    asked = ChainObjective(ImageTask(data), ensemble, alpha=0.6, temperature=1.5)
    torch.testing.assert_close(known(student, batch), asked(student, batch), rtol=0, atol=1e-5)


def test_images_that_members_cannot_take_are_named_by_their_shape() -> None:
    ensemble = Ensemble([own_network(0), own_network(1)], [1, 1])
    with pytest.raises(NetworkError, match=r"the network does not take images of shape \(2, 3, 8, 8\) \(mat1 and mat2"):
        ensemble(torch.zeros(2, 3, 8, 8))
    ensemble.evaluation = "lop"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="evaluation = 'lop': expected 'batched' or 'loop'"):
        ensemble(torch.zeros(2, 1, 8, 8))
