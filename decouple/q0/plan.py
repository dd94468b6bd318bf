"""What to do with a budget of epochs, looked up in what a benchmark has measured."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

import msgspec

from decouple.errors import ConfigError, DamagedFileError
from decouple.files import read_json


class _Spread(msgspec.Struct):
    mean: float
    std: float
    n: int


class Row(msgspec.Struct):
    """A recipe at some number of total epochs, mean over the seeds."""

    data: str
    images: int
    """Training images."""
    method: str
    epochs: int
    """Total, all trajectories."""
    members: int
    weights: str
    """How the members were weighted; chosen on validation."""
    recipe: str
    validation_nll: float
    """What recipes are chosen by, nats."""
    test_nll: _Spread


class Plans(msgspec.Struct):
    """Measured recipes, and how they were measured."""

    benchmark: str
    made: dict[str, Any]
    settings: dict[str, Any]
    rows: list[Row]

    @classmethod
    def check(cls, values: Any) -> Plans:
        """`values` as plans.

        Raises:
            msgspec.ValidationError: a value is missing or of another type.
        """
        return msgspec.convert(values, cls)

    @classmethod
    def shipped(cls) -> Plans:
        """Those that come with the package."""
        with importlib.resources.as_file(importlib.resources.files("decouple.q0") / "plans.json") as path:
            return cls.read(path)

    @classmethod
    def read(cls, path: Path) -> Plans:
        """Those that `python -m benchmarks.q0_images --plans PATH` wrote.

        Raises:
            DamagedFileError: not such a file.
        """
        try:
            return cls.check(read_json(path))
        except msgspec.ValidationError as error:
            raise DamagedFileError(f"{path} holds no plans ({error}); make it with python -m benchmarks.q0_images") from None

    def best(self, epochs: int, members: int | None = None) -> list[Row]:
        """By data set, the recipe with the best validation NLL within the budgets.

        Args:
            epochs: in all, at least 1.
            members: networks that may be evaluated for an answer; None: any number.

        Raises:
            ConfigError: a budget below 1, or none that was measured fits.
        """
        if epochs < 1 or (members is not None and members < 1):
            raise ConfigError(f"epochs = {epochs}, members = {members}: expected at least 1; give another value")
        found = []
        for data in dict.fromkeys(row.data for row in self.rows):
            fitting = [
                row
                for row in self.rows
                if row.data == data and row.epochs <= epochs and row.members <= (members or row.members)
            ]
            if fitting:
                found.append(min(fitting, key=lambda row: (row.validation_nll, row.epochs)))
        if not found:
            least = min(row.epochs for row in self.rows)
            raise ConfigError(f"nothing was measured for {epochs} epochs and {members} members; the least is {least} epochs")
        return found

    def text(self, epochs: int, members: int | None = None) -> str:
        """`best`, and how it was measured, for people."""
        lines = []
        for row in self.best(epochs, members):
            nll = f"{row.test_nll.mean:.4f} ± {row.test_nll.std:.4f}" if row.test_nll.n > 1 else f"{row.test_nll.mean:.4f}"
            many = f"{row.members} members, {row.weights.replace('_', ' ')} weights" if row.members > 1 else "1 member"
            lines += [
                f"{row.data}, {row.images} training images: {row.method}",
                f"  {row.recipe}",
                f"  {many}; {_counted(row.epochs, 'epoch')} in all; test NLL {nll} ({_counted(row.test_nll.n, 'seed')})",
            ]
            largest = max(other.epochs for other in self.rows if other.data == row.data)
            if epochs > largest:
                lines.append(f"  Nothing above {largest} epochs was measured.")
        network = self.settings.get("network", {})
        lines += [
            "",
            f"Chosen by validation NLL among {len(self.rows)} points that benchmarks.{self.benchmark} measured on "
            f"{self.made.get('date', 'an unknown date')[:10]} ({self.made.get('device', 'unknown device')}, torch "
            f"{self.made.get('versions', {}).get('torch', '?')}): the paper's network with {network.get('width', '?')} channels, "
            f"batch {self.settings.get('batch', '?')}. Other data and networks may differ: measure your own with --plans.",
        ]
        return "\n".join(lines)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"
