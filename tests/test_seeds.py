"""A stream is named by numbers and words, whoever's numbers they are."""

import numpy as np
import pytest
import torch

from decouple.seeds import derive


@pytest.mark.parametrize("kind", [np.int64, np.uint8, torch.tensor])
def test_numbers_of_numpy_and_torch_name_the_same_stream(kind: type) -> None:
    assert derive(kind(3), "search", kind(1)) == derive(3, "search", 1)
    assert derive(3, "search", kind(1)) != derive(3, "search", 2)


def test_streams_stay_what_they_were() -> None:
    assert derive(1, "x") == 9140341762003764691
