"""Two horizons in one study: own data from the same demonstrations, the same episodes, a row of the page."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from docs import published, renew_horizon, renew_lesson
from docs.marks import parts_of, renew
from docs.renew_horizon import PAGE, pairs_of, render
from pipeline.config import make
from pipeline.data.pairs import load_action_pairs
from pipeline.errors import DataError, SettingsError
from pipeline.methods.method import Prepared
from pipeline.report.comparison import Comparison, Model, compare_models
from pipeline.report.design import Design
from pipeline.stages.collect import collect
from pipeline.stages.settings import CollectSettings, TokenizeSettings
from pipeline.stages.tokenize import tokenize
from pipeline.studies.groups import plan_groups
from pipeline.studies.settings import EnsembleSettings
from pipeline.studies.study_plan import prepare_data
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.settings import at_task, settle
from tests.conftest import SMALL_TRAJECTORIES, TINY, Run, runs_of

BOTH = "regression patch=5,regression patch=5 horizon=25,pi0_fast,pi0_fast horizon=25"
TINY_WORDS = [word for name, value in TINY.items() for word in (f"--{name}", str(value))]
SHORT = Path("data/horizon_25")


@pytest.fixture
def own_data(workplace: Path, data: Path) -> None:
    """A copy of the small data, to be written to."""
    (workplace / "data").unlink()
    shutil.copytree(data, workplace / "data")


def make_other(horizon: int, seed: int = 0) -> None:
    """Chunks of so many actions from as many demonstrations."""
    settings = {"horizon": horizon, "trajectories": SMALL_TRAJECTORIES, "seed": seed, "threads": 1}
    collect(at_task(make(CollectSettings, settings), PENDULUM))


def make_short(seed: int = 0) -> None:
    """Chunks of 25 actions, and their tokens."""
    make_other(25, seed)
    tokenize(at_task(make(TokenizeSettings, {"horizon": 25}), PENDULUM))


def prepared(**values: object) -> dict[str, Prepared]:
    settings, task = settle(make(EnsembleSettings, values))
    groups = [replace(group, settings=at_task(group.settings, task)) for group in plan_groups(settings)]
    return prepare_data(task, settings, groups, lambda line: None)[0]


@pytest.mark.usefixtures("own_data")
def test_a_group_of_another_horizon_has_its_own_data_of_the_same_demonstrations() -> None:
    make_short()
    found = prepared(methods=BOTH)
    assert [one.interface.horizon for one in found.values()] == [50, 25, 50, 25]
    assert [one.source.files["data"].parent for one in found.values()] == [Path("data"), SHORT, Path("data"), SHORT]
    assert len({one.split.digest for one in found.values()}) == 1
    long, short = (load_action_pairs(folder / "training_pairs_original.npz") for folder in (Path("data"), SHORT))
    assert np.array_equal(long.state, short.state)
    assert np.array_equal(long.action_chunk[:, :25], short.action_chunk)
    # Of a study of short plans, a group may have the task's own.
    other = prepared(methods="regression patch=5,regression patch=5 horizon=50", horizon=25)
    assert [one.source.files["data"].parent for one in other.values()] == [SHORT, Path("data")]


@pytest.mark.usefixtures("own_data")
def test_a_horizon_that_lengthens_the_demonstrations_is_of_the_same_ones() -> None:
    methods = "regression patch=5,regression patch=5 horizon=60"
    make_other(60, seed=1)
    with pytest.raises(DataError, match=r"data/horizon_60/training_pairs_original\.npz: was cut from demonstrations"):
        prepared(methods=methods)
    make_other(60)
    assert [one.interface.horizon for one in prepared(methods=methods).values()] == [50, 60]


@pytest.mark.usefixtures("own_data")
@pytest.mark.parametrize("methods", [BOTH.split(",pi0")[0], "pi0_fast,pi0_fast horizon=25"])
def test_other_demonstrations_are_refused(methods: str) -> None:
    make_short(seed=1)
    with pytest.raises(DataError, match=f"{SHORT}/training_pairs_original.npz: was cut from demonstrations"):
        prepared(methods=methods)


@pytest.mark.slow(seconds=8)
@pytest.mark.usefixtures("with_store", "own_data")
def test_a_study_of_two_horizons(
    run: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are judged on the same episodes, and the page has a row for them."""
    make_short()
    methods = BOTH.split(",pi0")[0]
    words = ("--study", "horizon-pendulum", "--methods", methods, "--n-models", 1, "--executor", "serial")
    result = run("pipeline", "ensemble", *words, *TINY_WORDS)
    assert result.returncode == 0, result.stderr
    models = [run.data for run in runs_of(workplace) if run.data.tags.get("kind") == "model"]
    assert sorted(model.params["horizon"] for model in models) == ["0", "25"]
    assert len({model.tags["evaluation"] for model in models}) == 1
    assert all("calm/mean" in model.metrics for model in models)
    again = run("pipeline", "ensemble", *words, *TINY_WORDS)
    assert "0 jobs run, 2 models reused" in again.stdout
    page = Path(shutil.copy(renew_horizon.PAGE, workplace))
    monkeypatch.setattr(renew_horizon, "PAGE", page)
    monkeypatch.setattr(published, "FOLDER", workplace / "episodes")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workplace}/mlruns/mlflow.db")
    assert renew_horizon.main([]) == 0
    assert (
        "| pendulum | regression patch=5 | calm | 50: 0.000 | 25: 0.000 | +0.0000 | - | undecided |" in page.read_text()
    )
    assert [path.name for path in (workplace / "episodes").rglob("*.*")] == ["pendulum.npz"]
    assert renew_lesson.main(["horizon"]) == 2
    assert "study horizon-pendulum: expected two groups of 6 models or more" in capsys.readouterr().err


