"""`make results`: what the pages say follows from a suite's verdicts, and is read from its store."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from docs import published, renew_results
from docs.findings import PUBLISHED, SAMPLED, findings, gap_to_planner, versus
from docs.renew_results import Found, labelled, main, pages_of
from docs.result_pages import front_table, reading, section, summary
from pipeline.config import make
from pipeline.data.npz import read_npz, write_npz
from pipeline.errors import SettingsError
from pipeline.report.comparison import Comparison
from pipeline.report.leaders import verdict_of
from pipeline.report.plotting import Figure
from pipeline.report.suite import Suite
from pipeline.studies.settings import SuiteSettings
from pipeline.studies.suite import run_suite
from pipeline.tasks.project import TASKS
from pipeline.tasks.registry import find_task
from tests.conftest import TINY, runs_of
from tests.test_report_suite import made_up

GROUPS = ("pi0", f"pi0{PUBLISHED}", "pi0_fast", f"pi0_fast{PUBLISHED}", "regression", "binning")
MEANS = {
    "pendulum": (0.8, 0.6, 0.7, 0.65, 0.5, 0.4),
    "double_pendulum": (0.7, 0.6, 0.8, 0.75, 0.5, 0.4),
    "swing_up": (0.5, 0.55, 0.6, 0.65, 0.05, 0.4),
    "reacher": (0.6, 0.8, 0.5, 0.7, 0.1, 0.4),
    "avoiding": (0.1, 0.3, 0.3, 0.4, 0.2, 0.35),
}
YARDSTICKS = {
    "pendulum": {"LQR, planned": 0.9, "PID, closed loop": 0.99},
    "double_pendulum": {"LQR, planned": 0.75},
    "swing_up": {"demonstrator, planned": 0.7, "mean of both sides, planned": 0.02},
    "reacher": {"demonstrator, planned": 0.95, "mean of both sides": 0.01},
    "avoiding": {"demonstrator, planned": 0.92, "mean of all ways": 0.03},
}


@pytest.fixture(scope="module")
def suite() -> Suite:
    """All tasks and groups."""
    return {
        name: made_up(find_task(name), dict(zip(GROUPS, means, strict=True)), models=3, **YARDSTICKS[name])
        for name, means in MEANS.items()
    }


def test_a_yardstick_is_ahead_of_all_methods_only_where_that_is_shown(suite: Suite) -> None:
    gaps = {name: gap_to_planner(comparison) for name, comparison in suite.items()}
    assert gaps.pop("double_pendulum") is None  # one method is better
    assert gaps == {
        name: pytest.approx(gap, abs=0.02)
        for name, gap in {"pendulum": 0.1, "swing_up": 0.05, "reacher": 0.15, "avoiding": 0.52}.items()
    }
    near = made_up(find_task("pendulum"), {"pi0": 0.8, "regression": 0.5}, models=3, **{"LQR, planned": 0.803})
    assert gap_to_planner(near) is None  # it has the larger mean, which may be chance


def test_sentences_say_what_the_verdicts_say(suite: Suite) -> None:
    said = dict(re.fullmatch(r"\*\*(.*?)\*\*(.*)", sentence).groups() for sentence in findings(suite, {})[:8])
    assert re.sub(r"0\.\d+", "x", said["Flow matching or tokens"]) == (
        ": pi0 is better than pi0_fast on pendulum and reacher, by x to x, worse on double_pendulum, swing_up and "
        "avoiding, by x to x."
    )
    binning = "pi0_fast is better than binning on pendulum, double_pendulum, swing_up and reacher, by "
    assert binning in said["FAST or a token per action"]
    answers = said["Where a state has several good answers"]
    assert re.match(r" \(swing_up, reacher and avoiding\), the mean of the answers scores at most 0\.0\d;", answers)
    assert answers.endswith("and another method is better on 3 of 3.")
    assert "on pendulum, swing_up, reacher and avoiding a controller that plans" in said["Yardsticks"]
    assert "; pi0_fast on double_pendulum; " in said["No method is in front on all tasks"]
    assert said["How a model acts"].startswith(", with the same weights: pi0 as published is better than pi0 on ")
    assert len(findings(suite, {})) == 10
    sampled = made_up(find_task("reacher"), {"pi0_fast": 0.5, f"pi0_fast{SAMPLED}": 0.6}, models=3)
    assert ": pi0_fast sampled is better than pi0_fast on reacher, by " in "".join(findings({"reacher": sampled}, {}))


def test_sentences_of_what_is_not_there_are_left_out(suite: Suite) -> None:
    few = {"pendulum": made_up(find_task("pendulum"), {"pi0": 0.8, "pi0_fast": 0.5}, models=3)}
    said = findings(few, {"set": ["lr=0.1"]})
    assert said[0] == "**pi0 is in front on all tasks**: no other is shown to be better."
    assert len(said) == 3
    assert not any(word in "".join(said) for word in ("regression", "binning", "published", "searched"))
    assert versus(suite, "pi0", "nothing") == ""
    even = {name: made_up(find_task(name), {"pi0": 0.5, "pi0_fast": 0.5}, models=2) for name in ("pendulum", "reacher")}
    assert findings(even, {})[0] == "**No difference is shown** on any task: pendulum and reacher."
    assert findings({**few, "reacher": even["reacher"]}, {})[0].endswith("On reacher no difference is shown.")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("better", "better"), "pi0 is better than pi0_fast on all 2 tasks, by "),
        (("worse", "worse"), "pi0 is worse than pi0_fast on all 2 tasks, by "),
        (("equivalent", "equivalent"), "pi0 and pi0_fast are equivalent on all 2 tasks."),
        (("undecided", "equivalent"), "pi0 and pi0_fast are equivalent on reacher, undecided on pendulum."),
        (("undecided", "undecided"), "it is undecided between pi0 and pi0_fast on all 2 tasks."),
    ],
)
def test_a_pair_in_words(suite: Suite, words: tuple[str, str], said: str) -> None:
    def with_word(comparison: Comparison, word: str) -> Comparison:
        (pair,) = (each for each in comparison.contrasts if (each.first, each.second) == ("pi0", "pi0_fast"))
        return replace(comparison, contrasts=(replace(pair, verdict=replace(pair.verdict, word=word)),))

    two = {name: with_word(suite[name], word) for name, word in zip(("pendulum", "reacher"), words, strict=True)}
    turned = {"better": "worse", "worse": "better"}.get(words[0], words[0])
    assert versus(two, "pi0", "pi0_fast").startswith(said)
    assert turned in versus(two, "pi0_fast", "pi0")


def test_pages_have_every_verdict_and_whole_tables(suite: Suite) -> None:
    table = front_table(suite, "docs/tasks")
    for name, comparison in suite.items():
        (row,) = (line for line in table.splitlines() if f"[{name}](docs/tasks/{name}.md)" in line)
        assert row.endswith(f"| {verdict_of(comparison)} |")
        cells = [cell.strip() for cell in row.split("|")[2:-2]]
        assert [cell.startswith("**") for cell in cells] == [max(MEANS[name]) == mean for mean in MEANS[name]]
    assert "Of 75 pairs" in reading(suite) and "No results" not in reading(suite)
    said = " ".join(reading(suite, ["reacher", "avoiding"]).split())
    assert said.endswith("No results yet: reacher and avoiding.")
    pendulum = find_task("pendulum")
    counts = {count: made_up(pendulum, {"pi0": 0.8, "pi0_fast": 0.5}, models=count) for count in (3, 4, 6)}
    assert "over 3 to 6 models" in reading({str(count): each for count, each in counts.items()})
    alone = summary({"pendulum": made_up(pendulum, {"pi0": 0.8, "pi0_fast": 0.5}, models=1)})
    assert alone.endswith("| - | not known: so few models give no interval |")
    full = section(suite["avoiding"], "avoiding", ["a picture"])
    assert all(group in full for group in (*GROUPS, *YARDSTICKS["avoiding"]))
    assert full.count(" minus ") == 0 and full.count("is better |") > 10
    for text in (table, full, summary(suite)):
        for part in re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in part.splitlines()}) == 1


def test_groups_have_one_name_on_a_page() -> None:
    known = made_up(find_task("pendulum"), {"pi0": 0.8, "pi0 start_noise=1": 0.5}, models=3)
    page = labelled(replace(known, notes=("pi0 start_noise=1: its models are those of pi0",)))
    assert page.notes == (f"pi0{PUBLISHED}: its models are those of pi0",)
    assert [group.name for group in page.groups] == ["pi0", f"pi0{PUBLISHED}"]


def test_pages_fit_their_marks_and_readme_its_length(suite: Suite) -> None:
    pages = pages_of(Found(suite, {}, {}, {f"tasks/reacher_{name}.png": Figure() for name in ("paths", "verdicts")}))
    readme, tasks = pages[renew_results.README], renew_results.DOCS / "tasks"
    assert len(readme.splitlines()) <= 150
    assert set(pages) > {tasks / f"{task}.md" for task in TASKS} | {tasks / "README.md", tasks.with_name("results.md")}
    assert "](reacher_paths.png)" in pages[tasks / "reacher.md"] and "paths.png" not in pages[tasks / "pendulum.md"]
    assert pages[tasks.with_name("results.md")].count("](tasks/reacher_verdicts.png)") == 1
    made = {"suite.png", "reacher_paths.png", "reacher_verdicts.png"}
    for path, text in pages.items():
        named = re.findall(r"\]\(([^)#:]+\.(?:md|png))", text)
        assert named and all((path.parent / each).exists() for each in named if Path(each).name not in made), path


@pytest.fixture
def copied(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the pages, to be renewed from a store beside it."""
    for page in (renew_results.README, *renew_results.DOCS.glob("*.md"), *renew_results.DOCS.glob("tasks/*.md")):
        copy = workplace / page.relative_to(renew_results.ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(page, copy)
    monkeypatch.setattr(renew_results, "ROOT", workplace)
    monkeypatch.setattr(renew_results, "README", workplace / "README.md")
    monkeypatch.setattr(renew_results, "DOCS", workplace / "docs")
    monkeypatch.setattr(published, "FOLDER", workplace / "docs/episodes")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workplace}/mlruns/mlflow.db")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # as in our processes
    return workplace


