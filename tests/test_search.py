"""A search: the same budget for every method, the same trials however often it was killed, and what it leaves."""

import csv
import json
import random
import re
import signal
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import Run as MlflowRun

from docs import renew_search
from pipeline.cli.main import COMMANDS, main
from pipeline.cli.train import train_command
from pipeline.config import make
from pipeline.errors import DivergedError, RunError, SettingsError
from pipeline.evaluation.control import draw_episodes
from pipeline.evaluation.protocol import Protocol
from pipeline.evaluation.stored import protocol_of, protocol_tags
from pipeline.methods.preset import preset_for, preset_of, read_preset, write_preset
from pipeline.methods.registry import METHODS
from pipeline.methods.settings import BinningSettings, Pi0Settings, RegressionSettings
from pipeline.registry import promote
from pipeline.report.search import COMPLETE, FAILED, PRUNED, Found, Searched, Tried
from pipeline.report.search_figures import draw_history
from pipeline.stages import compare, tokenizer_report
from pipeline.streams import derive
from pipeline.studies import search_plan, search_rounds
from pipeline.studies.groups import plan_groups
from pipeline.studies.sampler import importances, is_hopeless, suggest
from pipeline.studies.search import limits_text
from pipeline.studies.settings import EnsembleSettings, SearchSettings
from pipeline.studies.space import Choices, Range, find_space, read_spaces, space_text
from pipeline.tasks.pendulum import PENDULUM
from tests import warm
from tests.conftest import ROOT, environment, put_store, runs_of, store

SPACE = {"lr": Range(0.001, 0.1, True, False, 3), "near": Range(1, 9, False, True, 3), "patch": Choices((5, 10))}
TINY_SPACE = """
regression:
  lr: {low: 0.001, high: 0.02, log: true}
  far_weight: {low: 0.05, high: 1.0}
pi0:
  lr: {low: 0.001, high: 0.02, log: true}
  flow_steps: {choices: [1, 2]}
"""
WORDS = ["--space", "space.yaml", "--set", "epochs=1", "width=8", "layers=1", "batch_size=512", "--episodes", "1",
         "--executor", "serial", "--methods", "regression"]  # fmt: skip
FILES = {"search.md", "trials.csv", "space.yaml", "history.png", "importance.png", "parallel.png"}


def tried(number: int, score: float, state: str = COMPLETE, seconds: float = 1.0, **params: Any) -> Tried:
    params = params or {"lr": 0.01, "near": 5, "patch": 5}
    return Tried("pi0", number, params, state, () if state == FAILED else (score,), (seconds,))


def search_command(*words: object) -> int:
    return main(COMMANDS, ["search", *map(str, words)])


def of_kind(folder: Path, kind: str) -> list[MlflowRun]:
    return [run for run in runs_of(folder) if run.data.tags.get("kind") == kind]


# What is tried


def asked(sampler: Any, scores: Sequence[float], parallel: int, seed: int = 3) -> list[dict[str, Any]]:
    """The settings of all trials of a search in rounds."""
    params: list[dict[str, Any]] = []
    for number in range(len(scores)):
        first = number - number % parallel
        before = [tried(at, scores[at], **params[at]) for at in range(first)]
        params.append(suggest(SPACE, sampler, seed, number, before, params[first:]))
    return params


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_suggestion_depends_on_what_was_finished_before_its_round_alone(sampler: Any) -> None:
    scores = [(7 * at % 10) / 10 for at in range(12)]
    params = asked(sampler, scores, parallel=3)
    assert params == asked(sampler, scores, parallel=3)
    assert len({json.dumps(each) for each in params}) == 12
    for each in params:
        assert 0.001 <= each["lr"] <= 0.1 and each["near"] in range(1, 10) and each["patch"] in (5, 10)
        assert each["lr"] == float(f"{each['lr']:.4g}") and type(each["near"]) is int
    later = [*scores[:9], 0.9, 0.9, 0.9]  # of the last round: nobody has asked what came of them
    assert asked(sampler, later, parallel=3) == params
    other = asked(sampler, [1 - score for score in scores], parallel=3)
    assert other[:9] == params[:9] and (other != params) == (sampler == "tpe")  # which learns after eight
    assert asked(sampler, scores, parallel=3, seed=4) != params


