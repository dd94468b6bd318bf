"""What cannot be searched or trained is said in a line before compute is spent; what can, works with the right values."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from decouple.config import EsConfig, LearnConfig, Q0Config, SearchConfig, SgdConfig
from decouple.data import ImageData, Split
from decouple.errors import ConfigError, DataError, NetworkError
from decouple.learn import learn_targets, train_sgd
from decouple.networks import Stages
from decouple.networks.checks import check_repeatable
from decouple.q0 import train_population
from decouple.search import search_solution

SEARCH = SearchConfig(batch=36, es=EsConfig(population=4, generations=2))


def _cut(*layers: nn.Module) -> Stages:
    return Stages.from_sequential(nn.Sequential(*layers), [len(layers) - 2, len(layers) - 1])


def _plain() -> Stages:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _cut(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))


def _sgd(network: Stages, data: ImageData, folder: Path, **changes: Any) -> None:
    train_sgd(network, data.train, validation=data.validation, config=SgdConfig(epochs=1, batch=24), **changes)


def _search(network: Stages, data: ImageData, folder: Path) -> Any:
    return search_solution(network, data.train, folder, config=SEARCH)


def _learn(network: Stages, data: ImageData, folder: Path, **changes: Any) -> None:
    store = search_solution(_plain(), data.train, folder, config=SEARCH)
    learn_targets(network, data.train, store, validation=data.validation, config=LearnConfig(epochs=1, batch=24), **changes)


def _population(network: Stages, data: ImageData, folder: Path) -> None:
    train_population([network], data, folder, config=Q0Config(cycles=2, epochs=1, batch=24))


WAYS: dict[str, Callable[..., Any]] = {"sgd": _sgd, "learn": _learn, "population": _population, "search": _search}
TRAININGS = ["sgd", "learn", "population"]
ALL = [*TRAININGS, "search"]


class _Gives(nn.Module):
    """A last layer whose output is what `make` makes of the logits."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.make = nn.Linear(8, 3), make

    def forward(self, values: Tensor) -> Any:
        return self.make(self.layer(values))


class _Extra(nn.Linear):
    def get_extra_state(self) -> object:
        return {"version": 2}

    def set_extra_state(self, state: object) -> None:
        assert state == {"version": 2}


def _ending(last: nn.Module) -> Stages:
    return _cut(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), last)


def _in_inference_mode() -> Stages:
    with torch.inference_mode():
        return _plain()


def _spread() -> Stages:
    network = _plain()
    network.stages[1].to("meta")
    network.stages[1][0].weight = nn.Parameter(torch.zeros(3, 8))
    return network


REFUSED: dict[str, tuple[Callable[[], Stages], list[str], str]] = {
    "frozen": (
        lambda: _plain().requires_grad_(False),
        TRAININGS,
        r"no parameter of \S+( network)? requires a gradient, .* call requires_grad_\(True\) on it",
    ),
    "without weights": (
        lambda: _cut(nn.Flatten(), nn.AdaptiveAvgPool1d(8), nn.AdaptiveAvgPool1d(3)),
        TRAININGS,
        r"no parameter of \S+( network)? requires a gradient",
    ),
    "inference mode": (_in_inference_mode, TRAININGS, r"was made in torch.inference_mode\(\) and cannot be trained"),
    "meta": (lambda: _plain().to("meta"), ALL, "'stages.0.1.weight' of .* is on the meta device and has no values"),
    "spread": (_spread, ALL, "'stages.1.0.bias' of .* is on the meta device"),
    "lazy": (
        lambda: _cut(nn.Flatten(), nn.LazyLinear(8), nn.LazyLinear(3)),
        ALL,
        "'stages.0.1.weight' of .* is not initialised: call the network",
    ),
    "float64": (
        lambda: _plain().double(),
        ALL,
        r"its weights are float64, and images are .* float32; call network.float\(\)",
    ),
    "bfloat16": (lambda: _plain().bfloat16(), ALL, "its weights are bfloat16, and images are given to it as float32"),
    "tuple": (
        lambda: _ending(_Gives(lambda x: (x, x))),
        ALL,
        r"^the network gives a tuple at '3' for 2 images: expected a floating-point tensor .*; cut it",
    ),
    "dictionary": (
        lambda: _ending(_Gives(lambda x: {"logits": x})),
        ALL,
        "^the network gives a dict at '3' for 2 images: expected a floating-point tensor",
    ),
    "one row": (
        lambda: _ending(_Gives(lambda x: x[:1])),
        ALL,
        r"of shape \(1, 3\) at '3' for 2 images: expected .* a row for each",
    ),
    "number": (lambda: _ending(_Gives(lambda x: x.sum())), ALL, r"of shape \(\) at '3' for 2 images"),
    "classes": (
        lambda: _ending(_Gives(lambda x: x.long())),
        ALL,
        "gives torch.int64 of shape .* at '3' for 2 images: expected a floating-point",
    ),
    "own error": (
        lambda: _ending(_Gives(lambda x: x["logits"])),
        ALL,
        r"does not take images of shape \(2, 1, 8, 8\) \(",
    ),
    "extra state": (
        lambda: _ending(_Extra(8, 3)),
        ["search", "population"],
        r"'stages.1.0._extra_state' of .* is a dict, which a file of tensors cannot hold",
    ),
    "random": (
        lambda: _ending(_Gives(lambda x: nn.functional.dropout(x + 1))),
        ["search"],
        "gives different values at '3' each time it sees the same images in eval mode",
    ),
    "deep maps": (
        lambda: Stages([nn.Unflatten(1, (1, 1)), nn.Sequential(nn.Flatten(), nn.Linear(64, 3))], ["maps", "logits"]),
        ["search"],
        r"values of an image at 'maps' have shape \(1, 1, 8, 8\): expected",
    ),
}


