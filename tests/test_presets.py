"""Presets are valid, survive JSON and are found by name."""

import json

import pytest

from decouple.config import TextConfig
from decouple.errors import ConfigError
from decouple.presets import PRESETS, TEXT_PRESETS, preset, text_preset
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
