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

from docs.renew_results import BASELINES, BLOCK, README, RESULTS, render, render_means
from pipeline.errors import SettingsError
from pipeline.evaluation.control import draw_episodes
from pipeline.evaluation.protocol import CONDITIONS, Protocol
from pipeline.evaluation.stored import (
    EPISODES_FILE,
    FOLDER,
    SCORES_FILE,
    protocol_of,
    protocol_tags,
    read_episodes,
    write_episodes,
)
from pipeline.evaluation.yardsticks import YARDSTICKS
from pipeline.report.comparison import Comparison, Model, compare_models
from pipeline.report.figures import draw_scores
from pipeline.report.overview import as_csv, as_markdown, as_rows, as_text, as_values, verdicts, winner
from pipeline.report.scores import COSTS, PRIMARY, SCORES
from pipeline.report.tables import Table
from pipeline.results.gather import computed_groups, gather, to_model
from pipeline.stages.evaluate import Judged, log_judged
from pipeline.studies.verdict import group_metrics, study_metrics, study_note
from pipeline.tracking.query import StoredRun, artifact, fetch
from pipeline.tracking.run import TrackedRun
from pipeline.tracking.store import open_store

WHERE = [(noise, replan) for noise in (0.01, 0.03, 0.05) for replan in (10, 13, 15)]


def model(label: str, number: int, mean_success: float, **more: object) -> Model:
    scores = {"success": dict.fromkeys(WHERE, mean_success), "converge": dict.fromkeys(WHERE, 0.5)}
    return Model(**{
        "group": label, "kind": "model", "loss_unit": label, "seed": number, "name": f"{label}_{number}",
        "run_id": f"{label}{number}", "scores": scores, "costs": {"best_val_loss": 1.0 + number, "train_seconds": 30.0},
        **more,
    })  # fmt: skip


def ten(difference: float) -> Comparison:
    noise = np.random.default_rng(0).normal(0, 0.01, 20)
    models = [model("a", seed, 0.9 + noise[seed]) for seed in range(10)]
    models += [model("b", seed, 0.9 - difference + noise[10 + seed]) for seed in range(10)]
    return compare_models("study x", "100 episodes per condition, seed 0", models, ["a note"])


def test_a_clear_difference_is_told_and_none_is_not_invented() -> None:
    clear, none = ten(0.1), ten(0.0)
    assert all(winner(clear.contrasts[0], "success", where) == "a" for where in (*WHERE, None))
    assert clear.contrasts[0].corrected["success"][WHERE[0]] == pytest.approx(9 * 2 / 1024)
    assert not any(winner(none.contrasts[0], "success", where) for where in WHERE)
    told = "a is better in 9 of 9 conditions. On average a minus b is +0.105 [0.094, 0.115]."
    assert verdicts(clear)[0] == f"a and b, success, share of episodes without a fall: {told}"
    assert "no difference shown in any" in verdicts(none)[0]
    assert not any(winner(clear.contrasts[0], "converge", where) for where in (*WHERE, None))  # all equal


def test_less_can_be_better() -> None:
    models = [
        model(group, seed, 1.0, scores={"converge_step": dict.fromkeys(WHERE, step + seed)})
        for group, step in (("a", 20.0), ("b", 60.0))
        for seed in range(10)
    ]
    found = compare_models("x", "y", models, [])
    assert winner(found.contrasts[0], "converge_step", WHERE[0]) == "a"
    assert found.groups[0].scores["converge_step"][WHERE[0]].best == ("seed 0", 20.0)
    assert found.contrasts[0].scores["converge_step"][WHERE[0]].improvement == 1


def test_the_unit_is_the_seed() -> None:
    comparison = ten(0.1)
    summary = comparison.groups[0].scores["success"][WHERE[0]]
    values = [m.scores["success"][WHERE[0]] for m in comparison.groups[0].models]
    assert summary.n == 10 and summary.std == pytest.approx(np.std(values, ddof=1))
    assert "The unit is the training seed" in as_text(comparison)
    assert comparison.groups[0].scores["success"][None].mean == pytest.approx(np.mean(values))


def test_losses_of_different_methods_are_not_compared() -> None:
    comparison = ten(0.1)
    assert set(comparison.contrasts[0].costs) == {"train_seconds"}
    same = [model("a", seed, 1.0, group=group, loss_unit="a") for group in ("a", "a lr=0.1") for seed in range(3)]
    assert "best_val_loss" in compare_models("x", "y", same, []).contrasts[0].costs


def test_one_seed_and_few_seeds_say_so() -> None:
    one = compare_models("x", "y", [model("a", 0, 0.9), model("b", 0, 0.8)], [])
    text = as_text(one)
    assert "a has one seed: no spread can be given." in text and "0.900" in text
    few = as_text(compare_models("x", "y", [model("a", seed, 0.9) for seed in range(3)], []))
    assert "a has 3 seeds: too few for 95% intervals" in few


