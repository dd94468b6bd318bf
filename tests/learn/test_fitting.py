"""What a training cannot do is found before it has cost anything; what a network draws comes from the seed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from decouple.config import NetworkConfig, SgdConfig
from decouple.data import ImageData
from decouple.errors import ConfigError, DataError, NetworkError, NotFiniteError
from decouple.learn import Checkpoint, CrossEntropy, Watch, fit, train_sgd
from decouple.networks import Stages, paper_network
from decouple.training.batches import epoch_batches
from decouple.training.evaluate import accuracy
from decouple.training.loop import Loop
from decouple.training.optimizers import Factory, make_optimizer
from decouple.training.stream import ImageLoader

CONFIG = SgdConfig(epochs=3, batch=24)


def _network(*, dropout: float = 0.0) -> Stages:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3)]
    return Stages.from_sequential(nn.Sequential(*layers), [3, 4])


class _Closure(torch.optim.SGD):
    def step(self, closure: Any) -> Any:  # type: ignore[override]
        return super().step(closure)


OTHER = nn.Linear(2, 2)
UNUSABLE: dict[str, tuple[Factory, str]] = {
    "lbfgs": (lambda p: torch.optim.LBFGS(p), "the step of LBFGS needs a closure, which is not given here"),
    "own closure": (lambda p: _Closure(p, lr=0.1), "the step of _Closure needs a closure"),
    "other weights": (lambda p: torch.optim.SGD(OTHER.parameters(), lr=0.1), "SGD holds 2 weights that are not among those"),
    "one that is made": (
        torch.optim.Adam(OTHER.parameters()),
        r"optimizer = a Adam: expected a function .* lambda p: torch.optim.Adam\(p",
    ),
    "some other weights": (lambda p: torch.optim.Adam([*p, *OTHER.parameters()]), "Adam holds 2 weights that are not among"),
    "scheduler": (
        lambda p: torch.optim.lr_scheduler.StepLR(torch.optim.SGD(p, lr=0.1), 1),  # type: ignore[arg-type,return-value]
        "what optimizer= gives must be a Optimizer, not StepLR",
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_optimiser_that_cannot_be_used_is_refused(data: ImageData, name: str) -> None:
    network, (factory, message) = _network(), UNUSABLE[name]
    with pytest.raises(ConfigError, match=message):
        train_sgd(network, data.train, validation=data.validation, config=CONFIG, optimizer=factory)
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), _network().parameters(), strict=True))


def test_an_optimiser_with_a_scheduler_of_its_own_is_an_optimiser(data: ImageData) -> None:
    def factory(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        torch.optim.lr_scheduler.StepLR(optimizer, 1)
        return optimizer

    train_sgd(_network(), data.train, validation=data.validation, config=SgdConfig(epochs=1), optimizer=factory)


class _Forgetful(torch.optim.SGD):
    """Its state holds what no file can, from its first step on."""

    steps = 0

    def step(self, closure: Any = None) -> Any:
        self.state[self.param_groups[0]["params"][0]]["history"] = {1, 2}
        self.steps += 1
        return super().step(closure)


def test_a_state_that_cannot_be_kept_is_found_after_the_first_step(data: ImageData, tmp_path: Path) -> None:
    made: list[_Forgetful] = []

    def factory(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        made.append(_Forgetful(parameters, lr=0.1))
        return made[-1]

    checkpoint = Checkpoint(tmp_path / "c", "unit")
    with pytest.raises(ConfigError, match="the state of _Forgetful holds a set, which a checkpoint cannot keep"):
        fit(
            _network(), data.train, data.validation, CrossEntropy(), CONFIG, seed=0, checkpoint=checkpoint, optimizer=factory
        )
    assert made[0].steps == 1
    train_sgd(
        _network(), data.train, validation=data.validation, config=CONFIG, optimizer=factory
    )  # without one it is no matter


class _Extra(nn.Linear):
    def get_extra_state(self) -> object:
        return "version 2"

    def set_extra_state(self, state: object) -> None:
        pass


def test_a_network_that_cannot_be_kept_is_found_before_the_first_step(data: ImageData, tmp_path: Path) -> None:
    network = Stages([nn.Flatten(), _Extra(64, 3)], ["pixels", "logits"])
    checkpoint = Checkpoint(tmp_path / "c", "unit")
    with pytest.raises(
        NetworkError, match=r"'stages.1._extra_state' of the network is a str, which a file of tensors cannot hold"
    ):
        fit(network, data.train, data.validation, CrossEntropy(), CONFIG, seed=0, checkpoint=checkpoint)


def test_a_checkpoint_that_cannot_be_written_is_found_before_the_first_step(data: ImageData, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    checkpoint, taken = Checkpoint(tmp_path / "file" / "c", "unit"), _network()
    with pytest.raises(Exception, match="file"):  # as write_bytes says it
        fit(taken, data.train, data.validation, CrossEntropy(), CONFIG, seed=0, checkpoint=checkpoint)
    assert all(torch.equal(p, q) for p, q in zip(taken.parameters(), _network().parameters(), strict=True))


def test_record_must_be_a_function(data: ImageData) -> None:
    with pytest.raises(ConfigError, match="record must be a function of the epoch and the network, not a str"):
        train_sgd(_network(), data.train, validation=data.validation, record="epochs")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [np.int64, np.uint8, torch.tensor])
def test_a_seed_counts_by_its_value(data: ImageData, kind: Any) -> None:
    one, other = _network(), _network()
    train_sgd(one, data.train, validation=data.validation, config=CONFIG, seed=7)
    train_sgd(other, data.train, validation=data.validation, config=CONFIG, seed=kind(7))
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
    with pytest.raises(ConfigError, match=r"seed must be a whole number, not 1\.5"):
        train_sgd(other, data.train, validation=data.validation, config=CONFIG, seed=1.5)  # type: ignore[arg-type]


class _Killed(Exception):
    pass


def test_dropout_comes_from_the_seed_and_survives_a_kill(data: ImageData, tmp_path: Path) -> None:
    def trained(seed: int, *, stop: bool = False, checkpoint: Checkpoint | None = None) -> list[Tensor]:
        network = _network(dropout=0.5)

        def record(epoch: int, network: Stages) -> None:
            if stop and epoch == 2:
                raise _Killed("here")

        fit(
            network,
            data.train,
            data.validation,
            CrossEntropy(),
            CONFIG,
            seed=seed,
            checkpoint=checkpoint,
            watch=Watch(record),
        )
        return list(network.parameters())

    torch.manual_seed(1)
    wanted, before = trained(3), torch.random.get_rng_state()
    checkpoint = Checkpoint(tmp_path / "c", "unit", seconds=0)
    with pytest.raises(_Killed, match="here"):
        trained(3, stop=True, checkpoint=checkpoint)
    torch.rand(5)  # another process, another place in the global stream
    assert all(torch.equal(p, q) for p, q in zip(trained(3, checkpoint=checkpoint), wanted, strict=True))
    torch.manual_seed(1)
    trained(3)
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's generator is left alone"

    def epoch(seed: int, rate: float) -> list[Tensor]:
        network = _network(dropout=rate)
        batches = epoch_batches(72, 24, seed=0, epoch=0)
        loader = ImageLoader(network, data.train, augmentation="none", precision="float32", seed=seed)
        loop = Loop(network, make_optimizer(network, CONFIG, batch=24), CrossEntropy())
        loop.epoch(loader, batches, before_step=lambda step: None, seed=seed, what="t")
        return list(network.parameters())

    assert all(torch.equal(p, q) for p, q in zip(epoch(0, 0.0), epoch(1, 0.0), strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(epoch(0, 0.5), epoch(1, 0.5), strict=True)), (
        "another seed, another dropout"
    )


def test_a_network_of_the_users_own_works_in_float32_under_any_default(data: ImageData) -> None:
    wanted, start = _network(), _network().state_dict()
    found = train_sgd(wanted, data.train, validation=data.validation, config=CONFIG)
    torch.set_default_dtype(torch.float64)
    try:
        network = Stages.from_sequential(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Dropout(0), nn.Linear(8, 3)), [3, 4]
        )
        with pytest.raises(NetworkError, match=r"its weights are float64, .* call network.float\(\)"):
            train_sgd(network, data.train, validation=data.validation, config=CONFIG)
        network.float().load_state_dict(start)
        again = train_sgd(network, data.train, validation=data.validation, config=CONFIG)
    finally:
        torch.set_default_dtype(torch.float32)
    assert again == found
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), wanted.parameters(), strict=True))


def test_a_network_that_answers_with_nan_is_not_chosen_by_its_accuracy(data: ImageData) -> None:
    """argmax takes NaN for the first class: an accuracy of a third, in silence."""

    class NanInEval(nn.Linear):
        def forward(self, values: Tensor) -> Tensor:
            return super().forward(values) * (1.0 if self.training else torch.nan)

    network = Stages([nn.Flatten(), NanInEval(64, 3)], ["pixels", "logits"])
    with pytest.raises(NotFiniteError, match="the network's answer to image 0 of 9 is NaN: check"):
        train_sgd(network, data.train, validation=data.validation, config=CONFIG)


def test_no_images_have_no_accuracy(data: ImageData) -> None:
    with pytest.raises(DataError, match="no images to evaluate the network on: the split is empty"):
        accuracy(_network(), data.test.subset([]))


def test_views_of_images_too_small_for_padding_are_refused(data: ImageData) -> None:
    images, labels = torch.rand(40, 1, 2, 2), torch.arange(40) % 3
    small = ImageData.from_tensors(images, labels, test_images=images, test_labels=labels, validation=9, prior=9)
    network = Stages([nn.Flatten(), nn.Linear(4, 3)], ["pixels", "logits"])
    with pytest.raises(
        ConfigError, match="augment = crop pads images by 2 reflected pixels: 2×2 are too few; use augment = none"
    ):
        train_sgd(network, small.train, validation=small.validation, config=SgdConfig(epochs=1, augment="crop"))


def test_the_papers_network_trains_in_what_inference_mode_made(data: ImageData) -> None:
    with torch.inference_mode():
        made = paper_network(data.train.images, 3, NetworkConfig(width=4), groups=1, seed=0)
        train_sgd(made, data.train, validation=data.validation, config=CONFIG)
    wanted = paper_network(data.train.images, 3, NetworkConfig(width=4), groups=1, seed=0)
    train_sgd(wanted, data.train, validation=data.validation, config=CONFIG)
    assert all(torch.equal(p, q) for p, q in zip(made.parameters(), wanted.parameters(), strict=True))


def test_a_trained_network_is_in_evaluation_mode_and_accuracy_leaves_the_mode_alone(data: ImageData) -> None:
    network, modes = _network(), list[bool]()

    def record(epoch: int, network: Stages) -> None:
        modes.append(network.training)

    train_sgd(network, data.train, validation=data.validation, config=SgdConfig(epochs=2), record=record)
    assert modes == [False, False, False], "before the first epoch and after each"
    assert not network.training
    accuracy(network.train(), data.test)
    assert network.training


def test_a_training_that_is_whole_already_gives_the_same_network(data: ImageData, tmp_path: Path) -> None:
    modes, answers = [], []
    for _ in range(2):
        network = _network(dropout=0.5)
        watch = Watch(record=lambda _, recorded: modes.append(recorded.training))
        checkpoint = Checkpoint(tmp_path / "c", "unit", seconds=0)
        fit(network, data.train, data.validation, CrossEntropy(), CONFIG, seed=0, checkpoint=checkpoint, watch=watch)
        answers.append(network(data.test.images))
    assert not any(modes)
    assert torch.equal(*answers)
