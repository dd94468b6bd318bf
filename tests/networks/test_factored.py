"""Candidates that are described give what the candidates give."""

import copy
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18

from decouple.fitness import log_likelihood
from decouple.networks import Stages
from decouple.networks.factored import Factored, Mix, through

IMAGES, DIRECTIONS = 3, 4
SHAPE = (6, 5, 4)


def _described(shape: tuple[int, ...] = SHAPE, seed: int = 0, *, own: int = 0) -> Factored:
    stream = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=stream, dtype=torch.float64)

    mix = Mix.mirrored(draw(IMAGES).abs(), DIRECTIONS)
    mix = Mix(mix.weights, mix.index, tuple(draw(*mix.weights.shape) for _ in range(own)))
    terms = [draw(IMAGES, *shape) for _ in range(own)]
    return Factored.of(draw(IMAGES, *shape), draw(DIRECTIONS, *shape), mix, own=terms)


class Residual(nn.Module):
    """Both branches are affine up to the sum."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, values: Tensor) -> Tensor:
        return (self.branch(values) + self.shortcut(values)).relu()


class Arithmetic(nn.Module):
    """Affine operations that are no layers."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.linspace(0, 1, 6).view(6, 1, 1))

    def forward(self, values: Tensor) -> Tensor:
        values = (3 - values) * self.bias + values / 2 - self.bias
        first = values[:, 0].unsqueeze(1).mean((2, 3), keepdim=True)
        return (values.permute(0, 2, 3, 1).reshape(len(values), -1, 6) @ torch.ones(6, 6).to(values)).sum(1) + first.flatten(
            1
        )


def _norm() -> nn.Module:
    norm = nn.BatchNorm2d(6).eval()
    norm.running_mean, norm.running_var = torch.linspace(-1, 1, 6), torch.linspace(1, 2, 6)
    return norm


AFFINE: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Conv2d(6, 3, 3, padding="same"),
    "strided": lambda: nn.Conv2d(6, 4, 2, stride=2, groups=2, bias=False),
    "transposed": lambda: nn.ConvTranspose2d(6, 3, 2),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(120, 7), nn.Identity()).eval(),
    "pooling": lambda: nn.Sequential(nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Unflatten(1, (2, 3))),
    "norm": _norm,
    "padding": lambda: nn.ZeroPad2d((1, 0, 2, 1)),
    "residual": lambda: nn.Sequential(nn.Conv2d(6, 6, 1), nn.Dropout(0.0).eval()),
    "arithmetic": Arithmetic,
}
NOT_AFFINE: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "batch statistics": lambda: nn.BatchNorm2d(6, track_running_stats=False),
    "max-pool": lambda: nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.MaxPool2d((2, 3))),
    "overlapping max-pool": lambda: nn.MaxPool2d(3, stride=2, padding=1),
    "residual": lambda: Residual(nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), _norm()), nn.Conv2d(6, 6, 1)),
    "one affine branch": lambda: Residual(nn.Sequential(nn.Conv2d(6, 6, 1), nn.GELU()), nn.Identity()),
    "attention": lambda: nn.Sequential(nn.Flatten(2), nn.TransformerEncoderLayer(20, 2, 8, dropout=0.0, batch_first=True)),
    "softmax over candidates": lambda: nn.Softmax(0),
}


