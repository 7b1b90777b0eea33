"""The report: groups, verdicts and notes from models made by hand; every format says the same."""

import csv
import io
import json
import math
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from pipeline.errors import SettingsError
from pipeline.evaluation.control import draw_episodes
from pipeline.evaluation.protocol import Protocol
from pipeline.evaluation.stored import (
    EPISODES_FILE,
    FOLDER,
    SCORES_FILE,
    protocol_of,
    protocol_tags,
    read_episodes,
    write_episodes,
)
from pipeline.evaluation.yardsticks import evaluate_yardstick
from pipeline.names import EARLIER, LOOKED, VERDICT
from pipeline.report.comparison import Comparison, Model, compare_models
from pipeline.report.comparison_tables import verdict_table
from pipeline.report.design import Design, earlier_of
from pipeline.report.overview import as_markdown, as_text, verdicts
from pipeline.report.scores import COSTS
from pipeline.report.statistics import outlier
from pipeline.report.tables import Table
from pipeline.report.values import as_csv, as_rows, as_values
from pipeline.report.verdicts import Verdict
from pipeline.report.words import p_text, verdict_sentence
from pipeline.results.gather import gather, newest, newest_averages, to_model
from pipeline.results.groups import computed_groups, data_notes
from pipeline.results.plan import of_study, plan_table
from pipeline.stages.judging import Judged, log_judged
from pipeline.studies.design import caution, tags_of
from pipeline.studies.verdict import group_metrics, study_metrics, verdict_tags
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tracking.query import StoredRun, artifact, fetch, history
from pipeline.tracking.run import TrackedRun
from pipeline.tracking.store import open_store
from pipeline.tracking.study import LONGEST_TAG

CONDITIONS, SCORES = PENDULUM.conditions, PENDULUM.scores

WHERE = [(noise, replan) for noise in (0.01, 0.03, 0.05) for replan in (10, 13, 15)]


DESIGN = Design("calm", 0.01, "nine", 50, 0)


def model(label: str, number: int, calm: float, **more: object) -> Model:
    """A model whose episodes scatter around `calm`, on starts that are easy or hard for all."""
    starts = np.random.default_rng(99).normal(0, 0.02, 50)
    own = np.random.default_rng([len(label), ord(label[-1]), number]).normal(0, 0.02, (9, 50))
    episodes = {
        "calm": calm + starts + own - own.mean(),
        "success": np.ones((9, 50)),
        "converge": np.full((9, 50), 0.5),
    }
    return Model(**{
        "group": label, "kind": "model", "loss_unit": label, "seed": number, "name": f"{label}_{number}",
        "run_id": f"{label}{number}", "conditions": tuple(WHERE), "episodes": episodes,
        "costs": {"best_val_loss": 1.0 + number, "train_seconds": 30.0 + number}, **more,
    })  # fmt: skip


def compared(models: list[Model], notes: tuple[str, ...] = (), design: Design = DESIGN) -> Comparison:
    return compare_models(PENDULUM, "study x", "50 episodes per condition, seed 0", design, models, notes)


def ten(difference: float, design: Design = DESIGN) -> Comparison:
    noise = np.random.default_rng(0).normal(0, 0.005, 20)
    models = [model("a", seed, 0.8 + noise[seed]) for seed in range(10)]
    models += [model("b", seed, 0.8 - difference + noise[10 + seed]) for seed in range(10)]
    return compared(models, ("a note",), design)


def verdict(comparison: Comparison) -> Verdict:
    found = comparison.contrasts[0].verdict
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("difference", "margin", "word", "told"),
    [
        (0.1, 0.01, "better", "A is better than b in calm: 0.8"),
        (-0.1, 0.01, "worse", "B is better than a in calm: 0.8"),
        (0.0, 0.05, "equivalent", "A and b are equivalent within 0.05 in calm: 0.8"),
        (0.02, 0.05, "equivalent", "A and b are equivalent within 0.05 in calm: 0.8"),
        (0.0, 0.002, "undecided", "Undecided between a and b in calm: 0.8"),
    ],
)
def test_verdicts(difference: float, margin: float, word: str, told: str) -> None:
    found = verdict(ten(difference, replace(DESIGN, margin=margin)))
    sentence = verdict_sentence(found, "calm", 3)
    assert found.word == word and sentence.startswith(told)
    assert found.interval is not None and found.interval.low < found.difference < found.interval.high
    assert ("is ahead, by less than the margin" in sentence) == (difference == 0.02)
    assert bool(found.needs) == ("What would probably decide" in sentence) == (word == "undecided")
    assert verdicts(ten(difference, replace(DESIGN, margin=margin)))[0] == sentence


