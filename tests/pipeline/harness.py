"""Forks a process for each run and disturbs it. Usage: harness.py FOLDER kill N | signal NUMBER | full

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

FOLDER = Path(sys.argv[1])


def prepare() -> None:
    for name in ("pipeline.stages", "pipeline.context", "pipeline.learning", "report", "presets"):
        importlib.import_module(f"decouple.{name}")
    import sklearn.datasets  # noqa: F401
    import torch

    torch.set_num_threads(1)


def start(out: str, *, file_limit: int | None = None) -> int:
    """Begin or resume a run in a process of its own; returns its number."""
    pid = os.fork()
    if pid:
        return pid
    errors = os.open(FOLDER / f"{out}.stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(errors, 2)
    os.dup2(errors, 1)
    # Checkpoints after every epoch, and writes slow enough to be hit.
    learning = importlib.import_module("decouple.pipeline.learning")
    learning.Checkpoint = functools.partial(learning.Checkpoint, seconds=0)
    files = importlib.import_module("decouple.files")
    replace = files.os.replace

    def slow_replace(*arguments: object) -> None:
        time.sleep(0.005)
        replace(*arguments)

    files.os.replace = slow_replace
    # Pictures are not what is tested here, and take longer than all else.
    importlib.import_module("decouple.report").build_report = lambda folder: folder / "report.html"
    if file_limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    argv = ["run", "digits", "--config", str(FOLDER / "tiny.json"), "--out", str(FOLDER / out), "--resume", "--quiet"]
    status = run_command(argv)
    sys.stderr.flush()
    os._exit(status)


def wait(pid: int) -> int:
    """The exit status; −n after signal n."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def stage_of(out: str) -> str:
    """The latest stage that has left anything."""
    stages = ("search", "learn", "compare", "q0")
    return next((stage for stage in reversed(stages) if (FOLDER / out / stage).is_dir()), "none")


def main() -> dict[str, object]:
    prepare()
    began = time.monotonic()
    if wait(start("whole")) != 0:
        raise SystemExit((FOLDER / "whole.stderr").read_text())
    seconds = time.monotonic() - began
    if sys.argv[2] == "kill":
        return kill(int(sys.argv[3]), seconds)
    if sys.argv[2] == "signal":
        pid = start("interrupted")
        time.sleep(seconds / 2)
        os.kill(pid, int(sys.argv[3]))
        status = wait(pid)
        stderr = (FOLDER / "interrupted.stderr").read_text()
        return {"status": status, "stderr": stderr, "resumed": wait(start("interrupted"))}
    status = wait(start("full", file_limit=30_000))
    stderr = (FOLDER / "full.stderr").read_text()
    return {"status": status, "stderr": stderr, "resumed": wait(start("full"))}


def kill(wanted: int, seconds: float) -> dict[str, object]:
    """Kill `wanted` times at random moments; begin a new run when one ends before its time."""
    moments = random.Random(0)
    kills, stages, finished = 0, [], 0
    while kills < wanted:
        pid = start("killed")
        time.sleep(moments.uniform(0.2, 1.1) * seconds)
        os.kill(pid, signal.SIGKILL)
        if wait(pid) == -signal.SIGKILL:
            kills += 1
            stages.append(stage_of("killed"))
        else:
            finished += 1
            (FOLDER / "killed").rename(FOLDER / f"killed-{finished}")
    if wait(start("killed")) != 0:
        raise SystemExit((FOLDER / "killed.stderr").read_text())
    return {"kills": kills, "stages_at_kill": stages, "seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(main()))
