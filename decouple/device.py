"""Devices, their memory and arithmetic, and what must be set for equal seeds to give equal results."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from decouple.errors import ConfigError, MemoryLimitError, first_line, is_out_of_memory

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's mallopt."""


def resolve(name: str = "auto") -> torch.device:
    """The device called "auto" (the first GPU, or else the CPU), "cpu", "cuda" or "cuda:n". Raises ConfigError: another
    name, or a GPU that is not there."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()) or (kind == "cpu" and index):
        raise ConfigError(f"device '{name}' is unknown: expected auto, cpu, cuda or cuda:N; give --device auto")
    if kind == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(index or 0) >= count:
        found = f"{count} GPU{'s' if count > 1 else ''} (cuda:0 to cuda:{count - 1})" if count else "no GPU"
        raise ConfigError(f"device '{name}' is not available: torch sees {found} on this machine; give --device auto")
    return torch.device("cuda", int(index or 0))


_share = 1.0
"""Of a GPU's memory that this process may take."""


def limit(share: float) -> None:
    """Let this process take at most a share of its GPU's memory, above 0 and at most 1."""
    global _share
    torch.cuda.set_per_process_memory_fraction(share)
    _share = share


def prepare() -> None:
    """Choose deterministic kernels (same seed, same device, same bits), and keep freed memory for the next tensor."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """By default glibc gives every large freed block back to the system, and each new tensor faults its pages in again:
    a third to a half of the time of a search on a CPU. Elsewhere than on glibc this does nothing."""
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 2**30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def name_of(device: torch.device) -> str:
    """What to call the device in a report."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "CPU"


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`. To a GPU it goes from pinned memory, so that this process does not wait for the copy."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def whole_bytes(device: torch.device) -> int:
    """All memory of a GPU."""
    return torch.cuda.get_device_properties(device).total_memory


def free_bytes(device: torch.device) -> int:
    """Memory of a GPU that this process may still take, with what torch keeps there for its next tensors."""
    free, total = torch.cuda.mem_get_info(device)
    taken = torch.cuda.memory_allocated(device)
    return max(0, min(free + torch.cuda.memory_reserved(device) - taken, int(_share * total) - taken))


def room(device: torch.device, on_cpu: int) -> int:
    """Bytes that one operation may write at once: on a GPU a quarter of its free memory, on the CPU what its caches hold."""
    return int(free_bytes(device) / 4) if device.type == "cuda" else on_cpu


@contextmanager
def memory_for(what: str, mend: str) -> Iterator[None]:
    """Where the memory does not suffice for what is inside, one line that names the remedy.

    Args:
        what: is computed, for the message: "a search batch".
        mend: what to lower.

    Raises:
        MemoryLimitError: it does not.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryLimitError) or not is_out_of_memory(error):
            raise
        beside = " or --workers" if _share < 1 else ""
        raise MemoryLimitError(
            f"out of memory: {what} needs more than there is ({first_line(error)[:120]}); lower {mend}{beside}. Finished work "
            "is kept"
        ) from None


def search_dtype(precision: str) -> torch.dtype:
    """The type that candidates are scored in."""
    return torch.float32 if precision == "float32" else torch.bfloat16


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context that training steps run in."""
    if precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


PRECISIONS = ("float32", "bfloat16", "mixed")


def check_precision(precision: str) -> None:
    """Raise ConfigError: there is no such precision."""
    if precision not in PRECISIONS:
        raise ConfigError(f"precision = {precision!r}: expected one of {', '.join(PRECISIONS)}")


def threads_of(workers: int) -> int:
    """Threads that each of so many workers on this machine computes with: as many as this process, if there are cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(torch.get_num_threads(), max(1, cores // workers))
