"""What work takes on a GPU that is named: from its data sheet, and from shares of it that are assumed."""

from __future__ import annotations

from dataclasses import dataclass

from decouple.errors import ConfigError, did_you_mean
from decouple.estimate.work import Work

REACHED = 0.3
"""Share of the peak that convolutions of hundreds of channels are assumed to reach; an H100 has reached 0.31
(`benchmarks.gpu_check`)."""
STREAMED = 0.6
"""Share of the bandwidth that is assumed."""
LAUNCH = 8e-6
"""Seconds to start a kernel from Python, which is what bounds small networks."""
CUDA_BYTES = 600 * 2**20
"""What CUDA and torch's libraries take on a GPU for a process."""


@dataclass(frozen=True)
class Gpu:
    """A GPU as its data sheet has it, without sparsity."""

    name: str
    float32: float
    """FLOP/s of convolutions, which torch computes in TF32 unless it is told otherwise."""
    bfloat16: float
    """FLOP/s."""
    bandwidth: float
    """Bytes/s."""
    memory: float
    """Bytes."""

    def peak(self, precision: str) -> float:
        """FLOP/s in "float32", or in another precision."""
        return self.float32 if precision == "float32" else self.bfloat16

    def seconds(self, work: Work, precision: str) -> float:
        """The slowest of computing, moving and starting."""
        return max(
            work.flops / (REACHED * self.peak(precision)), work.moved / (STREAMED * self.bandwidth), work.kernels * LAUNCH
        )

    def assumptions(self) -> str:
        """In a line."""
        return (
            f"not measured: {REACHED:.0%} of {self.bfloat16 / 1e12:.0f} TFLOP/s (bfloat16) or {self.float32 / 1e12:.0f} (float32, as "
            f"TF32), {STREAMED:.0%} of {self.bandwidth / 1e12:.2f} TB/s, {LAUNCH * 1e6:.0f} µs a kernel; the slowest of the three"
        )


GPUS = {
    "h200": Gpu("NVIDIA H200", 495e12, 989e12, 4.8e12, 141e9),
    "h100": Gpu("NVIDIA H100", 495e12, 989e12, 3.35e12, 80e9),
    "a100": Gpu("NVIDIA A100", 156e12, 312e12, 2.04e12, 80e9),
    "l40s": Gpu("NVIDIA L40S", 183e12, 362e12, 0.864e12, 48e9),
    "l4": Gpu("NVIDIA L4", 60e12, 121e12, 0.3e12, 24e9),
    "rtx4090": Gpu("RTX 4090", 82.6e12, 165e12, 1.01e12, 24e9),
}
"""SXM modules of the first three, the A100 with 80 GB."""


def named(device: str) -> Gpu | None:
    """The GPU of this name; None: it is a device of torch's. Raises ConfigError: it is neither."""
    if device.lower() in GPUS:
        return GPUS[device.lower()]
    if device.partition(":")[0] not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device '{device}' is unknown{did_you_mean(device, ['auto', 'cpu', 'cuda', *GPUS])}")
    return None