def test_all_other_differences_are_one_family() -> None:
    """The interval leaves out zero where a difference is shown, and only there; the verdict's own is not in it."""
    for difference in (0.1, 0.0, 0.012):
        (contrast,) = ten(difference).contrasts
        cells = [cell for by in contrast.scores.values() for cell in by.values()]
        assert None not in contrast.scores["calm"] and len(cells) == 9 + 10 + 10
        for cell in cells:
            excluded = cell.interval is not None and not cell.interval.low <= 0 <= cell.interval.high
            assert excluded == (cell.better is not None) == (cell.p is not None and cell.p < 0.05)
    assert all(cell.better == "a" for cell in ten(0.1).contrasts[0].scores["calm"].values())
    assert all(cell.better is None for cell in ten(0.0).contrasts[0].scores["calm"].values())
    for cell in ten(0.1).contrasts[0].scores["success"].values():  # all equal
        assert cell.interval is cell.p is cell.better is None and cell.bound.count == "0 of 50 differ"
        assert cell.bound.high == -cell.bound.low == pytest.approx(1 - 0.025 ** (1 / 50))


def test_three_groups_have_three_pairs_and_letters() -> None:
    noise = np.random.default_rng(1).normal(0, 0.005, 30)
    groups = {"low": 0.6, "high": 0.8, "middle": 0.799}
    models = [
        model(name, seed, calm + noise[10 * number + seed])
        for number, (name, calm) in enumerate(groups.items())
        for seed in range(10)
    ]
    found = compared(models)
    assert [(each.first, each.second) for each in found.contrasts] == [
        ("low", "high"), ("low", "middle"), ("high", "middle")
    ]  # fmt: skip
    assert found.letters["low"] == "b" and found.letters["high"][0] == "a"
    table = verdict_table(found)
    assert "share a letter" in table.note and table.columns[4] == "95% interval (Holm)"
    assert "95% interval (Holm): at the levels of Holm's procedure over all pairs, up to 98.3% for a" in table.note
    (pair,) = (each.verdict for each in found.contrasts if each.verdict and each.verdict.better is None)
    assert "95% interval (Holm) [" in verdict_sentence(replace(pair, word="undecided"), "calm", 3)
    assert verdict_table(ten(0.1)).columns[4] == "95% interval" and "Holm" not in verdict_table(ten(0.1)).note


def test_a_study_that_looks_early_is_judged_by_its_looks() -> None:
    found = verdict(ten(0.1, replace(DESIGN, looks="5,10")))
    assert found.word == "better" and [look.models for look in found.looks] == [5]
    told = verdict_sentence(found, "calm", 3)
    assert "95% interval (looks) [" in told and "Looks at 5 models per group; of alpha 0.025 of 0.05 is spent." in told
    assert found.models == (5, 5) and found.interval == found.looks[-1].estimate.interval(1 - 0.05 / 2)
    few = verdict(ten(0.1, replace(DESIGN, looks="12,20")))
    assert few.word == "undecided" and few.looks == () and few.interval.low <= 0 <= few.interval.high


def test_a_plan_is_for_as_many_pairs_as_its_study_judges() -> None:
    two, three = (
        of_study(compared([model(group, seed, 0.8 + 0.01 * seed) for group in groups for seed in range(4)]), "x")
        for groups in ("ab", "abc")
    )
    assert (two.pairs, three.pairs) == (1, 3) and two.spread == three.spread
    few, many = (plan_table(each, 0.02) for each in (two, three))
    assert "judges 3 pairs together: the interval is of 98.3% by itself" in many.note and "pairs" not in few.note
    assert int(few.rows[0][0]) < int(many.rows[0][0])


