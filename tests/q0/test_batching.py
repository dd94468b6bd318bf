"""Members in one call give what each gives by itself, whatever they are; what cannot be batched is computed one by one."""

import copy
import functools
import logging
import pickle
import random
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from decouple.errors import NetworkError
from decouple.networks import Stages
from decouple.networks.structure import first_difference, structure_text
from decouple.q0.batching import NotBatchableError, StackedNetworks
from decouple.q0.ensemble import Ensemble


@dataclass(frozen=True)
class Settings:
    slope: float = 1.0


class Net(nn.Module):
    """A small network with settings in every kind of place."""

    def __init__(self, activation: nn.Module, eps: float, temperature: float, slopes: list[float], tail: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 5), activation, nn.LayerNorm(5, eps=eps))
        self.head = nn.Linear(5, 3)
        self.temperature, self.options, self.settings = temperature, {"slopes": slopes}, Settings(slopes[0])
        self.tail = nn.Sequential(nn.Tanh()) if tail else nn.Sequential()
        self.register_buffer("shift", torch.randn(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        slope = sum(self.options["slopes"]) * self.settings.slope
        return self.tail(self.head(self.body(x)) * slope / self.temperature + self.shift)


SAME: dict[str, Any] = {"activation": nn.ReLU, "eps": 1e-5, "temperature": 1.0, "slopes": [1.0, 2.0], "tail": False}
OTHER: dict[str, list[Any]] = {
    "activation": [nn.Tanh, nn.GELU, functools.partial(nn.GELU, approximate="tanh"), functools.partial(nn.LeakyReLU, 0.3)],
    "eps": [1.0, 0.1],
    "temperature": [5.0, 0.5],
    "slopes": [[1.0, 3.0], [2.0, 1.0], [1.0]],
    "tail": [True],
}


def net(seed: int = 0, **changes: Any) -> Net:
    values = {**SAME, **changes}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net(values.pop("activation")(), **values)


def change_activation(member: Net) -> None:
    member.body[1] = nn.Sigmoid()


def change_inner_list(member: Net) -> None:
    member.options["slopes"].append(7.0)


def change_forward(member: Net) -> None:
    member.forward = lambda x: member.head(member.body(x)) * 3  # type: ignore[method-assign]


def change_weight(member: Net) -> None:
    member.head.weight = nn.Parameter(torch.ones(3, 5), requires_grad=False)


def change_by_data(member: Net) -> None:
    member.head.weight.data.mul_(-2)


def change_data(member: Net) -> None:
    member.head.bias.data = torch.tensor([3.0, 0.0, 1.0])


def change_eps(member: Net) -> None:
    member.body[2].eps = 0.5  # type: ignore[union-attr, assignment]


def change_buffer_in_numpy(member: Net) -> None:
    member.shift.numpy()[...] = 4.0  # type: ignore[operator]


def hook(member: Net) -> None:
    member.head.register_forward_hook(lambda module, inputs, output: output * 2)


def change_temperature(member: Net) -> None:
    member.temperature = 3.0


def change_class(member: Net) -> None:
    class Doubled(Net):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    member.__class__ = Doubled


LATER: list[Callable[[Net], None]] = [
    change_activation,
    change_inner_list,
    change_forward,
    change_weight,
    change_by_data,
    change_data,
    change_eps,
    change_buffer_in_numpy,
    change_temperature,
    change_class,
    hook,
]


def oracle(ensemble: Ensemble, images: Tensor) -> Tensor:
    """The mixture of the ensemble's members as they are now, each by itself."""
    with torch.no_grad():
        return torch.stack([member(images.clone()).double().softmax(-1) for member in ensemble.members]).mean(0).log()


def assert_right(ensemble: Ensemble, images: Tensor) -> None:
    torch.testing.assert_close(ensemble(images).double(), oracle(ensemble, images), rtol=0, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    members=st.integers(2, 4),
    differs=st.sampled_from([None, *OTHER]),
    which=st.integers(0, 3),
    pick=st.integers(0, 3),
    later=st.sampled_from([None, *LATER]),
    seed=st.integers(0, 1000),
)
def test_an_ensemble_is_the_mixture_of_its_members(
    members: int, differs: str | None, which: int, pick: int, later: Callable[[Net], None] | None, seed: int
) -> None:
    change = {differs: OTHER[differs][pick % len(OTHER[differs])]} if differs else {}
    networks = [net(seed + i, **(change if i == which % members else {})) for i in range(members)]
    ensemble = Ensemble(networks, np.ones(members))
    images = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))
    assert_right(ensemble, images)
    assert ensemble.evaluation == ("loop" if differs else "batched"), "members that are alike are one call"
    if later is not None:
        before = ensemble(images)
        later(ensemble.members[which % members])  # type: ignore[arg-type]
        assert not torch.equal(ensemble(images), before), "what is changed later counts"
        assert_right(ensemble, images)


