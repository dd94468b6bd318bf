"""Learning from targets: the objective, what it keeps out of the body, and resuming."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from decouple.config import EsConfig, LearnConfig, LiveConfig, NetworkConfig, SearchConfig, SgdConfig
from decouple.data import ImageData, Split
from decouple.errors import ConfigError, DataError, NetworkError, NotFiniteError
from decouple.learn import Checkpoint, CrossEntropy, Fit, Regression, fit, learn_targets, train_sgd
from decouple.learn.fitting import Watch, recorded_epochs
from decouple.learn.objective import regression
from decouple.networks import Stages, paper_network
from decouple.search import search_solution
from decouple.training.evaluate import accuracy
from decouple.training.optimizers import Factory
from decouple.training.stream import Batch

LEARN = LearnConfig(epochs=4, batch=24, target_weight=1.0, kl_weight=0.3, live=LiveConfig(weight=0))
"""Stored targets alone: what the step is worth is then plain to see."""


@dataclass
class _Targets:
    """The activations of another network, as targets."""

    points: list[Tensor]

    first_searched = 0

    def check(self, split: Split) -> None:
        assert len(split) == len(self.points[0])

    def rows(self, positions: Tensor) -> list[Tensor]:
        return [point[positions] for point in self.points]


def _network(data: ImageData, seed: int = 1, groups: int = 2) -> Stages:
    return paper_network(data.train.images, 3, NetworkConfig(width=8), groups=groups, seed=seed)


@pytest.fixture(scope="module")
def targets(data: ImageData) -> _Targets:
    teacher = _network(data, seed=0)
    train_sgd(teacher, data.train, validation=data.validation, config=SgdConfig(epochs=8, batch=24))
    with torch.no_grad():
        return _Targets(teacher.eval().activations(data.train.images))


def test_the_objective_equals_its_formula(data: ImageData, targets: _Targets) -> None:
    net, positions = _network(data).double(), torch.tensor([3, 1, 4])
    images, labels = data.train.images[positions].double(), data.train.labels[positions]
    points = net.activations(images)
    rows = targets.rows(positions)
    mse = sum(functional.mse_loss(p, t.double()) for p, t in zip(points[:-1], rows[:-1], strict=True)) / 2
    p, q = rows[-1].double().softmax(1), points[-1].softmax(1)
    kl = (p * (p.log() - q.log())).sum(1).mean()
    batch = Batch(positions, images, labels, rows)
    found = Regression(targets, kl_weight=0.3)(net, batch).detach()
    assert float(found) == pytest.approx(float((mse + 0.3 * kl).detach()), rel=1e-5)
    single = Regression(targets, kl_weight=0.3)(net.float(), batch._replace(inputs=images.float()))
    assert single.dtype == torch.float32
    assert float(single.detach()) == pytest.approx(float((mse + 0.3 * kl).detach()), rel=1e-5)
    net.double()
    light = Regression(targets, kl_weight=0.3, target_weight=0.1)(net, batch).detach()
    assert float(light) == pytest.approx(float((0.1 * mse + 0.3 * kl).detach()), rel=1e-5)
    summed = sum((p - t.double()).square().flatten(1).sum(1).mean() for p, t in zip(points[:-1], rows[:-1], strict=True)) / 2
    found = Regression(targets, kl_weight=0.3, norm="sum")(net, batch).detach()
    assert float(found) == pytest.approx(float((summed + 0.3 * kl).detach()), rel=1e-5)
    skipped = Regression(targets, kl_weight=0.0, skip=1)(net, batch._replace(rows=rows[1:])).detach()
    wanted = functional.mse_loss(points[1], rows[1].double()).detach()
    assert float(skipped) == pytest.approx(float(wanted), rel=1e-5)


def test_the_gradient_is_that_of_the_formula(data: ImageData, targets: _Targets) -> None:
    positions = torch.arange(30)
    gradients = []
    for ours in (True, False):
        net = _network(data).double()
        images, labels = data.train.images[positions].double(), data.train.labels[positions]
        if ours:
            rows = [rows.double() for rows in targets.rows(positions)]
            Regression(targets, kl_weight=0.0)(net, Batch(positions, images, labels, rows)).backward()
        else:
            points = zip(net.activations(images)[:-1], targets.rows(positions)[:-1], strict=True)
            torch.stack([(p - t.double()).square().mean() for p, t in points]).mean().backward()
        gradients.append([p.grad for stage in list(net)[:-1] for p in stage.parameters() if p.requires_grad])
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-14)


def test_the_kl_alone_leaves_the_body_without_a_gradient(data: ImageData, targets: _Targets) -> None:
    net, positions = _network(data), torch.arange(20)
    rows = targets.rows(positions)
    with torch.no_grad():  # the blocks are where they should be: no error is left
        own = [*net.eval().activations(data.train.images[positions])[:2], rows[-1]]
    batch = Batch(positions, data.train.images[positions], data.train.labels[positions], own)
    loss = Regression(targets, kl_weight=1.0)(net, batch)
    loss.backward()
    body = [p.grad for stage in list(net)[:-1] for p in stage.parameters() if p.requires_grad]
    assert all(gradient.abs().max() == 0 for gradient in body)
    assert net.stages[-1][1].weight.grad.abs().max() > 0


def test_no_classification_gradient_enters_the_body(data: ImageData, targets: _Targets) -> None:
    """Shuffle the labels, or even the searched logits: the body's gradients do not change in a single bit."""
    positions = torch.arange(20)
    images, labels = data.train.images[positions], data.train.labels[positions]
    shuffled = labels[torch.randperm(20, generator=torch.Generator().manual_seed(0))]
    other_logits = _Targets([*targets.points[:-1], targets.points[-1].roll(7, 0)])
    gradients = []
    for wanted, used in ((targets, labels), (targets, shuffled), (other_logits, labels)):
        net = _network(data)
        Regression(wanted, 0.03)(net, Batch(positions, images, used, wanted.rows(positions))).backward()
        body = [p.grad for stage in list(net)[:-1] for p in stage.parameters() if p.requires_grad]
        gradients.append((body, net.stages[-1][1].weight.grad))
    assert all(g is not None and g.abs().sum() > 0 for g in gradients[0][0])
    for body, _ in gradients[1:]:
        assert all(torch.equal(a, b) for a, b in zip(body, gradients[0][0], strict=True))
    assert torch.equal(gradients[1][1], gradients[0][1]), "labels do not enter the head either"
    assert not torch.equal(gradients[2][1], gradients[0][1]), "the head learns from the searched logits"


