"""A run under torchrun: the processes share every gradient step, and the first one does everything else."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from decouple.config import RunConfig
from decouple.pipeline import RunDirectory, open_run, run_stages
from decouple.pipeline.directory import SharedDirectory
from decouple.search import Execution
from decouple.settings import from_builtins
from decouple.training.processes import Group

Together = Callable[[list[str]], list[tuple[int, str, str]]]


KILLED = """
import os, signal, sys
from decouple.cli import run_command
from decouple.q0.trajectories import Snapshot

def write(self, state, write=Snapshot.write):
    write(self, state)
    os.kill(os.getpid(), signal.SIGKILL)

Snapshot.write = write
sys.exit(run_command(sys.argv[1:]))
"""


def test_two_processes_killed_and_resumed_make_what_one_makes(tiny: RunConfig, tmp_path: Path, together: Together) -> None:
    q0 = {"cycles": 2, "lr": 0.1, "alpha": 0.4, "perturb": 0.1, "augment": "crop"}
    config = from_builtins({"rounds": {"count": 1, "es": {"population": 4, "generations": 2}}, "q0": q0}, tiny)
    for name in ("one", "two"):
        with RunDirectory.create(tmp_path / name, config, resume=False) as directory:
            if name == "one":
                with open_run(directory, config, device="cpu") as opened:
                    run_stages(opened, "q0")
    command = ["q0", str(tmp_path / "two"), "--device", "cpu", "--quiet"]
    (status, _, _), (other_status, _, errors) = together(["-c", KILLED, *command])
    assert (status, other_status) == (-signal.SIGKILL, 1), errors
    assert len(list((tmp_path / "two").rglob("q0/**/cycle-*.safetensors"))) == 1
    (status, printed, errors), (other_status, other_printed, other_errors) = together(["-m", "decouple", *command])
    assert status == other_status == 0, errors + other_errors
    assert "q0: learned prior" in printed
    assert printed.splitlines()[-1].startswith("q0: done.")
    assert other_printed == "", "the first process speaks for both"
    made, found = (
        {
            path.relative_to(tmp_path / name)
            for stage in ("search", "learn", "q0")
            for path in (tmp_path / name).rglob(f"{stage}/**/*")
        }
        for name in ("one", "two")
    )
    assert made == found, "the targets of a round, and checkpoints, are removed"
    files = [path for path in made if path.name == "network.safetensors" or path.parent.name.startswith("trajectory-")]
    assert len(files) == 5 + 2 * 2 * 2, "networks; snapshots and their answers"
    for path in files:
        a, b = (load_file(tmp_path / name / path) for name in ("one", "two"))
        for name in a:
            assert torch.allclose(a[name].double(), b[name].double(), rtol=1e-2, atol=1e-3), (path, name)
    about = json.loads((tmp_path / "two" / "run.json").read_text())
    assert [sitting["processes"] for sitting in about["sittings"]] == [2, 2]
    lines = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert len({(line["stage"], line["unit"], line["step"]) for line in lines}) == len(lines), "one process logs"


def test_where_the_first_process_refuses_the_other_says_where_to_look(tmp_path: Path, together: Together) -> None:
    (status, _, errors), (other_status, _, other_errors) = together(
        ["-m", "decouple", "learn", str(tmp_path / "none"), "--device", "cpu"]
    )
    assert status == other_status == 1
    assert "is not a run directory" in errors
    assert "another process of this torchrun has ended" in other_errors
    assert "Traceback" not in errors + other_errors


def test_a_shared_directory_is_read_and_not_written(tiny: RunConfig, tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run", tiny, resume=False) as held, SharedDirectory(tmp_path / "run") as shared:
        before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
        assert shared.read_config() == held.read_config() == tiny
        shared.write_config(from_builtins({"seed": 3}, tiny))
        shared.log("learn", step=1)
        shared.describe(seed=1, data={}, group=Group(), execution=Execution(), code={})
        shared.add_seconds("learn", "", 1.0)
        assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_process_alone_waits_for_nobody() -> None:
    group = Group(torch.device("cpu"))
    with group.first_alone():
        group.wait()
    assert int(group.sum(torch.tensor(3))) == 3
    assert group.part(5) == slice(0, 5)
