"""Work spread over Ray's worker processes, on this machine or on a cluster that is there.

A task of Ray does one job and returns what it made; this process, which alone needs to see the run's folder, keeps it. What
all jobs share goes to Ray's store once, what one takes goes with it. As many jobs as workers are under way, so that no
more results wait in memory. Whatever ends a worker, its job is done again.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from decouple import device as devices
from decouple._version import __version__
from decouple.device import threads_of
from decouple.errors import ConfigError, DecoupleError, WorkerError, first_line
from decouple.loggers import LoggerLike
from decouple.own_code import FROM_FILE
from decouple.tensors import whole_number

ATTEMPTS = 3
"""Workers that may die of one job before the work ends."""

STORE_BYTES = 2**27
"""Of Ray's object store, beside the results. Ray asks for 75 MiB, and its default, a third of the memory, is not needed."""

SHARED_MEMORY = 0.9
"""Of a GPU's memory that its workers divide among themselves; the rest is for what CUDA takes for each process."""

_LOG = logging.getLogger("decouple")


@dataclass(frozen=True)
class Execution:
    """How work is carried out. It changes results at most by rounding. Raises ConfigError: workers are no whole number from 1 on."""

    workers: int = 1
    """Number of processes that work in parallel; more than one run in Ray."""
    ray_address: str | None = None
    """Existing Ray cluster to work on instead of this machine: "host:port" or "auto"."""
    factored: bool = True
    """Pass the directions that candidates share through affine layers, instead of every candidate (see `decouple.networks.factored`).
    Results differ by rounding."""
    logger: LoggerLike = None
    """Gets, after each batch, the mean cross-entropy and the share of images solved at the last search point; the step is the
    position of the batch's last image, from 1. A `decouple.Progress` shows a bar."""

    def __post_init__(self) -> None:
        workers = whole_number(self.workers, "workers")
        if workers < 1:
            raise ConfigError(f"workers = {workers}: expected at least 1; give --workers another value")
        object.__setattr__(self, "workers", workers)

    @property
    def distributed(self) -> bool:
        return self.workers > 1 or self.ray_address is not None


@dataclass(frozen=True)
class WorkerShare:
    """What a worker takes of the machines."""

    threads: int
    memory: float
    """Share of its GPU's."""
    resources: dict[str, float]
    """Of Ray's, so that as many workers as asked for run at once."""


@dataclass(frozen=True)
class Job:
    """One thing to be done in a worker."""

    name: str
    """What is done, for messages: "searched solution-0/batch-00001"."""
    arguments: Callable[[], tuple[Any, ...]]
    """What it takes, made when its turn comes."""
    keep: Callable[[Any], Iterable[Job] | None]
    """Called in this process with what the worker returned; gives the jobs that can be done after it."""