class Interrupted(Exception):
    """What ends a suite before its second task."""


@pytest.mark.slow(seconds=12)
@pytest.mark.usefixtures("with_store")
def test_a_suite_under_way_renews_what_it_has(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"tasks": "pendulum,avoiding", "methods": "pi0,pi0 start_noise=1", "n_models": 1, "executor": "serial"}
    tiny = [f"{name}={value}" for name, value in TINY.items() if name != "episodes"]

    def say(line: str) -> None:
        if line.startswith("task avoiding"):
            raise Interrupted

    settings = make(SuiteSettings, values | {"episodes": str(TINY["episodes"]), "set": tiny})
    with pytest.raises(Interrupted):
        run_suite(settings, say, lambda *_: None)
    before = (copied / "docs/tasks/avoiding.md").read_text()
    capsys.readouterr()
    assert main([]) == 0
    out, err = capsys.readouterr()
    why = "left as it was: report: expected a study 'suite-{0}' with finished models"
    others = [task for task in TASKS if task != "pendulum"]
    assert all(
        line.startswith(f"{task}: {why.format(task)}") for task, line in zip(others, err.splitlines(), strict=True)
    )
    assert "renewed README.md, docs/results.md" in out
    assert (copied / "docs/tasks/avoiding.md").read_text() == before
    pages = {name: (copied / name).read_text() for name in ("README.md", "docs/results.md", "docs/tasks/pendulum.md")}
    assert "|  | pi0 | pi0 as published | verdict |" in pages["README.md"]
    assert "LQR, planned" in pages["docs/results.md"]
    assert "| **pi0 as published** | 1 |" in pages["docs/tasks/pendulum.md"]
    assert "start_noise=1" not in re.sub(r"Note: .*", "", pages["docs/tasks/pendulum.md"])
    drawn = {path.name for path in copied.rglob("docs/**/*.png")}
    for path in copied.rglob("docs/**/*.png"):
        with Image.open(path) as picture:
            assert picture.mode == "P", "as written by save_small"
    assert drawn == {"suite.png", "pendulum_verdicts.png", "scores.png", "converge_steps.png", "plans.png"}

    (study,) = [run for run in runs_of(copied) if run.data.tags["kind"] == "study"]
    MlflowClient().set_terminated(study.info.run_id, "KILLED")  # as by an interruption: part of a study is no result
    pictures = {path: path.read_bytes() for path in copied.rglob("docs/**/*.png")}
    for path in pictures:
        path.write_bytes(b"old")
    assert main([]) == 0, "the episodes were kept"
    same = {path.name for path, picture in pictures.items() if path.read_bytes() == picture}
    assert same == drawn - {"plans.png"}, "plans are not among them"
    assert (
        "pendulum: as it was kept: study 'suite-pendulum': expected one that is at its end" in capsys.readouterr().err
    )
    assert {name: (copied / name).read_text() for name in pages} == pages
    shutil.rmtree(published.FOLDER)
    MlflowClient().set_tag(study.info.run_id, "complete", "no")
    MlflowClient().set_terminated(study.info.run_id, "FAILED")  # the store was away before all models were trained
    assert main([]) == 2 and "study 'suite-pendulum': expected one that is at its end, found FAILED" in (
        capsys.readouterr().err
    )
    MlflowClient().set_terminated(study.info.run_id, "KILLED")
    assert main([]) == 2 and "study 'suite-pendulum': expected one that is at its end" in capsys.readouterr().err

    # Taken up again: what is finished stays, and a task whose data are refused when its turn comes is told.
    broken = copied / "data/avoiding/training_pairs_original.npz"
    broken.parent.mkdir()
    broken.write_bytes(b"no pairs")
    again = run_suite(settings, lambda _line: None, lambda *_: None)
    assert list(again.comparisons) == ["pendulum"] and len(again.comparisons["pendulum"].of_kind("model")) == 2
    (failure,) = again.failures
    assert failure.startswith("avoiding: data/avoiding/training_pairs_original.npz: ")
    (run,) = [run for run in runs_of(copied) if run.data.tags["kind"] == "suite"]
    assert run.info.status == "FAILED" and run.data.tags["failures"] == failure
    assert len([run for run in runs_of(copied) if run.data.tags["kind"] == "model"]) == 1, "none is trained again"


