"""A network that was cut computes what the whole one computes, in training and in evaluation mode."""

import copy
import pickle
import random
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn
from torch.nn import functional

from decouple.errors import NetworkError
from decouple.networks import Stages

WIDTH = 6

OPERATIONS = (
    "linear",
    "norm",
    "relu",
    "module relu in place",
    "relu as a statement",
    "multiply as a statement",
    "dropout",
    "module dropout",
    "noise in training",
    "residual in place",
    "identity",
    "unused",
)


class Block(nn.Module):
    """Some operations in a row, as its spec lists them."""

    def __init__(self, spec: list[str]) -> None:
        super().__init__()
        self.spec = spec
        self.linear, self.norm = nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH)
        self.relu, self.drop, self.same = nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for operation in self.spec:
            if operation == "linear":
                x = self.linear(x)
            elif operation == "norm":
                x = self.norm(x)
            elif operation == "relu":
                x = functional.relu(x)
            elif operation == "module relu in place":
                x = self.relu(x)
            elif operation == "relu as a statement":
                self.relu(x)
            elif operation == "multiply as a statement":
                x.mul_(1.5)
            elif operation == "dropout":
                x = functional.dropout(x, 0.4, self.training)
            elif operation == "module dropout":
                x = self.drop(x)
            elif operation == "noise in training":
                if self.training:
                    x = x + torch.rand_like(x)
            elif operation == "residual in place":
                kept = x
                x = self.linear(x) * 0.5
                x += kept
            elif operation == "identity":
                x = self.same(x)
            elif operation == "unused":
                self.drop(x + 1)
        return x


class Network(nn.Module):
    def __init__(self, specs: list[list[str]]) -> None:
        super().__init__()
        self.stem = nn.Linear(4, WIDTH)
        self.body = nn.Sequential(*(Block(spec) for spec in specs))
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor, scale: float = 2.0) -> Tensor:
        logits = self.head(self.body(self.stem(x.flatten(1)) * scale))
        logits.div_(scale)
        return logits


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from(OPERATIONS), max_size=5), min_size=2, max_size=3), st.integers(0, 9))
def test_any_cut_network_equals_the_whole_in_both_modes(specs: list[list[str]], seed: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        whole = Network(specs)
        points = ["stem", *(f"body.{i}" for i in range(len(specs))), "head"]
        cut = Stages.from_module(copy.deepcopy(whole), points)
        x = torch.randn(5, 4, 1, 1)
        for training in (True, False):
            whole.train(training)
            cut.train(training)
            torch.manual_seed(1)
            wanted, seen = _with_hooks(whole, points, x)
            torch.manual_seed(1)
            found = cut.activations(x)
            assert torch.equal(found[-1], wanted)
            for point, one, other in zip(points[:-1], found, seen, strict=False):
                assert torch.equal(one, other), point
            assert all(torch.equal(a, b) for a, b in zip(cut.state_dict().values(), _ordered(whole, cut), strict=True))
        try:
            wanted.square().sum().backward()
        except RuntimeError:  # what it overwrites is needed for the gradient: such a network cannot be trained anyway
            return
        found[-1].square().sum().backward()
        gradients = _named(whole)
        for name, parameter in _named(cut).items():
            assert parameter.grad is None or torch.equal(parameter.grad, gradients[name].grad), name


def _with_hooks(network: nn.Module, points: list[str], x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What the network gives, and what its layers give, as they give it."""
    seen: list[Tensor] = []
    hooks = [
        network.get_submodule(point).register_forward_hook(lambda _, __, found: seen.append(found.detach().clone()))
        for point in points
    ]
    found = network(x)
    for hook in hooks:
        hook.remove()
    return found, seen


def _named(network: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters by their name in the whole network."""
    if not isinstance(network, Stages):
        return dict(network.named_parameters())
    return {name.split(".", 2)[2]: value for name, value in network.named_parameters()}


def _ordered(whole: nn.Module, cut: Stages) -> list[Tensor]:
    state = whole.state_dict()
    return [state[name.split(".", 2)[2]] for name in cut.state_dict()]


def test_a_cut_network_begins_in_the_modules_mode() -> None:
    assert Stages.from_module(Network([["dropout"]]), ["stem", "head"]).training
    evaluated = Stages.from_module(Network([["dropout"]]).eval(), ["stem", "head"])
    x = torch.rand(3, 4)
    assert not evaluated.training
    assert torch.equal(evaluated(x), evaluated(x))
    assert not torch.equal(evaluated.train()(x), evaluated(x))


def test_the_module_is_left_as_it_was() -> None:
    network = Network([["norm"], ["dropout"]])
    network.body[0].eval()
    torch.manual_seed(3)
    state, draws = torch.get_rng_state(), random.getstate()
    Stages.from_module(network, ["stem", "head"])
    assert [part.training for part in network.body] == [False, True]
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == draws


def test_copies_have_parameters_of_their_own_and_the_same_code() -> None:
    network = Stages.from_module(Network([["norm", "dropout"]]), ["stem", "body.0", "head"]).eval()
    x = torch.rand(3, 4)
    wanted = network(x)
    for again in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):  # noqa: S301 (our own bytes)
        assert torch.equal(again(x), wanted)
        with torch.no_grad():
            again.stages[0].stem.weight.zero_()
        assert not torch.equal(again(x), wanted)
    assert torch.equal(network(x), wanted)


def test_buffers_follow_a_conversion_in_both_modes() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)
            self.register_buffer("scale", torch.full((4,), 2.0))

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x) * self.scale
            return self.b(functional.dropout(x, 0.5, self.training) + torch.arange(4))

    network = Stages.from_module(Scaled(), ["a", "b"]).double()
    assert {value.dtype for name, value in network.state_dict().items() if "constant" not in name} == {torch.float64}
    for mode in (True, False):
        assert network.train(mode)(torch.rand(2, 4, dtype=torch.float64)).dtype == torch.float64