def _module(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make().double().requires_grad_(False)


def _assert_same(stage: nn.Module, candidates: Factored, *, described: bool) -> None:
    plain = copy.deepcopy(stage)(Factored.of(*_parts(candidates)).whole().flatten(0, 1))
    found = through(stage, candidates.flatten(0, 1))
    assert isinstance(found, Factored) == described
    assert found.shape == plain.shape
    assert torch.allclose(found, plain, rtol=0, atol=1e-10 * float(plain.abs().max()))
    if isinstance(found, Factored):
        assert found.stride() == found.whole().stride()


def _parts(candidates: Factored) -> tuple[Tensor, Tensor, Mix]:
    assert not candidates._mix.own
    return candidates._rows[:IMAGES], candidates._rows[IMAGES:-1], candidates._mix


def test_candidates_are_the_centre_and_what_lies_along_the_directions() -> None:
    candidates = _described(own=1)
    rows, mix = candidates._rows, candidates._mix
    for image, number in itertools.product(range(IMAGES), range(1 + 2 * DIRECTIONS)):
        expected = rows[image] + mix.weights[image, number] * rows[2 * IMAGES + mix.index[number]]
        expected = expected + mix.own[0][image, number] * rows[IMAGES + image]
        assert torch.allclose(candidates.whole()[image, number], expected, atol=1e-12)
    mirrored = _described().whole()
    middle = (mirrored[:, 1 : DIRECTIONS + 1] + mirrored[:, DIRECTIONS + 1 :]) / 2
    assert torch.allclose(middle, mirrored[:, :1].expand_as(middle), atol=1e-12)


@pytest.mark.parametrize("name", AFFINE)
def test_affine_stages_describe_what_they_give(name: str) -> None:
    _assert_same(_module(AFFINE[name]), _described(), described=True)


@pytest.mark.parametrize("name", NOT_AFFINE)
def test_other_stages_are_given_the_candidates(name: str) -> None:
    stage = _module(NOT_AFFINE[name])
    for _ in range(2):
        _assert_same(stage, _described(), described=False)


@pytest.mark.parametrize("seed", range(12))
def test_random_chains_give_the_same_in_float64(seed: int) -> None:
    """Layers that keep the shape, in an order left to chance, then a head: the fitness of the same candidates."""
    stream = torch.Generator().manual_seed(seed)
    layers: list[Callable[[], nn.Module]] = [
        lambda: nn.Conv2d(6, 6, 3, padding=1),
        lambda: Residual(nn.Conv2d(6, 6, 3, padding=1), nn.Identity()),
        lambda: nn.BatchNorm2d(6, track_running_stats=False),
        lambda: nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), nn.Identity()),
        _norm,
        lambda: nn.GELU(),
        lambda: nn.ReLU(inplace=True),
        lambda: nn.Dropout(0.5).eval(),
    ]
    chosen = [layers[int(i)] for i in torch.randint(len(layers), (5,), generator=stream)]
    net = _module(lambda: nn.Sequential(*(make() for make in chosen), nn.Flatten(), nn.Linear(120, 5)), seed)
    labels = torch.arange(IMAGES) % 5
    for own in (0, 2):
        candidates = _described(seed=seed, own=own)
        twin = Factored(candidates._rows, candidates._mix)
        scores = log_likelihood(through(net, candidates.flatten(0, 1)), labels)
        plain = net(twin.whole().flatten(0, 1))
        wanted = -functional.cross_entropy(plain, labels.repeat_interleave(twin.shape[1]), reduction="none").view_as(scores)
        assert torch.allclose(scores, wanted, rtol=0, atol=1e-10)
        parts = [log_likelihood(through(net, part.flatten(0, 1)), labels) for part in twin.parts(2)]
        if not any(isinstance(module, nn.BatchNorm2d) and module.training for module in net.modules()):
            assert torch.allclose(torch.cat(parts, 1), wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("training", [False, True])
def test_a_cut_resnet_takes_described_candidates(training: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Stages.from_module(resnet18(num_classes=5), ["layer2", "layer3", "layer4", "fc"]).double().train(training)
    shapes = [(128, 4, 4), (256, 2, 2), (512, 1, 1)]
    for index, shape in enumerate(shapes):
        candidates, values = _described(shape), _described(shape).whole().flatten(0, 1)
        found: Tensor = candidates.flatten(0, 1)
        with torch.no_grad():
            for stage in list(net)[index + 1 :]:
                found, values = through(stage, found), copy.deepcopy(stage)(values)
        assert isinstance(found, Factored) == (index == 2), "the head of a ResNet is affine"
        assert torch.allclose(found, values, rtol=0, atol=1e-9 * float(values.abs().max()))


def test_convolutions_see_only_centres_directions_and_the_origin() -> None:
    sizes = []
    stage = _module(lambda: nn.Sequential(nn.Conv2d(6, 6, 3), nn.GELU(), nn.Conv2d(6, 6, 2)))
    for layer in stage:
        layer.register_forward_hook(lambda module, given, found: sizes.append(len(getattr(given[0], "_rows", given[0]))))
    through(stage, _described().flatten(0, 1))
    assert sizes == [IMAGES + DIRECTIONS + 1] * 2 + [IMAGES * (1 + 2 * DIRECTIONS)]


def test_it_is_a_tensor_like_any_other() -> None:
    candidates, plain = _described(), _described().whole()
    images, chosen = torch.arange(IMAGES), torch.tensor([1, 8, 2])
    assert torch.equal(candidates[images, chosen], plain[images, chosen])
    assert torch.equal(candidates[images[:, None], chosen[:, None]], plain[images[:, None], chosen[:, None]])
    assert torch.equal(torch.flatten(input=candidates, start_dim=2), plain.flatten(2))
    candidates = _described()
    assert candidates.float().dtype == torch.float32
    assert candidates.described
    assert np.array_equal(np.asarray(candidates), plain.numpy())
    assert torch.equal(copy.deepcopy(candidates), plain)
    assert candidates.tolist() == plain.tolist()
    assert torch.equal(candidates.amax(1), plain.amax(1))
    assert repr(candidates) == repr(plain)


def test_what_is_written_to_it_shows_in_its_views() -> None:
    candidates = _described((4,))
    views = candidates.flatten(0, 1), candidates.unsqueeze(2)
    candidates[1] = 0
    assert views[0].view(IMAGES, -1, 4)[1].abs().max() == 0 == views[1][1].abs().max()
    views[0][-1] = 7
    assert (candidates[-1, -1] == 7).all()
    assert views[0].amax() == 7


def test_a_stage_that_writes_to_its_input_leaves_the_candidates_as_they_are() -> None:
    candidates = _described()
    through(_module(lambda: nn.ReLU(inplace=True)), candidates.flatten(0, 1))
    assert torch.equal(candidates, _described().whole())
    written = _described()
    written.whole()
    through(_module(lambda: nn.ReLU(inplace=True)), written.flatten(0, 1))
    assert torch.equal(written, _described().whole())


class Foreign(nn.Module):
    """Reads the memory of what it is given, as code outside of torch does."""

    def forward(self, values: Tensor) -> Tensor:
        assert values.data_ptr() != 0
        return values * 2


class Broken(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        raise ValueError("always")


def test_what_is_rounded_or_written_elsewhere_is_computed_from_the_candidates() -> None:
    candidates = _described().flatten(0, 1)
    plain, out = candidates.whole(), torch.empty(candidates.shape, dtype=torch.float64)
    candidates = _described().flatten(0, 1)
    for found in (torch.div(candidates, 0.3, rounding_mode="floor"), candidates.div(0.3, rounding_mode="floor")):
        assert not isinstance(found, Factored)
        assert torch.equal(found, plain.div(0.3, rounding_mode="floor"))
    torch.add(candidates, 1.0, out=out)
    assert torch.equal(out, plain + 1)


def test_sums_of_whole_numbers_are_those_of_the_candidates() -> None:
    candidates = _described().flatten(0, 1)
    plain = candidates.whole()
    candidates = _described().flatten(0, 1)
    assert torch.equal(candidates.sum(1, dtype=torch.int64), plain.sum(1, dtype=torch.int64))


def test_a_contiguous_copy_of_maps_is_no_view_and_can_be_viewed() -> None:
    plain = _described((4, 3, 3)).flatten(0, 1).whole()
    assert not plain.is_contiguous(), "maps have adjacent channels"
    candidates = _described((4, 3, 3)).flatten(0, 1)
    rows = candidates.contiguous().view(len(candidates), -1)
    assert isinstance(rows, Factored)
    assert torch.equal(rows.whole(), plain.reshape(len(plain), -1))
    candidates = _described((4, 3, 3)).flatten(0, 1)
    rectified = candidates.contiguous().relu_()
    assert torch.equal(rectified, plain.relu())
    assert torch.equal(candidates.whole(), plain)


class Crowded(nn.Module):
    """Runs out of memory once."""

    def __init__(self) -> None:
        super().__init__()
        self.full = True

    def forward(self, values: Tensor) -> Tensor:
        if self.full:
            self.full = False
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return values * 2


def test_a_stage_that_ran_out_of_memory_can_still_take_described_candidates() -> None:
    stage = Crowded()
    with pytest.raises(torch.cuda.OutOfMemoryError, match="CUDA out of memory"):
        through(stage, _described().flatten(0, 1))
    assert isinstance(through(stage, _described().flatten(0, 1)), Factored)


def test_a_stage_that_needs_memory_is_given_the_candidates() -> None:
    stage = nn.Sequential(nn.Identity(), Foreign())
    for _ in range(2):
        found = through(stage, _described().flatten(0, 1))
        assert torch.equal(found, 2 * _described().whole().flatten(0, 1))
    with pytest.raises(ValueError, match="always"):
        through(Broken(), _described().flatten(0, 1))
