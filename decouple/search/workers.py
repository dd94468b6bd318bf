"""A search spread over Ray's worker processes, on this machine or on a cluster that is there.

A task of Ray searches one shard and returns the contents of its file; this process, which alone needs to see the run's
folder, writes them. Network, statistics and algorithms go to Ray's store once, images with their task. As many tasks as
workers are under way, so that no more results wait in memory. Whatever ends a worker, its shard is searched again.
"""

from __future__ import annotations

import copy
import logging
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

import decouple
from decouple import device as devices
from decouple.data.images import Split
from decouple.errors import ConfigError, DecoupleError, WorkerError
from decouple.search.tasks import Plan, Task, threads_of

ATTEMPTS = 3
"""Workers that may die of one shard before the search ends."""

STORE_BYTES = 2**27
"""Of Ray's object store, beside the results. Ray asks for 75 MiB, and its default, a third of the memory, is not needed."""

_LOG = logging.getLogger("decouple")

Keep = Callable[[Task, bytes], None]
"""What is done with a task's file contents, in this process."""


def prepare(address: str | None) -> None:
    """Set what Ray reads when it is imported, by us or by EvoTorch; the user's own values stand."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # it prints what we say ourselves, into the progress bar
    if address is None:  # listen on 127.0.0.1 alone: Ray runs code for everyone who reaches its ports
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


def distribute(
    plan: Plan, tasks: Sequence[Task], split: Split, keep: Keep, *, workers: int, address: str | None, result_bytes: int
) -> None:
    """Search every task, and `keep` each as it comes.

    Args:
        plan: what the tasks share.
        tasks: at least one.
        split: what is searched.
        keep: called here.
        workers: tasks at once.
        address: of a Ray cluster; None: processes of our own.
        result_bytes: of a task's file, about.

    Raises:
        ConfigError: no Ray cluster at `address`, one without what is needed, or with other versions of decouple or torch.
        WorkerError: `ATTEMPTS` workers died of one shard, or Ray failed. What was kept stays.
        Exception: what a task raised, as itself.
    """
    device = next(plan.judge.network.parameters()).device.type
    if device != "cpu":  # a worker has a GPU of its own, whose number is not this process's
        judge = copy.deepcopy(plan.judge)
        judge.network.cpu()
        plan = Plan(judge, plan.algorithms, plan.budget, plan.dtype)
    with _ray(workers, address, STORE_BYTES + 2 * workers * result_bytes) as (ray, started):
        threads, resources = _share(ray, workers, device, started)
        remote = ray.remote(max_retries=0, **resources)(_search)
        shipped = ray.put(plan)
        waiting = deque((task, 1) for task in tasks)
        running: dict[Any, tuple[Task, int]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    task, attempt = waiting.popleft()
                    images = split.subset(torch.arange(*task.shard.bounds))
                    running[remote.remote(shipped, task, images, device, threads, _versions())] = task, attempt
                # The time limit lets Ctrl-C and SIGTERM through.
                for reference in ray.wait(list(running), timeout=1.0)[0]:
                    task, attempt = running.pop(reference)
                    contents = _result(ray, reference, task, attempt)
                    if contents is None:
                        waiting.appendleft((task, attempt + 1))
                    else:
                        keep(task, contents)
        finally:
            if not started:
                for reference in running:
                    ray.cancel(reference, force=True)


def _search(plan: Plan, task: Task, images: Split, device: str, threads: int, versions: dict[str, str]) -> bytes:
    """Runs in a worker."""
    if (own := _versions()) != versions:
        raise ConfigError(
            f"the worker on {socket.gethostname()} has {own}, and this process {versions}: results would differ; install the "
            "same versions on every node"
        )
    torch.set_num_threads(threads)
    devices.prepare()
    plan.judge.network.to(device)
    return plan.search(task, images)


def _versions() -> dict[str, str]:
    """What decides a search, beside the hardware."""
    return {"decouple": decouple.__version__, "torch": torch.__version__}


def _result(ray: Any, reference: Any, task: Task, attempt: int) -> bytes | None:
    """The file contents; None if the worker died and another is to try."""
    errors = ray.exceptions
    name = f"{task.shard.path.parent.name}/{task.shard.path.stem}"
    try:
        contents: bytes = ray.get(reference)
    except (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError, errors.ObjectLostError) as error:
        reason = "out of memory" if isinstance(error, errors.OutOfMemoryError) else type(error).__name__
        if attempt < ATTEMPTS:
            _LOG.warning("a worker died while it searched %s (%s); it is searched again", name, reason)
            return None
        raise WorkerError(
            f"{attempt} workers in turn died while they searched {name} ({reason}): most often the memory does not suffice; lower "
            "--workers, --search.batch or the population. Finished work is kept"
        ) from None
    except errors.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, DecoupleError):
            raise cause from None
        if "ModuleNotFoundError" in str(error):
            reason = next(line for line in str(error).splitlines() if "ModuleNotFoundError" in line)
            raise ConfigError(
                f"a worker cannot import what it needs ({reason.strip()}): every node needs decouple, and an algorithm of your "
                "own in a module that can be imported there"
            ) from None
        raise cause from error  # whose text is the worker's traceback
    except errors.RayError as error:
        raise WorkerError(f"Ray failed at {name}: {_first_line(error)}. Finished work is kept") from error
    return contents


@contextmanager
def _ray(workers: int, address: str | None, store: int) -> Iterator[tuple[Any, bool]]:
    """The module, initialised, and whether the processes are ours; what was begun here is ended."""
    prepare(address)
    import ray

    if ray.is_initialized():  # by the caller, for whom it stays
        yield ray, False
        return
    where: dict[str, Any] = {"address": address}
    if address is None:
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        where = {"address": "local", "num_cpus": workers, "num_gpus": gpus, "object_store_memory": store}
        where["include_dashboard"] = False
    try:
        with _failures_named(address), _handlers_kept():
            _knock(address)
            ray.init(**where, log_to_driver=False, logging_level=logging.CRITICAL)
        yield ray, address is None
    finally:
        ray.shutdown()


def _knock(address: str | None) -> None:
    """Ray tries a port that nobody listens on for minutes; find out at once.

    Raises:
        OSError: nobody there.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