def test_the_head_receives_nothing_from_the_blocks(data: ImageData, targets: _Targets) -> None:
    net = _network(data)
    batch = Batch(torch.arange(9), data.train.images[:9], data.train.labels[:9], targets.rows(torch.arange(9)))
    Regression(targets, kl_weight=0.0)(net, batch).backward()
    assert net.stages[-1][1].weight.grad.abs().max() == 0


def test_targets_of_a_good_network_teach_a_good_network(data: ImageData, targets: _Targets) -> None:
    net = _network(data)
    config = replace(LEARN, epochs=30, kl_weight=1.0)
    found = learn_targets(net, data.train, targets, validation=data.validation, config=config)
    assert float((net(data.train.images).argmax(1) == data.train.labels).float().mean()) > 0.9
    assert found.losses[-1] < 0.5 * found.losses[0]
    assert found.gradient_steps == 30 * 3


def test_the_kept_weights_are_those_of_the_best_epoch(data: ImageData) -> None:
    net = _network(data)
    seen: dict[int, float] = {}
    found = fit(
        net,
        data.train,
        data.validation,
        CrossEntropy(),
        SgdConfig(epochs=5, batch=24, lr=0.5),
        seed=0,
        watch=Watch(lambda epoch, n: seen.update({epoch: accuracy(n, data.test)})),
    )
    assert accuracy(net, data.validation) == found.best_validation == max(found.validation)
    assert accuracy(net, data.test) == seen[found.best_epoch]
    assert Fit(validation=[0.1, 0.9, 0.9, 0.8]).best_epoch == 3, "the latest of equals"