def test_where_one_looks_early_the_interval_says_what_the_verdict_says() -> None:
    """An undecided look offers only looks that are left, though more models and fewer episodes would do as well."""
    early = verdict(ten(0.1, replace(DESIGN, looks="4,8,12")))  # 2 of 70 relabellings are more than look 1 may spend
    assert [look.verdict for look in early.looks] == ["undecided", "better"] and early.left == (12,)
    models = [each for group in ten(0.1).groups for each in group.models if each.seed < 4]
    first = verdict(compared(models, design=replace(DESIGN, looks="4,8,12")))
    assert first.word == "undecided" and first.ahead is None and 0.05 / 3 < first.p < 0.03
    assert first.difference > 0.09 and first.interval.low == 0 < first.interval.high
    assert "What would probably decide: the look at 8 models per group." in verdict_sentence(first, "calm", 3)
    last = verdict(compared(models, design=replace(DESIGN, looks="2,4", margin=0.001)))
    assert last.word == "undecided" and "No look is left. A new study would need: " in verdict_sentence(last, "calm", 3)
    # after 2 and 1 models no p is below 2 / 12: such a look can find equivalence only
    never = verdict(compared(models[:2] + models[4:6], design=replace(DESIGN, looks="2,3")))
    assert never.left == (3,) and not never.needs and "would probably not decide" in verdict_sentence(never, "calm", 3)
    trained = (("2,3,6", "ab"), ("4,9", "abc"), ("8,12,16,20", "aab"))
    said = [caution(replace(DESIGN, looks=looks), groups) for looks, groups in trained]
    assert said == [
        "looks: at 2 and 3 models per group equivalence can be shown but no difference: for two groups and 3 looks the "
        "permutation test needs 5 models at the first.",
        "looks: at 4 models per group equivalence can be shown but no difference: for 3 pairs of groups and 2 looks "
        "the permutation test needs 5 models at the first.",
        "looks: at 8 models per group equivalence can be shown but no difference between groups of the same models: "
        "for 3 pairs of groups and 4 looks the permutation test needs 9 models at the first.",
    ]
    assert caution(replace(DESIGN, looks="2,3,6"), "a") is caution(DESIGN, "abc") is None
    assert caution(replace(DESIGN, looks="6"), "abc") is None
    text = as_text(compared(models, design=replace(DESIGN, looks="4,8,12")))
    assert "95% interval (looks): 95% for all pairs and looks together, 98.3% for one by itself." in text


def test_terms_that_had_no_verdict_keep_none() -> None:
    """A call that breaks off before its report leaves no verdict of the terms before as its own."""
    tags: dict[str, str] = DESIGN.tags() | {VERDICT: "a is better than b", LOOKED: "2"}
    for episodes in (60, 70):
        tags |= tags_of(replace(DESIGN, episodes=episodes), tags)
    assert [each["verdict"] for each in earlier_of(tags)] == ["a is better than b", "none yet"]
    assert tags[VERDICT] == "none yet" and tags[LOOKED] == ""


def test_what_stands_beside_several_studies_is_taken_once() -> None:
    """Two studies of one protocol have evaluated the same yardstick and the same weights: these are no two models."""

    def run(
        number: int, kind: str, name: str, group: str = "", experiment: str = "1", study: str = "s", weights: str = ""
    ) -> StoredRun:
        tags = {"kind": kind, "study": study, "group": group, "weights_sha256": weights}
        return StoredRun(str(number), name, "FINISHED", number, {}, {}, tags, experiment, False)

    runs = [
        run(1, "yardstick", "LQR"), run(2, "original", "original pi0"), run(3, "average", "average of 2", "pi0"),
        run(4, "yardstick", "LQR"), run(5, "original", "original pi0"), run(6, "average", "average of 3", "pi0"),
        run(7, "average", "average of 2", "pi0", experiment="2"), run(8, "yardstick", "PID"),
    ]  # fmt: skip
    assert [each.run_id for each in newest(newest_averages(runs))] == ["4", "5", "6", "7", "8"]
    replaced = [run(1, "original", "original pi0", weights="a"), run(2, "original", "original pi0", weights="b")]
    beside = run(3, "original", "original pi0", weights="a", study="t")
    assert [each.run_id for each in newest([*replaced, beside])] == ["2", "3"], "other files of one name in two studies"


