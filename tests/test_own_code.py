"""What tells that code of the user's own has changed."""

import copy
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from decouple.own_code import behaviour, digest_of, load, written


def _of(text: str, **names: Any) -> list[Any]:
    """Of a function `f`, or of a class `A`, as a notebook defines it."""
    scope: dict[str, Any] = {"__name__": "notebook", "torch": torch, "random": random, **names}
    exec(text, scope)
    return behaviour(scope.get("f") or scope["A"])


USES = "def f(x):\n    return x * SIZE"
CLASS = "class A:\n    def f(self, x):\n        return [x * SIZE for _ in range(3)]"
LARGE = torch.zeros(5000)


@pytest.mark.parametrize("text", [USES, CLASS, "def f(x):\n    def g(y):\n        return y * SIZE\n    return g(x)"])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.1, 5.0),
        ([1, {"a": 2}], [1, {"a": 3}]),
        ((1, {"a": [{"b", "c"}]}), (1, {"a": [{"b", "d"}]})),
        ({"a": np.zeros(5000)}, {"a": np.ones(5000)}),
        (np.zeros(5000), np.eye(1, 5000, 2500)[0]),
        (LARGE, LARGE.index_fill(0, torch.tensor([2500]), 1.0)),
    ],
)
def test_a_value_of_its_module_is_a_part_of_what_a_function_does(text: str, one: Any, other: Any) -> None:
    assert _of(text, SIZE=one) == _of(text, SIZE=one) != _of(text, SIZE=other)


def _scaled(by: float) -> Callable[[float], float]:
    return lambda x: x * by


def test_so_are_what_it_encloses_and_its_defaults() -> None:
    assert behaviour(_scaled(2)) == behaviour(_scaled(2)) != behaviour(_scaled(3))
    assert _of("def f(x, *, by=1): return x * by") != _of("def f(x, *, by=2): return x * by")


def test_so_are_functions_and_classes_of_its_module() -> None:
    text = "def g(x): return x + {}\nclass B: by = {}\ndef f(x): return g(x) * B.by"
    assert _of(text.format(1, 2)) == _of(text.format(1, 2))
    assert len({str(_of(text.format(a, b))) for a, b in ((1, 2), (3, 2), (1, 3))}) == 3


def test_modules_and_what_has_no_value_are_not() -> None:
    """They are other objects in every process."""
    used = "def f(x): return torch.relu(x) + random.random() + len(str(OBJECT))"
    assert _of(used, OBJECT=object()) == _of(used, OBJECT=object())


def test_it_is_the_same_in_every_process() -> None:
    """Though sets of texts have another order there."""
    said = (
        "from decouple.own_code import behaviour\n"
        "scope = {'__name__': 'notebook', 'NAMES': [{'a': set('abcdefghij')}]}\n"
        "exec('def f(x): return x in NAMES[0]', scope)\n"
        "print(behaviour(scope['f']))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", said],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


@dataclass(frozen=True)
class _Primed:
    prior: torch.Tensor
    annotated: np.ndarray | None = None


def test_all_of_a_value_is_written() -> None:
    prior, other = torch.zeros(100, 16), torch.zeros(100, 16)
    other[30] = 1
    assert written(_Primed(prior)) == written(_Primed(prior.clone())) != written(_Primed(other))
    assert written(prior.bfloat16()) != written(other.bfloat16())
    layer = torch.nn.Linear(3, 2)
    assert written([layer]) == written([copy.deepcopy(layer)]) != written([torch.nn.Linear(3, 2)])
    assert behaviour(_Primed), "a class whose fields are annotated with types of arrays"


def test_files_beside_it_can_be_imported_and_are_part_of_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine_here.py").write_text("from parts_beside.layers import WIDTH\n\n\ndef width():\n    return WIDTH\n")
    (tmp_path / "parts_beside").mkdir()
    (tmp_path / "parts_beside" / "__init__.py").write_text("")
    (tmp_path / "parts_beside" / "layers.py").write_text("import other_beside\n\nWIDTH = other_beside.WIDTH\n")
    (tmp_path / "other_beside.py").write_text("WIDTH = 3\n")
    address = f"{tmp_path}/mine_here.py:width"
    before = digest_of(address, "network")
    assert load(address, "network")() == 3
    (tmp_path / "other_beside.py").write_text("WIDTH = 4\n")
    assert digest_of(address, "network") != before
