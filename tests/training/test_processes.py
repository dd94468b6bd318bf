"""Processes that train together find each other, or say what they wait for; and they train as one does, up to rounding."""

import os
import signal
import socket
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, distributed, nn

from decouple.cli import run_command
from decouple.config import LearnConfig, LiveConfig, NetworkConfig, SgdConfig
from decouple.data import ImageData, Split
from decouple.errors import ConfigError, WorkerError
from decouple.files import load_tensors, save_tensors
from decouple.learn import Checkpoint, Fit, Watch, fit
from decouple.learn.objective import cross_entropy, regression
from decouple.networks import Stages, paper_network
from decouple.training import processes
from decouple.training.augment import augment
from decouple.training.objectives import Objective
from decouple.training.processes import process_group

VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE")


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch, port: int):
    """Sets the variables of one process of three; others by their names."""

    def launch(**values: str) -> None:
        whole = {"WORLD_SIZE": "3", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in (whole | values).items():
            monkeypatch.setenv(name, value)

    return launch


def _join() -> None:
    with process_group("cpu"):
        pytest.fail("there is no group")


@pytest.mark.parametrize(
    "values",
    [
        {"WORLD_SIZE": "", "RANK": "", "MASTER_ADDR": "", "MASTER_PORT": ""},
        {"WORLD_SIZE": ""},
        {"WORLD_SIZE": "1", "RANK": "7"},
        {"WORLD_SIZE": "1", "RANK": "none", "MASTER_PORT": ""},
        {"WORLD_SIZE": "", "SLURM_NTASKS": "4", "SLURM_PROCID": "2"},
    ],
)
def test_one_process_is_alone_whatever_else_is_set(launched, values: dict[str, str]) -> None:
    launched(**values)
    with process_group("cpu") as alone:
        assert (alone.rank, alone.size, alone.first) == (0, 1, True)
        assert not distributed.is_initialized()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"WORLD_SIZE": "four"}, r"WORLD_SIZE = 'four' in the environment: expected a whole number from 1, as torchrun"),
        ({"WORLD_SIZE": "0"}, r"WORLD_SIZE = '0' in the environment: expected a whole number from 1"),
        ({"WORLD_SIZE": "-2"}, r"WORLD_SIZE = '-2' in the environment"),
        ({"RANK": ""}, r"WORLD_SIZE = 3 in the environment, but RANK is not set"),
        ({"RANK": "", "MASTER_ADDR": ""}, r"WORLD_SIZE = 3 in the environment, but RANK, MASTER_ADDR are not set"),
        ({"MASTER_PORT": ""}, r"WORLD_SIZE = 3 in the environment, but MASTER_PORT is not set"),
        ({"RANK": "3"}, r"RANK = '3' in the environment: expected a whole number from 0 to 2"),
        ({"RANK": "x"}, r"RANK = 'x' in the environment"),
        ({"MASTER_PORT": "99999"}, r"MASTER_PORT = '99999' in the environment: expected a whole number from 1 to 65535"),
        ({"MASTER_PORT": "http"}, r"MASTER_PORT = 'http' in the environment"),
    ],
)
def test_variables_that_do_not_fit_are_named(launched, values: dict[str, str], expected: str) -> None:
    launched(**values)
    with pytest.raises(ConfigError, match=expected + r".*; (start each of them once, .*)?or unset WORLD_SIZE to run alone"):
        _join()


def test_a_local_rank_that_is_missing_is_named_where_gpus_are_shared_out(launched, monkeypatch: pytest.MonkeyPatch) -> None:
    launched()
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(ConfigError, match=r"LOCAL_RANK = '' in the environment"), process_group("auto"):
        pass


@pytest.mark.parametrize(("rank", "found"), [("0", "1 of 3 are there"), ("1", r"process 0 does not answer at 127\.0\.0\.1")])
def test_a_process_that_waits_says_for_whom_and_gives_up(
    launched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, rank: str, found: str
) -> None:
    launched(RANK=rank)
    monkeypatch.setattr(processes, "NOTICE", 0.02)
    monkeypatch.setattr(processes, "ARRIVAL", 0.2)
    with pytest.raises(WorkerError, match=rf"gave up waiting for 3 processes .*{found}.*unset WORLD_SIZE to run alone"):
        _join()
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("waiting for 3 processes (WORLD_SIZE in the environment): ")
    assert caplog.messages[0].endswith("or unset WORLD_SIZE to run alone")


