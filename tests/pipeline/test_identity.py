"""Which settings name a stage's folder: those that decide what is in it, and no others."""

import typing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from decouple.config import NO_IDENTITY, RunConfig, SearchConfig, Section, TextConfig, identity
from decouple.config.base import hints
from decouple.pipeline.context import Run
from decouple.pipeline.learning import networks_of
from decouple.pipeline.population import image_population, q0_identity
from decouple.pipeline.searching import search_identity, used_settings
from decouple.pipeline.text import TextRun
from decouple.settings import from_builtins

OTHERS = {
    "network.name": "timm:resnet18",
    "network.args": {"zero_init_residual": True},
    "network.points": ["layer4", "fc"],
    "network.width": 64,
    "search.network.name": "timm:resnet18",
    "search.network.args": {"zero_init_residual": True},
    "search.network.points": ["layer4", "fc"],
    "search.target": 0.5,
    "search.points": "all",
    "search.algorithm": "random",
    "compare.images": 90,
    "corpus.vocabulary": 512,
    "sgd.groups": [3],
}
"""Values that `other` would not find."""
FLOOR = {"lr_floor": 0.08}
"""Without which there may be no warm-down."""
EVERYTHING = {"search", "learn", "rounds", "sgd", "q0"}
DECIDED = {
    "data": EVERYTHING,
    "network": EVERYTHING,
    "seed": EVERYTHING,
    "precision": EVERYTHING,
    "search": {"search", "learn", "rounds", "q0"},
    "learn": {"learn", "rounds", "q0"},
    "rounds": {"rounds", "q0"},
    "sgd": {"sgd"},
    "compare": {"learn", "rounds", "sgd"},
    "q0": {"q0"},
}
"""The stages whose folder depends on a setting of the section."""
NONE = {"preset", "search.solutions", "sgd.groups", "q0.trajectories", "q0.members", "q0.prior"}


def fields(section: Section, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Type and value of every setting."""
    found: dict[str, tuple[Any, Any]] = {}
    for name, hint in hints(type(section)).items():
        value = getattr(section, name)
        found |= fields(value, f"{prefix}{name}.") if isinstance(value, Section) else {prefix + name: (hint, value)}
    return found


def other(hint: Any, value: Any) -> Any:
    """Another value of the field."""
    while typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) is typing.Literal:
        return next(choice for choice in typing.get_args(hint) if choice != value)
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, dict):
        return {name: 2 * each for name, each in value.items()}
    if isinstance(value, float):
        return value / 2 or 0.25
    if isinstance(value, bool):
        return not value
    return 2 if value is None else value + 2


def changed(base: Any, name: str) -> Any:
    values: Any = OTHERS.get(name) or other(*fields(base)[name])
    for part in reversed(name.split(".")):
        values = {part: values}
    return from_builtins(values, base)


def folders(config: RunConfig) -> dict[str, str]:
    """Of each stage of a run on made-up data."""
    directory: Any = SimpleNamespace(path=Path("run"))
    run = Run(directory=directory, config=config, data=SimpleNamespace(digest="data"), group=None)  # type: ignore[arg-type]
    networks = networks_of(run)
    first, after_a_round, *_ = networks
    return {
        "search": search_identity(run),
        "learn": first.unit,
        "rounds": after_a_round.unit,
        "sgd": next(each.unit for each in networks if each.kind == "sgd"),
        "q0": q0_identity(run, networks),
    }


def test_a_network_that_is_not_searched_names_no_folder() -> None:
    assert "network" not in used_settings(SearchConfig()), "as before there was another to search"


@pytest.mark.parametrize("algorithm", ["es", "paper"])
def test_a_folder_is_named_by_the_settings_that_decide_what_is_in_it(algorithm: str) -> None:
    named = {"name": "torchvision:resnet18"}  # which has arguments and points, and is not built here
    search = {"algorithm": algorithm, "network": named, "es": {"subspaces": 1}}
    base = from_builtins({"search": search, "rounds": {"count": 1}, "network": named, "q0": FLOOR})
    before = folders(base)
    for name in fields(base):
        expected = set() if name in NONE else DECIDED[name.partition(".")[0]]
        if name.startswith(("search.es.", "search.paper.")) and not name.startswith(f"search.{algorithm}."):
            expected = set()
        if name == "rounds.count":
            expected = {"q0"}  # which begins with the last network; what the first round has made stays
        after = folders(changed(base, name))
        assert {stage for stage in EVERYTHING if before[stage] != after[stage]} == expected, name


def test_a_trajectory_beyond_the_solutions_is_named_by_the_network_that_it_shares() -> None:
    """Which one that is depends on how many solutions there are."""

    def units(solutions: int) -> list[str]:
        config = from_builtins({"search": {"solutions": solutions}, "q0": {"init": "searched", "trajectories": 4}})
        directory: Any = SimpleNamespace(path=Path("run"))
        images = SimpleNamespace(images=torch.zeros(2, 1, 8, 8))
        data = SimpleNamespace(digest="data", train=images, image_shape=(1, 8, 8), num_classes=2, classes=("a", "b"))
        run = Run(directory=directory, config=config, data=data, group=None)  # type: ignore[arg-type]
        return [own[0].unit for own in image_population(run, networks_of(run)).snapshots]

    two, three = units(2), units(3)
    assert two[:2] == three[:2], "as many as there are solutions: more of these change nothing"
    assert two[2] != three[2]
    assert two[3] != three[3]
    assert ["-of-search-0" in two[2], "-of-search-1" in two[3], "-of-" in three[2], "-of-search-0" in three[3]] == [
        True,
        True,
        False,
        True,
    ]


def test_a_population_of_text_is_named_by_the_settings_that_decide_it() -> None:
    base = from_builtins({"q0": {"restart": "continue", **FLOOR}}, TextConfig())

    def folder(config: TextConfig) -> str:
        corpus: Any = SimpleNamespace(digest=str(identity(config.corpus)))
        return TextRun(directory=None, config=config, group=None, corpus=corpus).identity  # type: ignore[arg-type]

    for name, (hint, _) in fields(base).items():
        if name in ("q0.init", "q0.augment"):
            continue  # text has one value for each
        decides = NO_IDENTITY not in getattr(hint, "__metadata__", ())
        assert (folder(changed(base, name)) != folder(base)) == decides, name


def test_a_further_solution_leaves_the_others_as_they_are_unless_there_was_one_alone() -> None:
    one, two, four = (folders(from_builtins({"search": {"solutions": count}}))["search"] for count in (1, 2, 4))
    assert one != two == four
