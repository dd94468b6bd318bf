"""The memory of devices: how much of it is taken, and what is said where it does not suffice. For GPUs see test_cuda."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from decouple import device as devices
from decouple.config import EsConfig, LearnConfig, Q0Config, SearchConfig, SgdConfig
from decouple.data import ImageData
from decouple.errors import DecoupleError, MemoryLimitError, is_out_of_memory
from decouple.learn import learn_targets, train_sgd
from decouple.networks import Stages
from decouple.networks.state import own_copy
from decouple.q0 import Ensemble, train_population
from decouple.search import search_solution

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 15.77 GiB")
CUDA = torch.device("cuda", 0)


def _full(network: Stages) -> Stages:
    """A copy whose second stage takes more memory than there is for more than 20 images."""

    def forward(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if len(inputs[0]) > 20:
            raise FULL

    copy = own_copy(network)
    copy.stages[1].register_forward_pre_hook(forward)
    return copy


STAGES: dict[str, tuple[Callable[[Stages, ImageData, Path], object], str]] = {
    "search": (
        lambda network, data, folder: search_solution(network, data.train, folder, config=SearchConfig(batch=72)),
        "a search batch needs .* lower search.batch, the population or network.width",
    ),
    "sgd": (
        lambda network, data, folder: train_sgd(network, data.train, validation=data.validation, config=SgdConfig(batch=24)),
        r"a training step needs .* lower sgd\.batch or network\.width",
    ),
    "q0": (
        lambda network, data, folder: train_population([network], data, folder, config=Q0Config(batch=24, cycles=2)),
        r"a training step of q0 needs .* lower q0\.batch or network\.width",
    ),
    "ensemble": (
        lambda network, data, folder: Ensemble([network, network], [1, 1])(data.train.images),
        "an ensemble's answer needs .* lower the number of images that are given at once, or of members",
    ),
}


@pytest.mark.parametrize("stage", STAGES)
def test_too_little_memory_is_one_line_that_names_the_remedy(
    network: Stages, data: ImageData, tmp_path: Path, stage: str
) -> None:
    work, expected = STAGES[stage]
    full = _full(network)
    with pytest.raises(MemoryLimitError, match=expected) as raised:
        work(full, replace(data, prior=data.prior), tmp_path)
    assert isinstance(raised.value, DecoupleError)
    assert isinstance(raised.value, MemoryError)
    assert "Tried to allocate 20.00 GiB" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_learning_from_targets_names_its_own_batch(network: Stages, data: ImageData, tmp_path: Path) -> None:
    config = SearchConfig(batch=72, es=EsConfig(population=2, generations=1))
    targets = search_solution(network, data.train, tmp_path, config=config)
    with pytest.raises(MemoryLimitError, match=r"lower learn\.batch"):
        learn_targets(_full(network), data.train, targets, validation=data.validation, config=LearnConfig(batch=24))


def test_other_errors_stay_what_they_are() -> None:
    for error in (RuntimeError("shapes do not fit"), MemoryLimitError("said already"), ValueError("no number")):
        with pytest.raises(type(error)) as raised, devices.memory_for("a step", "batch"):
            raise error
        assert raised.value is error


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (FULL, True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_what_a_lack_of_memory_looks_like(error: Exception, full: bool) -> None:
    assert is_out_of_memory(error) == full
    later = RuntimeError("operation failed due to a previous error during capture")
    later.__context__ = error
    assert is_out_of_memory(later) == full


def test_a_process_takes_no_more_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 of 16 GB are free; torch holds 3, of which tensors take 2."""
    gigabyte, limits = 10**9, []
    monkeypatch.setattr(devices, "_share", 1.0)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limits.append)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8 * gigabyte, 16 * gigabyte))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * gigabyte)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2 * gigabyte)
    assert devices.free_bytes(CUDA) == 9 * gigabyte
    assert devices.room(CUDA, on_cpu=1) == 9 * gigabyte // 4
    assert devices.room(torch.device("cpu"), on_cpu=123) == 123
    devices.limit(0.25)
    assert limits == [0.25]
    assert devices.free_bytes(CUDA) == 2 * gigabyte, "a quarter of 16, of which 2 are taken"
    with pytest.raises(MemoryLimitError, match="lower batch or workers"), devices.memory_for("a step", "--batch"):
        raise FULL
    devices.limit(0.1)
    assert devices.free_bytes(CUDA) == 0