def test_a_grid_is_gone_through_once() -> None:
    params = asked("grid", [0.5] * 18, parallel=4)
    expected = set(product((0.001, 0.01, 0.1), (1, 5, 9), (5, 10)))
    assert {(each["lr"], each["near"], each["patch"]) for each in params} == expected


def test_tpe_finds_what_is_good() -> None:
    params: list[dict[str, Any]] = []
    known: list[Tried] = []
    for number in range(30):
        params.append(suggest(SPACE, "tpe", 0, number, known, []))
        known.append(tried(number, params[-1]["near"] / 9 - (params[-1]["patch"] == 5) / 2, **params[-1]))
    late = params[15:]
    assert sum(each["near"] for each in late) / 15 > 6.5 and sum(each["patch"] == 10 for each in late) > 9
    shares = importances(SPACE, known)
    assert shares.keys() == SPACE.keys() and shares["lr"] < 0.1 and sum(shares.values()) == pytest.approx(1)


def test_a_trial_that_failed_is_shunned_and_one_that_was_given_up_is_known() -> None:
    bad = {"lr": 0.1, "near": 9, "patch": 10}
    good = [tried(at, 0.5, lr=0.002, near=2, patch=5) for at in range(5)]
    failed = [tried(at, 0, FAILED, **bad) for at in range(5, 10)]
    pruned = [tried(10, 0.4, PRUNED, **bad)]
    found = [suggest(SPACE, "tpe", seed, 11, [*good, *failed, *pruned], []) for seed in range(20)]
    assert sum(each["patch"] == 5 for each in found) > 14


@pytest.mark.parametrize(
    ("first", "earlier", "hopeless"),
    [(0.1, [0.5, 0.6, 0.7], False), (0.1, [0.5, 0.6, 0.7, 0.8], True), (0.65, [0.5, 0.6, 0.7, 0.8], False),
     (0.64, [0.5, 0.6, 0.7, 0.8], True), (0.9, [0.5] * 9, False), (0.5, [0.5] * 9, False)],
)  # fmt: skip
def test_a_trial_is_given_up_below_the_median(first: float, earlier: list[float], hopeless: bool) -> None:
    assert is_hopeless(first, earlier) is hopeless


def test_too_few_trials_tell_nothing_of_importance() -> None:
    assert importances(SPACE, [tried(at, at / 10) for at in range(3)]) == {}
    assert importances(SPACE, [tried(at, 0.5) for at in range(9)]) == {}


# Who wins


def test_the_winner_is_the_best_complete_trial_that_is_fast_enough() -> None:
    rows = (tried(0, 0.5), tried(1, 0.9, PRUNED), tried(2, 0.8, seconds=31), tried(3, 0.7), tried(4, 0.7))
    rows += (tried(5, 0, FAILED),)
    free, limited = Found("pi0", rows, {}, frozenset(), None), Found("pi0", rows, {}, frozenset(), 30.0)
    assert free.winner == rows[2] and free.slower == []
    assert limited.winner == rows[3] and limited.slower == [rows[2]]
    assert [each.number for each in limited.ranked] == [2, 3, 4, 0]
    slow = Found("pi0", rows, {}, frozenset(), 0.5)
    assert slow.winner is None and slow.slower == slow.ranked


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("", "none"),
        ("30", "30 s"),
        ("pi0=30,pi0_fast=60", "pi0 30 s, pi0_fast 60 s"),
        ("1.5,pi0=9", "pi0 9 s, pi0_fast 1.5 s"),
        ("pi0=9,1.5", "pi0 9 s, pi0_fast 1.5 s"),  # a method's own in any order
    ],
)
def test_limits_in_words(given: str, text: str) -> None:
    assert limits_text(make(SearchSettings, {"methods": "pi0,pi0_fast", "max_seconds": given})) == text