def test_earlier_terms_fit_in_a_tag() -> None:
    """A store would cut their JSON, and the study could not be read again."""
    tags: dict[str, str] = DESIGN.tags()
    for episodes in range(100, 200):
        tags |= tags_of(replace(DESIGN, episodes=episodes), tags) | {VERDICT: "a is better than b; " * 200}
        assert len(tags[EARLIER]) <= LONGEST_TAG
        last = earlier_of(tags)[-1]
        assert f"{episodes - 1 if episodes > 100 else DESIGN.episodes} episodes" in last["design"]
    assert last["verdict"].startswith("a is better than b; a is better") and len(earlier_of(tags)) > 10
    assert earlier_of({EARLIER: tags[EARLIER][:-20]})[0]["verdict"] == "not known"


def test_less_can_be_better() -> None:
    chance = np.random.default_rng(0)
    models = [
        model(group, seed, 0.8, episodes={"converge_step": step + chance.normal(0, 3, (9, 50)) - seed})
        for group, step in (("a", 20.0), ("b", 60.0))
        for seed in range(10)
    ]
    found = compared(models)
    assert found.contrasts[0].verdict is None
    assert found.contrasts[0].scores["converge_step"][WHERE[0]].better == "a"
    assert found.groups[0].scores["converge_step"][WHERE[0]].best[0] == "seed 9"


def test_means_deviations_and_their_part_by_episodes() -> None:
    comparison = ten(0.1)
    summary = comparison.groups[0].scores["calm"][None]
    values = [each.scores["calm"][None] for each in comparison.groups[0].models]
    assert summary.n == 10 and summary.std == pytest.approx(np.std(values, ddof=1))
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.std_by_episodes == pytest.approx(0.02 / np.sqrt(9 * 50), rel=0.1)
    assert "by episodes" in as_text(comparison) and "Models and episodes are both drawn" in as_text(comparison)


def test_losses_of_different_methods_are_not_compared() -> None:
    comparison = ten(0.1)
    assert set(comparison.contrasts[0].costs) == {"train_seconds"}
    same = [model("a", seed, 1.0, group=group, loss_unit="a") for group in ("a", "a lr=0.1") for seed in range(3)]
    assert "best_val_loss" in compared(same).contrasts[0].costs


def test_one_seed_says_so() -> None:
    one = compared([model("a", 0, 0.9), model("b", 0, 0.8)])
    text = as_text(one)
    assert verdict(one).word == "undecided"
    assert "a has one seed: no spread and no interval can be given." in text and "0.905" in text
    assert (
        "give no interval" in text and verdict(compared([model("a", 0, 0.9), model("b", 0, 0.8)])).word == "undecided"
    )


def test_a_model_far_from_all_others_is_told() -> None:
    one_fails = [model("a", seed, 0.8 + 0.001 * seed if seed else 0.3) for seed in range(6)]
    told = "a seed 0 is far from its group's other models in calm (Grubbs' test at 1%)"
    assert told in as_text(compared([*one_fails, *(model("b", seed, 0.8) for seed in range(6))]))
    assert "far from" not in as_text(ten(0.1))
    assert outlier([1.0, 1.0, 1.0]) is outlier([1.0, 2.0]) is None
    # the critical value of 10 values at 1%, two-sided, is 2.482 (Grubbs and Beck 1972)
    others = np.random.default_rng(0).normal(size=9)
    values = [np.append(others, last) for last in np.linspace(2, 6, 200)]
    distances = [(each[9] - each.mean()) / each.std(ddof=1) for each in values]
    assert min(distances) < 2.48 < 2.484 < max(distances)
    for each, distance in zip(values, distances, strict=True):
        assert abs(distance - 2.482) < 0.002 or (distance > 2.482) == (outlier(each.tolist()) == 9)
    # one fall among scores at the ceiling is far by the test, but within the margin: nothing is told
    assert outlier([1.0] * 9 + [0.999]) == 9
    near = [model("a", seed, 1.0 if seed else 0.995) for seed in range(10)]
    assert "far from" not in as_text(compared([*near, *(model("b", seed, 0.8) for seed in range(10))]))


def test_groups_need_not_have_the_same_seeds_or_numbers_and_missing_scores_are_left_out() -> None:
    models = [model("a", seed, 0.9) for seed in range(4)] + [model("b", seed, 0.5) for seed in range(2, 9)]
    assert verdict(compared(models)).word == "better"
    models[0] = model("a", 0, 0.9, episodes={"success": np.ones((9, 50))})
    summary = compared(models).groups[0].scores
    assert summary["success"][None].n == 4 and summary["calm"][None].n == 3


