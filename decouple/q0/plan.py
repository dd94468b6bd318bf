"""What to do with a budget of epochs, looked up in what a benchmark has measured."""

from __future__ import annotations

import importlib.resources
import textwrap
from pathlib import Path
from typing import Any

import msgspec

from decouple.errors import ConfigError, DamagedFileError
from decouple.files import read_json
from decouple.formats import count, plural


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
    settings: dict[str, Any]
    """What `decouple q0` is given for it, whatever the run's own settings."""
    validation_nll: float
    """What recipes are chosen by, nats."""
    test_nll: _Spread

    def cost(self) -> str:
        """Members, epochs and what they reach, for people."""
        nll = f"{self.test_nll.mean:.4f} ± {self.test_nll.std:.4f}" if self.test_nll.n > 1 else f"{self.test_nll.mean:.4f}"
        calibrated = "learned weights, calibrated"
        weights = calibrated if self.weights == "calibrated" else f"{self.weights.replace('_', ' ')} weights"
        weights = f", {weights}" if self.members > 1 else ""
        return f"{plural(self.members, 'member')}{weights}; {plural(self.epochs, 'epoch')} in all; test NLL {nll}"

    def command(self) -> str:
        """What trains such a population, on the data and with the networks of a run."""
        options = [f"--q0.{name.replace('_', '-')} {value}" for name, value in self.settings.items()]
        lines = textwrap.wrap(" ".join(["decouple q0 RUN_DIR", *options]), 110, break_on_hyphens=False)
        return " \\\n    ".join(lines)


class Plans(msgspec.Struct):
    """Measured recipes, and how they were measured."""

    benchmark: str
    made: dict[str, dict[str, Any]]
    """By data set: date, device and versions."""
    settings: dict[str, Any]
    rows: list[Row]

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
            return msgspec.convert(read_json(path), cls)
        except DamagedFileError:
            raise DamagedFileError(
                f"{path} holds no plans; make it with python -m benchmarks.q0_images --plans {path}"
            ) from None
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
        for what, budget in (("epochs", epochs), ("members", members)):
            if budget is not None and budget < 1:
                raise ConfigError(f"{what} = {budget}: expected at least 1; give another value")
        found = [
            rows[0]
            for data in dict.fromkeys(row.data for row in self.rows)
            if (rows := self.of_methods(data, epochs, members))
        ]
        if not found:
            least = min(row.epochs for row in self.rows)
            raise ConfigError(f"nothing was measured for {_budget(epochs, members)}; the least is {plural(least, 'epoch')}")
        return found

    def of_methods(self, data: str, epochs: int, members: int | None = None) -> list[Row]:
        """The best of each method on a data set within the budgets, by validation NLL, the best first."""
        best: dict[str, Row] = {}
        for row in sorted(self.rows, key=lambda row: (row.validation_nll, row.epochs)):
            if row.data == data and row.epochs <= epochs and row.members <= (members or row.members):
                best.setdefault(row.method, row)
        return list(best.values())

    def text(self, epochs: int, members: int | None = None) -> str:
        """`best` with the command that trains it, and how it was measured, for people."""
        lines = [f"The best that was measured for {_budget(epochs, members)}:", ""]
        for row in self.best(epochs, members):
            lines += [
                f"{row.data}, {plural(row.images, 'training image')}: {row.method}",
                f"  {row.recipe}",
                f"  {row.cost()} ({plural(row.test_nll.n, 'seed')})",
                f"  {row.command()}",
            ]
            for other in self.of_methods(row.data, epochs, members)[1:]:
                lines.append(f"  not chosen: {other.method}, {other.cost()}")
            largest = max(other.epochs for other in self.rows if other.data == row.data)
            if epochs > largest:
                lines.append(f"  Nothing above {count(largest)} epochs was measured.")
        network = self.settings.get("network", {})
        measured = dict.fromkeys(
            f"{made.get('date', 'an unknown date')[:10]} ({made.get('device', 'unknown device')}, torch "
            f"{made.get('versions', {}).get('torch', '?')})"
            for made in self.made.values()
        )
        lines += [
            "",
            f"Chosen by validation NLL among {len(self.rows)} points that benchmarks.{self.benchmark} measured on "
            f"{' and on '.join(measured)}: the paper's network with {network.get('width', '?')} channels, "
            f"batch {self.settings.get('batch', '?')}. Other data and networks may differ: measure your own with --plans. "
            "The commands change nothing else of the run, not even its network. 'The first 4 of 6 cycles': it was measured as "
            "part of a longer training, where the noise between the cycles falls later than in the command's.",
        ]
        return "\n".join(lines)


def _budget(epochs: int, members: int | None) -> str:
    most = "any number of members" if members is None else f"at most {plural(members, 'member')}"
    return f"{plural(epochs, 'epoch')} and {most}"