@pytest.mark.parametrize("trials", [1, 2, 24])
def test_trials_are_counted_in_whole_numbers(trials: int) -> None:
    rows = tuple(tried(number, 0.5) for number in range(trials))
    terms = "", "pendulum", PENDULUM.scores["calm"], ""
    (axes,) = draw_history(Searched(*terms, (Found("pi0", rows, {}, frozenset(), None),))).axes
    ticks = [at for at in axes.get_xticks() if axes.get_xlim()[0] <= at <= axes.get_xlim()[1]]
    assert ticks and all(at == int(at) for at in ticks) and axes.get_xlim() == (-0.5, trials - 0.5)


# Budgets and bad input


def test_the_default_space_gives_every_method_as_much() -> None:
    settings = SearchSettings()
    around = [(METHODS[name], METHODS[name].settings_type()) for name in settings.names]
    spaces = read_spaces(find_space(settings.space), around)
    assert [*spaces] == ["pi0", "pi0_fast", "regression", "binning"] and {len(each) for each in spaces.values()} == {7}
    for name, space in spaces.items():
        acting = METHODS[name].acting_type.model_fields
        assert set(acting) <= set(space)  # rules of acting are part of it
        for setting in space:
            same = [each[setting] for each in spaces.values() if setting in each]
            assert len(set(same)) == 1, f"{setting} has ranges of several sizes"


@pytest.mark.parametrize("space", ["default", *map(str, sorted((ROOT / "docs/search").glob("*/space.yaml")))])
def test_a_space_is_written_as_it_is_read(space: str, tmp_path: Path) -> None:
    path = find_space(space)
    around = [(METHODS[name], METHODS[name].settings_type()) for name in yaml.safe_load(path.read_text())]
    spaces = read_spaces(path, around)
    (tmp_path / "again.yaml").write_text(space_text(spaces))
    assert read_spaces(tmp_path / "again.yaml", around) == spaces