def prepare(address: str | None) -> None:
    """Set what Ray reads when it is imported, by us or by EvoTorch; the user's own values stand."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # it prints what we say ourselves, into the progress bar
    if address is None:  # listen on 127.0.0.1 alone: Ray runs code for everyone who reaches its ports
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


def distribute(
    function: Callable[..., Any],
    shared: Any,
    jobs: Sequence[Job],
    *,
    device: str,
    execution: Execution,
    result_bytes: int,
    mend: str,
) -> None:
    """Call `function(shared, device, *arguments)` for every job and keep each result. A single worker of this machine is this process.

    Args:
        function, shared: of a module that workers can import; what all jobs take, on the CPU.
        device: such as "cpu" or "cuda:1"; workers share out the GPUs, whose numbers are not this process's, and their memory.
        result_bytes, mend: size of a job's result, about; what to lower where the memory does not suffice, for a message.

    Raises:
        ConfigError: no Ray cluster at `ray_address`, one without what is needed, or with other versions of decouple or torch.
        WorkerError: `ATTEMPTS` workers died of one job, or Ray failed. What was kept stays. What a job raised comes as itself."""
    if not jobs or not execution.distributed:
        return _do_here(function, shared, jobs, device)
    workers, address = execution.workers, execution.ray_address
    device, waiting = torch.device(device).type, deque((job, 1) for job in jobs)
    with _ray(workers, address, STORE_BYTES + 2 * workers * result_bytes) as (ray, started):
        part = _part(ray, workers, device, started)
        remote = ray.remote(max_retries=0, **part.resources)(_work)
        if device == "cuda" and torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # what this process keeps for its next tensors the workers can use
        shipped = _shipped(ray, shared)
        running: dict[Any, tuple[Job, int]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    job, attempt = waiting.popleft()
                    started_with = (device, job.arguments(), part, torch.get_default_dtype(), _versions(), sys.argv)
                    running[remote.remote(function, shipped, *started_with)] = job, attempt
                # The time limit lets Ctrl-C and SIGTERM through.
                for reference in ray.wait(list(running), timeout=1.0)[0]:
                    job, attempt = running.pop(reference)
                    result = _result(ray, reference, job, attempt, mend)
                    if result is None:
                        waiting.appendleft((job, attempt + 1))
                    else:
                        waiting.extend((following, 1) for following in job.keep(result[0]) or ())
        finally:
            if not started:
                for reference in running:
                    ray.cancel(reference, force=True)


def _shipped(ray: Any, shared: Any) -> Any:
    """`shared` in Ray's store; with it, and with what follows, go the user's own modules, which workers cannot import."""
    for module in [each for name, each in sys.modules.items() if name.startswith(FROM_FILE)]:
        ray.cloudpickle.register_pickle_by_value(module)
    return ray.put(shared)


def _do_here(function: Callable[..., Any], shared: Any, jobs: Sequence[Job], device: str) -> None:
    waiting = deque(jobs)
    while waiting:
        job = waiting.popleft()
        waiting.extend(job.keep(function(shared, device, *job.arguments())) or ())


def _work(
    function: Callable[..., Any],
    shared: Any,
    device: str,
    arguments: tuple[Any, ...],
    part: WorkerShare,
    dtype: torch.dtype,
    versions: dict[str, str],
    argv: list[str],
) -> tuple[Any]:
    """Runs in a worker."""
    if (own := _versions()) != versions:
        raise ConfigError(
            f"the worker on {socket.gethostname()} has {own}, and this process {versions}: results would differ; install the "
            "same versions on every node"
        )
    sys.argv = argv  # a run notes the command that it was made by
    torch.set_num_threads(part.threads)
    torch.set_default_dtype(dtype)  # on which a network's own forward may rely
    devices.prepare()
    if device == "cuda":
        devices.limit(part.memory)
    return (function(shared, device, *arguments),)


def _versions() -> dict[str, str]:
    """What decides a result, beside the hardware."""
    return {"decouple": __version__, "torch": torch.__version__}


def _result(ray: Any, reference: Any, job: Job, attempt: int, mend: str) -> tuple[Any] | None:
    """What the worker returned, in a tuple; None if the worker died and another is to try."""
    errors, name = ray.exceptions, job.name
    try:
        result: tuple[Any] = ray.get(reference)
    except (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError, errors.ObjectLostError) as error:
        reason = "out of memory" if isinstance(error, errors.OutOfMemoryError) else type(error).__name__
        if attempt < ATTEMPTS:
            _LOG.warning("a worker died while it %s (%s); it is done again", name, reason)
            return None
        raise WorkerError(
            f"{attempt} workers in turn died while they {name} ({reason}): most often the memory does not suffice; lower "
            f"{mend}. Finished work is kept: run the same command again"
        ) from None
    except errors.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, DecoupleError):
            raise cause from None
        if "ModuleNotFoundError" in str(error):
            reason = next(line for line in str(error).splitlines() if "ModuleNotFoundError" in line)
            raise ConfigError(
                f"a worker cannot import what it needs ({reason.strip()}): every node needs decouple, and what is your own (an "
                "algorithm, say) in a module that can be imported there"
            ) from None
        raise cause from error  # whose text is the worker's traceback
    except errors.RayError as error:
        raise WorkerError(
            f"Ray failed while a worker {name}: {first_line(error)}. Finished work is kept: run the same command again"
        ) from error
    return result


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
        try:
            host, _, port = (address or "").removeprefix("ray://").rpartition(":")
            if host and port.isdigit():  # Ray tries a port that nobody listens on for minutes: find out at once
                socket.create_connection((host, int(port)), timeout=10).close()
            with _handlers_kept():
                ray.init(**where, log_to_driver=False, logging_level=logging.CRITICAL)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            if address is None:
                raise WorkerError(f"Ray could not start its processes: {first_line(error)}; give --workers 1") from error
            raise ConfigError(
                f"there is no Ray cluster to use at '{address}' ({first_line(error)}); give the host:port that 'ray start --head' "
                "has printed, or leave --ray-address out for workers on this machine"
            ) from error
        yield ray, address is None
    finally:
        ray.shutdown()


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


def _part(ray: Any, workers: int, device: str, started: bool) -> WorkerShare:
    """What each of so many workers at once takes; `started`: Ray's processes are ours."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if device == "cuda" and gpus == 0:
        raise ConfigError("the Ray cluster has no GPU; give --device cpu")
    together = -(-workers // max(1, gpus))
    memory = SHARED_MEMORY / together if together > 1 else 1.0
    # Ray rounds to four digits, and must not round up.
    resources = {"num_gpus": 10_000 // together / 10_000} if device == "cuda" else {}
    if started:
        return WorkerShare(threads_of(workers), memory, {"num_cpus": 1, **resources})
    cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    if max(cores, default=0) < 1:
        raise ConfigError("the Ray cluster has no CPU to work with")
    threads = min(torch.get_num_threads(), max(1, sum(cores) // workers), max(cores))
    return WorkerShare(threads, memory, {"num_cpus": threads, **resources})
