"""A section takes what stands for its values, and cannot be made with anything else."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from decouple import config as package, settings
from decouple.config import (
    DataConfig,
    EsConfig,
    LearnConfig,
    LiveConfig,
    RunConfig,
    SearchConfig,
    Section,
    SgdConfig,
    TuneConfig,
)
from decouple.config.base import to_builtins
from decouple.errors import ConfigError, SettingError
from decouple.settings import from_builtins

NUMBERS = [np.float16, np.float32, np.float64, torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("kind", NUMBERS, ids=str)
@pytest.mark.parametrize("value", [0.1, 0.25, 3.0, 1e-3, 0.7, 1 / 3])
def test_a_float_of_numpy_or_torch_is_its_shortest_decimal(kind: Any, value: float) -> None:
    scalar = torch.tensor(value, dtype=kind) if isinstance(kind, torch.dtype) else kind(value)
    again = torch.tensor if isinstance(kind, torch.dtype) else np.array
    found = to_builtins(scalar)
    assert type(found) is float
    assert again(found, dtype=kind) == scalar
    assert found == value or value == 1 / 3


def test_scalars_arrays_and_paths_are_taken() -> None:
    config = RunConfig(
        seed=np.int64(3),  # type: ignore[arg-type]
        data=DataConfig(name=Path("folder:x"), train=np.uint8(100)),  # type: ignore[arg-type]
        search=SearchConfig(
            es=EsConfig(
                step={"blocks": np.float32(0.1), "logits": 0.5},
                generations={"blocks": np.int32(4), "logits": torch.tensor(5)},
            )  # type: ignore[arg-type]
        ),
        learn=LearnConfig(epochs=torch.tensor(7), lr=np.float32(0.1), live=LiveConfig(radius=torch.tensor(0.3))),  # type: ignore[arg-type]
        sgd=SgdConfig(groups=torch.tensor([1, 2]), lr=1, weight_decay=-0.0),  # type: ignore[arg-type]
    )
    plain = RunConfig(
        seed=3,
        data=DataConfig(name="folder:x", train=100),
        search=SearchConfig(es=EsConfig(step={"blocks": 0.1, "logits": 0.5}, generations={"blocks": 4, "logits": 5})),
        learn=LearnConfig(epochs=7, lr=0.1, live=LiveConfig(radius=0.3)),
        sgd=SgdConfig(groups=(1, 2), lr=1.0, weight_decay=0.0),
    )
    assert repr(config) == repr(plain)
    assert settings.fingerprint(config) == settings.fingerprint(plain)
    assert settings.differences(config, plain) == []
    assert repr(from_builtins({"learn": {"lr": np.float32(0.1)}}).learn.lr) == "0.1"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": torch.tensor([2, 3])}, r"epochs = \[2, 3\]: expected a whole number"),
        ({"epochs": np.float64(2.0)}, r"epochs = 2.0: expected a whole number"),
        ({"epochs": np.bool_(True)}, r"epochs = True: expected a whole number"),
        ({"lr": np.float32("nan")}, r"lr = nan: expected a number > 0"),
        ({"lr": True}, r"lr = True: expected a number"),
        ({"lr": "0.1"}, r"lr = '0.1': expected a number"),
        ({"epochs": object()}, r"epochs = <object object.*expected a whole number"),
        ({"epochs": 2**63}, r"epochs = 9223372036854775808: expected a whole number ≥ 1 and ≤ 9223372036854775807"),
        ({"epochs": 10**400}, r"epochs = 10+: expected a whole number ≥ 1 and ≤"),
    ],
)
def test_values_that_only_look_right_are_refused(values: Any, message: str) -> None:
    with pytest.raises(SettingError, match=f"^SgdConfig: {message}"):
        SgdConfig(**values)


def test_a_section_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"RunConfig: search must be a SearchConfig, not EsConfig"):
        RunConfig(search=EsConfig(population=8))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"SearchConfig: es must be a EsConfig, not dict"):
        replace(SearchConfig(), es={"population": 8})  # type: ignore[arg-type]


def test_a_negative_zero_is_zero() -> None:
    for zero in (-0.0, np.float32(-0.0), torch.tensor(-0.0)):
        assert str(SgdConfig(clip=zero).clip) == "0.0"


def test_runs_have_at_most_100_settings() -> None:
    """On images and text together; an inherited field is one with that of its class. How to tune them is no setting of a run."""
    kinds = [kind for kind in vars(package).values() if isinstance(kind, type) and issubclass(kind, Section)]
    declared = {
        (next(base for base in reversed(kind.__mro__) if field.name in vars(base).get("__annotations__", {})), field.name)
        for kind in kinds
        if kind not in (Section, TuneConfig)
        for field in fields(kind)
        if not isinstance(getattr(kind(), field.name), Section)
    }
    assert len(declared) <= 100
