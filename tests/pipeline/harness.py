"""Forks a process for each run and disturbs it. Usage: harness.py FOLDER KILLS

Importing takes seconds; a fork of a process that has imported, but not computed, takes none. Prints JSON in the end.
"""

import functools
import importlib
import json
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

from decouple.cli import run_command

STAGES = ("search", "learn", "compare", "q0", "tune")
COMMANDS = {
    "tune": ["tune", "digits", "--trials", "3", "--epochs", "3", "--extensions", "0"],
    "seeds": ["run", "digits", "--seeds", "0", "1"],
}
"""What is disturbed, by how the folder's name begins; else a run."""


def prepare() -> None:
    for name in ("pipeline.stages", "pipeline.context", "pipeline.tune", "pipeline.seeds", "report.table", "presets"):
        importlib.import_module(f"decouple.{name}")
    import sklearn.datasets  # noqa: F401
    import torch

    torch.set_num_threads(1)


def start(folder: Path, out: str, *, file_limit: int | None = None, ends: bool = True) -> int:
    """Begin or resume a run in a process of its own; returns its number. One that never `ends` waits before its report."""
    pid = os.fork()
    if pid:
        return pid
    errors = os.open(folder / f"{out}.stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(errors, 2)
    os.dup2(errors, 1)
    # Checkpoints after every epoch, and writes slow enough to be hit.
    for name in ("learning", "tune"):
        module = importlib.import_module(f"decouple.pipeline.{name}")
        module.Checkpoint = functools.partial(module.Checkpoint, seconds=0)
    files = importlib.import_module("decouple.files")
    replace = files.os.replace

    def slow_replace(*arguments: object) -> None:
        time.sleep(0.005)
        replace(*arguments)

    files.os.replace = slow_replace
    # Pictures are not what is tested here, and take longer than all else.
    report = importlib.import_module("decouple.report")
    report.build_report = lambda folder: folder / "report.html" if ends else signal.pause()
    importlib.import_module("decouple.report.style").render = lambda figure, kind: b""
    if file_limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    argv = [
        *COMMANDS.get(out.partition("-")[0], ["run", "digits"]),
        "--config",
        str(folder / "tiny.json"),
        "--out",
        str(folder / out),
        "--resume",
        "--quiet",
    ]
    status = run_command(argv)
    sys.stderr.flush()
    os._exit(status)


def wait(pid: int) -> int:
    """The exit status; −n after signal n."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def stage_of(run: Path) -> str:
    """The latest stage that has left anything."""
    return next((stage for stage in reversed(STAGES) if (run / stage).is_dir()), "none")


def main() -> dict[str, object]:
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    prepare()
    return {
        "kill": kill(folder, kills),
        "tune": kill(folder, 3, "tune-"),
        "seeds": kill(folder, 3, "seeds-"),
        "SIGINT": interrupt(folder, "SIGINT"),
        "SIGTERM": interrupt(folder, "SIGTERM"),
        "full": resumed(folder, "full", wait(start(folder, "full", file_limit=30_000))),
    }


def interrupt(folder: Path, name: str) -> dict[str, object]:
    """Send a run a signal on its way, and resume it."""
    pid = start(folder, name)
    while len(units(folder / name)) < 12:
        time.sleep(0.002)
    os.kill(pid, getattr(signal, name))
    return resumed(folder, name, wait(pid))


def resumed(folder: Path, out: str, status: int) -> dict[str, object]:
    """What a disturbed run said, and the status of its resumption."""
    stderr = (folder / f"{out}.stderr").read_text()
    return {"status": status, "stderr": stderr, "resumed": wait(start(folder, out))}


def finish(folder: Path, out: str) -> None:
    if wait(start(folder, out)) != 0:
        raise SystemExit((folder / f"{out}.stderr").read_text())


def kill(folder: Path, wanted: int, prefix: str = "") -> dict[str, object]:
    """Kill a command `wanted` times on its way, evenly spread over the files that it writes, at random moments there."""
    moments, killed = random.Random(0), f"{prefix}killed"
    finish(folder, f"{prefix}whole")
    total = len(units(folder / f"{prefix}whole"))
    kills, stages = 0, []
    for number in range(wanted):
        pid = start(folder, killed, ends=bool(prefix))  # or the last kill of a run may come too late
        while len(units(folder / killed)) < (number + 0.5) * total / wanted and not has_ended(pid):
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)
        if wait(pid) == -signal.SIGKILL:
            kills += 1
            stages.append(stage_of(folder / killed))
    finish(folder, killed)
    return {"kills": kills, "stages_at_kill": stages}


def units(run: Path) -> list[Path]:
    """The files that the stages of a run have finished."""
    found = []
    for folder, _, names in os.walk(run):  # which does not mind folders that go meanwhile
        if Path(folder).name != "work" and set(Path(folder).relative_to(run).parts) & set(STAGES):
            found += [Path(folder) / name for name in names]
    return [path for path in found if not path.name.startswith(".") and path.name != "checkpoint.safetensors"]


def has_ended(pid: int) -> bool:
    """Whether the process is over, without taking its status away from `wait`."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


if __name__ == "__main__":
    print(json.dumps(main()))