def test_too_few_pairs_for_a_corrected_test_say_so() -> None:
    models = [model(group, seed, 0.9) for group in ("a", "b") for seed in range(8)]
    text = as_text(compare_models("x", "y", models, []))
    assert "8 pairs of models cannot show a difference in one of 9 conditions" in text  # 9 * 2^-7 > 0.05
    assert "cannot show" not in as_text(ten(0.1))


def test_only_shared_seeds_are_paired_and_missing_scores_left_out() -> None:
    models = [model("a", seed, 0.9) for seed in range(4)] + [model("b", seed, 0.8) for seed in range(2, 9)]
    comparison = compare_models("x", "y", models, [])
    assert comparison.contrasts[0].scores["success"][WHERE[0]].n == 2
    models[0] = model("a", 0, 0.9, scores={"success": {WHERE[0]: 0.9}})
    summary = compare_models("x", "y", models, []).groups[0].scores["success"]
    assert summary[WHERE[0]].n == 4 and summary[WHERE[1]].n == 3
    apart = [model("a", 0, 0.9), model("b", 1, 0.9)]
    assert compare_models("x", "y", apart, []).contrasts == ()


def test_originals_and_yardsticks_stand_beside() -> None:
    beside = [
        model("original a", 0, 0.7, kind="original", seed=None, name="first"),
        model("original a", 0, 0.6, kind="original", seed=None, name="second"),
        model("PID", 0, 1.0, kind="yardstick", seed=None, name="PID"),
    ]
    comparison = compare_models("x", "y", [*beside, *(model("a", seed, 0.9) for seed in range(3))], [])
    assert [group.name for group in comparison.groups] == ["a", "original a", "PID"] and comparison.contrasts == ()
    assert comparison.groups[1].scores["success"][WHERE[0]].best == ("first", 0.7)
    assert "original a (2)" in as_text(comparison)


@pytest.mark.parametrize(
    ("average", "groups", "colours"),
    [
        ("pi0", ("pi0", "pi0_fast"), ("#0072B2", "#D55E00")),
        ("pi0", ("pi0 width=64", "pi0_fast lr=0.001"), ("#0072B2", "#D55E00")),
        ("pi0", ("pi0 width=32", "pi0 width=64", "pi0_fast"), ("0.6", "#009E73")),
        ("pi0 width=64", ("pi0 width=32", "pi0 width=64", "pi0_fast"), ("#D55E00", "#009E73")),
    ],
)
def test_every_averaged_ensemble_has_its_star(average: str, groups: tuple[str, ...], colours: tuple[str, ...]) -> None:
    """Beside the models that it is of, where these can be told."""
    models = [model(group, seed, 0.5) for group in groups for seed in range(2)]
    names = (f"{average} average of 2", "pi0_fast average of 2")
    averages = [replace(model(name, 0, 0.6), kind="average", seed=None) for name in names]
    figure = draw_scores(compare_models("x", "y", models + averages, ()))
    for axes in figure.axes:
        stars = {line.get_label(): line.get_color() for line in axes.lines if line.get_marker() == "*"}
        assert stars == dict(zip(names, colours, strict=True))


def test_all_formats_say_the_same() -> None:
    comparison = ten(0.1)
    values = json.loads(json.dumps(as_values(comparison)))
    rows = list(csv.DictReader(io.StringIO(as_csv(comparison))))
    assert len(rows) == len(as_rows(comparison))
    mean = comparison.groups[1].scores["success"][WHERE[4]].mean
    (row,) = [
        row for row in rows
        if (row["group"], row["number"], row["action_noise"], row["replan"]) == ("b", "success", "0.03", "13.0")
    ]  # fmt: skip
    assert float(row["mean"]) == mean == values["groups"][1]["scores"]["success"][4]["mean"]
    (row,) = [
        row
        for row in rows
        if row["minus"] == "b"
        and row["action_noise"] == "0.03"
        and row["replan"] == "13.0"
        and row["number"] == "success"
    ]
    assert float(row["p_holm"]) == values["differences"][0]["scores"]["success"][4]["p_holm"]
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
        stored("r2", base, {"seed": "0", "lr": "0.1"}),
        stored("r3", {"method": "pi0_fast"}, {"seed": "0", "lr": "0.008"}),
    ]
    assert computed_groups(runs) == {"r0": "pi0 lr=0.004", "r1": "pi0 lr=0.004", "r2": "pi0 lr=0.1", "r3": "pi0_fast"}
    other_data = [runs[0], stored("r4", base | {"data_sha256": "e"}, runs[0].params)]
    assert computed_groups(other_data) == {"r0": "pi0 data=d", "r4": "pi0 data=e"}


@pytest.mark.usefixtures("workplace", "with_store")
def test_metrics_of_early_versions_are_known_by_their_name_of_now() -> None:
    run = stored("a", {"method": "pi0", "name": "a"}, {"seed": "0"}, best_test_loss=0.5)
    assert to_model(open_store(), run, "pi0", None, notes=[]).costs == {"test_loss_at_best_val": 0.5}