OPTIMIZERS: dict[str, tuple[dict, Factory | None]] = {
    "sgd": ({}, None),
    "adamw": ({"optimizer": "adamw", "lr": 3e-3}, None),
    "muon": ({"optimizer": "muon", "lr": 3e-3}, None),
    "groups": ({}, lambda p: torch.optim.SGD([{"params": p[:2], "lr": 0.1}, {"params": p[2:]}], lr=0.02, momentum=0.5)),
    "amsgrad": ({}, lambda p: torch.optim.Adam(p, lr=torch.tensor(3e-3), amsgrad=True)),
    "rprop": ({}, lambda p: torch.optim.Rprop(p, lr=1e-3)),
    "adafactor": ({}, lambda p: torch.optim.Adafactor(p, lr=1e-2)),
}


@pytest.mark.parametrize("which", OPTIMIZERS)
def test_a_training_that_is_cut_off_anywhere_ends_in_equal_weights(
    data: ImageData, targets: _Targets, tmp_path: Path, which: str
) -> None:
    changes, optimizer = OPTIMIZERS[which]
    objective, config = Regression(targets), replace(LEARN, augment="crop", **changes)
    whole = _network(data)
    expected = fit(whole, data.train, data.validation, objective, config, seed=3, optimizer=optimizer)
    checkpoint = Checkpoint(tmp_path / "c.safetensors", "unit", seconds=0)

    class Killed(Exception):
        pass

    def go_on(stop_after: int | None) -> tuple[Stages, Fit]:
        def record(epoch: int, network: Stages) -> None:
            if epoch == stop_after:
                raise Killed("here")

        network = _network(data)
        found = fit(
            network,
            data.train,
            data.validation,
            objective,
            config,
            seed=3,
            checkpoint=checkpoint,
            watch=Watch(record),
            optimizer=optimizer,
        )
        return network, found

    for epoch in (1, 2, 3):  # killed three times, resumed each time
        with pytest.raises(Killed, match="here"):
            go_on(epoch)
    resumed, found = go_on(None)
    assert found == expected
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize("lost", ["restore_state", "epoch_batches"])
def test_that_test_has_teeth(
    data: ImageData, targets: _Targets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """Lose the momentum, or the place in the stream of batches, when resuming: the weights are no longer equal."""
    import importlib

    module = importlib.import_module("decouple.learn.fitting")
    objective = Regression(targets)
    whole, resumed = _network(data), _network(data)
    expected = fit(whole, data.train, data.validation, objective, LEARN, seed=3)
    checkpoint = Checkpoint(tmp_path / "c.safetensors", "unit", seconds=0)
    with pytest.raises(ZeroDivisionError, match="zero"):
        fit(
            _network(data),
            data.train,
            data.validation,
            objective,
            LEARN,
            seed=3,
            checkpoint=checkpoint,
            watch=Watch(lambda epoch, network: 1 // (2 - epoch)),
        )
    if lost == "restore_state":
        monkeypatch.setattr(module, "restore_state", lambda optimizer, tensors, rest: None)
    else:
        real = module.epoch_batches
        monkeypatch.setattr(module, "epoch_batches", lambda *a, epoch, **k: real(*a, epoch=epoch - 2, **k))
    found = fit(resumed, data.train, data.validation, objective, LEARN, seed=3, checkpoint=checkpoint)
    assert found.losses[:2] == expected.losses[:2]
    assert found.losses[2:] != expected.losses[2:]


def test_a_checkpoint_keeps_tied_weights_once_and_refuses_what_it_cannot_keep(data: ImageData, tmp_path: Path) -> None:
    def tied() -> Stages:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layers = [torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.Linear(64, 3)]
        layers[2].weight = layers[0].weight
        return Stages.from_sequential(torch.nn.Sequential(torch.nn.Flatten(), *layers), [3, 4])

    def train(network: Stages, epochs: int, checkpoint: Checkpoint | None) -> Stages:
        config = SgdConfig(epochs=epochs, batch=24, schedule="constant")
        fit(network, data.train, data.validation, CrossEntropy(), config, seed=0, checkpoint=checkpoint)
        return network

    checkpoint = Checkpoint(tmp_path / "c.safetensors", "unit", seconds=0)
    train(tied(), 2, checkpoint)
    once = 4 * (64 * 64 + 3 * 64 + 2 * 64 + 3)
    assert checkpoint.path.stat().st_size < 3 * once + 10_000, "weights, the best ones, momentum"
    resumed, whole = train(tied(), 4, checkpoint), train(tied(), 4, None)
    assert resumed.digest == whole.digest != tied().digest
    assert resumed.stages[0][3].weight is resumed.stages[0][1].weight  # type: ignore[index]

    class Extra(torch.nn.Linear):
        def get_extra_state(self) -> object:
            return {"a": 1}

        def set_extra_state(self, state: object) -> None: ...

    other = Stages.from_sequential(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4), Extra(4, 3)), [1, 2])
    with pytest.raises(NetworkError, match=r"'stages\.1\.0\._extra_state' of the network is a dict"):
        train(other, 1, Checkpoint(tmp_path / "other", "unit"))


