"""The page: whole, self-contained, true to results.json, and the same when it is built again."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from matplotlib.figure import Figure

from decouple.config import RunConfig, SearchConfig
from decouple.errors import DamagedFileError, RunDirectoryError
from decouple.presets import preset
from decouple.report import build_report
from decouple.report.figures import OF_RUNS
from decouple.results import Curves, Results, to_json

from .made_up import RUN, made_up, write_run
from .reading import Page

NAMES = ["search", "training", "trajectories", "entropy", "map", "diversity", "population", "reliability"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("run"), *made_up())
    assert build_report(folder) == folder / "report.html"
    return folder


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Page]:
    """Builds a page whose figures are empty, which is quick."""
    monkeypatch.setattr("decouple.report.run_page.draw_figures", lambda *_: dict.fromkeys(NAMES, Figure()))
    monkeypatch.setattr("decouple.report.style.render", lambda figure, kind: b"")

    def inner(
        config: RunConfig | None = None,
        run: dict[str, Any] | None = None,
        change: dict[str, Any] | None = None,
        **shape: Any,
    ) -> Page:
        results, curves = made_up(**shape)
        results = _changed(results, change or {})
        return Page(build_report(write_run(tmp_path, results, curves, config, run)).read_text())

    return inner


def test_confusions_are_listed_by_the_names_of_classes(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    assert "&lt;9&gt;" in text
    assert "The most frequent confusions of the learned prior’s ensemble, among 360 test images." in text


def test_a_run_without_calibration_has_no_such_section(tmp_path: Path) -> None:
    results, curves = made_up()
    curves.calibration = {}
    text = build_report(write_run(tmp_path, results, curves)).read_text()
    assert "Calibration" not in text


def test_figures_of_an_earlier_page_are_removed_and_nothing_else(
    build: Callable[..., Page], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build()
    (tmp_path / "figures" / "mine.png").touch()
    left = [name for name in NAMES if name != "reliability"]
    monkeypatch.setattr("decouple.report.run_page.draw_figures", lambda *_: dict.fromkeys(left, Figure()))
    results, curves = made_up()
    curves.calibration = {}
    build_report(write_run(tmp_path, results, curves))
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {*left, "mine"}
    assert set(NAMES) == set(OF_RUNS)


@pytest.mark.parametrize(
    ("similarity", "lowered"), [(0.0, "Mean cross-entropy of"), (3.0, "Mean cross-entropy and dissimilarity of")]
)
def test_the_curves_are_named_by_what_the_search_lowers(build: Callable[..., Page], similarity: float, lowered: str) -> None:
    assert lowered in build(RunConfig(search=SearchConfig(similarity=similarity))).text


def test_page_needs_nothing_but_itself(folder: Path) -> None:
    page = Page((folder / "report.html").read_text())
    for tag, attributes in page.found:
        assert tag not in ("script", "link", "iframe", "object")
        for name in ("src", "srcset", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:")
        if target := attributes.get("href"):
            assert tag == "a"
            assert target.startswith(("#", "https://arxiv.org/abs/"))
    assert "@import" not in (folder / "report.html").read_text()
    assert "url(" not in (folder / "report.html").read_text()
    ids = {attributes["id"] for _, attributes in page.found if "id" in attributes}
    assert {a["href"][1:] for _, a in page.found if (a.get("href") or "").startswith("#")} <= ids  # type: ignore[index]


def test_page_shows_every_figure(folder: Path) -> None:
    images = [a for tag, a in Page((folder / "report.html").read_text()).found if tag == "img"]
    shown = [base64.b64decode((a["src"] or "").removeprefix("data:image/svg+xml;base64,")) for a in images]
    assert shown == [(folder / "figures" / f"{name}.svg").read_bytes() for name in NAMES]
    assert all(a["alt"] for a in images)
    assert all((folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in NAMES)


def test_every_headline_number_is_in_the_page(folder: Path) -> None:
    page = Page((folder / "report.html").read_text())
    results = json.loads((folder / "results.json").read_text())
    search, q0 = results["search"], results["q0"]
    exact = [results["test_accuracy"]["sgd"], *results["test_accuracy"]["search"], search["evaluations_per_image"]]
    exact += [value for by_point in search["cross_entropy"].values() for value in by_point.values()]
    exact += [*search["solved"].values(), *search["displacement"].values(), *results["diversity"]["n_eff"].values()]
    exact += [value for ways in (q0["test_nll"], q0["prior_nll"], *q0["scores"].values()) for value in ways.values()]
    exact += [member[name] for member in q0["members"] for name in ("weight", "test_nll", "validation_nll", "prior_nll")]
    exact += [member["scores"]["accuracy"] for member in q0["members"]]
    exact += [n[k] for n in results["networks"].values() for k in ("validation_accuracy", "best_epoch", "parameters")]
    exact += list(results["cost"].values())
    exact += [v for by_point in results["compare"]["cosine_distance"].values() for v in by_point.values()]
    assert {repr(value) for value in exact} <= page.values()
    for accuracy in (results["test_accuracy"]["sgd"], *results["test_accuracy"]["search"]):
        assert f"{100 * accuracy:.1f} ± " in page.text
    for nll in q0["test_nll"].values():
        assert f"{nll:.3f}" in page.text
    assert f"{results['cost']['search_evaluations']:,}" in page.text


def test_rebuilding_gives_the_same_bytes(folder: Path) -> None:
    def contents() -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = contents()
    run = json.loads((folder / "run.json").read_text())
    run["stages"]["report"] = {"seconds": 1.5}  # as the pipeline does, once the report is there
    (folder / "run.json").write_text(json.dumps(run))
    build_report(folder)
    after = contents()
    assert set(after) == set(before)
    assert {name for name in before if before[name] != after[name]} == {"run.json"}


@pytest.mark.parametrize("name", ["config.json", "run.json", "results.json", "curves.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "a list", "a wrong type"])
def test_damaged_files_are_named(folder: Path, tmp_path: Path, name: str, damage: str) -> None:
    for file in ("config.json", "run.json", "results.json", "curves.json"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    path = tmp_path / name
    wrong = {"config.json": {"seed": "x"}, "run.json": {"stages": 3}}.get(name, {"format": 2, "search": 3})
    if damage == "missing":
        path.unlink()
    else:
        path.write_text({"truncated": path.read_text()[:-40], "a list": "[]", "a wrong type": json.dumps(wrong)}[damage])
    unfinished = (name, damage) == ("results.json", "missing")
    message = "is not finished" if unfinished else rf"{name} is (missing or )?damaged"
    with pytest.raises(RunDirectoryError, match=rf"{message}.*'decouple (report|run)"):
        build_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_another_format_version_is_refused(folder: Path, tmp_path: Path) -> None:
    results, curves = made_up(points=2)
    write_run(tmp_path, _changed(results, {"format": 99}), curves)
    with pytest.raises(DamagedFileError, match=r"results\.json has format version 99, this release reads 2"):
        build_report(tmp_path)


def test_curves_of_another_run_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path, made_up(solutions=3)[0], made_up(solutions=2)[1])
    with pytest.raises(DamagedFileError, match=r"curves\.json does not belong to results\.json: its networks are"):
        build_report(tmp_path)


def test_what_users_write_is_escaped(build: Callable[..., Page]) -> None:
    bad = "<script>alert('&')</script>"
    config = replace(RunConfig(), preset=bad, data=replace(RunConfig().data, name=f"folder:{bad}"))
    run = {**RUN, "command": f"decouple run {bad}", "device_name": bad, "platform": bad, "commit": bad}
    page = build(config, run, preset=bad, data=f"folder:{bad}")
    assert "script" not in {tag for tag, _ in page.found}
    assert f"folder:{bad}" in page.text


def test_a_run_file_may_say_nothing(build: Callable[..., Page]) -> None:
    page = build(run={})
    assert "Device:" not in page.text
    assert "commit" not in page.text


def test_one_solution_has_no_diversity(build: Callable[..., Page]) -> None:
    page = build(solutions=1, cycles=1, sgd=1, epochs=1, records=1, points=2, generations=(0,))
    assert "by definition" in page.text
    assert "One seed" in page.text
    assert "Effective number of different solutions at each search point." not in str(page.found)


def test_many_networks_and_members(build: Callable[..., Page]) -> None:
    page = build(solutions=16, cycles=6, sgd=3)
    assert "All 96 members" in page.text
    assert "mean of 16" in page.text
    assert page.text.count("not tested") == 2
    assert {"search-0", "search-15"} <= set(page.text.split())


def test_failed_generations_are_said_when_there_are_some(build: Callable[..., Page]) -> None:
    assert "non-finite" not in build().text
    page = build(change={"search": {"failed_generations": 7}})
    assert "In 7 generations of an image every candidate had a non-finite fitness" in page.text


def test_paper_stands_beside_its_data_sets_alone(build: Callable[..., Page]) -> None:
    assert "Paper, accuracy" not in build().text
    page = build(preset("cifar10"), preset="cifar10", data="cifar10", test=10_000)
    assert "93.0 ± 0.2" in page.text
    assert "92.0 ± 0.1" in page.text
    assert "with augmentation, block 0 skipped" in page.text
    assert "1,137 training images (paper 46,000)" in page.text
    page = build(preset("mnist-small"), preset="mnist-small", data="mnist", test=10_000)
    assert "99.1 ± 0.1" in page.text
    assert "32 channels a block (paper 256)" in page.text


def test_settings_are_all_there(build: Callable[..., Page]) -> None:
    page = build()
    for setting in ("search.es.population", "q0.lr_floor", "data.validation"):
        assert setting in page.text
    assert "decouple run digits --config config.json --out runs/again" in page.text


def _changed(results: Results, change: dict[str, Any]) -> Results:
    plain = to_json(results)
    for name, value in change.items():
        plain[name] = {**plain[name], **value} if isinstance(value, dict) else value
    return msgspec.convert(plain, Results)


def test_made_up_files_follow_the_schemas() -> None:
    results, curves = made_up(solutions=5, points=6)
    assert msgspec.convert(to_json(results), Results) == results
    assert msgspec.convert(to_json(curves), Curves) == curves