@pytest.mark.parametrize(("name", "way"), [(name, way) for name, (_, ways, _) in REFUSED.items() for way in ways])
def test_what_cannot_work_is_refused_in_a_line(data: ImageData, tmp_path: Path, name: str, way: str) -> None:
    make, _, message = REFUSED[name]
    network = make()
    with pytest.raises(NetworkError, match=message) as caught:
        WAYS[way](network, data, tmp_path)
    assert str(caught.value).count("\n") == 0
    assert all(module.training for module in network.modules())
    assert not any(stage._forward_hooks for stage in network)


def _weight_normed() -> Stages:
    network = _plain()
    nn.utils.parametrizations.weight_norm(network.stages[0][1])
    return network


def _weight_normed_as_of_old() -> Stages:
    network = _plain()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.weight_norm(network.stages[0][1])
    network(torch.rand(2, 1, 8, 8))  # the weight is then no leaf, which torch cannot copy
    return network


def _spectral_normed() -> Stages:
    network = _plain()
    nn.utils.parametrizations.spectral_norm(network.stages[0][1])
    return network


def _partly_frozen() -> Stages:
    network = _plain()
    network.stages[0].requires_grad_(False)
    return network


WORKS = {
    "weight norm": _weight_normed,
    "weight norm of old": _weight_normed_as_of_old,
    "spectral norm": _spectral_normed,
    "partly frozen": _partly_frozen,
}


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("way", TRAININGS)
def test_what_can_be_trained_is(data: ImageData, tmp_path: Path, name: str, way: str) -> None:
    network = WORKS[name]()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    WAYS[way](network, data, tmp_path)
    trained = {key for key, p in network.named_parameters() if p.requires_grad}
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    if way != "population":  # which leaves its networks as they are
        assert trained <= changed
    assert not {key for key, p in network.named_parameters() if not p.requires_grad} & changed


@pytest.mark.parametrize("name", ["weight norm", "weight norm of old"])
def test_a_search_of_a_normed_network_is_that_of_its_weights(data: ImageData, tmp_path: Path, name: str) -> None:
    everywhere = torch.arange(len(data.train))
    for found, wanted in zip(
        _search(WORKS[name](), data, tmp_path / "a").rows(everywhere),
        _search(_plain(), data, tmp_path / "b").rows(everywhere),
        strict=True,
    ):
        assert torch.allclose(found.float(), wanted.float(), atol=2e-3)


def test_a_network_made_in_inference_mode_can_be_searched_and_its_copy_trained(data: ImageData, tmp_path: Path) -> None:
    network, everywhere = _in_inference_mode(), torch.arange(len(data.train))
    found, wanted = (_search(each, data, tmp_path).rows(everywhere) for each in (network, _plain()))
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
    one, other = copy.deepcopy(network), _plain()
    for each in (one, other):
        _sgd(each, data, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_network_without_weights_can_be_searched(data: ImageData, tmp_path: Path) -> None:
    network = _cut(nn.Flatten(), nn.AdaptiveAvgPool1d(8), nn.AdaptiveAvgPool1d(3))
    store = _search(network, data, tmp_path)
    assert float(store.diagnostics()["after"][0].mean()) < float(store.diagnostics()["before"][0].mean())


def test_extra_state_is_kept_where_no_file_is_written(data: ImageData, tmp_path: Path) -> None:
    network = _ending(_Extra(8, 3))
    _sgd(network, data, tmp_path)
    assert network.state_dict()["stages.1.0._extra_state"] == {"version": 2}


def test_gradients_that_are_there_already_do_not_count(data: ImageData, tmp_path: Path) -> None:
    """Neither those of what is trained, nor those of weights that the optimiser leaves alone, where they would be clipped with."""

    def trained(start: float | None) -> list[Tensor]:
        network = _plain()
        for p in network.parameters():
            p.grad = None if start is None else torch.full_like(p, start)
        config = SgdConfig(epochs=2, batch=24, clip=0.5)
        part = lambda p: torch.optim.SGD(p[:2], lr=0.1)  # noqa: E731
        train_sgd(network, data.train, validation=data.validation, config=config, optimizer=part)
        return list(network.parameters())

    assert all(torch.equal(one, other) for one, other in zip(trained(None), trained(1e6), strict=True))
    assert torch.equal(trained(None)[3], list(_plain().parameters())[3])


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("what", ["train", "validation"])
def test_a_batch_of_one_image_is_refused_where_none_is_taken(data: ImageData, tmp_path: Path, count: int, what: str) -> None:
    network = _cut(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8, track_running_stats=what == "train"), nn.Linear(8, 3))
    splits = {"train": data.train, "validation": data.validation}
    splits[what] = splits[what].subset(range(count))
    config = SgdConfig(epochs=1, batch=2)
    if what == "validation" and count == 3:
        train_sgd(network, splits["train"], validation=splits["validation"], config=config)
        return
    before = network.stages[0][1].weight.clone()
    with pytest.raises(NetworkError, match=rf"{what} has {count} images, .* single one, .*Expected more than 1 value"):
        train_sgd(network, splits["train"], validation=splits["validation"], config=config)
    assert torch.equal(network.stages[0][1].weight, before)
    assert what == "validation" or int(network.stages[0][2].num_batches_tracked) == 0


