"""The paper's figures, as printed, and what sets a run apart from how they were made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from decouple.config import EsConfig
from decouple.presets import preset
from decouple.report import paper

from .made_up import made_up


@pytest.mark.parametrize(
    ("data", "augment", "sgd", "search"),
    [
        ("mnist", False, "99.1 ± 0.1", {"all": "99.0 ± 0.1"}),
        ("cifar10", False, "89.1 ± 0.3", {"all": "88.3 ± 0.3"}),
        ("cifar100", False, "62.3 ± 0.5", {"all": "61.6 ± 0.2"}),
        ("cifar10", True, "93.0 ± 0.2", {"skip-first": "92.0 ± 0.1", "all": "90.6 ± 0.3"}),
        ("cifar100", True, "71.8 ± 0.4", {"skip-first": "69.2 ± 0.3", "all": "66.5 ± 0.3"}),
    ],
)
def test_published_figures(data: str, augment: bool, sgd: str, search: dict[str, str]) -> None:
    found = paper.reference(data, augment=augment)
    assert found is not None
    assert str(found.sgd) == sgd
    assert {variant: str(found.searched(variant)) for variant in search} == search


@pytest.mark.parametrize(("data", "augment"), [("mnist", True), ("digits", False), ("folder:mnist", False)])
def test_no_figures_where_the_paper_has_none(data: str, augment: bool) -> None:
    assert paper.reference(data, augment=augment) is None


def test_differences_name_what_was_smaller() -> None:
    results, _ = made_up(data="mnist")
    found = paper.differences(preset("mnist-small"), results)
    assert "32 channels a block (paper 256)" in found
    assert "1,137 training images (paper 56,000)" in found
    assert any("evolution strategy" in line for line in found)


def test_another_network_is_named_beside_what_the_settings_say_of_it() -> None:
    results, _ = made_up(data="mnist")
    config = preset("mnist-small")
    found = paper.differences(replace(config, network=replace(config.network, name="torchvision:resnet18")), results)
    assert found[0] == "the network torchvision:resnet18 (paper: its own)"
    assert "1,137 training images (paper 56,000)" in found
    assert "20 epochs of learning (paper 1,000)" in found
    assert not any("channels" in line or "ConvGroups" in line for line in found)


def test_terms_beside_the_papers_losses_are_named() -> None:
    results, config = made_up(data="mnist")[0], preset("mnist-small")
    assert not any("SGD" in line for line in paper.differences(config, results))
    both = replace(config, sgd=replace(config.sgd, similarity=3.0, heads=0.3))
    assert "similarity and heads in the loss of SGD (paper: cross-entropy alone)" in paper.differences(both, results)
    searched = replace(config, learn=replace(config.learn, similarity=3.0, heads=0.3))
    assert sum("similarity" in line or "heads" in line for line in paper.differences(searched, results)) == 2


def test_the_papers_own_settings_differ_in_little() -> None:
    results, _ = made_up(data="cifar100")
    results = type(results)(**{f: getattr(results, f) for f in results.__struct_fields__} | {"images": {"train": 46_000}})
    config = preset("cifar100")
    config = replace(config, search=replace(config.search, paper=replace(config.search.paper, smoothing="map")))
    own = ["a weight decay of 0.001 (airbench, whose learner is the paper's: 0.0153)"]
    assert paper.differences(config, results) == [*own, "one run (paper: mean ± standard deviation over 3)"]
    plain = replace(
        config, learn=replace(config.learn, augment="none", supervise="all"), sgd=replace(config.sgd, augment="none")
    )
    assert paper.differences(plain, results) == paper.differences(config, results), "which the paper has too"


def test_every_setting_that_matters_is_compared_with_the_preset() -> None:
    results, _ = made_up(data="mnist")
    config = preset("mnist")
    genetic = replace(config.search, batch=32, es=EsConfig(population=2), paper=replace(config.search.paper, population=130))
    config = replace(
        config,
        data=replace(config.data, test=500, seed=3),
        search=genetic,
        learn=replace(config.learn, optimizer="sgd", augment="flip-crop"),
        sgd=replace(config.sgd, epochs=20, groups=(1,)),
    )
    assert paper.differences(config, results)[-2] == (
        "settings beside those of the preset mnist, in brackets: data.test 500 (none), search.batch 32 (64), "
        "search.paper.population 130 (240), learn.optimizer sgd (airbench), learn.augment flip-crop (none), sgd.epochs 20 (1000), "
        "sgd.groups [1] ([1, 2, 3])"
    )
    other = paper.differences(replace(config, search=replace(genetic, algorithm="es")), results)
    assert "search.batch 32 (64)" in other[-2]
    assert "population" not in other[-2]


def test_no_differences_where_there_is_nothing_to_differ_from() -> None:
    assert paper.differences(preset("digits"), made_up()[0]) == []
