"""Streams are named by values, whatever type a number has."""

import numpy as np
import pytest
import torch

from decouple.errors import ConfigError
from decouple.seeds import derive
from decouple.tensors import whole_number


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.int32, torch.tensor])
def test_a_stream_is_named_by_the_value(kind) -> None:
    assert derive(kind(7), "search", kind(3)) == derive(7, "search", 3)
    assert derive(7, np.str_("search")) == derive(7, "search")


def test_the_streams_of_before_stay() -> None:
    assert derive(0, "search", 1) == 3204649369440683906


@pytest.mark.parametrize("value", [1.5, 2.0, "3", None, np.float64(2), torch.tensor(2.0)])
def test_a_fraction_is_not_cut_off(value) -> None:
    with pytest.raises(ConfigError, match="seed must be a whole number, not "):
        derive(value)
    with pytest.raises(ConfigError, match="part of a stream's name must be a whole number, not "):
        derive(0, 1.5 if isinstance(value, str) else value)
    assert whole_number(-3, "seed") == -3