def test_originals_and_yardsticks_stand_beside() -> None:
    beside = [
        model("original a", 0, 0.7, kind="original", seed=None, name="first"),
        model("original a", 0, 0.6, kind="original", seed=None, name="second"),
        model("PID", 0, 1.0, kind="yardstick", seed=None, name="PID"),
    ]
    comparison = compared([*beside, *(model("a", seed, 0.9) for seed in range(3))])
    assert [group.name for group in comparison.groups] == ["a", "original a", "PID"] and comparison.contrasts == ()
    assert comparison.groups[1].scores["calm"][None].best[0] == "first"


def test_all_formats_say_the_same() -> None:
    comparison = ten(0.1)
    values = json.loads(json.dumps(as_values(comparison)))
    rows = list(csv.DictReader(io.StringIO(as_csv(comparison))))
    assert len(rows) == len(as_rows(comparison))
    mean = comparison.groups[1].scores["calm"][WHERE[4]].mean
    (row,) = [
        row for row in rows
        if (row["group"], row["number"], row["action_noise"], row["replan"]) == ("b", "calm", "0.03", "13.0")
    ]  # fmt: skip
    assert float(row["mean"]) == mean == values["groups"][1]["scores"]["calm"][4]["mean"]
    (row,) = [
        row
        for row in rows
        if row["minus"] == "b" and row["action_noise"] == "0.03" and row["replan"] == "13.0" and row["number"] == "calm"
    ]
    assert float(row["p"]) == values["differences"][0]["scores"]["calm"][4]["p"]
    (row,) = [row for row in rows if row["verdict"]]
    judged = verdict(comparison)
    assert (float(row["p"]), float(row["p_permutation"])) == (judged.p_holm, judged.p) and judged.p_holm != judged.p
    equal = [row for row in rows if row["number"] == "success" and row["group"] == "a"]
    assert {row["p"] for row in equal} == {""} and {row["bound_from"] for row in equal if row["minus"]} == {
        "0 of 50 differ"
    }
    assert {row["bound_from"] for row in equal if not row["minus"]} == {"0 of 50 below 1"}
    assert all(float(row["bound_low"]) > -0.1 and row["low"] == "" for row in equal)
    assert "* 0 of 50 below 1 " in as_text(comparison) and "* 0 of 50 differ " in as_text(comparison)
    assert row["verdict"] == values["differences"][0]["verdict"]["word"] == "better" and row["number"] == "calm"
    markdown = as_markdown(comparison)
    assert f"{mean:.3f}" in markdown and f"{mean:.3f}" in as_text(comparison) and "Note: a note" in markdown
    for table in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_tables_are_aligned() -> None:
    table = Table("Title", ("name", "value"), [("a", "1.000"), ("longer", "-")], "A note.")
    assert table.text().splitlines() == [
        "Title",
        "name    value",
        "-------------",
        "a       1.000",
        "longer      -",
        "A note.",
    ]
    assert table.markdown().splitlines()[2:5] == ["| name | value |", "|---|---:|", "| a | 1.000 |"]


def stored(run_id: str, tags: dict[str, str], params: dict[str, str], **metrics: float) -> StoredRun:
    return StoredRun(run_id, run_id, "FINISHED", 0, params, metrics, tags, "1")


def test_groups_are_methods_and_what_differs_within_them() -> None:
    base = {"method": "pi0", "data_sha256": "d"}
    runs = [
        stored("r0", base, {"seed": "0", "lr": "0.004", "threads": "1"}),
        stored("r1", base, {"seed": "1", "lr": "4e-3", "threads": "2"}),  # as `mlflow run` writes it
        stored("r2", base, {"seed": "0", "lr": "0.1", "deterministic": "no"}),  # earlier runs do not tell it
        stored("r3", {"method": "pi0_fast"}, {"seed": "0", "lr": "0.008"}),
    ]
    assert computed_groups(runs) == {"r0": "pi0 lr=0.004", "r1": "pi0 lr=0.004", "r2": "pi0 lr=0.1", "r3": "pi0_fast"}
    other_data = [runs[0], stored("r4", base | {"data_sha256": "e"}, runs[0].params)]
    assert computed_groups(other_data) == {"r0": "pi0 data=d", "r4": "pi0 data=e"}
    named = [*other_data, stored("r5", base | {"data_sha256": "f", "data_set": "arm"}, runs[0].params)]
    assert computed_groups(named) == {"r0": "pi0 data=d", "r4": "pi0 data=e", "r5": "pi0 data=arm"}
    named.append(stored("r6", base | {"data_sha256": "g"}, runs[0].params | {"data": "arm"}))  # the set has changed
    assert [*computed_groups(named).values()] == ["pi0 data=d", "pi0 data=e", "pi0 data=f", "pi0 data=g"]


