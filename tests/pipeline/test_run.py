"""What a whole run delivers."""

import dataclasses
import json
import sys
from pathlib import Path

import jsonschema
import msgspec
import pytest
import torch

from decouple import results
from decouple.config import RunConfig
from decouple.data import load_data
from decouple.errors import ConfigError, DamagedFileError, RunDirectoryError
from decouple.pipeline import RunDirectory, open_run, run, run_stages
from decouple.q0.ensemble import Ensemble
from decouple.results import Curves, Results
from decouple.settings import from_builtins


def test_a_run_leaves_what_it_promises(finished: Path) -> None:
    for name in ("config.json", "run.json", "metrics.jsonl", "results.json", "curves.json", "report.html"):
        assert (finished / name).stat().st_size > 0, name
    assert len(list((finished / "figures").glob("*.png"))) >= 6
    assert not list(finished.rglob(".partial-*"))
    assert not list(finished.rglob("checkpoint.safetensors"))


def test_results_follow_their_schema(finished: Path) -> None:
    for name, kind in (("results.json", Results), ("curves.json", Curves)):
        value = json.loads((finished / name).read_text())
        jsonschema.validate(value, results.schema(kind))
        assert results.to_json(msgspec.convert(value, kind)) == value
        with pytest.raises(jsonschema.ValidationError, match="surprise"):
            jsonschema.validate({**value, "surprise": 1}, results.schema(kind))


def test_results_hold_the_promised_figures(finished: Path) -> None:
    found = json.loads((finished / "results.json").read_text())
    assert 0 <= found["test_accuracy"]["sgd"] <= 1
    assert len(found["test_accuracy"]["search"]) == 2
    assert list(found["search"]["cross_entropy"]) == ["block0", "block1", "logits"]
    assert found["search"]["evaluations_per_image"] == 3 * (5 + 1)
    assert set(found["diversity"]["n_eff"]) == {"block0", "block1", "logits"}
    assert all(1 <= n <= 2 for n in found["diversity"]["n_eff"].values())
    for figure in (found["q0"]["test_nll"], *found["q0"]["scores"].values()):
        assert set(figure) == {"single", "uniform", "learned_prior", "greedy", "calibrated"}
    assert list(found["q0"]["scores"]) == ["accuracy", "ece", "brier"]
    assert found["q0"]["prior_nll"]["learned_prior"] <= found["q0"]["prior_nll"]["uniform"] + 1e-9
    assert sum(member["weight"] for member in found["q0"]["members"]) == pytest.approx(1)
    assert found["cost"]["search_evaluations"] == 2 * 60 * (18 + 4 * 2 * 32), "and those of live search"
    assert found["cost"]["gradient_steps"] == (2 * 4 + 3) * 2 + 2 * 3 * 2 * 2


def test_every_number_comes_from_the_seed(tiny: RunConfig, finished: Path, tmp_path: Path, no_report: None) -> None:
    run(tiny, tmp_path / "same")
    run(dataclasses.replace(tiny, seed=1), tmp_path / "other")
    for name in ("results.json", "curves.json"):
        assert (tmp_path / "same" / name).read_bytes() == (finished / name).read_bytes()
    assert (tmp_path / "other" / "curves.json").read_bytes() != (finished / "curves.json").read_bytes()