@pytest.mark.usefixtures("with_store")
def test_without_a_suite_nothing_is_renewed(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (copied / "README.md").read_bytes()
    assert main(["mine"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected a suite 'mine' there, found none. Run 'make suite' first." in line
    assert (copied / "README.md").read_bytes() == before


def test_a_page_without_marks_is_named(copied: Path, suite: Suite) -> None:
    page = copied / "docs/tasks/reacher.md"
    page.write_text(page.read_text().replace("<!-- end of results -->", ""))
    with pytest.raises(SettingsError, match=r"^reacher\.md: expected a part between marks, found none: results\."):
        pages_of(Found(suite, {}, {}, {}))


def test_what_is_kept_of_a_study_says_the_same(suite: Suite, tmp_path: Path) -> None:
    for task, comparison in suite.items():
        file = tmp_path / f"{task}.npz"
        published.keep(comparison, {"n_models": 3}, file)
        again, settings = published.read(file)
        assert (again.title, again.protocol, again.design) == (comparison.title, comparison.protocol, comparison.design)
        for old, new in zip(comparison.groups, again.groups, strict=True):
            assert (old.name, old.kind) == (new.name, new.kind)
            for before, after in zip(old.models, new.models, strict=True):
                assert replace(before, episodes={}).__dict__ == replace(after, episodes={}).__dict__
                assert list(before.episodes) == list(after.episodes)
                for name, scores in after.episodes.items():
                    assert np.abs(before.episodes[name] - scores).max() < 0.51e-4
        pages = [re.sub(r"0\.\d{4} ", "p ", section(each, task, [])) for each in (again, comparison)]
        assert pages[0] == pages[1] and settings == {"n_models": 3}  # but for the last digit of p-values
        published.keep(again, settings, file.with_name("again.npz"))
        assert file.read_bytes() == file.with_name("again.npz").read_bytes(), "kept again, it does not change"
        before = file.read_bytes()
        published.keep(comparison, {"n_models": 9}, file)
        assert file.read_bytes() == before, "nor do the settings of another call change it"


def rewritten(file: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    """Write a kept study as somebody else would: changed, and sealed anew."""
    arrays, about = read_npz(file, "")
    change(arrays, about)
    write_npz(file, arrays, about)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:3000]),
    "empty": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_text("a study"),
    "changed": lambda file: file.write_bytes(file.read_bytes()[:2000] + b"12345678" + file.read_bytes()[2008:]),
    "no score": lambda file: rewritten(file, lambda arrays, _: arrays.pop("calm")),
    "a model less": lambda file: rewritten(file, lambda arrays, _: arrays.update(calm=arrays["calm"][1:])),
    "texts": lambda file: rewritten(file, lambda arrays, _: arrays.update(calm=np.array(["a"]))),
    "no terms": lambda file: rewritten(file, lambda _, about: about.pop("design")),
    "another task": lambda file: rewritten(file, lambda _, about: about.update(task="juggling")),
}


@pytest.mark.usefixtures("with_store")
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_of_episodes_is_named_and_no_page_changes(
    damage: str, copied: Path, suite: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    file, before = published.file_of("suite", "pendulum"), (copied / "README.md").read_bytes()
    published.keep(suite["pendulum"], {}, file)
    DAMAGE[damage](file)
    assert main([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {file}: expected ")
    assert (copied / "README.md").read_bytes() == before