def test_groups_on_other_pairs_are_said_to_be() -> None:
    def model(name: str, chunk: int, pairs: str, data_set: str = "", **tags: str) -> StoredRun:
        return stored(
            name, {"method": name, "chunk": str(chunk), "pairs_sha256": pairs, "data_set": data_set} | tags, {}
        )

    runs = [model("pi0", 20, "a" * 64, "arm"), model("pi0_fast", 50, "b" * 64, tokenizer_sha256="t")]
    names = {run.run_id: run.tags["method"] for run in [*runs, model("old", 50, ""), model("regression", 20, "")]}
    assert data_notes(runs, names, PENDULUM) == [
        "Not all groups were trained on the same pairs, so differences between them may be of the data: "
        "pi0 on arm (20 actions a chunk, sha256 aaaaaaaaaaaa); "
        "pi0_fast on pairs (50 actions a chunk, sha256 bbbbbbbbbbbb)."
    ]
    same = stored("regression", {"method": "regression", "data_sha256": "b" * 64}, {"horizon": "0"})
    (note,) = data_notes([*runs, same], names, PENDULUM)
    assert "; pi0_fast, regression on pairs (50 actions a chunk, " in note
    old = stored("old", {"method": "old", "data_sha256": "c" * 64, "tokenizer_sha256": "t"}, {})  # of an early version
    assert data_notes([runs[1], same, old], names, PENDULUM) == []


@pytest.mark.usefixtures("workplace", "with_store")
def test_metrics_of_early_versions_are_known_by_their_name_of_now() -> None:
    run = stored("a", {"method": "pi0", "name": "a"}, {"seed": "0"}, best_test_loss=0.5)
    assert to_model(open_store(), run, PENDULUM, "pi0", None, notes=[]).costs == {"test_loss_at_best_val": 0.5}


def test_a_study_shows_its_means_and_its_verdict() -> None:
    comparison = ten(0.1)
    metrics = group_metrics(comparison.groups[0])
    assert metrics["converge_mean"] == 0.5 and metrics["converge_std"] == 0 and metrics["best_val_loss_mean"] == 5.5
    shown = study_metrics(comparison)
    assert shown["a/models"] == 10 and shown["a/calm"] == metrics["calm_mean"] and shown["b/converge"] == 0.5
    tags = verdict_tags(comparison, "x", "8")
    note = tags["mlflow.note.content"]
    assert f"- {verdicts(comparison)[0]}" in note and "| noise, replan |" in note
    assert tags["verdict"] == "a is better than b" and tags["looked"] == "8 10"
    assert verdict_tags(comparison, "x", "8 10")["looked"] == "8 10"
    many = compared([model(f"{name} {'setting=1 ' * 5}", seed, 0.9) for name in "abcdef" for seed in range(2)])
    long = verdict_tags(many, "x", "")["mlflow.note.content"]
    assert 7000 < len(long) <= 8000 and long.endswith("\n\nThe rest is in the report.")  # more, MLflow cuts anywhere
    wide = [model("pi0 width=64", seed, 0.9) for seed in range(2)]
    assert "pi0 width_64/calm" in study_metrics(compared(wide))  # as MLflow takes names


def test_every_number_is_described() -> None:
    for score in (SCORES | COSTS).values():
        assert score.label and score.short and score.better in (-1, 0, 1)
    assert PENDULUM.primary == "calm" and SCORES["calm"].better
    assert [name for name, score in SCORES.items() if score.binary] == ["success", "converge"]
    assert str(SCORES["angle"]) == "mean |angle|, rad" and str(COSTS["parameters"]) == "parameters"


FIRST, OTHER = Protocol(3, 0), Protocol(3, 1)


