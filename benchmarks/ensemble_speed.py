"""Time of an ensemble's answers: members batched, over a Python loop.

    python -m benchmarks.ensemble_speed          # a minute
    python -m benchmarks.ensemble_speed --device cuda

Every figure is the ratio of the loop's median time to the other's, over interleaved repeats in one process. Writes
figures/ensemble-speed-DEVICE.json.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.command import launch
from benchmarks.receipt import write_receipt
from benchmarks.timing import medians
from decouple import device as devices
from decouple.config import NetworkConfig
from decouple.networks import paper_network
from decouple.q0.ensemble import Ensemble


@dataclass(frozen=True)
class Arguments:
    device: str = "auto"
    """auto, cpu, cuda or cuda:n."""
    members: int = 16
    batches: tuple[int, ...] = (1, 16, 128)
    """Images answered at once."""
    repeats: int = 7


def mlp(seed: int) -> nn.Module:
    """64 → 32 → 10, as for the digits."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 10))


def convolutional(seed: int) -> nn.Module:
    """The paper's network with 16 channels."""
    images = torch.rand(50, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    return paper_network(images, 10, NetworkConfig(width=16), groups=1, seed=seed)


@torch.no_grad()
def measure(ensemble: Ensemble, images: Tensor, repeats: int) -> dict[str, float]:
    """Loop's time over each way's, and the loop's seconds."""

    def way(name: str) -> Callable[[], Tensor]:
        def call() -> Tensor:
            ensemble.evaluation = name  # type: ignore[assignment]
            return ensemble(images)

        return call

    calls = {name: way(name) for name in ("loop", "batched")}
    for call in calls.values():
        torch.testing.assert_close(call(), calls["loop"](), rtol=0, atol=1e-4)
    seconds = dict(zip(calls, medians(list(calls.values()), images.device, repeats), strict=True))
    return {**{name: seconds["loop"] / t for name, t in seconds.items() if name != "loop"}, "loop_seconds": seconds["loop"]}


def main(arguments: Arguments) -> None:
    devices.prepare()
    device = devices.resolve(arguments.device)
    stream, rows = torch.Generator().manual_seed(0), []
    for kind, make in (("mlp", mlp), ("convolutional", convolutional)):
        members = [make(seed) for seed in range(arguments.members)]
        ensemble = Ensemble(members, torch.ones(arguments.members)).to(device)
        for batch in arguments.batches:
            side = 8 if kind == "mlp" else 28
            images = torch.rand(batch, 1, side, side, generator=stream).to(device)
            row = {"kind": kind, "members": arguments.members, "batch": batch}
            row |= measure(ensemble, images, arguments.repeats)
            rows.append(row)
            print(
                f"{kind}, {arguments.members} members, {batch} images: batched {row['batched']:.2f} times as fast as the loop",
                flush=True,
            )
    settings = {"repeats": arguments.repeats, "members": arguments.members}
    print(write_receipt(f"ensemble-speed-{device.type}", {"rows": rows}, settings=settings, device=str(device)))


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