class _Draws(nn.Module):
    """Draws or counts whatever the input is."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.a, self.b, self.what, self.calls = nn.Linear(4, 4), nn.Linear(4, 3), what, 0
        self.register_buffer("steps", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        if self.what == "torch":
            x = x + torch.rand(4)
        elif self.what == "python":
            x = x * random.random()
        elif self.what == "numpy":
            x = x * float(np.random.rand())  # noqa: NPY002
        elif self.what == "attribute":
            self.calls += 1
        else:
            self.steps += 1
        return self.b(x)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("torch", "draws torch's random numbers"),
        ("python", "draws Python's random numbers"),
        ("numpy", "draws numpy's random numbers"),
        ("attribute", "changes its attribute calls"),
        ("tensor", "changes its tensor steps"),
    ],
)
def test_what_a_trace_would_freeze_is_refused(what: str, said: str) -> None:
    with pytest.raises(NetworkError, match=f"_Draws.forward {said} whatever its input is"):
        Stages.from_module(_Draws(what), ["a", "b"])


class _Inner(nn.Module):
    def __init__(self, returns: str) -> None:
        super().__init__()
        self.a, self.b, self.returns = nn.Linear(4, 4), nn.Linear(4, 4), returns

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        first = self.a(x)
        second = self.b(first)
        return (first, second) if self.returns == "both" else first


class _Outer(nn.Module):
    def __init__(self, returns: str = "first", calls: int = 1) -> None:
        super().__init__()
        self.inner, self.head, self.calls = _Inner(returns), nn.Linear(4, 3), calls

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.calls):
            x = self.inner(x)
        return self.head(x[0] if isinstance(x, tuple) else x)


def test_a_point_is_what_the_layer_returns_not_what_it_computed_last() -> None:
    whole = _Outer()
    x = torch.rand(2, 4)
    assert torch.equal(Stages.from_module(whole, ["inner", "head"]).activations(x)[0], whole.inner(x))


def test_layers_that_give_no_single_tensor_are_refused() -> None:
    with pytest.raises(NetworkError, match="layer 'inner' returns a tuple: expected one tensor"):
        Stages.from_module(_Outer("both"), ["inner", "head"])
    with pytest.raises(NetworkError, match="layer 'inner' runs 2 times in a forward pass: expected once"):
        Stages.from_module(_Outer(calls=2), ["inner", "head"])


def test_hooks_of_the_module_would_be_lost() -> None:
    network = _Outer()
    network.register_forward_hook(lambda module, inputs, found: found * 2)
    with pytest.raises(NetworkError, match="_Outer has forward hooks, which would be lost"):
        Stages.from_module(network, ["inner", "head"])


def test_one_input_and_optional_arguments() -> None:
    class Two(_Outer):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x + y)

    class Optional(_Outer):
        def forward(self, x: Tensor, mask: Tensor | None = None, *, double: bool = True) -> Tensor:
            x = x if mask is None else x * mask
            return super().forward(x * 2 if double else x)

    with pytest.raises(NetworkError, match=r"one input can be cut, and Two.forward takes \(x"):
        Stages.from_module(Two(), ["inner", "head"])
    whole = Optional()
    x = torch.rand(2, 4)
    assert torch.equal(Stages.from_module(whole, ["inner", "head"])(x), whole(x))


class _Chain(nn.Module):
    """Two layers; a family of forwards between them, each with something that a trace could lose."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0, 4.0]))
        self.last: Tensor | None = None
        self.seen: list[Tensor] = []

    def between(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.between(self.a(x)))