def add_run(
    client: MlflowClient,
    experiment: str,
    group: str,
    seed: int,
    success: float,
    protocol: Protocol = FIRST,
    **tags: str,
) -> str:
    """A finished model, as training and evaluation leave it."""
    run = client.create_run(experiment, run_name=f"{group}_{seed}").info.run_id
    known = {"kind": "model", "method": group, "name": f"{group}_{seed}", "weights_sha256": "w"}
    for name, value in (known | protocol_tags(protocol) | tags).items():
        client.set_tag(run, name, value)
    client.log_param(run, "seed", seed)
    scores = {name: np.full((9, protocol.episodes), success) for name, score in SCORES.items() if score.better}
    with tempfile.TemporaryDirectory() as folder:
        write_episodes(Path(folder, EPISODES_FILE), PENDULUM, scores)
        client.log_artifact(run, f"{folder}/{EPISODES_FILE}", FOLDER)
    client.set_terminated(run)
    return str(run)


@pytest.mark.usefixtures("with_store")
def test_the_query_on_an_odd_store(workplace: Path) -> None:
    """Foreign runs, unfinished and repeated ones, other protocols and numbers that are none."""
    client = open_store()
    experiment = client.create_experiment("e")
    foreign = client.create_run(experiment, tags={"kind": "model", "study": "s"}).info.run_id
    client.set_terminated(foreign)
    client.set_terminated(client.create_run(experiment, tags={"study": "s"}).info.run_id)
    with pytest.raises(SettingsError, match="found none"):
        gather(client)

    for seed in range(3):  # pi0_fast is the older one, and comes second all the same
        add_run(client, experiment, "pi0_fast", seed, 0.5)
    evaluated = [add_run(client, experiment, "pi0", seed, 0.9) for seed in range(3)]
    add_run(client, experiment, "pi0", 0, 0.1, OTHER)
    add_run(client, experiment, "pi0", 1, 0.1, evaluation="unfinished")
    add_run(client, experiment, "PID", 0, 1.0, kind="yardstick", method="yardstick")
    add_run(client, experiment, "PID", 0, 0.2, OTHER, kind="yardstick", method="yardstick")
    running = client.create_run(experiment, tags={"kind": "model", "method": "pi0"})
    assert running.info.status == "RUNNING"

    gathered = gather(client)
    found = gathered.comparison
    assert gathered.protocol == FIRST and found.protocol == str(FIRST)
    assert [group.name for group in found.groups] == ["pi0", "pi0_fast", "PID_0"]
    assert [model.run_id for model in found.groups[0].models] == evaluated
    assert found.groups[0].scores["success"][WHERE[0]].mean == pytest.approx(0.9)
    assert found.groups[2].scores["success"][WHERE[0]].mean == 1
    assert [contrast.first for contrast in found.contrasts] == ["pi0"]
    notes = "\n".join(found.notes)
    assert "1 of 8 models have not been evaluated" in notes
    assert f"2 runs were evaluated by another protocol than {FIRST}" in notes
    assert "2 runs repeat the settings and seed" in notes
    assert as_values(gather(client, experiment="e").comparison) == as_values(found)
    with pytest.raises(SettingsError, match="found none"):
        gather(client, experiment="another")


@pytest.mark.usefixtures("with_store")
def test_odd_numbers_and_names_are_left_out_and_said(workplace: Path) -> None:
    client = open_store()
    experiment = client.create_experiment("e")
    runs = [add_run(client, experiment, "pi0", seed, 0.9) for seed in range(3)]
    odd = {
        "converge/mean": math.inf,
        "best_val_loss": math.nan,
        "train_seconds": math.inf,
        "converge/what you like": 1.0,
    }
    for name, value in odd.items():
        client.log_metric(runs[0], name, value)
    assert history(client, runs[0], "train_seconds") == [math.inf]  # sqlite has a number in its place
    with artifact(client, runs[1], f"{FOLDER}/{EPISODES_FILE}") as path:
        client.log_text(runs[1], path.read_text().replace("0.9", "inf"), f"{FOLDER}/{EPISODES_FILE}")
    client.log_text(runs[2], "no table", f"{FOLDER}/{EPISODES_FILE}")
    found = gather(client).comparison
    assert found.groups[0].scores["success"][WHERE[0]].n == 1
    assert found.groups[0].costs == {}
    left_out = (
        "its scores cannot be read and are left out: episodes.csv: expected the scores of 3 episodes in each of 9"
    )
    assert found.notes[-4:-1] == (
        "pi0_0: left out because they are not finite: best_val_loss, train_seconds.",
        f"pi0_1: {left_out} conditions, found numbers that are not finite.",
        f"pi0_2: {left_out} conditions, found another table, with the columns 'no table'.",
    )
    json.dumps(as_values(found), allow_nan=False)