def test_an_address_that_nobody_knows_is_waited_for_like_a_late_process(launched, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    launched(RANK="2", MASTER_ADDR="node17")
    monkeypatch.setattr("socket.create_connection", unknown)
    monkeypatch.setattr(processes, "ARRIVAL", 0.1)
    with pytest.raises(WorkerError, match=r"process 0 does not answer at node17:\d+"):
        _join()


def test_a_port_that_is_taken_is_named(launched) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        launched(MASTER_PORT=str(taken.getsockname()[1]))
        with pytest.raises(ConfigError, match=r"MASTER_PORT = \d+ in the environment cannot be opened .*; set another port"):
            _join()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_waiting_can_be_interrupted(
    launched,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    status: int,
) -> None:
    launched()
    monkeypatch.setattr("decouple.training.processes.time.sleep", lambda _: os.kill(os.getpid(), number))  # while it waits
    assert run_command(["run", "digits", "--out", str(tmp_path / "run"), "--quiet"]) == status
    assert "decouple: stopped" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_two_processes_of_one_rank_are_refused(launched, monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """As where every task of a cluster inherits the same variables."""
    launched(RANK="1")
    store = distributed.TCPStore("localhost", port, 3, True, wait_for_workers=False)
    monkeypatch.setattr(processes, "_MEETINGS", iter([0, 0]))
    monkeypatch.setattr(processes, "ARRIVAL", 0.1)
    with pytest.raises(WorkerError, match="1 of 3 are there"):
        _join()
    with pytest.raises(
        ConfigError, match=r"RANK = 1 in the environment is that of another process, too; start each of them once"
    ):
        _join()
    del store


MEETING = """
import sys, time
from decouple.training.processes import process_group
for _ in range(2):  # one group after the other
    with process_group("cpu") as group:
        time.sleep(0.2 * group.first)
        group.wait()
        import torch
        print(group.rank, group.size, int(group.sum(torch.tensor(group.rank + 1))))
        group.wait()
"""


def test_processes_that_come_together_compute_together(together) -> None:
    for rank, (status, printed, errors) in enumerate(together(["-c", MEETING])):
        assert (status, printed) == (0, f"{rank} 2 3\n" * 2), errors
        assert "waiting for" not in errors


def test_the_long_patience_begins_when_all_are_there(launched, monkeypatch: pytest.MonkeyPatch) -> None:
    launched(WORLD_SIZE="2")
    launch = processes._Launch.of_environment()
    assert launch is not None
    monkeypatch.setattr(processes, "_MEETINGS", iter([0, 0]))
    met = {}

    def other() -> None:
        met[1] = processes._meet(processes._Launch(1, 2, launch.host, launch.port))

    second = threading.Thread(target=other)
    second.start()
    met[0] = processes._meet(launch)
    second.join()
    assert met[0].timeout == met[1].timeout == processes.PATIENCE


CONFIG = LearnConfig(epochs=3, batch=25, lr=0.05, augment="flip-crop", clip=0.5, live=LiveConfig(weight=0))
LIVE = replace(CONFIG, live=LiveConfig(), heads=0.5)
SGD = SgdConfig(heads=0.5)


@dataclass
class _Targets:
    points: list[Tensor]

    first_searched = 0

    def check(self, split: Split) -> None:
        pass

    def rows(self, positions: Tensor) -> list[Tensor]:
        return [point[positions] for point in self.points]


def _train(folder: Path, kind: str, checkpoint: Checkpoint | None = None) -> tuple[Stages, Fit, list[int]]:
    tensors = load_tensors(folder / "data", unit="data")[0]
    train, validation = (
        Split(tensors["images"][a:b], tensors["labels"][a:b], torch.arange(a, b)) for a, b in ((0, 71), (71, 90))
    )
    rank = (
        distributed.get_rank() if distributed.is_initialized() else 0
    )  # every process starts from weights of its own: the first one's count
    config = LIVE if kind == "live" else CONFIG
    if kind != "plain":
        network = paper_network(train.images, 3, NetworkConfig(width=8), groups=1, seed=rank)
    else:
        torch.manual_seed(rank)
        plain = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8, momentum=None), nn.Flatten(), nn.Linear(72, 3))
        network = Stages.from_sequential(plain, ["1", "3"])
    stream = torch.Generator().manual_seed(0)
    targets = _Targets([torch.randn(71, *shape, generator=stream) for shape in network.shapes((1, 8, 8))])
    searched = regression(targets, config, len(network) - 1)
    objective: Objective = cross_entropy(SGD) if kind == "sgd" else searched
    seen: list[int] = []
    found = fit(
        network,
        train,
        validation,
        objective,
        config,
        seed=1,
        checkpoint=checkpoint,
        watch=Watch(lambda e, n: seen.append(e)),
    )
    return network, found, seen


KINDS = ("paper", "plain", "live", "sgd")


def _process(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    distributed.init_process_group("gloo")
    for kind in KINDS:
        checkpoint = Checkpoint(folder / f"{kind}.checkpoint", "unit", seconds=0)
        network, found, seen = _train(folder, kind, checkpoint)
        own = checkpoint if rank == 0 else Checkpoint(folder / "elsewhere", "unit")
        with pytest.raises(
            ConfigError, match="the processes go on after 0 to 3 epochs: every one must find the same checkpoint"
        ):
            _train(folder, kind, own)
        meta = {"losses": found.losses, "validation": found.validation, "seen": seen}
        save_tensors(folder / f"{kind}-{rank}", network.state_dict(), meta, unit="result")
    distributed.destroy_process_group()


def test_two_processes_give_what_one_gives(data: ImageData, tmp_path: Path) -> None:
    splits = (data.train, data.validation, data.prior)
    tensors = {name: torch.cat([getattr(split, name) for split in splits]) for name in ("images", "labels")}
    save_tensors(tmp_path / "data", tensors, {}, unit="data")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_process, (port, tmp_path), nprocs=2)
    for kind in KINDS:
        network, found, seen = _train(tmp_path, kind)
        (weights, meta), (others, other) = (load_tensors(tmp_path / f"{kind}-{rank}", unit="result") for rank in (0, 1))
        assert meta["losses"] == other["losses"] == pytest.approx(found.losses, rel=1e-4 if kind == "live" else 1e-5), kind
        assert meta["validation"] == found.validation, kind
        assert (meta["seen"], other["seen"]) == (seen, []), f"{kind}: only the first process records"
        for name, value in network.state_dict().items():
            assert torch.equal(weights[name], others[name]), (kind, name)
            assert torch.allclose(weights[name], value, rtol=1e-3, atol=1e-5), (kind, name)
        assert all("forward" not in vars(module) for module in network.modules())


def test_parts_of_a_batch_get_the_views_of_the_batch() -> None:
    images = torch.rand(10, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    whole = augment(images, "flip-crop", torch.Generator().manual_seed(1))
    for part in (slice(0, 4), slice(4, 10)):
        view = augment(images[part], "flip-crop", torch.Generator().manual_seed(1), batch=10, part=part)
        assert torch.equal(view, whole[part])