def test_a_batch_larger_than_the_data_is_all_of_it(data: ImageData, tmp_path: Path) -> None:
    found = train_sgd(_plain(), data.train, validation=data.validation, config=SgdConfig(epochs=3, batch=5000))
    assert found.gradient_steps == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # torch's cross-entropy leaves this label out
        ({"labels": torch.full((12,), -100)}, "train has the label -100: expected classes counted from 0"),
        ({"labels": torch.full((12,), 3)}, "the labels go up to 3, and the network has 3 logits"),
        ({"images": torch.rand(0, 1, 8, 8), "labels": torch.arange(0), "ids": torch.arange(0)}, "train has no images"),
    ],
)
def test_labels_and_images_that_cannot_be_learned_are_refused(
    data: ImageData, changes: dict[str, Tensor], message: str
) -> None:
    split = Split(**({"images": torch.rand(12, 1, 8, 8), "labels": torch.arange(12) % 3, "ids": torch.arange(12)} | changes))
    with pytest.raises((DataError, NetworkError), match=message):
        train_sgd(_plain(), split, validation=data.validation)
    with pytest.raises((DataError, NetworkError), match=message.replace("train ", "validation ")):
        train_sgd(_plain(), data.train, validation=split)


def test_the_generators_of_the_caller_stay_where_they_were(data: ImageData, tmp_path: Path) -> None:
    network = _ending(_Gives(lambda x: nn.functional.dropout(x)))
    before = torch.random.get_rng_state()
    with pytest.raises(NetworkError, match="different values"):
        check_repeatable(network, data.train.images)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_loss_that_no_trained_weight_enters_is_refused(data: ImageData, tmp_path: Path) -> None:
    network = _plain()
    network.stages[0].requires_grad_(False)
    store = search_solution(_plain(), data.train, tmp_path, config=SEARCH)
    detached = Stages([*list(network)[:-1], nn.Sequential(_Detach(), *network.stages[-1], _Detach())], network.names)
    with pytest.raises(NetworkError, match="training, epoch 1: the loss does not depend on any weight that is trained"):
        learn_targets(detached, data.train, store, validation=data.validation, config=LearnConfig(epochs=1, batch=24))


class _Detach(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.detach()


def test_targets_of_several_solutions_are_refused(data: ImageData, tmp_path: Path) -> None:
    store = search_solution(_plain(), data.train, tmp_path, config=SEARCH)
    with pytest.raises(
        ConfigError, match="targets must be those of one solution, as search_solution gives them, not a list"
    ):
        learn_targets(_plain(), data.train, [store], validation=data.validation)  # type: ignore[arg-type]


def test_images_on_another_scale_are_refused_before_training(data: ImageData, tmp_path: Path) -> None:
    def scaled(split: Split, factor: float) -> Split:
        return Split(split.images * factor, split.labels, split.ids)

    train = scaled(data.train, 0.5)
    steps: list[int] = []
    message = r"the images of {} reach from \S+ to \S+, and the network was trained on uint8 images or floats in 0..1"
    network = _plain()
    with pytest.raises(DataError, match=message.format("validation")):
        train_sgd(network, train, validation=scaled(data.validation, 255), record=lambda epoch, _: steps.append(epoch))
    assert steps == []
    assert network.unit_scale is None
    with pytest.raises(DataError, match=message.format("prior")):
        train_population([_plain()], replace(data, train=train, prior=scaled(data.prior, 255)), tmp_path / "population")
    assert not (tmp_path / "population").exists()
