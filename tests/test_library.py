"""The functions at the root: arguments of another type are named, not stumbled over."""

import ast
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import decouple
from decouple.data import ImageData
from decouple.networks import Stages
from decouple.registry import GROUP

ROOT = Path(__file__).parents[1]


def test_every_name_at_the_root_is_there() -> None:
    for name in decouple.__all__:
        assert getattr(decouple, name) is not None
    assert set(decouple.__all__) <= set(dir(decouple))
    for part in ("analysis", "q0", "text"):
        assert getattr(decouple, part).__name__ == f"decouple.{part}"
    with pytest.raises(AttributeError, match="No decouple attribute nothing"):
        decouple.nothing  # noqa: B018


def _classes(hint: Any) -> Iterator[type]:
    """The classes of decouple's that a type hint names."""
    if inspect.isclass(hint) and hint.__module__.startswith("decouple."):
        yield hint
    for part in hint if isinstance(hint, list) else typing.get_args(hint):
        yield from _classes(part)


def _signatures(thing: Any) -> Iterator[Any]:
    """A function; of a class its fields and what makes one."""
    if inspect.isfunction(thing) or dataclasses.is_dataclass(thing):
        yield thing
    yield from (method for name, method in inspect.getmembers(thing, inspect.ismethod) if not name.startswith("_"))


@pytest.mark.parametrize("name", decouple.__all__)
def test_every_class_that_a_signature_names_can_be_reached(name: str) -> None:
    for signature in _signatures(getattr(decouple, name)):
        for hint in typing.get_type_hints(signature).values():
            for kind in _classes(hint):
                assert getattr(decouple, kind.__name__, None) is kind, f"{signature} takes or gives it"


def _docstrings(file: Path) -> str:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    documented = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, kinds)]
    return "\n".join(ast.get_docstring(node) or "" for node in documented)


def test_every_name_that_a_text_mentions_can_be_reached() -> None:
    guides = [ROOT / "README.md", *ROOT.glob("decouple/**/*.md")]
    texts = [*(guide.read_text() for guide in guides), *map(_docstrings, ROOT.glob("decouple/**/*.py"))]
    mentioned = {name for text in texts for name in re.findall(r"\bdecouple((?:\.[A-Za-z_]\w*)+)", text)}
    assert {".search.Algorithm", ".Q0Config", ".load_data"} <= mentioned
    groups = {GROUP.removeprefix("decouple")}  # of entry points, which are no modules
    for name in mentioned - groups:
        found: Any = decouple
        for part in name[1:].split("."):
            found = getattr(found, part, None) or importlib.import_module(f"{found.__name__}.{part}")


def test_settings_and_errors_are_all_at_the_root() -> None:
    from decouple import config, errors

    sections = [
        name for name in vars(config) if name.endswith("Config") and name not in ("StepConfig", "TrainConfig")
    ]  # bases of others
    assert {*sections, *(name for name in vars(errors) if name.endswith("Error"))} <= set(decouple.__all__)


def test_parts_are_reached_without_an_import() -> None:
    parts = [name for name in decouple.__all__ if inspect.ismodule(getattr(decouple, name))]
    assert {"analysis", "q0", "text"} <= set(parts)
    script = f"import decouple; print(*(getattr(decouple, part).__name__ for part in {parts}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"decouple.{part}" for part in parts]


WITHOUT_RAY = """
import sys
sys.modules["evotorch"] = sys.modules["ray"] = None  # to import them fails
import torch, decouple
from decouple import EsConfig, LearnConfig, NetworkConfig, Q0Config, SearchConfig, SgdConfig
import decouple.cli, decouple.pipeline

folder, images, labels = sys.argv[1], torch.rand(60, 1, 8, 8), torch.arange(60) % 3
data = decouple.ImageData.from_tensors(images, labels, test_images=images, test_labels=labels, validation=9, prior=9)
network, validation = decouple.paper_network(data.train.images, 3, NetworkConfig(width=4), groups=1, seed=0), data.validation
targets = decouple.search_solution(network, data.train, folder, config=SearchConfig(es=EsConfig(population=4, generations=2)))
decouple.learn_targets(network, data.train, targets, validation=validation, config=LearnConfig(epochs=1))
decouple.train_sgd(network, data.train, validation=validation, config=SgdConfig(epochs=1))
print(decouple.q0.train_population([network], data, folder, config=Q0Config(cycles=2, epochs=1))(images).shape)
"""


def test_search_learning_and_q0_need_neither_evotorch_nor_ray(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", WITHOUT_RAY, str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.stdout == "torch.Size([60, 3])\n", done.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": nn.Linear(2, 2)}, "network must be a Stages, not Linear; cut it with Stages.from_module"),
        ({"split": "data"}, "split must be a Split, not ImageData; pass data.train, say"),
        ({"config": decouple.EsConfig()}, r"config must be a SearchConfig, not EsConfig; .* SearchConfig\(es=…\)"),
    ],
)
def test_wrong_arguments_are_named(
    network: Stages, data: ImageData, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"network": network, "split": data.train, "folder": tmp_path, **changes}
    if arguments["split"] == "data":
        arguments["split"] = data
    with pytest.raises(decouple.DecoupleError, match=message):
        decouple.search_solution(**arguments)


def test_run_needs_settings(tmp_path: Path) -> None:
    with pytest.raises(
        decouple.DecoupleError, match=r"config must be a RunConfig, not str; such as decouple.preset\('digits'\)"
    ):
        decouple.run("digits", tmp_path)  # type: ignore[arg-type]


def test_training_needs_splits(network: Stages, data: ImageData) -> None:
    with pytest.raises(decouple.DecoupleError, match="train must be a Split, not ImageData"):
        decouple.train_sgd(network, data, validation=data.validation)  # type: ignore[arg-type]