@pytest.mark.parametrize("later", LATER)
def test_a_change_of_all_members_counts(later: Callable[[Net], None]) -> None:
    ensemble, images = Ensemble([net(0), net(1)], [1, 1]), torch.randn(4, 6)
    before = ensemble(images)
    for member in ensemble.members:
        later(member)  # type: ignore[arg-type]
    assert not torch.equal(ensemble(images), before)
    assert_right(ensemble, images)


class Trunk(nn.Module):
    def __init__(self, wide: bool) -> None:
        super().__init__()
        self.a, self.b, self.wide = nn.Linear(6, 5), nn.Linear(5, 3), wide

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x.relu() if self.wide else x.tanh())


def test_traced_members_are_one_call_where_their_graphs_are_one() -> None:
    images = torch.randn(4, 6)
    alike = Ensemble([Stages.from_module(Trunk(True), ["a", "b"]) for _ in range(3)], [1, 1, 1])
    assert_right(alike, images)
    assert alike.evaluation == "batched"
    other = Ensemble([Stages.from_module(Trunk(wide), ["a", "b"]) for wide in (True, False)], [1, 1])
    assert_right(other, images)
    assert other.evaluation == "loop"


class Rnn(nn.Module):
    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM) -> None:
        super().__init__()
        self.rnn, self.head = kind(6, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x[:, None])[0][:, -1])


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l = nn.Linear(6, 3)