def test_a_study_shows_its_means_and_its_verdict() -> None:
    comparison = ten(0.1)
    metrics = group_metrics(comparison.groups[0])
    assert metrics["converge_mean"] == 0.5 and metrics["converge_std"] == 0 and metrics["best_val_loss_mean"] == 5.5
    shown = study_metrics(comparison)
    assert shown["a/models"] == 10 and shown["a/success"] == metrics["success_mean"] and shown["b/converge"] == 0.5
    (note,) = study_note(comparison, "x").values()
    assert f"- {verdicts(comparison)[0]}" in note and "| noise, replan |" in note
    wide = [model("pi0 width=64", seed, 0.9) for seed in range(2)]
    assert "pi0 width_64/success" in study_metrics(compare_models("x", "y", wide, []))  # as MLflow takes names


def test_every_number_is_described() -> None:
    for score in (SCORES | COSTS).values():
        assert score.label and score.short and score.better in (-1, 0, 1)
    (primary,) = [name for name, score in SCORES.items() if score.primary]
    assert primary == PRIMARY == "calm" and SCORES[primary].better
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
        write_episodes(Path(folder, EPISODES_FILE), CONDITIONS, scores)
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
    assert gather(client, experiment="e").comparison == found
    with pytest.raises(SettingsError, match="found none"):
        gather(client, experiment="another")


@pytest.mark.usefixtures("with_store")
def test_odd_numbers_and_names_are_left_out_and_said(workplace: Path) -> None:
    client = open_store()
    experiment = client.create_experiment("e")
    runs = [add_run(client, experiment, "pi0", seed, 0.9) for seed in range(3)]
    for name, value in (("converge/mean", math.inf), ("best_val_loss", math.nan), ("converge/what you like", 1.0)):
        client.log_metric(runs[0], name, value)
    with artifact(client, runs[1], f"{FOLDER}/{EPISODES_FILE}") as path:
        client.log_text(runs[1], path.read_text().replace("0.9", "inf"), f"{FOLDER}/{EPISODES_FILE}")
    client.log_text(runs[2], "no table", f"{FOLDER}/{EPISODES_FILE}")
    found = gather(client).comparison
    assert found.groups[0].scores["success"][WHERE[0]].n == 1
    assert found.groups[0].costs == {}
    left_out = (
        "its scores cannot be read and are left out: episodes.csv: expected the scores of 3 episodes in each of 9"
    )
    assert found.notes[-3:] == (
        "pi0_0: left out because they are not finite: best_val_loss.",
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
    assert to_model(client, fetch(client, run), "pi0", protocol_of(fetch(client, run).tags), []).episodes == {}


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
    calm, protocols = YARDSTICKS["LQR, planned"], [Protocol(n, 0) for n in (1, 2)]
    first, second = (
        Judged("x", "x", judge(draw_episodes(CONDITIONS, n, 0), 1))
        for n, judge in ((1, calm), (2, YARDSTICKS["zero action"]))
    )
    client.log_metric(run.run_id, "converge_of_successful/mean", 0.9)  # by another version
    log_judged(run, first, protocols[0])
    assert fetch(client, run.run_id).metrics["converge_step/mean"] < 100
    log_judged(run, second, protocols[1])
    found = fetch(client, run.run_id)
    assert found.tags["evaluation"] == "2 episodes per condition, seed 0" and found.metrics["success/mean"] == 0
    assert math.isnan(found.metrics["converge_of_successful/mean"]) and protocol_of(found.tags) == protocols[1]
    with artifact(client, run.run_id, f"{FOLDER}/{EPISODES_FILE}") as path:
        assert (read_episodes(path, 2)["converge_step"] == 100).all() and found.metrics["converge_step/mean"] == 100
    with artifact(client, run.run_id, f"{FOLDER}/{SCORES_FILE}") as path:
        table = json.loads(path.read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [(row["action_noise"], row["replan"], row["calm"]) for row in rows] == [(*where, 0) for where in WHERE]
    assert [name for name in found.metrics if "noise" in name] == []  # one metric per score, not per condition


def test_readme_results_come_from_a_report() -> None:
    text = render(as_values(ten(0.1)))
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(tables) == 2 and all(len({line.count("|") for line in table.splitlines()}) == 1 for table in tables)
    mean = ten(0.1).groups[0].scores["success"][WHERE[0]]
    assert f"| **a** (10) | {mean.mean:.3f} ± {mean.std:.3f} |" in text and "| a minus b | **+0.1" in text
    front = render_means(as_values(ten(0.1))).splitlines()
    worst = min(each.mean for each in ten(0.1).groups[0].scores["success"].values())
    assert front[2] == f"| **a** (10) | {mean.mean:.3f} ± {mean.std:.3f} | {worst:.3f} | 0.500 ± 0.000 |"
    assert front[4].startswith("| a minus b | **+0.1") and len({line.count("|") for line in front}) == 1
    assert all(BLOCK.search(page.read_text()) for page in (README, RESULTS)) and BASELINES.search(RESULTS.read_text())
