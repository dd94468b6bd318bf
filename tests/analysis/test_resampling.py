"""Half-samples: no copies, and the spread that a mean has. The bootstrap: that spread too."""

import pytest
import torch

from decouple.analysis import bootstrap_mean, half_samples, interval


def test_half_of_the_samples_each_once() -> None:
    found = half_samples(7, 20, torch.Generator().manual_seed(0))
    assert found.shape == (20, 4)
    assert all(len(set(row.tolist())) == 4 and max(row) < 7 for row in found)
    assert len({tuple(row.tolist()) for row in found}) > 15


def test_the_spread_is_that_of_a_mean() -> None:
    values = torch.randn(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = values[half_samples(200, 4000, torch.Generator().manual_seed(1))].mean(1)
    found = interval(float(values.mean()), drawn)
    error = 1.96 * float(values.std()) / 200**0.5
    assert found.high - found.value == pytest.approx(error, rel=0.08)
    assert found.value - found.low == pytest.approx(error, rel=0.08)


def test_the_bootstrap_interval_is_that_of_the_mean() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(1)) + 0.3
    found = bootstrap_mean(values, seed=0)
    error = float(values.std()) / 20
    assert found.value == pytest.approx(float(values.mean()), abs=1e-6)
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.15 * error)
    assert found == bootstrap_mean(values, seed=0) != bootstrap_mean(values, seed=1)


def test_what_does_not_serve_is_named() -> None:
    with pytest.raises(ValueError, match="5 half-samples of 1 samples"):
        half_samples(1, 5, torch.Generator())
    with pytest.raises(ValueError, match="0 draws"):
        interval(0.0, torch.zeros(0))
    with pytest.raises(ValueError, match=r"shape \(0,\): expected \(N,\)"):
        bootstrap_mean(torch.zeros(0), seed=0)
    with pytest.raises(ValueError, match=r"2000 draws and coverage 1\.0"):
        bootstrap_mean(torch.ones(3), seed=0, coverage=1.0)
