"""On a GPU every stage gives what it gives on the CPU, and waits for nothing. Skipped where there is none.

What is checked stands in `benchmarks.gpu_correctness`, which is run there by hand; its own test runs it on the CPU. That nothing
waits is also shown without a GPU (`test_no_waiting.py` in training and in search).
"""

import contextlib
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_correctness import CHECKS, Setting, in_float32, near, weights
from decouple import device as devices
from decouple.config import SgdConfig
from decouple.data import ImageData
from decouple.errors import NotFiniteError
from decouple.learn import Checkpoint, CrossEntropy, Watch, fit
from decouple.networks import Stages
from decouple.networks.state import own_copy
from decouple.training import stream

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
CUDA = torch.device("cuda", 0)


@pytest.fixture(scope="module", autouse=True)
def _same_bits_each_time() -> None:
    devices.prepare()


@pytest.mark.parametrize("name", CHECKS)
def test_a_gpu_gives_what_the_cpu_gives(name: str) -> None:
    with in_float32():
        CHECKS[name](Setting(CUDA))


def test_what_does_not_fit_is_streamed_to_the_same_result(
    network: Stages, data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    for share in (0.25, 0.0):
        monkeypatch.setattr(stream, "room", lambda device, on_cpu, share=share: int(share * devices.free_bytes(device)))
        stream._HELD.clear()
        trained.append(own_copy(network).to(CUDA))
        config = SgdConfig(epochs=2, batch=12, lr=0.05, augment="crop")
        fit(trained[-1], data.train, data.validation, CrossEntropy(), config, seed=0)
        assert (stream.held(data.train, CUDA)[0].device == CUDA) == (share > 0)
    assert trained[0].digest == trained[1].digest


def test_a_checkpoint_of_one_device_resumes_on_the_other(network: Stages, data: ImageData, tmp_path: Path) -> None:
    """Up to rounding; with its own kernels for the optimiser."""

    def train(device: torch.device, checkpoint: Checkpoint, stop_after: int) -> Stages:
        def record(epoch: int, network: Stages) -> None:
            if epoch == stop_after:
                raise KeyboardInterrupt

        trained = own_copy(network).to(device)
        config = SgdConfig(epochs=3, batch=24, lr=0.02)
        with contextlib.suppress(KeyboardInterrupt):
            watch = Watch(record)
            fit(trained, data.train, data.validation, CrossEntropy(), config, seed=0, checkpoint=checkpoint, watch=watch)
        return trained

    with in_float32():
        whole = train(torch.device("cpu"), Checkpoint(tmp_path / "whole", "unit"), -1)
        for first, then in ((torch.device("cpu"), CUDA), (CUDA, torch.device("cpu"))):
            checkpoint = Checkpoint(tmp_path / first.type, "unit", seconds=0)
            train(first, checkpoint, 2)
            found = train(then, checkpoint, -1)
            near(f"from {first} to {then}", weights(found), weights(whole), 0.01)


def test_the_failing_step_is_named_after_the_epoch(network: Stages, data: ImageData) -> None:
    broken, taken = own_copy(network).to(CUDA), 0

    def poison(gradient: torch.Tensor) -> torch.Tensor:
        nonlocal taken
        taken += 1
        return gradient * torch.nan if taken == 2 else gradient

    weight = next(p for p in broken.parameters() if p.requires_grad)
    weight.register_hook(poison)
    with pytest.raises(NotFiniteError, match="epoch 1: the gradient is not finite at step 2 of the epoch"):
        fit(broken, data.train, data.validation, CrossEntropy(), SgdConfig(epochs=1, batch=24), seed=0)
    assert taken == 3, "the epoch was taken to its end"