BAD = {
    "pi0: {lr: {low: 0.1, high: 0.2, choices: [0.1, 0.2]}}": "expected {low, high} or {choices: [...]}",
    "pi0: {}": "expected settings of pi0 with their ranges, found none",
    "regression: {lr: {low: 0.1, high: 0.2}}": "settings of pi0 with their ranges, found none. It has: regression",
    "": "expected methods with their searched settings, found none",
    "pi0: [": "expected a space file in YAML",
    "pi0: {wings: {low: 1, high: 2}}": "pi0.wings: expected a setting of pi0 that can be searched",
    "pi0: {seed: {low: 1, high: 2}}": "pi0.seed: expected a setting of pi0 that can be searched",
    "pi0: {deterministic: {choices: ['no', 'yes']}}": "pi0.deterministic: expected a setting of pi0 that can be",
    "pi0: {lr: {low: 0.2, high: 0.1}}": "pi0.lr: expected low < high, found 0.2 and 0.1",
    "pi0: {lr: {low: 0.1, high: 0.1}}": "pi0.lr: expected low < high",
    "pi0: {lr: {low: 0.1, high: 2}}": "pi0.lr: lr: expected 1 or less, found 2.0",
    "pi0: {lr: {low: 0.1, high: .nan}}": "pi0.lr: high: expected a finite number",
    "pi0: {start_noise: {low: 0, high: 1, log: true}}": "pi0.start_noise: expected low above 0 with log, found 0",
    "pi0: {flow_steps: {low: 1.5, high: 3}}": "pi0.flow_steps: expected whole numbers",
    "pi0: {flow_steps: {choices: [1, two]}}": "pi0.flow_steps: flow_steps: expected a whole number, found 'two'",
    "pi0: {flow_steps: {choices: [1, true]}}": "pi0.flow_steps: expected a value of the setting, found True",
    "pi0: {flow_steps: {choices: [3]}}": "pi0.flow_steps: expected 2 to 100 choices, found [3]",
    "pi0: {flow_steps: {choices: [3, 3.0]}}": "pi0.flow_steps: expected choices that differ",
    "pi0: {schedule: {low: 1, high: 2}}": "pi0.schedule: expected choices, for it is no number",
    "pi0: {lr: 0.1}": "pi0.lr: expected {low, high} or {choices: [...]}, found 0.1",
    "pi0: {lr: {low: 1e-3, high: 0.1, wide: 2}}": "pi0.lr: wide: expected the name of a setting",
    "pi0: {heads: {choices: [2, 7]}}": "pi0.heads: heads: must divide the width 64, found 7",
}  # fmt: skip


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    code = search_command(*words)
    errors = capsys.readouterr().err
    assert code == 2, errors
    assert errors.startswith("error: ") and errors.count("\n") == 1 and len(errors) < 700
    assert not Path("mlruns/mlflow.db").exists() and not Path("train").exists()
    return errors


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("text", BAD)
def test_bad_spaces(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("space.yaml").write_text(text)
    assert BAD[text] in refused(capsys, "--methods", "pi0", "--space", "space.yaml")


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "pi0,wings"], "methods: expected some of pi0, pi0_fast"),
        (["--methods", "pi0 width=8"], "methods: expected text like 'pi0' or 'pi0,pi0_fast', found"),
        (["--trials", 0], "trials: expected 1 or more, found '0'"),
        (["--space", "nowhere.yaml"], "nowhere.yaml: expected a space file in YAML, found: "),
        (["--sampler", "best"], "sampler: expected 'tpe', 'random' or 'grid'"),
        (["--sampler", "grid", "--trials", 99], "trials: expected at most 6, the grid of regression, found 99"),
        (["--max-seconds", "fast"], "max_seconds: expected SECONDS, or METHOD=SECONDS of a method of this search"),
        (["--max-seconds", "binning=3"], "max_seconds: expected SECONDS, or METHOD=SECONDS of a method of this search"),
        (["--set", "regression.lr=0.1"], "set: expected settings that are not searched, found regression.lr"),
        (["--set", "wings=2"], "set: expected a setting of a method of this study"),
        (["--methods", "pi0,regression"], "expected as many searched settings of every method, found 1 of pi0, 2 of"),
    ],
)
def test_bad_settings(words: list[object], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    space = "regression: {lr: {low: 0.1, high: 0.2}, flow: 0}".replace("flow: 0", "patch: {choices: [5, 10]}")
    Path("space.yaml").write_text(f"{space}\npi0: {{lr: {{low: 0.1, high: 0.2}}}}\n")
    assert message in refused(capsys, "--methods", "regression", "--space", "space.yaml", *words)


@pytest.mark.usefixtures("workplace")
def test_without_optuna(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.cli.search.find_spec", lambda _name: None)
    assert "pip install -e '.[search]'" in refused(capsys)


# Episodes of its own


def test_its_episodes_are_nobody_elses() -> None:
    count = 50
    own = draw_episodes(
        PENDULUM, PENDULUM.conditions, count, 7, *Protocol(count, 7, purpose=search_plan.PURPOSE).stream
    )
    for purpose in ("", compare.PURPOSE, promote.PURPOSE, tokenizer_report.PURPOSE):
        others = draw_episodes(PENDULUM, PENDULUM.conditions, count, 7, *filter(None, [purpose]))
        assert not set(map(tuple, own.starts)) & set(map(tuple, others.starts))
        assert (own.noise != others.noise).any()


@given(st.integers(1, 9999), st.integers(0, 9999), st.sampled_from(["", "search"]))
def test_a_protocol_keeps_its_purpose(episodes: int, seed: int, purpose: str) -> None:
    protocol = Protocol(episodes, seed, purpose=purpose)
    assert protocol_of(protocol_tags(protocol)) == protocol
    assert ("of a search" in str(protocol)) == (purpose == "search")


# Presets


def test_a_preset_is_a_whole_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Pi0Settings(lr=0.0123, start_noise=0.5, epochs=7, seed=5, patch=25, threads=2, deterministic="yes")
    path = tmp_path / "pi0.yaml"
    write_preset(path, preset_of(METHODS["pi0"], settings, {"search": "s", "trial": 3}))
    preset = read_preset(path)
    assert preset.acting == {"flow_steps": 5, "start_noise": 0.5} and preset.found == {"search": "s", "trial": 3}
    back = make(Pi0Settings, preset_for("pi0", {"preset": str(path)}))
    of_the_run = {"preset": str(path), "seed": 0, "threads": 1, "deterministic": "no"}
    assert back == settings.model_copy(update=of_the_run)
    path.write_text(path.read_text().replace("settings:", "settings:\n  deterministic: 'yes'"))  # of earlier versions
    assert read_preset(path) == preset
    won = make(Pi0Settings, preset_for("pi0", {"preset": str(path), "lr": "0.5", "patch": "10"}))
    assert (won.lr, won.patch, won.epochs) == (0.5, 10, 7)  # what is given wins, also where it is a default
    assert main(train_command("regression", RegressionSettings), ["--preset", str(path)]) == 2
    assert capsys.readouterr().err == f"error: preset: expected one of regression, found that {path} is one of pi0.\n"
    assert not Path("train").is_dir() or not list(Path("train").glob("logs/.*"))


def test_under_mlflow_run_a_default_is_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes every setting."""
    path, seen = tmp_path / "pi0.yaml", []
    write_preset(path, preset_of(METHODS["pi0"], Pi0Settings(lr=0.0123, epochs=7), {}))
    monkeypatch.setattr("pipeline.cli.train.train", lambda _method, settings: seen.append(settings))
    words = ["--preset", str(path), "--lr", "0.0065", "--epochs", "9", "--patch", "10"]
    for variable in ("", "1"):
        if variable:
            monkeypatch.setenv("MLFLOW_RUN_ID", variable)
        assert main(train_command("pi0", Pi0Settings), words) == 0
    alone, launched = seen
    assert (alone.lr, alone.epochs, launched.lr, launched.epochs) == (0.0065, 9, 0.0123, 9)


def test_presets_of_a_study(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{name}.yaml") for name in ("pi0", "regression")]
    write_preset(Path(paths[0]), preset_of(METHODS["pi0"], Pi0Settings(lr=0.0123, start_noise=0.5), {}))
    write_preset(Path(paths[1]), preset_of(METHODS["regression"], RegressionSettings(lr=0.02, patch=50), {}))

    def groups(methods: str, *words: str, preset: Sequence[str] = paths) -> dict[str, Any]:
        values = {"methods": methods, "preset": ",".join(preset), "set": words}
        return {group.name: group.settings for group in plan_groups(make(EnsembleSettings, values))}

    both = groups("pi0,regression,pi0 start_noise=0,binning", "regression.lr=0.1", "epochs=3")
    assert [each.lr for each in both.values()] == [0.0123, 0.1, 0.0123, BinningSettings().lr]
    assert [each.epochs for each in both.values()] == [3] * 4 and both["regression"].patch == 50
    assert both["pi0"].start_noise == 0.5 and both["pi0 start_noise=0"].start_noise == 0
    with pytest.raises(SettingsError, match="preset: expected at most one of each method of this study"):
        groups("pi0")
    with pytest.raises(SettingsError, match="is another of pi0"):
        groups("pi0", preset=[paths[0], paths[0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no preset: expected names with values, found None"),
        ("format: tinypi-preset-2\nmethod: pi0\nsettings: {}\nacting: {}", "no preset: format: expected"),
        ("method: pi0\nsettings: {}\nacting: {}\nwings: 2", "no preset: wings: expected the name of a setting"),
        ("method: pi0\nsettings: {seed: 3}\nacting: {}", "expected settings of a recipe, found 'seed'"),
        ("method: [", "expected a preset in YAML"),
        ("method: pi0\nsettings: {lr: fast}\nacting: {}", "lr: expected a number, found 'fast'"),
        ("method: pi0\nsettings: {wings: 2}\nacting: {}", "wings: expected the name of a setting"),
    ],
)
def test_bad_presets(text: str, message: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("preset.yaml").write_text(text)
    assert main(train_command("pi0", Pi0Settings), ["--preset", "preset.yaml"]) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1 and not Path("mlruns/mlflow.db").exists()


# Searches

FEW = ["--trials", "3", "--seeds-per-trial", "2"]
ON_POOL = ["--executor", "pool", "--workers", "2"]
shares_the_search = pytest.mark.xdist_group("search")


def started(folder: Path, *words: str) -> warm.Command:
    return warm.Command(folder, ["-m", "pipeline", "search", *WORDS, *FEW, *words], environment())


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a search of three trials with two seeds each."""
    return place(tmp_path_factory.mktemp("undisturbed"), data, search=True)


def place(folder: Path, data: Path, search: bool = False) -> Path:
    (folder / "data").symlink_to(data)
    (folder / "space.yaml").write_text(TINY_SPACE)
    put_store(folder)
    if search:
        process = started(folder)
        assert process.wait() == 0, process.errors()
    return folder


def parent(run: MlflowRun) -> str:
    return run.data.tags["mlflow.parentRunId"]


def outcomes(folder: Path) -> dict[str, tuple[Any, ...]]:
    """What is true of each trial, without times and ids."""
    found = {}
    for run in of_kind(folder, "trial"):
        told = json.loads(run.data.tags["outcome"])
        models = [each for each in of_kind(folder, "model") if parent(each) == run.info.run_id]
        trained = [each for each in models if each.info.status == "FINISHED"]
        weights = {each.data.params["seed"]: each.data.tags["weights_sha256"] for each in trained}
        assert len(weights) == len(trained) == len(told["scores"])  # none was trained twice
        found[run.data.tags["group"]] = (run.data.tags["tried"], told["state"], told["scores"], weights)
    assert {run.info.status for run in runs_of(folder)} <= {"FINISHED", "KILLED", "FAILED"}
    return found


def settled(folder: Path) -> tuple[Any, ...]:
    """The files that a search leaves, without times and ids."""
    left = folder / "train/reports/search"
    assert {path.name for path in left.iterdir()} == FILES | {"regression.yaml"}
    preset = yaml.safe_load((left / "regression.yaml").read_text())
    assert preset["found"].pop("run_id") and preset["found"].pop("train_seconds") > 0
    rows = list(csv.DictReader((left / "trials.csv").open()))
    told = [
        [str(each["number"]), each["state"], " ".join(map(repr, each["scores"]))] for each in preset["found"]["tried"]
    ]
    assert told == [[row["trial"], row["state"], row["scores"]] for row in rows]
    return preset, [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@shares_the_search
def test_the_page_of_a_search(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, evidence = tmp_path / "search.md", tmp_path / "search"
    before = "# Ours\n\n<!-- search: `x` renews this -->\n<!-- end of search -->\nEnd.\n"
    page.write_text(before)
    monkeypatch.setattr(renew_search, "PAGE", page)
    monkeypatch.setattr(renew_search, "EVIDENCE", evidence)
    monkeypatch.chdir(undisturbed)
    assert renew_search.main(["search", "other"]) == 2 and "no finished search 'other'" in capsys.readouterr().err
    assert page.read_text() == before and not evidence.exists()
    assert renew_search.main(["search"]) == 0
    winner = yaml.safe_load((evidence / "search" / "regression.yaml").read_text())["found"]["trial"]
    assert f"| regression | 3 | 0 | 0 | {winner} |" in page.read_text() and page.read_text().endswith("-->\nEnd.\n")
    assert {path.name for path in (evidence / "search").iterdir()} == FILES - {"search.md"} | {"regression.yaml"}


@shares_the_search
@pytest.mark.slow(seconds=9)
def test_the_runs_of_a_search(undisturbed: Path) -> None:
    (search,), (method,) = of_kind(undisturbed, "search"), of_kind(undisturbed, "group")
    trials, models = of_kind(undisturbed, "trial"), of_kind(undisturbed, "model")
    assert {run.info.status for run in runs_of(undisturbed)} == {"FINISHED"}
    assert len(trials) == 3 and len(models) == 6 and parent(method) == search.info.run_id
    assert {parent(run) for run in trials} == {method.info.run_id}
    episodes = "1 episodes per condition, seed 0, of a search"
    assert search.data.tags["search.episodes"] == episodes and search.data.tags["search.score"] == "calm"
    for run in models:
        assert run.data.tags["evaluation"] == episodes and run.data.tags["search"] == "search"
    for run in trials:
        own = [each for each in models if parent(each) == run.info.run_id]
        assert sorted(each.data.params["seed"] for each in own) == ["1000000", "1000001"]
        told, params = json.loads(run.data.tags["outcome"]), json.loads(run.data.tags["tried"])
        assert sorted(told["scores"]) == sorted(each.data.metrics["calm/mean"] for each in own)
        assert run.data.metrics["score"] == pytest.approx(sum(told["scores"]) / 2)
        for each in own:
            assert {name: float(each.data.params[name]) for name in params} == params
    assert "**Search search**" in search.data.tags["mlflow.note.content"]
    stored = {Path(each.path).name for each in store(undisturbed).list_artifacts(search.info.run_id, "report")}
    assert stored == FILES | {"regression.yaml"}


@shares_the_search
@pytest.mark.slow(seconds=1)
def test_its_order_by_hand(undisturbed: Path) -> None:
    """In rounds of two: trial 1 is chosen beside 0, and 2 when both are known."""
    (undisturbed / "one.yaml").write_text(TINY_SPACE)
    around = [(METHODS["regression"], RegressionSettings())]
    space, seed = read_spaces(undisturbed / "one.yaml", around)["regression"], derive(0, "search", "regression")
    stored = {int(run.data.tags["trial"]): run.data.tags for run in of_kind(undisturbed, "trial")}
    params = {number: json.loads(tags["tried"]) for number, tags in stored.items()}
    scores = {number: tuple(json.loads(tags["outcome"])["scores"]) for number, tags in stored.items()}
    done = [Tried("regression", number, params[number], COMPLETE, scores[number], ()) for number in (0, 1)]
    assert params == {
        0: suggest(space, "tpe", seed, 0, [], []),
        1: suggest(space, "tpe", seed, 1, [], [params[0]]),
        2: suggest(space, "tpe", seed, 2, done, []),
    }


@shares_the_search
@pytest.mark.slow(seconds=2)
def test_the_same_command_finds_all_done_and_other_terms_are_refused(undisturbed: Path) -> None:
    before = [run.info.run_id for run in runs_of(undisturbed)]
    again = started(undisturbed)
    assert again.wait() == 0 and "done in" not in again.printed()
    for words, message in (
        (["--seed", "1"], "search: 'search' has seed 0, and 1 is asked for"),
        (["--episodes", "2"], "search: 'search' has episodes 1, and 2 is asked for"),
        (["--set", "epochs=2"], "has recipe of regression: epochs 1, and 2 is asked for"),
    ):
        other = started(undisturbed, *words)
        assert other.wait() == 2 and message in other.errors(), other.errors()
    report = warm.run(undisturbed, ["-m", "pipeline", "report"], environment())
    assert report.returncode == 2 and "expected a store with finished models, found none" in report.stderr
    assert [run.info.run_id for run in runs_of(undisturbed)] == before


@shares_the_search
@pytest.mark.slow(seconds=10)
def test_a_search_that_is_killed_ends_with_the_trials_of_an_undisturbed_one(
    undisturbed: Path, data: Path, tmp_path: Path
) -> None:
    """By another executor than the undisturbed one, too. The long test below kills it ten times."""
    folder, moments = place(tmp_path, data), random.Random(2)
    process = started(folder, *ON_POOL)
    while len(re.findall("done in", process.printed())) < 1 and process.returncode is None:
        time.sleep(0.02)
    time.sleep(moments.random())
    process.send_signal(signal.SIGKILL)
    assert process.wait() in (0, -signal.SIGKILL)
    process = started(folder, *ON_POOL)
    assert process.wait() == 0, process.errors()
    assert outcomes(folder) == outcomes(undisturbed)
    assert settled(folder) == settled(undisturbed)


MANY = [
    "--methods",
    "regression,pi0",
    "--trials",
    "14",
    "--set",
    "width=32",
    "batch_size=64",
    "epochs=8",
    "--episodes",
    "4",
]


@pytest.mark.long
@pytest.mark.slow(seconds=240)
def test_it_is_killed_ten_times_at_work_on_a_pool(data: Path, tmp_path: Path) -> None:
    """Beyond the first trials, which are drawn at random: the later depend on those before, and some are given up."""
    alone, folder, moments = tmp_path / "alone", tmp_path / "killed", random.Random(10)
    for each in (alone, folder):
        each.mkdir()
        place(each, data)
    whole = started(alone, *MANY)
    assert whole.wait(900) == 0, whole.errors()
    ended = []
    for _ in range(10):
        process = started(folder, *MANY, *ON_POOL)
        jobs = moments.randrange(1, 4)
        while len(re.findall("done in", process.printed())) < jobs and process.returncode is None:
            time.sleep(0.02)
        time.sleep(moments.random())
        process.send_signal(signal.SIGKILL)
        ended.append(process.wait())
    assert ended == [-signal.SIGKILL] * 10, "each met work"
    process = started(folder, *MANY, *ON_POOL)
    assert process.wait(900) == 0, process.errors()
    found = outcomes(folder)
    assert found == outcomes(alone) and len(found) == 2 * 14
    assert 0 < [state for _, state, *_ in found.values()].count(PRUNED) < len(found)


@pytest.mark.slow(seconds=5)
def test_a_training_that_diverges_is_a_failed_trial_and_is_not_repeated(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_store(workplace)
    Path("space.yaml").write_text("regression: {width: {choices: [8, 64]}, heads: {choices: [2, 64]}}")
    real, calls = search_rounds.make_member, []
    full = ["regression trial 1"]

    def make_member(member: Any, *rest: Any) -> str:
        calls.append(member.name)
        if member.group == "regression trial 0":
            raise DivergedError("training step 1: expected a finite loss, found nan")
        if member.group in full:
            raise RunError("the disk is full")
        return real(member, *rest)

    monkeypatch.setattr(search_rounds, "make_member", make_member)
    words = ["--space", "space.yaml", "--set", "epochs=1,layers=1,batch_size=512", "--episodes", 1, "--executor",
             "serial",
             "--methods", "regression", "--trials", 4, "--seeds-per-trial", 1, "--sampler", "grid"]  # fmt: skip
    assert search_command(*words, "--seed", 1) == 1
    assert "1 trainings failed, the first: regression trial 1 seed 1000000: the disk is full" in capsys.readouterr().err
    full.clear()
    calls[:] = [name for name in calls if name != "regression trial 1 seed 1000000"]
    assert search_command(*words, "--seed", 1) == 0
    printed = capsys.readouterr().out
    states = {run.data.tags["group"]: run.data.tags["state"] for run in of_kind(workplace, "trial")}
    assert states["regression trial 0"] == FAILED and calls.count("regression trial 0 seed 1000000") == 1
    assert "regression trial 0 failed: training step 1: expected a finite loss, found nan" in printed
    (impossible,) = [
        run for run in of_kind(workplace, "trial") if "must divide the width 8" in run.data.tags["outcome"]
    ]
    assert impossible.data.tags["state"] == FAILED and len(calls) == 3
    assert list(states.values()).count(COMPLETE) == 2

    def presets() -> list[list[str]]:
        stored = store(workplace).list_artifacts(of_kind(workplace, "search")[0].info.run_id, "report")
        names = (Path(each.path).name for each in stored)
        return [[path.name for path in Path("train/reports/search").iterdir()], [*names]]

    assert all("regression.yaml" in names for names in presets())

    def limits() -> tuple[str, object]:
        path = Path("train/reports/search/regression.yaml")
        preset = yaml.safe_load(path.read_text())["found"]["max_seconds"] if path.exists() else None
        return of_kind(workplace, "search")[0].data.tags["search.max_seconds"], preset

    before = len(calls)
    assert limits() == ("none", None)
    assert search_command(*words, "--seed", 1, "--max-seconds", "900") == 0 and limits() == ("900 s", 900.0)
    assert "longest training of a winner 900 s;" in capsys.readouterr().out
    assert search_command(*words, "--seed", 1, "--max-seconds", "regression=0.0001") == 0 and len(calls) == before
    assert limits() == ("0.0001 s", None)
    assert not any("regression.yaml" in names for names in presets()), "a winner that is withdrawn takes its preset"
