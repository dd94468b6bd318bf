"""The cyclic schedule against its formulas."""

import math

import pytest
from hypothesis import given, strategies as st

from decouple.config import Q0Config
from decouple.q0 import cyclic_multipliers

RECORD = 0.08
"""The floor of the public code's record."""


def test_the_defaults_are_those_of_the_settings() -> None:
    config = Q0Config()
    own = {name: getattr(config, name) for name in ("lr_floor", "wd_floor", "warmup", "warmdown", "shape")}
    for step in (0, 30, 99):
        assert cyclic_multipliers(step, 100) == cyclic_multipliers(step, 100, **own)


def test_with_its_floor_it_is_the_sawtooth_of_the_record_run() -> None:
    steps = 50
    for step in range(steps):
        lr, wd = cyclic_multipliers(step, steps, lr_floor=RECORD)
        assert lr == pytest.approx(0.08 + 0.92 * (1 - step / steps), abs=1e-12)
        assert wd == pytest.approx(0.7 + 0.3 * (1 - lr) / 0.92, abs=1e-12)
    assert cyclic_multipliers(0, steps, lr_floor=RECORD) == (1.0, 0.7)
    assert lr == pytest.approx(0.08 + 0.92 / steps)  # the last step stays above the floor


def test_the_cosine_passes_through_the_middle_of_the_sawtooth_and_is_flatter_at_its_ends() -> None:
    linear, cosine = (
        [cyclic_multipliers(step, 100, shape=shape, lr_floor=RECORD)[0] for step in range(100)]
        for shape in ("linear", "cosine")
    )
    assert cosine[0] == 1.0
    assert cosine[50] == pytest.approx(linear[50], abs=1e-12)
    assert cosine[25] == pytest.approx(0.08 + 0.92 * 0.5 * (1 + math.cos(math.pi / 4)), abs=1e-12)
    assert cosine[10] > linear[10]
    assert cosine[90] < linear[90]


def test_a_warm_up_rises_linearly_from_the_floor_to_one() -> None:
    found = [cyclic_multipliers(step, 20, warmup=0.25, lr_floor=RECORD)[0] for step in range(6)]
    assert found == pytest.approx([0.08 + 0.92 * step / 5 for step in range(6)], abs=1e-12)
    assert cyclic_multipliers(0, 20, warmup=0.25, lr_floor=RECORD)[1] == pytest.approx(1.0)


def test_only_a_warm_down_lifts_the_weight_decay_above_its_base() -> None:
    found = [cyclic_multipliers(step, 100, warmup=0.1, warmdown=0.2, lr_floor=RECORD) for step in range(100)]
    assert max(wd for _, wd in found[:81]) <= 1 + 1e-12
    assert found[80][0] == pytest.approx(0.08)
    assert found[90][0] == pytest.approx(0.04)
    assert all(wd > 1 for _, wd in found[81:])
    assert found[99][0] > 0


@given(
    cycle_steps=st.integers(1, 400),
    lr_floor=st.floats(0, 0.99),
    wd_floor=st.floats(0, 1),
    warmup=st.floats(0, 0.5),
    warmdown=st.floats(0, 0.5),
    shape=st.sampled_from(["linear", "cosine"]),
    data=st.data(),
)
def test_multipliers_stay_in_range_and_move_in_opposite_directions(
    cycle_steps: int, lr_floor: float, wd_floor: float, warmup: float, warmdown: float, shape: str, data: st.DataObject
) -> None:
    steps = [data.draw(st.integers(0, cycle_steps - 1)) for _ in range(2)]
    (lr, wd), (other_lr, other_wd) = (
        cyclic_multipliers(
            step, cycle_steps, lr_floor=lr_floor, wd_floor=wd_floor, warmup=warmup, warmdown=warmdown, shape=shape
        )
        for step in steps
    )
    assert 0 <= lr <= 1 + 1e-12
    assert wd >= wd_floor - 1e-12
    assert (lr - other_lr) * (wd - other_wd) <= 1e-12
    if warmdown == 0:
        assert lr >= lr_floor - 1e-12
        assert wd <= 1 + 1e-12


def test_a_cycle_may_be_all_warm_up_and_warm_down() -> None:
    found = [cyclic_multipliers(step, 10, warmup=0.5, warmdown=0.5, lr_floor=RECORD)[0] for step in range(10)]
    assert found[4] > found[0]
    assert found[5] == pytest.approx(0.08)
    assert cyclic_multipliers(9, 10, warmup=1.0, lr_floor=RECORD)[0] == pytest.approx(0.08 + 0.92 * 0.9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step": 10}, r"step = 10: expected 0 … cycle_steps − 1 = 9"),
        ({"step": -1}, "step = -1"),
        ({"cycle_steps": 0}, "cycle_steps = 0: expected at least 1"),
        ({"lr_floor": 1.0}, "lr_floor = 1.0"),
        ({"lr_floor": math.nan}, "lr_floor = nan"),
        ({"wd_floor": 1.5}, "wd_floor = 1.5: expected 0..1"),
        ({"warmup": -0.1}, "warmup = -0.1"),
        ({"warmup": 0.6, "warmdown": 0.5}, "warmdown = 0.5: expected fractions"),
        ({"warmdown": math.nan}, "warmdown = nan"),
        ({"shape": "square"}, "shape = 'square'"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cyclic_multipliers(**{"step": 0, "cycle_steps": 10, **arguments})
