"""Networks of torchvision agree with themselves when they are cut, and the table says what the benchmark found."""

import json
from pathlib import Path

import pytest

from benchmarks.families import FAMILIES, STEPS, as_markdown, examine

FIGURES = Path(__file__).parents[2] / "figures"


@pytest.mark.parametrize("name", ["efficientnet", "mobilenet", "shufflenet", "squeezenet"])
def test_a_cut_network_agrees_with_the_whole_one(name: str, tmp_path: Path) -> None:
    """Stochastic depth and functional dropout, operations in place, and an output that is no layer's."""
    family = next(family for family in FAMILIES if family.name == name)
    row = examine(family, tmp_path)
    assert all(isinstance(row[step], float) for step in STEPS), row
    assert row["logits"] == row["values"] == row["learn"] == row["record"] == 0
    assert max(row["search"], row["ensemble"]) < 1e-5


def test_the_table_is_the_benchmarks() -> None:
    figures = json.loads((FIGURES / "families.json").read_text())["figures"]
    assert len(figures["rows"]) == len(FAMILIES) == 15
    assert figures["works"] >= 12
    table = as_markdown(figures["rows"])
    assert (FIGURES / "families.md").read_text() == table
    assert table in (FIGURES / "README.md").read_text()
