"""The functions at the root: arguments of another type are named, not stumbled over."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

import decouple
from decouple.data import ImageData
from decouple.networks import Stages


def test_every_name_at_the_root_is_there() -> None:
    for name in decouple.__all__:
        assert getattr(decouple, name) is not None
    assert set(decouple.__all__) <= set(dir(decouple))
    for part in ("analysis", "q0", "text"):
        assert getattr(decouple, part).__name__ == f"decouple.{part}"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        decouple.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": nn.Linear(2, 2)}, "network must be a Stages, not Linear; cut it with Stages.from_module"),
        ({"split": "data"}, "split must be a Split, not ImageData; pass data.train, say"),
        ({"config": decouple.EsConfig()}, r"config must be a SearchConfig, not EsConfig; .* SearchConfig\(es=…\)"),
        ({"config": decouple.SearchConfig(batch=0)}, "batch = 0: expected int >= 2"),
        ({"config": decouple.SearchConfig(es=decouple.EsConfig(population=7))}, "es.population = 7: .* multiple of 2"),
        ({"config": decouple.SearchConfig(es=decouple.EsConfig(generations=3))}, "es.generations = 3: expected array"),  # type: ignore[arg-type]
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