def test_an_objective_forgets_an_earlier_training(data: ImageData, targets: _Targets) -> None:
    settings = LearnConfig(epochs=2, batch=24)
    objective = regression(targets, settings, 1)
    losses = [fit(_network(data), data.train, data.validation, objective, settings, seed=0).losses for _ in range(2)]
    assert losses[0] == losses[1]


def test_a_damaged_checkpoint_is_begun_anew(data: ImageData, targets: _Targets, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "c.safetensors", "unit", seconds=0)
    checkpoint.path.write_bytes(b"rubbish")
    found = fit(_network(data), data.train, data.validation, Regression(targets), LEARN, seed=3, checkpoint=checkpoint)
    assert found == fit(_network(data), data.train, data.validation, Regression(targets), LEARN, seed=3)


def test_not_finite_is_named_at_its_step(data: ImageData) -> None:
    bad = _Targets(
        [torch.full((len(data.train), 8, 3, 3), torch.nan), torch.full((72, 8, 1, 1), torch.nan), torch.zeros(72, 3)]
    )
    with pytest.raises(NotFiniteError, match=r"training, epoch 1: the loss is not finite at step 1 of the epoch; lower lr"):
        learn_targets(_network(data), data.train, bad, validation=data.validation, config=LEARN)


def test_a_gradient_that_is_not_finite_is_named_at_its_step(data: ImageData, targets: _Targets) -> None:
    taken = 0

    def poison(gradient: Tensor) -> Tensor:
        nonlocal taken
        taken += 1
        return gradient * torch.nan if taken == 5 else gradient

    net = _network(data)
    net.stages[-1][1].weight.register_hook(poison)
    with pytest.raises(NotFiniteError, match="training, epoch 2: the gradient is not finite at step 2 of the epoch"):
        learn_targets(net, data.train, targets, validation=data.validation, config=LEARN)


@pytest.mark.parametrize("function", ["learn_targets", "train_sgd"])
def test_the_library_trains_in_bfloat16(data: ImageData, targets: _Targets, function: str) -> None:
    def train(precision: str) -> tuple[Stages, Fit]:
        net = _network(data)
        if function == "learn_targets":
            # At the default rate two trainings that differ in rounding alone part before the eighth epoch.
            config = replace(LEARN, epochs=8, lr=0.1)
            found = learn_targets(net, data.train, targets, validation=data.validation, config=config, precision=precision)
        else:
            settings = SgdConfig(epochs=8, batch=24)
            found = train_sgd(net, data.train, validation=data.validation, config=settings, precision=precision)
        return net, found

    net, half = train("bfloat16")
    _, full = train("float32")
    assert all(p.dtype == torch.float32 for p in net.parameters())
    assert half.losses != full.losses
    assert half.losses == pytest.approx(full.losses, rel=0.1)
    assert half.losses[-1] < half.losses[0]


