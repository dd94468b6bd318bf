"""The results of search, learning and q0 are those that were recorded, but for rounding."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
RECORDED = json.loads((HERE / "results.json").read_text())


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    specification = importlib.util.spec_from_file_location("recorded_results", HERE / "results.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    results: dict[str, Any] = module.results(tmp_path_factory.mktemp("recorded"))
    return results


def numbers(values: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number with its place; texts, which are digests of all bits, and what is not there are left out."""
    if isinstance(values, dict):
        for name, value in values.items():
            yield from numbers(value, f"{path}/{name}")
    elif isinstance(values, list):
        for place, value in enumerate(values):
            yield from numbers(value, f"{path}/{place}")
    elif values is not None and not isinstance(values, str):
        yield path, float(values)


def test_nothing_is_left_out(found: dict[str, Any]) -> None:
    assert [path for path, _ in numbers(found)] == [path for path, _ in numbers(RECORDED)]


@pytest.mark.parametrize("name", RECORDED)
def test_results_are_those_that_were_recorded(found: dict[str, Any], name: str) -> None:
    wanted = dict(numbers(RECORDED[name]))
    assert dict(numbers(found[name])) == pytest.approx(wanted, rel=0.02, abs=0.02)
