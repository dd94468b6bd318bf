"""Presets are valid, survive JSON and are found by name."""

import json
import math

import pytest
import torch

from decouple.config import TextConfig
from decouple.errors import ConfigError
from decouple.presets import PRESETS, TEXT_PRESETS, preset, text_preset
from decouple.q0 import distillation_loss
from decouple.q0.perturb import perturbation_scale
from decouple.q0.trajectories import batch_of, multipliers
from decouple.settings import from_builtins, to_builtins


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_survive_json(name: str) -> None:
    config = preset(name)
    assert config.preset == name
    assert from_builtins(json.loads(json.dumps(to_builtins(config)))) == config


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no preset 'mnist-smal'; did you mean 'mnist-small'\?"):
        preset("mnist-smal")


@pytest.mark.parametrize("name", TEXT_PRESETS)
def test_the_presets_of_text_pass_their_own_checks(name: str) -> None:
    config = text_preset(name)
    assert config.preset == name
    assert from_builtins(to_builtins(config), TextConfig()) == config


def test_the_paper_text_preset_is_the_record_run_of_the_public_code() -> None:
    """Cycles, schedule, batches, noise, distillation and prior, against values worked out by hand (public code of q0, record run of
    2026-05-28)."""
    q0 = text_preset("paper").q0
    assert (q0.trajectories, q0.cycles, q0.epochs_before(q0.cycles), q0.members, q0.restart) == (5, 96, 192, 256, "continue")
    assert (q0.clip, q0.warmup, q0.warmdown, q0.shape, q0.prior) == (1.0, 0.0, 0.0, "linear", "softmax")

    rates = [multipliers(q0, step, 4) for step in range(4)]
    assert [lr for lr, _ in rates] == pytest.approx([1.0, 0.77, 0.54, 0.31])
    assert [decay for _, decay in rates] == pytest.approx([0.7, 0.775, 0.85, 0.925])

    assert [batch_of(q0, cycle) for cycle in (0, 23, 24, 71, 72, 95)] == [192, 192, 256, 256, 192, 192]

    scales = [perturbation_scale(c, 96, first=q0.perturb, last=q0.perturb * q0.perturb_last) for c in (1, 48, 95)]
    assert scales == pytest.approx([0.25, 0.15, 0.05])

    assert q0.distill_after == 8
    student, teacher = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[0.0, 0.0]])
    t = q0.temperature
    p = 1 / (1 + 3 ** (1 / t))
    expected = 0.55 * math.log(4) + 0.45 * 1.44 * 0.5 * (math.log(0.5 / p) + math.log(0.5 / (1 - p)))
    found = distillation_loss(student, teacher, torch.tensor([0]), alpha=q0.alpha, temperature=t)
    assert float(found) == pytest.approx(expected)