@pytest.mark.usefixtures("with_store")
def test_what_another_version_evaluated_is_not_mixed_in(workplace: Path) -> None:
    """Its episodes have other starts, its scores other definitions, and the runs of the first no tag that says so."""
    client = open_store()
    experiment = client.create_experiment("e")
    for seed, success in enumerate((0.5, 0.5, 0.9)):
        run = add_run(client, experiment, "pi0", seed, success)
        if success == 0.5:
            client.delete_tag(run, "evaluation_version")
    found = gather(client)
    assert found.protocol == FIRST and found.comparison.groups[0].scores["success"][None].mean == pytest.approx(0.9)
    assert "version 1" in str(protocol_of(fetch(client, run).tags | {"evaluation_version": "1"}))
    (note,) = [note for note in found.comparison.notes if "another version" in note]
    assert note.startswith(
        "2 runs were evaluated by another version of tinypi, on other episodes: their scores are left"
    )
    assert "--episodes 3 --seed 0 --run" in note and "\n" not in note
    client.delete_tag(run, "evaluation_version")
    nothing = gather(client)
    assert nothing.protocol is None and nothing.comparison.conditions == []
    assert (
        to_model(client, fetch(client, run), PENDULUM, "pi0", protocol_of(fetch(client, run).tags), []).episodes == {}
    )


@pytest.mark.usefixtures("with_store")
def test_a_study_of_one_name_in_two_experiments_is_two(workplace: Path) -> None:
    client = open_store()
    for name, success in (("one", 0.9), ("two", 0.1)):
        add_run(client, client.create_experiment(name), "pi0", 0, success, study="s")
    with pytest.raises(SettingsError, match="expected 's' in one experiment, found it in one, two"):
        gather(client, "s")
    (group,) = gather(client, "s", "two").comparison.groups
    assert group.scores["success"][None].mean == pytest.approx(0.1)


@pytest.mark.usefixtures("with_store")
def test_another_evaluation_leaves_nothing_of_the_first(workplace: Path) -> None:
    client = open_store()
    run = TrackedRun(client, client.create_run(client.create_experiment("e")).info.run_id)
    protocols = [Protocol(n, 0) for n in (1, 2)]
    first, second = (
        Judged("x", "x", evaluate_yardstick(name, draw_episodes(PENDULUM, CONDITIONS, n, 0), 1))
        for n, name in ((1, "LQR, planned"), (2, "zero action"))
    )
    client.log_metric(run.run_id, "converge_of_successful/mean", 0.9)  # by another version
    log_judged(run, first, protocols[0])
    assert fetch(client, run.run_id).metrics["converge_step/mean"] < 100
    log_judged(run, second, protocols[1])
    found = fetch(client, run.run_id)
    assert found.tags["evaluation"] == "2 episodes per condition, seed 0" and found.metrics["success/mean"] == 0
    assert math.isnan(found.metrics["converge_of_successful/mean"]) and protocol_of(found.tags) == protocols[1]
    with artifact(client, run.run_id, f"{FOLDER}/{EPISODES_FILE}") as path:
        assert (read_episodes(path, 2, PENDULUM)["converge_step"] == 100).all() and found.metrics[
            "converge_step/mean"
        ] == 100
    with artifact(client, run.run_id, f"{FOLDER}/{SCORES_FILE}") as path:
        table = json.loads(path.read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [(row["action_noise"], row["replan"], row["calm"]) for row in rows] == [(*where, 0) for where in WHERE]
    assert [name for name in found.metrics if "noise" in name] == []  # one metric per score, not per condition


def test_a_bar_in_a_heading_is_no_border_of_a_table() -> None:
    text = Table("Means", ("", "mean |angle|"), [("pi0", "0.1")]).markdown()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [3, 3, 3] and r"mean \|angle\|" in rows[0]


@pytest.mark.parametrize(
    ("p", "text"), [(None, "-"), (0.0, "< 0.0001"), (0.00004, "< 0.0001"), (0.00006, "0.0001"), (0.0351, "0.0351")]
)
def test_a_small_p_is_not_shown_as_zero(p: float | None, text: str) -> None:
    assert p_text(p) == text