# The page


def comparison(*groups: str, short: float = -0.05) -> Comparison:
    where = tuple((each.action_noise, each.replan) for each in PENDULUM.conditions)

    def model(group: str, seed: int) -> Model:
        mean = 0.7 + (short if "horizon" in group else 0)
        scores = np.random.default_rng([len(group), seed]).normal(mean, 0.02, (9, 50))
        return Model(group, "model", group, seed, f"{group}{seed}", f"{group}{seed}", where, {"calm": scores}, {})

    models = [model(group, seed) for group in groups for seed in range(5)]
    about = "50 episodes per condition, seed 3"
    return compare_models(PENDULUM, "study x", about, Design("calm", 0.01, "nine", 50, 3), models, [])


def test_rows_are_of_one_method_with_two_horizons() -> None:
    found = comparison("pi0", "pi0 horizon=25 patch=5", "pi0_fast", "pi0_fast horizon=25", "regression")
    assert [(pair.first, pair.second) for pair in pairs_of(found)] == [
        ("pi0", "pi0 horizon=25 patch=5"), ("pi0_fast", "pi0_fast horizon=25"),
    ]  # fmt: skip
    head, _, *rows = re.findall(r"^\|.*$", render([found]), flags=re.MULTILINE)
    assert len(rows) == 2 and len({line.count("|") for line in (head, *rows)}) == 1
    number = r"0\.\d{3} ± 0\.\d{3}"
    shown = (
        rf"\| pendulum \| pi0 patch=5 \| calm \| 50: {number} \| 25: {number} \| \+0\.0\d+ \| \[0\..*\] \| 50 is better"
    )
    assert re.match(shown, rows[0])
    assert "Pendulum: 50 episodes per condition, seed 3." in render([found])


@pytest.mark.parametrize(("short", "word"), [(0.05, "25 is better"), (0.0, "equivalent within 0.01")])
def test_the_better_horizon_is_named(short: float, word: str) -> None:
    assert f"| {word} |" in render([comparison("pi0", "pi0 horizon=25", short=short)])


def test_a_part_of_a_page_is_renewed_and_the_rest_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    part = "<!-- {0}: `command` renews this -->\n{1}\n<!-- end of {0} -->\n".format
    page.write_text(f"begin\n{part('one', 'old')}between\n{part('two', 'old')}end\n")
    renew(page, {"two": r"new \1"})
    new = "\nnew \\1\n"
    assert page.read_text() == f"begin\n{part('one', 'old')}between\n{part('two', new)}end\n"
    assert parts_of(page) == ["one", "two"]
    with pytest.raises(SettingsError, match="expected a part between marks"):
        renew(page, {"three": ""})
    assert "horizon" in parts_of(PAGE)