@contextmanager
def _failures_named(address: str | None) -> Iterator[None]:
    """Ray that does not start, as an error of ours."""
    try:
        yield
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        if address is None:
            raise WorkerError(f"Ray could not start its processes: {_first_line(error)}; give --workers 1") from error
        raise ConfigError(
            f"there is no Ray cluster to use at '{address}' ({_first_line(error)}); give the host:port that 'ray start --head' "
            "has printed, or leave --ray-address out for workers on this machine"
        ) from error


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself and makes it a SystemExit: give it back, also when it comes meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    terminated = False
    try:
        yield
    except SystemExit:
        terminated = True
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if terminated:
            signal.raise_signal(signal.SIGTERM)


def _share(ray: Any, workers: int, device: str, started: bool) -> tuple[int, dict[str, float]]:
    """Threads of a worker, and what it takes of Ray's resources so that as many as asked for run at once."""
    there = ray.cluster_resources()
    gpus = int(there.get("GPU", 0))
    if device == "cuda" and gpus == 0:
        raise ConfigError("the Ray cluster has no GPU; give --device cpu")
    resources = {"num_gpus": 1 / -(-workers // gpus)} if device == "cuda" else {}
    if started:
        return threads_of(workers), {"num_cpus": 1, **resources}
    cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    if max(cores, default=0) < 1:
        raise ConfigError("the Ray cluster has no CPU to search with")
    threads = min(torch.get_num_threads(), max(1, sum(cores) // workers), max(cores))
    return threads, {"num_cpus": threads, **resources}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
