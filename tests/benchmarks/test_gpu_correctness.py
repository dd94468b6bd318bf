"""The checks that are run first on a GPU, here on the CPU: they hold, and notice what is wrong."""

import pytest
import torch

from benchmarks.gpu_correctness import CHECKS, CPU, CheckError, Setting, near


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_holds_on_the_cpu(name: str) -> None:
    CHECKS[name](Setting(CPU))


def test_a_difference_is_named() -> None:
    values = torch.linspace(0, 2, 5)
    assert near("it", values * 1.0005, values) == pytest.approx(5e-4, rel=0.01)
    with pytest.raises(CheckError, match=r"it differs from the CPU's by 0.1 of its size: expected at most 0.001"):
        near("it", values * 1.1, values)
    with pytest.raises(CheckError, match="it differs from the CPU's by nan of its size"):
        near("it", values * torch.nan, values)
