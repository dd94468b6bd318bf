"""A small network and a few images, for everything that searches or learns."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from decouple.config import NetworkConfig
from decouple.data import ImageData
from decouple.networks import Stages, paper_network

torch.set_num_threads(1)  # the tensors here are small, and two busy pools of threads on two cores stall each other


@pytest.fixture(scope="session")
def data() -> ImageData:
    stream = torch.Generator().manual_seed(0)
    images = torch.rand(90, 1, 8, 8, generator=stream)
    labels = torch.arange(90) % 3
    for label in range(3):  # something to tell the classes by
        images[labels == label, :, 2 * label : 2 * label + 2] += 1
    return ImageData.from_tensors(images, labels, test_images=images[:9], test_labels=labels[:9], validation=9, prior=9)


@pytest.fixture(scope="session")
def network(data: ImageData) -> Stages:
    return paper_network(data.train.images, 3, NetworkConfig(width=8), groups=1, seed=0)


Together = Callable[[list[str]], list[tuple[int, str, str]]]


@pytest.fixture
def together() -> Together:
    """Two processes of Python with the same arguments, as torchrun starts them: exit status, what they print, their messages."""

    def run(arguments: list[str]) -> list[tuple[int, str, str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
        started = [
            subprocess.Popen(
                [sys.executable, *arguments],
                env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        said = [process.communicate(timeout=300) for process in started]
        return [(process.returncode, *texts) for process, texts in zip(started, said, strict=True)]

    return run