class BranchOnInput(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return self.l(x * 2 if x.mean() > 0 else x)


class BranchOnListOfInput(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return self.l(x * 2 if sum(x.tolist()[0]) > 0 else x + float(x.numpy().sum()))


class BranchOnWeights(Linear):
    def forward(self, x: Tensor) -> Tensor:
        y = self.l(x)
        return y * 2 if y.mean() > 0 else -y


class FreshTensor(Linear):
    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros(len(x), 3)
        out += self.l(x)
        return out


class InPlace(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return self.l(x.mul_(2).add_(1))


class PlainTensor(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.rand(3) + 1

    def forward(self, x: Tensor) -> Tensor:
        return self.l(x) * self.scale


class Aliased(Linear):
    """Uses a weight by another name, as torch's LSTM does."""

    def __init__(self) -> None:
        super().__init__()
        self.also = [self.l.weight]

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.also[0].T


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x[:, None])[:, 0])


def old_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning, match="weight_norm"):
        network = nn.utils.weight_norm(nn.Linear(6, 3))
    network(torch.ones(1, 6))  # leaves a weight with a history
    return network


def compiled() -> nn.Module:
    return torch.compile(nn.Linear(6, 3), backend="eager")  # type: ignore[return-value]


def parametrized() -> nn.Module:
    return parametrizations.weight_norm(nn.Linear(6, 3))


def script() -> nn.Module:
    return torch.jit.trace(nn.Linear(6, 3), torch.ones(1, 6))


KINDS: list[Callable[[], nn.Module]] = [
    Rnn,
    functools.partial(Rnn, nn.GRU),
    BranchOnInput,
    BranchOnListOfInput,
    BranchOnWeights,
    FreshTensor,
    InPlace,
    PlainTensor,
    Aliased,
    Attention,
    old_weight_norm,
    parametrized,
    compiled,
    script,
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: getattr(kind, "__name__", "Gru"))
@pytest.mark.parametrize("evaluation", [None, "loop"])
def test_what_cannot_be_batched_is_right_all_the_same(kind: Callable[[], nn.Module], evaluation: Any) -> None:
    ensemble = Ensemble([kind() for _ in range(3)], [1, 1, 1], evaluation=evaluation)
    for sign in (1, -1, 1):  # a decision that the first input took must not be kept
        images = sign * torch.rand(4, 6)
        kept = images.clone()
        assert_right(ensemble, images)
        assert torch.equal(images, kept), "the caller's images stay as they are"
    with torch.no_grad():
        assert_right(ensemble, torch.rand(4, 6))


def test_a_random_number_is_drawn_anew_for_every_member_and_call() -> None:
    class Noisy(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return self.l(x) + random.random()

    class Dropped(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(self.l(x), 0.5)

    for kind in (Noisy, Dropped):
        ensemble, images = Ensemble([kind() for _ in range(3)], [1, 1, 1]), torch.rand(40, 6)
        for _ in range(2):
            random.seed(1)
            torch.manual_seed(1)
            expected = torch.stack([member(images) for member in ensemble.members])
            if ensemble.evaluation == "loop":  # the first call has tried both ways
                random.seed(1)
                torch.manual_seed(1)
                torch.testing.assert_close(ensemble.member_logits(images), expected)
            ensemble(images)
        assert ensemble.evaluation == "loop"


def test_the_fallback_is_said_once_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "decouple")
    ensemble, images = Ensemble([net(0), net(1, temperature=5.0)], [1, 1]), torch.rand(2, 6)
    for _ in range(3):
        ensemble(images)
        ensemble.evaluation = "batched"
    assert ensemble.evaluation == "batched"
    assert [record.message for record in caplog.records] == [
        "an ensemble's members are computed one after the other, not in one call: 'temperature' is 1.0 in member 0 and 5.0 in "
        "member 1"
    ]
    caplog.clear()
    Ensemble([net(0), net(1)], [1, 1])(images)
    assert not caplog.records


def test_images_that_do_not_fit_do_not_end_batching() -> None:
    ensemble = Ensemble([net(0), net(1)], [1, 1])
    with pytest.raises(
        NetworkError, match=r"does not take images of shape \(2, 7\) \(mat1 and mat2 shapes cannot be multiplied"
    ):
        ensemble(torch.rand(2, 7))
    ensemble(torch.rand(2, 6))
    with pytest.raises(
        NetworkError, match=r"does not take images of shape \(2, 7\) \(mat1 and mat2 shapes cannot be multiplied"
    ):
        ensemble(torch.rand(2, 7))
    assert ensemble.evaluation == "batched"


@pytest.mark.parametrize("evaluation", ["batched", "loop"])
@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (lambda y: (y, y), "a tuple"),
        (lambda y: {"logits": y}, "a dict"),
        (lambda y: None, "a NoneType"),
        (lambda y: y[:, 0], r"a tensor \(2,\) of float32"),
        (lambda y: y.mean(), r"a tensor \(\) of float32"),
        (lambda y: y.argmax(1, keepdim=True), r"a tensor \(2, 1\) of int64"),
    ],
)
def test_an_answer_that_is_no_logits_is_refused(evaluation: Any, answer: Any, what: str) -> None:
    class Answers(Linear):
        def forward(self, x: Tensor) -> Any:
            return answer(self.l(x))

    with pytest.raises(NetworkError, match=rf"member 0 returned {what}: expected logits \(B, C\) or \(B, T, C\)"):
        Ensemble([Answers(), Answers()], [1, 1], evaluation=evaluation)(torch.rand(2, 6))


def test_answers_of_different_shapes_are_refused() -> None:
    class Cut(Linear):
        def __init__(self, classes: int) -> None:
            super().__init__()
            self.classes = classes

        def forward(self, x: Tensor) -> Tensor:
            return self.l(x)[:, : self.classes]

    with pytest.raises(NetworkError, match=r"member 1 returned shape \(2, 2\), but member 0 returned \(2, 3\)"):
        Ensemble([Cut(3), Cut(2)], [1, 1])(torch.rand(2, 6))