def test_another_precision_is_refused(data: ImageData, targets: _Targets) -> None:
    with pytest.raises(ConfigError, match="precision = 'float16': expected one of float32, bfloat16, mixed"):
        learn_targets(_network(data), data.train, targets, validation=data.validation, config=LEARN, precision="float16")


def test_every_view_of_an_image_has_its_cached_target(data: ImageData, targets: _Targets) -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    class Seen(Regression):
        def __call__(self, network: Stages, batch: Batch) -> Tensor:
            seen.append((batch.inputs, batch.rows[-1]))
            return super().__call__(network, batch)

    config = replace(LEARN, epochs=2, augment="flip-crop", shuffle="fixed", batch=72)
    fit(_network(data), data.train, data.validation, Seen(targets), config, seed=0)
    (one, first), (other, second) = seen
    assert torch.equal(first, second)
    assert not torch.equal(one, other)


def test_targets_of_other_images_are_refused(data: ImageData, tmp_path: Path) -> None:
    searched = paper_network(data.train.images, 3, NetworkConfig(width=8), groups=1, seed=0)
    config = SearchConfig(batch=24, es=EsConfig(population=4, generations=1))
    store = search_solution(searched, data.train, tmp_path, config=config)
    fine = replace(data.train)
    learn_targets(_network(data), fine, store, validation=data.validation, config=replace(LEARN, epochs=1))
    images = data.train.images.clone()
    images[30] = 1 - images[30]
    labels = data.train.labels.roll(1)
    for other in (replace(fine, images=images), replace(fine, labels=labels), fine.subset(range(71, -1, -1))):
        with pytest.raises(DataError, match="searched for other images, labels or another order"):
            learn_targets(_network(data), other, store, validation=data.validation, config=LEARN)
    with pytest.raises(DataError, match="targets belong to 72 images, but the split has 9"):
        learn_targets(_network(data), data.validation, store, validation=data.validation, config=LEARN)


def test_targets_of_another_network_are_refused(data: ImageData, targets: _Targets) -> None:
    wider = paper_network(data.train.images, 3, NetworkConfig(width=16), groups=1, seed=0)
    with pytest.raises(NetworkError, match=r"points have shapes \[\(16, 3, 3\), .* these have \[\(8, 3, 3\)"):
        learn_targets(wider, data.train, targets, validation=data.validation, config=LEARN)


def test_recorded_epochs_begin_before_training_and_end_with_it() -> None:
    assert recorded_epochs(40, 10)[0] == 0
    assert recorded_epochs(40, 10)[-1] == 40
    assert len(recorded_epochs(40, 10)) == 10


def test_a_block_that_was_not_searched_supervises_nothing(data: ImageData, targets: _Targets) -> None:
    part = _Targets(targets.points[1:])
    part.first_searched = 1
    learn_targets(_network(data), data.train, part, validation=data.validation, config=replace(LEARN, supervise="last"))
    with pytest.raises(ConfigError, match="skip = 0: the targets begin at block 1"):
        Regression(part).check(data.train, _network(data).shapes((1, 8, 8)))
    part.first_searched = 2
    with pytest.raises(
        ConfigError,
        match=r"no block of this network has targets: point 2 is the first that was searched, and the network has 2 b",
    ):
        learn_targets(_network(data), data.train, part, validation=data.validation, config=replace(LEARN, supervise="last"))
    part.first_searched = 1
    with pytest.raises(
        ConfigError, match="supervise = all takes targets from block 0 on, and only those from block 1 on are searched"
    ):
        learn_targets(_network(data), data.train, part, validation=data.validation, config=replace(LEARN, supervise="all"))
