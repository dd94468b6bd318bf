"""Commands that train nothing: tables of runs, plans, where networks can be cut, presets, versions, schemas."""

from __future__ import annotations

import sys
from pathlib import Path

from decouple._version import versions
from decouple.cli.options import PlanOptions, PointsOptions, TableOptions
from decouple.cli.parsing import parse_options
from decouple.config import NetworkConfig
from decouple.config.base import inside
from decouple.config.images import PAPER
from decouple.errors import ConfigError
from decouple.presets import PRESETS


def table(argv: list[str]) -> None:
    count = next((i for i, argument in enumerate(argv) if argument.startswith("-")), len(argv))
    options = parse_options("table RUN_DIR ...", argv[count:], TableOptions())
    if not count:
        raise ConfigError("'decouple table' needs run directories first: decouple table runs/digits-seed0 runs/digits-seed1")
    from decouple.report.table import read_table

    table = read_table([Path(path) for path in argv[:count]])
    forms = {"csv": table.csv, "json": table.json, "md": table.markdown, "tex": table.latex}
    print(forms[options.format]() if options.format in forms else f"{table}\n", end="")
    if options.out is not None:
        print(f"Table: {(table.write(options.out) / 'table.md').resolve()}", file=sys.stderr)


def plan(argv: list[str]) -> None:
    options = parse_options("q0 plan", argv, PlanOptions())
    from decouple.q0.plan import Plans

    plans = Plans.shipped() if options.plans is None else Plans.read(options.plans)
    print(plans.text(options.epochs, options.members))


def points(argv: list[str]) -> None:
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        raise ConfigError("'decouple points' needs a network first: decouple points torchvision:resnet18")
    if argv[0] == PAPER:
        raise ConfigError(
            f"the {PAPER}'s network is cut at its blocks: give torchvision:NAME, timm:NAME or FILE.py:FUNCTION"
        )
    options = parse_options("points NETWORK", argv if argv[0].startswith("-") else argv[1:], PointsOptions())
    with inside("network"):
        network = NetworkConfig(name=argv[0], args=options.args)
    from decouple.networks.build import build_module
    from decouple.networks.points import cut_points

    module = build_module(network.name, network.args, classes=options.classes, channels=options.shape[0], seed=0)
    points = cut_points(module, options.shape)
    width = max(len(point.name) for point in points)
    print(f"  {'layer':<{width}}  {'output':<16}  parameters since the previous point")
    for point in points:
        mark, shape = "*" if point.proposed else " ", "×".join(map(str, point.shape))
        print(f"{mark} {point.name:<{width}}  {shape:<16}  {point.parameters:>12,}")
    if sum(point.proposed for point in points) < 2:
        print("This network cannot be searched: no single layer before its output determines the logits.")
        return
    print(f"Proposed (*): --network.points {' '.join(point.name for point in points if point.proposed)}")


def presets(argv: list[str]) -> None:
    width = max(map(len, PRESETS))
    for name, line in PRESETS.items():
        print(f"{name:<{width}}  {line}")


def version(argv: list[str]) -> None:
    print(", ".join(f"{name} {version}" for name, version in versions().items()))


def schema(argv: list[str]) -> None:
    import json

    from decouple import results

    kinds: dict[str, type[results.Record]] = {
        "results.json": results.Results,
        "results.json of a text": results.TextResults,
        "curves.json": results.Curves,
    }
    print(json.dumps({name: results.schema(kind) for name, kind in kinds.items()}, indent=2))