class _Scaled(_Chain):
    def between(self, x: Tensor) -> Tensor:
        return x * (self.scale / self.scale.sum())


class _Frozen(_Chain):
    """BatchNorm is never in training mode."""

    def train(self, mode: bool = True) -> "_Frozen":
        super().train(mode)
        self.norm.eval()
        return self

    def between(self, x: Tensor) -> Tensor:
        return self.norm(x)


class _Keeps(_Chain):
    def between(self, x: Tensor) -> Tensor:
        self.last = x.relu()
        self.seen.append(self.last)
        return self.last * torch.tensor(2.0)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 1

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


class _OwnGradient(_Chain):
    def between(self, x: Tensor) -> Tensor:
        return _Reversed.apply(x)


class _NoGradient(_Chain):
    def between(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.norm(x)


class _Narrow(_Chain):
    def between(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return torch.nn.functional.linear(x, self.a.weight).float()


def test_what_is_computed_from_buffers_follows_them() -> None:
    whole = _Scaled()
    cut = Stages.from_module(whole, ["a", "b"])
    copied, x = copy.deepcopy(cut), torch.rand(2, 4)
    for scale in (whole.scale, copied.get_buffer("stages.1.scale")):
        scale.copy_(torch.tensor([0.0, 1.0, 0.0, 5.0]))
    assert torch.equal(cut(x), whole(x))
    assert torch.equal(copied(x), whole(x))


def test_layers_that_the_module_keeps_in_one_mode_stay_there() -> None:
    whole, x = _Frozen(), torch.rand(8, 4)
    cut = copy.deepcopy(Stages.from_module(whole, ["a", "b"]))
    for each in (cut, pickle.loads(pickle.dumps(cut))):  # noqa: S301
        for mode in (True, False, True):
            assert torch.equal(each.train(mode)(x), whole.train(mode)(x))
        assert torch.equal(each.get_buffer("stages.1.norm.running_mean"), torch.zeros(4))


def test_nothing_symbolic_is_left_on_the_module() -> None:
    whole, x = _Keeps(), torch.rand(2, 4)
    attributes = set(vars(whole))
    cut = Stages.from_module(whole, ["a", "b"])
    assert (whole.last, whole.seen, set(vars(whole))) == (None, [], attributes)
    assert torch.equal(cut(x), copy.deepcopy(whole)(x))
    with pytest.raises(NetworkError, match="must be given in the order"):
        Stages.from_module(whole, ["b", "a"])
    assert (whole.last, whole.seen, set(vars(whole))) == (None, [], attributes)


@pytest.mark.parametrize("kind", [_OwnGradient, _NoGradient, _Narrow])
@pytest.mark.parametrize("caller", [nullcontext, torch.no_grad, torch.inference_mode])
def test_what_turns_gradients_or_autocast_on_or_off_is_refused(kind: type[_Chain], caller: Any) -> None:
    module = kind()
    with (
        caller(),
        pytest.raises(
            NetworkError, match=r"cannot be cut by layer names .its forward switches gradients or autocast on or off"
        ),
    ):
        Stages.from_module(module, ["a", "b"])


@pytest.mark.parametrize("generator", [random.Random(0), np.random.default_rng(0), np.random.RandomState(0)])
def test_draws_from_a_generator_of_its_own_are_refused(generator: Any) -> None:
    class Noisy(_Chain):
        def between(self, x: Tensor) -> Tensor:
            return x * float(generator.random())

    module = Noisy()
    module.generator = generator
    with pytest.raises(NetworkError, match="draws from its generator generator whatever its input is"):
        Stages.from_module(module, ["a", "b"])


def test_draws_from_a_generator_of_torchs_are_refused() -> None:
    class Noisy(_Chain):
        def between(self, x: Tensor) -> Tensor:
            return x + torch.randn(4, generator=self.generator)

    module = Noisy()
    module.generator = torch.Generator().manual_seed(0)
    with pytest.raises(NetworkError, match="draws from its generator generator whatever its input is"):
        Stages.from_module(module, ["a", "b"])


def test_a_branch_that_a_trace_does_not_see_is_noticed_before_compute_is_spent() -> None:
    class Asks(_Outer):
        factor = 1.0

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.flatten(1) * (2 if isinstance(x, Tensor) else 1) * self.factor)

    whole = Asks()
    stages, labels = Stages.from_module(whole, ["inner", "head"]), torch.tensor([0, 2])
    with pytest.raises(
        NetworkError, match="the parts of the Asks that was cut do not answer as it does: its forward takes another"
    ):
        stages.check((1, 2, 2), labels)
    same = Stages.from_module(_Outer(), ["inner", "head"])
    assert same.check((4,), labels) == [(4,), (3,)]
    plain = _Outer()
    stages = Stages.from_module(plain, ["inner", "head"])
    plain.forward = plain.head.forward  # type: ignore[method-assign]
    with pytest.raises(NetworkError, match="or it has been changed since"):
        stages.check((4,), labels)
    assert copy.deepcopy(stages).check((4,), labels) == [(4,), (3,)], "a copy stands by itself"


def test_a_cut_network_without_weights_fits_its_images() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.flat = nn.AvgPool2d(2), nn.Flatten()

        def forward(self, x: Tensor) -> Tensor:
            return self.flat(self.pool(x))

    whole = Bare()
    stages = Stages.from_module(whole, ["pool", "flat"])
    assert stages.check((1, 4, 4), torch.tensor([0, 3])) == [(1, 2, 2), (4,)]
    assert whole.training


class _Named(nn.Module):
    """Parts with names that a part of a cut network might use itself, and a buffer that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.code, self.graphs, self.unmoved = nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)
        self.register_buffer("place", torch.ones(8), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.unmoved(self.graphs(self.code(images.flatten(1))) + self.place)


def test_parts_may_have_any_name_and_save_what_the_module_saves() -> None:
    module, images = _Named(), torch.rand(4, 1, 4, 4)
    cut = Stages.from_module(module, ["graphs", "unmoved"])
    assert torch.equal(cut(images), module(images))
    assert torch.equal(copy.deepcopy(cut)(images), module(images))
    assert len(cut.state_dict()) == len(module.state_dict())