def test_the_log_has_a_line_for_every_epoch(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    learned = [line for line in lines if line["stage"] == "learn" and line["unit"] == "search-0"]
    assert [line["step"] for line in learned] == [1, 2, 3, 4]
    assert {"loss", "validation_accuracy"} <= set(learned[0])


def test_run_json_says_how_it_was_made(finished: Path) -> None:
    made = json.loads((finished / "run.json").read_text())
    assert made["seed"] == 0
    assert {"python", "torch", "evotorch", "decouple"} <= set(made["versions"])
    assert set(made["stages"]) == {"search", "learn", "compare", "q0", "report"}
    assert made["device"] == "cpu"


def test_more_solutions_reuse_those_that_are_there(tiny: RunConfig, finished: Path, stamps, no_report: None) -> None:
    before = stamps(finished)
    search = dataclasses.replace(tiny.search, solutions=3)
    more = dataclasses.replace(tiny, search=search)
    with RunDirectory.open(finished) as directory:
        directory.write_config(more)
    found = run(more, finished, resume=True)
    after = stamps(finished)
    assert len(found.test_accuracy.search) == 3
    assert all(after[name] == stamp for name, stamp in before.items() if name.startswith(("search", "learn")))


@pytest.mark.parametrize("algorithm", ["paper", "pgpe", "cem", "random", "gradient"])
def test_the_other_algorithms_run_through(tiny: RunConfig, tmp_path: Path, algorithm: str, no_report: None) -> None:
    paper = {"population": 8, "parents": 2, "explorers": 3, "generations": 2}
    config = from_builtins({"search": {"algorithm": algorithm, "paper": paper}, "data": {"train": 30}}, tiny)
    found = run(config, tmp_path / "run")
    expected = {"paper": 3 * 8 + 2 * (8 + 2 * 6), "gradient": 3 * 2, "random": 3 * 2 * 5}.get(algorithm, 3 * (5 + 1))
    assert found.search.evaluations_per_image == expected


def test_the_papers_way_of_evaluating_and_starting_at_random_run_through(
    tiny: RunConfig, tmp_path: Path, no_report: None
) -> None:
    changes = {
        "precision": "mixed",
        "network": {"statistics": "batch"},
        "search": {"solutions": 1, "statistics": "frozen"},
        "learn": {"supervise": "skip-first", "augment": "crop", "optimizer": "airbench", "lr": 4.0, "shuffle": "fixed"},
        "q0": {
            "init": "random",
            "trajectories": 2,
            "perturb": 0.25,
            "prior": "softmax",
            "members": 2,
            "augment": "flip-crop",
        },
    }
    found = run(from_builtins(changes, tiny), tmp_path / "run")
    assert len(found.q0.members) == 6
    assert found.q0.members_used <= 2
    assert found.diversity.n_eff["block0"] == 1.0


def test_candidates_of_live_search_are_counted_with_the_others(
    tiny: RunConfig, finished: Path, tmp_path: Path, no_report: None
) -> None:
    without = {"live": {"weight": 0.0}}
    found = run(from_builtins({"learn": without, "search": {"solutions": 1}}, tiny), tmp_path / "without")
    before = msgspec.json.decode((finished / "results.json").read_bytes(), type=Results)
    network, live = (results.networks["search-0"] for results in (found, before))
    scored = tiny.learn.epochs * 2 * tiny.learn.live.directions * found.images["train"]
    assert network.search_evaluations == live.search_evaluations - scored
    assert network.gradient_steps == live.gradient_steps
    assert found.cost.search_evaluations == network.search_evaluations


def test_a_population_of_new_networks_needs_no_search(tiny: RunConfig, tmp_path: Path) -> None:
    config = from_builtins({"q0": {"init": "random", "trajectories": 1}}, tiny)
    with (
        RunDirectory.create(tmp_path / "run", config, resume=False) as directory,
        open_run(directory, config) as opened,
    ):
        assert "learned prior" in run_stages(opened, "q0")
    assert {path.name for path in (tmp_path / "run").iterdir() if path.is_dir()} == {"q0"}


def test_a_target_for_no_block_is_refused_before_compute(tiny: RunConfig, tmp_path: Path) -> None:
    config = from_builtins({"network": {"blocks": 1}, "learn": {"supervise": "skip-first"}}, tiny)
    with pytest.raises(ConfigError, match="skip-first leaves no target: the network has one block"):
        run(config, tmp_path / "run")


def test_other_images_are_refused(tiny: RunConfig, finished: Path) -> None:
    made = json.loads((finished / "run.json").read_text())
    made["data"]["digest"] = "0" * 16
    (finished / "run.json").write_text(json.dumps(made))
    with pytest.raises(RunDirectoryError, match="was made from different images than 'digits' holds now"):
        run(tiny, finished, resume=True)


def test_a_run_logs_elsewhere_when_asked(tiny: RunConfig, tmp_path: Path) -> None:
    with (
        RunDirectory.create(tmp_path / "run", tiny, resume=False) as directory,
        open_run(directory, tiny, logger="tensorboard") as opened,
    ):
        opened.log("learn", "search-0", 3, {"loss": 0.5})
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert line == {"stage": "learn", "unit": "search-0", "step": 3, "loss": 0.5}


def test_times_are_kept_by_settings_and_every_sitting_is_noted(tiny: RunConfig, finished: Path, no_report: None) -> None:
    first = json.loads((finished / "run.json").read_text())
    other = dataclasses.replace(tiny, q0=dataclasses.replace(tiny.q0, epochs=1))
    with RunDirectory.open(finished) as directory:
        directory.write_config(other)
    torch.set_num_threads(2)
    try:
        run(other, finished, resume=True)
    finally:
        torch.set_num_threads(1)
    made = json.loads((finished / "run.json").read_text())
    assert len(made["stages"]["q0"]["by_settings"]) == 2
    assert made["stages"]["q0"]["seconds"] == list(made["stages"]["q0"]["by_settings"].values())[-1]
    assert list(made["stages"]["learn"]["by_settings"]) == list(first["stages"]["learn"]["by_settings"])
    assert [sitting["threads"] for sitting in made["sittings"]] == [1, 2]
    assert made["threads"] == 1, "how the run was begun"


def test_a_run_on_a_folder_of_images_goes_on_from_anywhere(
    tiny: RunConfig, tmp_path: Path, no_report: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    stream = torch.Generator().manual_seed(0)
    for split, count in (("train", 30), ("test", 6)):
        for name in ("ant", "bee"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = torch.randint(0, 256, (8, 8), generator=stream, dtype=torch.uint8)
                Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    data = {"name": "folder:images", "train": 20, "validation": 20, "prior": 10, "test": None}
    config = from_builtins({"data": data}, tiny)
    found = run(config, tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with RunDirectory.open(tmp_path / "run") as directory:
        kept = directory.read_config()
    assert run(kept, tmp_path / "run", resume=True) == found


def test_too_few_images_for_batch_statistics_are_refused_before_compute(tiny: RunConfig, tmp_path: Path) -> None:
    config = from_builtins({"network": {"statistics": "batch"}, "data": {"test": 1}}, tiny)
    with pytest.raises(ConfigError, match=r"data.test = 1: with network.statistics = batch .* takes two images"):
        run(config, tmp_path / "run")


def test_two_workers_make_the_results_of_one(tiny: RunConfig, finished: Path, tmp_path: Path, no_report: None) -> None:
    run(tiny, tmp_path / "two", workers=2)
    for name in ("results.json", "curves.json"):
        assert (tmp_path / "two" / name).read_bytes() == (finished / name).read_bytes()
    paths = sorted(path.relative_to(finished) for path in finished.glob("search/**/*.safetensors"))
    assert paths == sorted(path.relative_to(tmp_path / "two") for path in (tmp_path / "two").glob("search/**/*.safetensors"))
    for path in paths:
        assert (tmp_path / "two" / path).read_bytes() == (finished / path).read_bytes()
    assert json.loads((tmp_path / "two" / "run.json").read_text())["workers"] == 2
    assert not sys.modules["ray"].is_initialized(), "Ray's processes end with the search"


def test_the_population_of_a_run_is_loaded_as_an_ensemble(tiny: RunConfig, finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())["q0"]
    data = load_data(tiny.data)
    ensemble = Ensemble.load(finished)
    nll = float(torch.nn.functional.nll_loss(ensemble(data.test.images), data.test.labels))
    assert nll == pytest.approx(results["test_nll"]["calibrated"], abs=1e-5)
    heaviest = max(results["members"], key=lambda member: member["weight"])
    one = Ensemble.load(finished, k=1)
    nll = float(torch.nn.functional.nll_loss(one(data.test.images), data.test.labels))
    sizes = json.loads((finished / "curves.json").read_text())["q0_size"]
    assert nll == pytest.approx(sizes["calibrated"][0], abs=1e-5)
    one.temperature = 1.0
    nll = float(torch.nn.functional.nll_loss(one(data.test.images), data.test.labels))
    assert nll == pytest.approx(heaviest["test_nll"], abs=1e-5)
    ensemble.save(finished.parent / "exported.safetensors")
    again = Ensemble.load(finished.parent / "exported.safetensors")
    assert torch.equal(again(data.test.images), ensemble(data.test.images))
    place = f"trajectory-{heaviest['trajectory']}/cycle-{heaviest['cycle']:03d}.safetensors"
    path = next(finished.glob(f"q0/*/{place}"))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DamagedFileError, match=place):
        Ensemble.load(finished)
    (finished / "q0" / "population.json").unlink()
    with pytest.raises(ConfigError, match="has no population yet; make it with 'decouple q0"):
        Ensemble.load(finished)
