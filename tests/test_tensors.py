"""Numbers and arrays of other libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from decouple.errors import ConfigError, DataError
from decouple.tensors import as_tensor, whole_number


@pytest.mark.parametrize(
    "values",
    [
        np.arange(3),
        np.arange(3, dtype=np.uint8),
        np.arange(3, dtype=">i4"),
        np.arange(6)[::2] // 2,
        np.arange(3)[::-1][::-1],
        np.array([0.0, 1.0, 2.0]),
        np.frombuffer(bytes([0, 1, 2]), dtype=np.uint8),  # may not be written to
        np.ma.masked_array([0, 1, 2]),
        [0, 1, 2],
        (0, 1, 2),
        torch.arange(3),
    ],
)
def test_arrays_are_read_as_they_are(values: Any) -> None:
    found = as_tensor(values, "labels")
    assert found.tolist() == [0, 1, 2]
    if not isinstance(values, torch.Tensor):
        found[0] = 7
        assert list(values) == [0, 1, 2], "a copy"


@pytest.mark.parametrize("values", ["abc", None, {"a": 1}, [[1], [1, 2]], [None], np.array(["a"]), object()])
def test_what_is_no_array_of_numbers_is_named(values: Any) -> None:
    kind = "an array of <U1" if isinstance(values, np.ndarray) else type(values).__name__
    with pytest.raises(DataError, match=f"labels must be a tensor or a numpy array of numbers, not {kind}"):
        as_tensor(values, "labels")


def test_masked_values_are_no_values() -> None:
    with pytest.raises(DataError, match="labels are a masked array, and what is masked has no value"):
        as_tensor(np.ma.masked_array([1, 2], mask=[False, True]), "labels")


@pytest.mark.parametrize(
    "value", [3, np.int64(3), np.uint8(3), torch.tensor(3), torch.tensor(3, dtype=torch.uint8), np.array(3)]
)
def test_whole_numbers_of_any_library_are_ints(value: Any) -> None:
    found = whole_number(value, "a step")
    assert (type(found), found) == (int, 3)


NO_NUMBERS = [-1, 1.5, 3.0, True, np.bool_(True), torch.tensor(True), "3", None, float("nan"), np.float64(3)]
OUT_OF_RANGE = [2**63, 10**30, np.int64(-1), torch.tensor(-1)]
NO_SCALARS = [torch.tensor([1, 2]), np.array([1, 2]), [3], torch.tensor(3.0)]


@pytest.mark.parametrize("value", NO_NUMBERS + OUT_OF_RANGE + NO_SCALARS, ids=repr)
def test_what_is_no_whole_number_is_named(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^a step must be a whole number from 0 on, not "):
        whole_number(value, "a step", least=0)