def test_members_in_training_mode_are_as_one_by_one() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))

    ensemble, images = Ensemble([make(), make()], [1, 1]), torch.randn(8, 6)
    assert_right(ensemble, images)
    ensemble.members[1][1].train()
    expected = copy.deepcopy(ensemble.members[1])
    want = expected(images)
    torch.testing.assert_close(ensemble.member_logits(images)[1], want)
    torch.testing.assert_close(ensemble.members[1][1].running_mean, expected[1].running_mean)
    assert int(ensemble.members[1][1].num_batches_tracked) == 1, "one step, not two"  # type: ignore[arg-type]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(self.a(x).relu()).relu())


@pytest.mark.parametrize("kind", [Tied, Linear, net])
def test_gradients_reach_images_and_members_as_one_by_one(kind: Callable[[], Any]) -> None:
    if kind is Linear:
        members: list[nn.Module] = [nn.Linear(6, 3) for _ in range(3)]
    else:
        members = [kind() for _ in range(3)]
    found = {}
    for way in ("batched", "loop"):
        ensemble = Ensemble(members, [1, 2, 3], evaluation=way)  # type: ignore[arg-type]
        ensemble.members.requires_grad_()
        images = torch.linspace(-1, 1, 24).view(4, 6).requires_grad_()
        ensemble(images)[:, 0].sum().backward()
        found[way] = [images.grad, *(parameter.grad for parameter in ensemble.parameters())]
        assert ensemble.evaluation == way
    assert all(gradient is not None for gradient in found["batched"])
    torch.testing.assert_close(found["batched"], found["loop"])


def test_tied_members_are_one_call_and_stay_tied() -> None:
    ensemble, images = Ensemble([Tied(), Tied()], [1, 1]), torch.randn(4, 6)
    for _ in range(2):
        assert_right(ensemble, images)
        assert ensemble.evaluation == "batched"
        with torch.no_grad():
            ensemble.members[0].a.weight.add_(1)
        assert torch.equal(ensemble.members[0].b.weight, ensemble.members[0].a.weight)  # type: ignore[arg-type]
        ensemble = copy.deepcopy(ensemble)
    untied = Tied()
    untied.b.weight = nn.Parameter(untied.a.weight.detach().clone())
    mixed = Ensemble([Tied(), untied], [1, 1])
    assert_right(mixed, images)
    assert mixed.evaluation == "loop"


def test_several_threads_may_ask_one_ensemble() -> None:
    ensemble = Ensemble([net(seed) for seed in range(3)], [1, 1, 1])
    batches = [torch.randn(4, 6) for _ in range(4)]
    expected = [oracle(ensemble, images) for images in batches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            for found, wanted in zip(pool.map(ensemble, batches), expected, strict=True):
                torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5)
    assert ensemble.evaluation == "batched"


def test_copied_pickled_and_loaded_ensembles_have_weights_of_their_own() -> None:
    ensemble, images = Ensemble([net(0), net(1)], [1, 1]), torch.randn(4, 6)
    before = ensemble(images)
    for other in (copy.deepcopy(ensemble), pickle.loads(pickle.dumps(ensemble))):  # noqa: S301 (one's own)
        assert torch.equal(other(images), before)
        other.load_state_dict(Ensemble([net(2), net(3)], [1, 1]).state_dict())
        assert_right(other, images)
        other.load_state_dict(Ensemble([net(4), net(5)], [1, 1]).state_dict(), assign=True)
        assert_right(other, images)
        assert other.evaluation == "batched"
    assert torch.equal(ensemble(images), before)
    with torch.inference_mode():
        ensemble.double()
    assert_right(ensemble, images.double())
    ensemble.load_state_dict(ensemble.state_dict())  # none of its tensors became an inference tensor


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
@pytest.mark.parametrize("evaluation", ["batched", "loop"])
def test_the_callers_mode_does_not_stay(mode: Any, evaluation: Any) -> None:
    images = torch.randn(4, 6)
    with mode():
        members = [nn.Linear(6, 3), nn.Linear(6, 3)]
        ensemble = Ensemble(members, [1, 1], evaluation=evaluation)
        inside = ensemble(images)
        if mode is torch.inference_mode:
            assert inside.is_inference()
            torch.testing.assert_close(ensemble(torch.clone(images)), inside)  # an inference tensor
    again = images.clone().requires_grad_()
    torch.testing.assert_close(ensemble(again), inside.clone())
    ensemble(again)[:, 0].sum().backward()
    assert again.grad is not None
    assert float(again.grad.abs().max()) > 0
    assert not any(parameter.is_inference() for parameter in ensemble.parameters())


