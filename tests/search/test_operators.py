"""Each operator against a plain float64 reference."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from decouple.search import operators
from decouple.search.algorithm import SearchPoint

MAP = SearchPoint("block0", 0, 3, (4, 7, 6))
TINY = SearchPoint("block1", 1, 3, (5, 1, 1))
TOKENS = SearchPoint("layer0", 0, 3, (9, 4))
VECTOR = SearchPoint("hidden", 1, 3, (12,))
LOGITS = SearchPoint("logits", 2, 3, (10,))


def _values(point: SearchPoint, *leading: int, seed: int = 0) -> Tensor:
    return torch.randn(*leading, *point.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("passes", [0, 1, 2, 5])
def test_smoothing_equals_repeated_mean_pooling(passes: int) -> None:
    values = _values(MAP, 3, 2)
    expected = values.flatten(0, 1)
    for _ in range(passes):
        expected = functional.avg_pool2d(expected, 3, stride=1, padding=1)
    assert torch.allclose(operators.smooth(values, passes, MAP).flatten(0, 1), expected, atol=1e-12)


def test_tokens_are_smoothed_along_the_sequence_alone() -> None:
    values = _values(TOKENS, 2)
    expected = functional.avg_pool1d(values.transpose(1, 2), 3, stride=1, padding=1).transpose(1, 2)
    assert torch.allclose(operators.smooth(values, 1, TOKENS), expected, atol=1e-12)


@pytest.mark.parametrize("point", [VECTOR, LOGITS])
def test_vectors_are_not_smoothed(point: SearchPoint) -> None:
    values = _values(point, 2)
    assert torch.equal(operators.smooth(values, 3, point), values)


def test_normalise_is_per_sample_over_channels_and_space() -> None:
    values = _values(MAP, 3, 2) * 4 + 7
    found = operators.normalise(values, MAP)
    flat = values.flatten(2)
    expected = (flat - flat.mean(2, keepdim=True)) / (flat.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(found.flatten(2), expected, atol=1e-12)


def test_restandardise_takes_mean_and_deviation_of_the_other() -> None:
    values, like = _values(MAP, 3) * 5 - 2, _values(MAP, 3, seed=1) * 0.3 + 9
    found = operators.restandardise(values, operators.moments(like, MAP), MAP).flatten(1)
    assert torch.allclose(found.mean(1), like.flatten(1).mean(1))
    assert torch.allclose(found.std(1), like.flatten(1).std(1), rtol=1e-4)


def test_noise_scale_is_the_spatial_deviation_of_each_channel() -> None:
    values = _values(MAP, 3)
    assert torch.allclose(operators.noise_scale(values, MAP).squeeze(), values.flatten(2).std(2))


@pytest.mark.parametrize(("point", "dims"), [(TINY, (1, 2, 3)), (VECTOR, (1,)), (LOGITS, (1,))])
def test_noise_scale_without_space_is_over_all_elements(point: SearchPoint, dims: tuple[int, ...]) -> None:
    values = _values(point, 3)
    found = operators.noise_scale(values, point)
    assert torch.isfinite(found).all()
    assert torch.allclose(found, values.std(dims, keepdim=True))


def test_noise_scale_of_a_single_number_is_its_size() -> None:
    single = SearchPoint("block1", 1, 3, (1, 1, 1))
    values = _values(single, 3)
    assert torch.equal(operators.noise_scale(values, single), values.abs())


def test_noise_scale_of_tokens_is_over_the_sequence() -> None:
    values = _values(TOKENS, 3)
    assert torch.allclose(operators.noise_scale(values, TOKENS), values.std(1, keepdim=True))


def test_gather_takes_each_images_own() -> None:
    population = torch.arange(2 * 3 * 2).reshape(2, 3, 2)
    found = operators.gather(population, torch.tensor([[2, 0], [1, 1]]))
    assert found.tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]


def test_masking_keeps_nan_from_winning() -> None:
    fitness = torch.tensor([[-1.0, torch.nan, -2.0, torch.inf]])
    assert fitness.argmax() == 1, "the trap: torch ranks NaN first"
    assert operators.masked(fitness).argmax() == 0
    assert operators.masked(fitness).topk(2).indices.tolist() == [[0, 2]]


def test_channels_last_changes_the_layout_alone() -> None:
    values = _values(MAP, 3)
    found = operators.channels_last(values)
    assert torch.equal(found, values)
    assert found.is_contiguous(memory_format=torch.channels_last)
    room = operators.empty_candidates(values, 4, torch.float32)
    assert room.shape == (3, 4, *MAP.shape)
    assert room.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("point", [MAP, TINY, TOKENS, SearchPoint("layer0", 0, 3, (1, 4)), VECTOR, LOGITS])
def test_rows_tell_positions_from_features_and_come_back(point: SearchPoint) -> None:
    values = _values(point, 3, 2)
    rows = operators.rows_of(values, point)
    assert rows.dim() == 4
    assert torch.equal(operators.from_rows(rows, point), values)
    expected = operators.noise_scale(values, point)
    assert torch.allclose(operators.row_deviation(rows).flatten(), expected.flatten(), atol=1e-12)
    room = operators.empty_candidates(values[:, 0], 2, values.dtype)
    operators.rows_of(room, point)[:] = rows
    assert torch.equal(room, values), "a view, where channels are adjacent"


def test_the_deviation_of_rows_is_exact_where_a_feature_hardly_varies() -> None:
    rows = (1000 + _values(MAP, 3).flatten(2).transpose(1, 2) * 1e-2).float()
    expected = rows.double().std(1, keepdim=True)
    assert torch.allclose(operators.row_deviation(rows).double(), expected, rtol=1e-3)
    coarse = operators.row_deviation(_values(MAP, 3).flatten(2).transpose(1, 2).bfloat16())
    assert torch.allclose(coarse.double(), _values(MAP, 3).flatten(2).std(2)[:, None], rtol=2e-2)


@pytest.mark.parametrize("point", [MAP, TINY, TOKENS, VECTOR])
def test_the_scale_of_a_sample_is_the_deviation_of_all_its_elements(point: SearchPoint) -> None:
    values = _values(point, 3)
    scale = operators.noise_scale(values, point, "sample")
    assert torch.allclose(scale.flatten(), values.flatten(1).std(1), atol=1e-12)
    assert scale.shape == (3, *[1] * len(point.shape))


def test_a_silent_channel_can_be_moved_in_units_of_the_sample_alone() -> None:
    values = _values(MAP, 1)
    values[:, 2] = 0
    assert float(operators.noise_scale(values, MAP)[0, 2]) == 0
    assert float(operators.noise_scale(values, MAP, "sample").expand_as(values)[0, 2].min()) > 0.5
