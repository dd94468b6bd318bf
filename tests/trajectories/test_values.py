"""What is on disk is what a layer gave: whatever works on it later, however large or small, in whatever state torch is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from torch import Tensor, nn
from torch.nn import functional

from decouple.errors import ConfigError, DataError, NetworkError
from decouple.files import load_tensors
from decouple.networks import Stages
from decouple.trajectories import Recorder, Recording

SAMPLES = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
LEAST, MOST = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max


def values_of(folder: Path, network: nn.Module, layers: Any, samples: Any = SAMPLES, **options: Any) -> dict[str, Tensor]:
    Recorder(layers, samples, folder, **options)(0, network)
    return Recording.open(folder).at(0)


class InPlace(nn.Module):
    """Works on what it gets."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, values: Any) -> Any:
        first = values[0] if isinstance(values, tuple) else values
        if self.how == "add":
            first += 1
        elif self.how == "view":
            first.transpose(0, 1)[1].zero_()
        elif self.how == "slice":
            first[:, 0] = -5
        elif self.how == "relu":
            functional.relu(first, inplace=True)
        return first


class Gives(nn.Module):
    """Gives what it gets in another form: itself, a view, a tuple, another layout of memory."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, values: Tensor) -> Any:
        return {
            "itself": values,
            "copy": values + 0,
            "view": values.transpose(1, 2),
            "tuple": (values, values.sum()),
            "channels last": values.contiguous(memory_format=torch.channels_last),
            "expanded": values[:, :1].expand(-1, 4, -1, -1) + 0,
        }[self.how]


FORMS = st.sampled_from(["itself", "copy", "view", "tuple", "channels last", "expanded"])
WORKS = st.sampled_from(["add", "view", "slice", "relu"])


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.tuples(FORMS, WORKS), min_size=1, max_size=4), seed=st.integers(0, 10))
def test_in_place_operations_do_not_reach_what_a_layer_gave(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[str, str]], seed: int
) -> None:
    """Networks of layers whose every output is worked on in place: recorded values are copies made when the layer gave them."""
    samples = torch.randn(5, 4, 4, 4, generator=torch.Generator().manual_seed(seed))
    before, expected, values = samples.clone(), {}, samples.clone()
    layers: list[nn.Module] = []
    for form, how in parts:
        values = Gives(form)(values)
        expected[str(len(layers))] = (values[0] if isinstance(values, tuple) else values).clone()
        values = InPlace(how)(values)
        expected[str(len(layers) + 1)] = values.clone()
        layers += [Gives(form), InPlace(how)]
    folder = tmp_path_factory.mktemp("r")
    recorder = Recorder(list(expected), samples, folder)
    for step in (0, 1):
        recorder(step, nn.Sequential(*layers))
        for layer, found in Recording.open(folder).at(step).items():
            torch.testing.assert_close(found, expected[layer], rtol=1e-3, atol=1e-3)
    assert torch.equal(samples, before), "nor do they reach the user's samples"


def test_samples_are_the_recorders_own(tmp_path: Path) -> None:
    samples = SAMPLES.clone()
    recorder = Recorder([""], samples, tmp_path)
    samples.zero_()
    recorder(0, nn.Identity())
    torch.testing.assert_close(Recording.open(tmp_path).at(0)[""], SAMPLES, rtol=1e-3, atol=1e-3)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    exponents=st.lists(st.floats(-37, 38), min_size=6, max_size=6),
    masked=st.booleans(),
    seed=st.integers(0, 100),
)
def test_every_finite_value_is_kept(
    tmp_path_factory: pytest.TempPathFactory, exponents: list[float], masked: bool, seed: int
) -> None:
    """Samples of any magnitudes together, and masks of the least number that there is: each sample is right to rounding."""
    samples = torch.rand(6, 7, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    samples *= 10 ** torch.tensor(exponents)[:, None]
    if masked:
        samples[::2, seed % 7] = -MOST
    found = values_of(tmp_path_factory.mktemp("r"), nn.Identity(), [""], samples)[""]
    size = samples.abs().amax(1, keepdim=True).double()
    assert bool(((found.double() - samples.double()).abs() <= 1e-3 * size).all())
    if masked:
        assert bool((found[::2, seed % 7] == -MOST).all())


KEPT = {
    torch.float16: (1.0, 1e-3, 100.0),
    torch.float32: (1e6, 1e20, 1e37, 1e-14, 1e-30),
    torch.float64: (1e60, 1e300, 1e-44, 1e-200, 1e-306),
}


@pytest.mark.parametrize(("kept", "factor"), [(kept, factor) for kept in KEPT for factor in KEPT[kept]])
def test_the_type_on_disk_holds_the_values(tmp_path: Path, kept: torch.dtype, factor: float) -> None:
    samples = SAMPLES.double() * factor
    found = values_of(tmp_path, nn.Identity(), [""], samples)[""]
    unit = Recording.open(tmp_path).unit
    assert load_tensors(tmp_path / "record-00000.safetensors", unit=f"{unit}/record-0")[0]["layer."].dtype == kept
    assert found.dtype == (torch.float64 if kept == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double() / factor, SAMPLES.double(), rtol=1e-3, atol=1e-3)


def test_small_differences_of_large_values_are_kept(tmp_path: Path) -> None:
    samples = 1000 + 0.01 * SAMPLES
    found = values_of(tmp_path, nn.Identity(), [""], samples)[""]
    torch.testing.assert_close(found - found.mean(0), samples - samples.mean(0), rtol=0, atol=1e-4)


def test_whole_numbers_are_kept(tmp_path: Path) -> None:
    rows = 2**40 + torch.tensor([[1, 3], [0, 1], [5, 2]])
    assert torch.equal(values_of(tmp_path, nn.Identity(), [""], rows)[""], rows.double())


def plain() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = (nn.Flatten(), nn.Linear(36, 8), nn.ReLU(inplace=True), nn.Linear(8, 3))
        return nn.Sequential(*parts).to("cpu", torch.float32)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def no_gradients(network: nn.Module) -> nn.Module:
    return network.requires_grad_(False)


def with_hooks(network: nn.Module) -> nn.Module:
    network[1].register_forward_hook(lambda module, inputs, output: None)  # type: ignore[index]
    network[3].register_forward_hook(lambda module, inputs, output: output.add_(0))  # type: ignore[index]
    network[2].register_forward_pre_hook(lambda module, inputs: (inputs[0] + 0,))  # type: ignore[index]
    return network


def compiled_first(network: nn.Module) -> nn.Module:
    """A hook that comes later is not noticed by what is compiled by then."""
    found = torch.compile(network, backend="eager")
    with torch.no_grad():
        found(SAMPLES)
    return found


def compiled_inside(network: nn.Module) -> nn.Module:
    network[1] = torch.compile(network[1], backend="eager")  # type: ignore[index,operator]
    return network


STATES: dict[str, tuple[Callable[[], Any], Callable[[nn.Module], nn.Module]]] = {
    "no_grad": (torch.no_grad, lambda network: network),
    "inference": (torch.inference_mode, lambda network: network),
    "float64": (lambda: default_dtype(torch.float64), lambda network: network),
    "meta device": (lambda: torch.device("meta"), lambda network: network),
    "frozen": (nullcontext, no_gradients),
    "hooks": (nullcontext, with_hooks),
    "parallel": (nullcontext, nn.DataParallel),
    "compiled": (nullcontext, compiled_first),
    "compiled inside": (nullcontext, compiled_inside),
    "parallel compiled": (nullcontext, lambda network: nn.DataParallel(compiled_first(network))),
}


@pytest.mark.parametrize("state", STATES)
def test_whatever_torch_is_in_it_records_the_same(tmp_path: Path, state: str) -> None:
    outside, made = STATES[state]
    expected = values_of(tmp_path / "plain", plain(), ["1", "3"], labels=torch.arange(6) % 2)
    network = made(plain())
    with outside():
        found = values_of(tmp_path / "state", network, ["1", "3"], labels=np.arange(6) % 2)
    assert all(torch.equal(found[layer], expected[layer]) for layer in ("1", "3"))
    one, other = (Recording.open(tmp_path / folder) for folder in ("plain", "state"))
    assert (one.samples, one.architecture) == (other.samples, other.architecture)


def test_half_precision_and_autocast_are_recorded_as_they_are(tmp_path: Path) -> None:
    expected = values_of(tmp_path / "plain", plain(), ["1"])["1"]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = values_of(tmp_path / "mixed", plain(), ["1"])["1"]
    half = values_of(tmp_path / "half", plain().half(), ["1"], SAMPLES.half())["1"]
    assert torch.equal(mixed, mixed.bfloat16().float())
    assert not torch.equal(mixed, expected)
    torch.testing.assert_close(mixed, expected, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(half, expected, rtol=2e-3, atol=2e-3)


def test_search_points_are_recorded_by_name(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(inplace=True), nn.Linear(8, 3))
    cuts = {"module": Stages.from_module(network, ["1", "3"]), "sequential": Stages.from_sequential(network, ["1", "3"])}
    expected = values_of(tmp_path / "whole", network, ["1", "3"])
    for name, stages in cuts.items():
        found = values_of(tmp_path / name, stages, ["1", "3"], logits="3")
        assert all(torch.equal(found[point], expected[point]) for point in ("1", "3"))
        assert float(found["1"].min()) < 0, "before the in-place ReLU"
    named = Stages([network[:2], network[2:]], ["stage3", "logits"])
    found = values_of(tmp_path / "named", named, ["stage3", "logits"])
    assert torch.equal(found["stage3"], expected["1"])


def test_layers_inside_a_cut_network_keep_their_names(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(4, 5, 3), nn.ReLU(inplace=True), nn.Flatten())
            self.head = nn.Linear(5, 3)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.body(images))

    network = Net()
    expected = values_of(tmp_path / "whole", network, ["body", "body.0", "head"])
    found = values_of(tmp_path / "cut", Stages.from_module(network, ["body", "head"]), ["body", "body.0", "head"])
    assert all(torch.equal(found[layer], expected[layer]) for layer in expected)


@pytest.mark.parametrize("step", [np.int64(3), np.uint8(3), torch.tensor(3), 3])
def test_steps_of_any_library_are_whole_numbers(tmp_path: Path, step: Any) -> None:
    recorder = Recorder([""], SAMPLES, tmp_path, at=[np.int64(3), torch.tensor(7), 123456])
    for each in (step, 4, 7, np.int64(123456)):
        recorder(each, nn.Identity())
    found = Recording.open(tmp_path)
    assert found.steps == (3, 7, 123456)
    assert all(type(number) is int for number in found.steps)
    torch.testing.assert_close(found.at(step)[""], SAMPLES, rtol=1e-3, atol=1e-3)


class Never(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        raise AssertionError("the network ran")


@pytest.mark.parametrize("step", [-1, 1.5, 3.0, True, None, "3", float("nan"), 10**30])
def test_other_steps_are_refused_before_the_network_runs(tmp_path: Path, step: Any) -> None:
    with pytest.raises(ConfigError, match="a step must be a whole number from 0 on, not "):
        Recorder([""], SAMPLES, tmp_path)(step, Never())
    with pytest.raises(ConfigError, match="a step must be a whole number from 0 on, not "):
        Recorder([""], SAMPLES, tmp_path, at=[0, step])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int64", ">i4"])
def test_arrays_of_numpy_are_tensors(tmp_path: Path, dtype: str) -> None:
    ids, labels = np.arange(6)[::-1].astype(dtype), (np.arange(6) % 2).astype(dtype)
    values_of(tmp_path, nn.Identity(), [""], SAMPLES.numpy(), ids=ids, labels=labels)
    found = Recording.open(tmp_path)
    assert found.labels is not None
    assert (found.ids.dtype, found.ids.tolist()) == (torch.int64, [5, 4, 3, 2, 1, 0])
    assert (found.labels.dtype, found.labels.tolist()) == (torch.int64, [0, 1, 0, 1, 0, 1])
    values_of(tmp_path / "tensors", nn.Identity(), [""], ids=torch.arange(5, -1, -1), labels=torch.arange(6) % 2)
    assert Recording.open(tmp_path / "tensors").samples == found.samples


REFUSED: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], type[Exception], str]] = {
    "uint8": (
        plain, {"samples": (255 * SAMPLES.sigmoid()).byte()}, NetworkError,
        r"the network fails on samples of shape \(6, 4, 3, 3\) and type torch.uint8 \(.*\); its parameters are torch.float32$",
    ),
    "float64": (plain, {"samples": SAMPLES.double().numpy()}, NetworkError, r"type torch.float64 \(.*are torch.float32$"),
    "half": (lambda: plain().half(), {}, NetworkError, r"type torch.float32 \(.*its parameters are torch.float16$"),
    "shape": (plain, {"samples": SAMPLES[:, :2]}, NetworkError, r"fails on samples of shape \(6, 2, 3, 3\).*\)$"),
    "meta": (lambda: plain().to("meta"), {}, NetworkError, "of the network is on the meta device and has no values"),
    "lazy": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), {}, NetworkError, "of the network is not initialised"),
    "function": (lambda: torch.relu, {}, ConfigError, "network must be a Module, not builtin_function_or_method"),
    "complex": (lambda: Makes(lambda x: x.to(torch.complex64)), {}, NetworkError, r"layer '0' gives torch.complex64"),
    "sparse": (lambda: Makes(lambda x: x.to_sparse()), {}, NetworkError, r"layer '0' gives .*torch.sparse_coo: expected plain"),
    "dictionary": (lambda: Makes(lambda x: {"a": x}), {}, NetworkError, r"layer '0' gives dict for 6 samples"),
    "empty": (lambda: Makes(lambda x: x[:, :0]), {}, NetworkError, r"layer '0' gives shape \(6, 0, 3, 3\)"),
    "scores": (lambda: Makes(lambda x: x), {"logits": "0"}, NetworkError, r"expected \(N, classes\) of `logits`"),
    "float ids": (plain, {"ids": np.arange(6.0)}, DataError, r"ids have shape \(6,\) and type torch.float64: expected \(6,\) diff"),
    "text": (plain, {"labels": list("abcabc")}, DataError, "labels must be a tensor or a numpy array of numbers, not list"),
    "float labels": (plain, {"labels": SAMPLES[:, 0, 0, 0]}, DataError, r"labels have .*torch.float32: expected \(6,\) integers"),
    "no samples": (plain, {"samples": {"a": SAMPLES}}, DataError, "samples must be a tensor or a numpy array of numbers, not dict"),
    "numbers": (plain, {"layers": [0]}, ConfigError, "names must be strings, not int: write '0' for 0"),
    "kind": (plain, {"kind": 3}, ConfigError, "names must be strings, not int: write '3' for 3"),
    "bytes": (plain, {"kind": "a\udcff"}, ConfigError, "cannot be written as text; choose another"),
    "reserved": (plain, {"kind": "other solutions"}, ConfigError, "a kind of training cannot be called 'other solutions'"),
    "at": (plain, {"at": 3}, ConfigError, "at must be a Collection, not int; give the steps as a list or a range"),
}  # fmt: skip


class Makes(nn.Module):
    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer = nn.Module()
        self.layer.forward = make  # type: ignore[assignment]
        self.add_module("0", self.layer)

    def forward(self, values: Tensor) -> Tensor:
        self.layer(values)
        return values


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_recorded_is_refused_in_a_line(tmp_path: Path, case: str) -> None:
    make, options, error, message = REFUSED[case]
    network = make()
    with pytest.raises(error, match=message) as caught:
        values_of(tmp_path, network, options.pop("layers", ["0"]), options.pop("samples", SAMPLES), **options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