@pytest.mark.parametrize("evaluation", ["batched", "loop"])
def test_autocast_holds_while_it_is_on(evaluation: Any) -> None:
    ensemble, images = Ensemble([nn.Linear(6, 3) for _ in range(2)], [1, 1], evaluation=evaluation), torch.randn(4, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert ensemble.member_logits(images).dtype is torch.bfloat16
    assert ensemble.member_logits(images).dtype is torch.float32


def test_moved_and_double_members(monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble, images = Ensemble([net(0), net(1)], [1, 1]), torch.randn(4, 6)
    assert_right(ensemble, images)
    assert_right(ensemble.double(), images.double())
    assert ensemble(images.double()).dtype is torch.float64
    torch.set_default_dtype(torch.float64)
    try:
        wide = Ensemble([nn.Linear(6, 3), nn.Linear(6, 3)], [1, 1])
        assert_right(wide, images.double())
        assert wide.evaluation == ensemble.evaluation == "batched"
    finally:
        torch.set_default_dtype(torch.float32)


def test_what_a_batch_refuses_is_named() -> None:
    flat = torch.randn(24)

    def overlapping() -> nn.Module:
        network = nn.Sequential(nn.Linear(6, 3), nn.Linear(6, 3))
        network[0].weight, network[1].weight = nn.Parameter(flat[:18].view(3, 6)), nn.Parameter(flat[6:].view(3, 6))
        return network

    for members, why in (
        ([nn.Flatten().eval()] * 2, "they have no weights"),
        ([nn.Linear(6, 3), nn.Linear(6, 3)], "some are in training mode"),
        ([nn.Linear(6, 3).eval()] * 2, "they share weights"),
        ([overlapping().eval()], "some of their weights are parts of others"),
        ([Rnn().eval()], r"'rnn\._flat_weight\w+' .* may differ between members"),
    ):
        with pytest.raises(NotBatchableError, match=why):
            StackedNetworks(members)


@pytest.mark.parametrize(
    ("one", "other", "where"),
    [
        (nn.MultiheadAttention(6, 2), nn.MultiheadAttention(6, 3), "'head_dim' is 3 in member 0 and 2 in member 1"),
        (nn.LeakyReLU(1), nn.LeakyReLU(1.0), r"'negative_slope' is 1 in member 0 and 1\.0 in member 1"),
        (nn.Dropout(0.0), nn.Dropout(-0.0), r"'p' is 0\.0 in member 0 and -0\.0"),
        (net(0), net(0, slopes=[1.0, 3.0]), "'options' is dict"),
        (nn.Linear(6, 3), nn.Linear(6, 3, dtype=torch.float64), r"'weight' is float32 \(3, 6\) in member 0 and float64"),
    ],
)
def test_differences_are_found_and_named(one: nn.Module, other: nn.Module, where: str) -> None:
    found = first_difference([one, copy.deepcopy(one), one])
    assert found is None
    found = first_difference([one, other])
    assert found is not None
    assert found.certain
    assert re.search(where, found.text)
    assert structure_text(one) == structure_text(copy.deepcopy(one)) != structure_text(other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_mixture_in_any_precision_sums_to_one(dtype: torch.dtype) -> None:
    ensemble = Ensemble([net(0), net(1), net(2)], [1, 2, 3]).to(dtype)
    images = torch.randn(4, 6, dtype=dtype)
    wanted = sum(w * m(images).float().softmax(1) for w, m in zip((3 / 6, 2 / 6, 1 / 6), ensemble.members, strict=True))
    found = ensemble(images).exp().float()
    torch.testing.assert_close(found.sum(1), torch.ones(4))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-2 if dtype is torch.bfloat16 else 1e-3)
