"""What FAST costs before training: exact errors, counts and entropy; control; the command, also without a simulator."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.cli.main import COMMANDS, main
from pipeline.data.normalisation import Normalisation
from pipeline.data.pairs import ActionPairs, load_action_pairs, save_action_pairs
from pipeline.evaluation.control import draw_episodes, evaluate_planner
from pipeline.evaluation.yardsticks import yardstick_planner
from pipeline.report.tokenizer_cost import ENOUGH, Fitted, TokenizerCost, bands
from pipeline.stages.settings import TokenizerReportSettings
from pipeline.stages.tokenizer_report import mean_primary, rounded, tokenizer_report
from pipeline.tasks.dataset import DataSet, write_dataset
from pipeline.tasks.facts import KEY, facts_of
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.registry import find_task
from pipeline.tasks.task import Channel
from pipeline.tokenizer.fit import fit_tokenizer
from pipeline.tokenizer.measure import Cost, measure_cost

SIGNS = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)[..., None]


def test_the_errors_are_those_computed_by_hand() -> None:
    """The four chunks (+-1, +-1) have mean 0 and deviation 1, and coefficients (a + b, a - b) / sqrt 2."""
    tokenizer = fit_tokenizer(SIGNS, scale=1.0)
    assert (tokenizer.low, tokenizer.high) == (-1, 1)
    cost = measure_cost(tokenizer, np.array([[[0.3], [0.5]], [[4.0], [0.0]]], np.float32))
    # of (0.3, 0.5): 0.8 and -0.2 over sqrt 2 become 1 and 0; of (4, 0): 4 over sqrt 2, twice, becomes 3 and is clipped
    missed = np.array([[1 - 0.8 / 2**0.5, 0.2 / 2**0.5], [1 - 4 / 2**0.5, 1 - 4 / 2**0.5]])
    assert cost.clipped == 2 and cost.out_of_place == 0
    assert_allclose(cost.error_by_frequency[:, 0], np.sqrt(np.square(missed).mean(0)), rtol=1e-6)
    assert_allclose(cost.error, np.sqrt(np.square(missed).mean()), rtol=1e-6)  # the DCT keeps the sum of squares
    assert_allclose(cost.overall, cost.error[0])
    assert_allclose(cost.error_most, 4 - 2**0.5, rtol=1e-6)  # (1, 1) decodes to (sqrt 2, 0)
    assert_array_equal(cost.tokens, [len(tokenizer.encode(np.array([pair]))[0]) for pair in ([1, 0], [1, 1])])
    assert cost.uses.sum() == cost.tokens.sum() and len(cost.uses) == tokenizer.vocabulary


def test_a_coefficient_never_seen_at_its_place_is_counted() -> None:
    train = np.concatenate((SIGNS[:1] * 3, -SIGNS[:1] * 3, SIGNS[:1])).repeat(2, 0)  # no difference between two steps
    tokenizer = fit_tokenizer(train, scale=1.0)
    cost = measure_cost(tokenizer, np.array([[[3.0], [-3.0]]], np.float32))
    assert (cost.clipped, cost.out_of_place) == (0, 1)


def test_a_constant_dimension_costs_nothing() -> None:
    generator = np.random.default_rng(1)
    chunks = np.stack((generator.normal(size=(50, 10)), np.full((50, 10), 7.25)), -1).astype(np.float32)
    cost = measure_cost(fit_tokenizer(chunks, scale=1.0), chunks)
    assert cost.error[1] == cost.error_most[1] == 0 and not cost.spectrum[:, 1].any() and cost.error[0] > 0.05


@settings(max_examples=25, deadline=None)
@given(arrays(np.float32, (6, 8, 2), elements=st.floats(-5, 5, width=32)), st.sampled_from((0.5, 7.0, 60.0)))
def test_on_its_own_chunks_the_error_is_under_half_a_step(chunks: np.ndarray, scale: float) -> None:
    tokenizer = fit_tokenizer(chunks, scale)
    cost = measure_cost(tokenizer, chunks)
    assert cost.clipped == cost.out_of_place == 0
    assert cost.error_by_frequency.max() <= 0.5 / scale + 1e-5
    assert cost.overall <= 0.5 / scale + 1e-5


def cost_of(error: tuple[float, ...], tokens: int) -> Cost:
    many = np.ones((8, len(error)))
    return Cost(
        error=np.array(error), error_most=np.array(error), error_by_frequency=many, spectrum=many,
        tokens=np.array([tokens]), uses=np.array([0, 0, 0, 5, 5]), clipped=0, out_of_place=0,
    )  # fmt: skip


def test_use_of_the_vocabulary() -> None:
    cost = cost_of((0.1,), 4)
    assert cost.used == 2 and cost.entropy == 1.0
    assert replace(cost, uses=np.array([0, 0, 9])).entropy == 0.0
    assert replace(cost, uses=np.array([1, 1, 2])).entropy == 1.5


def test_the_recommendation_has_the_fewest_tokens_of_the_exact_enough() -> None:
    tokenizer = fit_tokenizer(np.random.default_rng(0).normal(size=(20, 8, 2)).astype(np.float32), 2.0)
    rows = tuple(
        Fitted(replace(tokenizer, scale=scale), cost_of(error, tokens), None)
        for scale, error, tokens in ((1.0, (0.05, ENOUGH + 0.01), 3), (2.0, (ENOUGH, 0.1), 7), (4.0, (0.01, 0.01), 9))
    )
    found = TokenizerCost(
        task="arm", channels=(Channel("a", "a", "N"), Channel("b", "b", "")), control_seconds=0.1, pairs="pairs.npz",
        pairs_sha256="0" * 64, train=20, held_out=1, by_trajectory=True, rows=rows, expert=None, score="", short="",
        alone=None, episodes=0,
    )  # fmt: skip
    assert found.recommended is rows[1]
    assert found.recommendation.startswith("Take '--scale 2 --fine 0', 7.0 tokens a chunk: the fewest of those where")
    halved = replace(rows[1].cost, error_by_frequency=np.array([[0.5, 0.0]] * 2 + [[1.0, 0.5]] * 6))
    lost = replace(found, rows=(Fitted(rows[1].tokenizer, halved, None),)).tables()[-1]
    assert lost.columns == ("action", "0", "1", "2-3", "4-7")
    assert lost.rows == [("a", *2 * ["25.00%"], *2 * ["100.00%"]), ("b", *2 * ["0.00%"], *2 * ["25.00%"])]
    none = replace(found, rows=rows[:1])
    assert none.recommended is None and none.recommendation.startswith("None of these is exact enough")
    clipped = replace(found, rows=(Fitted(tokenizer, replace(rows[1].cost, clipped=4), None),))
    assert "25.0% of the coefficients lie outside the training range" in clipped.recommendation


def test_bands_cover_every_frequency_once() -> None:
    assert bands(50) == [(0, 0), (1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, 49)]
    for horizon in range(1, 70):
        assert [each for first, last in bands(horizon) for each in range(first, last + 1)] == list(range(horizon))


def test_plans_through_a_fine_tokenizer_act_as_the_plans_themselves(data: Path) -> None:
    chunks = load_action_pairs(data / "training_pairs_original.npz").action_chunk
    task = replace(PENDULUM, conditions=PENDULUM.conditions[:1])
    episodes = draw_episodes(task, task.conditions, 4, 0, "test")
    planner = yardstick_planner(task.yardsticks["PID, planned"], episodes, 1, task.horizon)
    itself, through, coarse = (
        mean_primary(evaluate_planner(each, episodes, 1))
        for each in (
            planner,
            rounded(planner, replace(fit_tokenizer(chunks, 400.0), low=-(10**9), high=10**9)),
            rounded(planner, fit_tokenizer(chunks, 0.5)),
        )
    )
    assert abs(itself - through) < 0.01 and coarse < itself - 0.1


def test_the_command_writes_a_report(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--pairs", str(data / "training_pairs_original.npz"), "--episodes", "1", "--out", str(tmp_path / "cost")]
    assert main(COMMANDS, ["tokenizer-report", *words]) == 0
    printed = capsys.readouterr().out
    values = json.loads((tmp_path / "cost" / "tokenizer_report.json").read_text())
    assert values["recommendation"] in printed and "PID, planned" in printed and "force" in printed
    assert values["recommended"] in [f"--scale {row['scale']:g} " + (
        f"--fine-scale {row['fine_scale']:g} --fine 8" if row["fine"] else "--fine 0"
    ) for row in values["rows"]]  # fmt: skip
    assert all(row["error_by_dimension"] == pytest.approx([row["error"]]) for row in values["rows"])
    assert all(0 <= row["control"] <= 1 for row in values["rows"]) and values["episodes"] == len(PENDULUM.conditions)
    text = (tmp_path / "cost" / "tokenizer_report.md").read_text()
    assert values["recommendation"] in text and "| 32-49 |" in text
    assert (tmp_path / "cost" / "tokenizer_report.png").read_bytes().startswith(b"\x89PNG")


def test_bad_input_is_one_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    pairs = str(data / "training_pairs_original.npz")
    for words, expected in (
        (["--pairs", str(tmp_path / "none.npz")], "none.npz"),
        (["--pairs", str(tmp_path / "file")], "file"),
        (["--pairs", pairs, "--out", str(tmp_path / "file")], "expected a folder to write the report to"),
        (["--pairs", pairs, "--task", "reacher"], "reacher"),
        (["--data", "nothing"], "nothing"),
        (["--episodes", "0"], "episodes"),
    ):
        assert main(COMMANDS, ["tokenizer-report", *words]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and expected in said
    assert not list(tmp_path.rglob("tokenizer_report*"))


def test_data_without_a_simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "arm").mkdir(parents=True)
    channels = (Channel("torque", "torque", "N m"), Channel("grip", "grip", ""))
    write_dataset(
        DataSet(
            name="arm", task="arm", observation=(Channel("angle", "angle", "rad"),), action=channels,
            control_seconds=0.1, horizon=20, episodes=30, frames=900, format="npz", source="x", source_sha256="0" * 64,
        )
    )  # fmt: skip
    generator = np.random.default_rng(0)
    smooth = np.cumsum(generator.normal(size=(300, 20)), 1)
    chunk = np.stack((smooth, np.full_like(smooth, 0.5)), -1).astype(np.float32)
    trajectory = np.repeat(np.arange(30), 10)
    state, metadata = generator.normal(size=(300, 1)).astype(np.float32), {KEY: facts_of(find_task("arm")).values()}
    pairs = ActionPairs(state, chunk, trajectory, np.tile(np.arange(10), 30), metadata)
    save_action_pairs(tmp_path / "data" / "arm" / "training_pairs_original.npz", pairs)
    found, files = tokenizer_report(TokenizerReportSettings(data="arm"), lambda done, total: None)
    assert files[0] == Path("data/arm/tokenizer_report/tokenizer_report.md") and all(each.is_file() for each in files)
    assert found.expert is None and found.alone is None and all(row.control is None for row in found.rows)
    assert found.held_out == 30 and found.by_trajectory and found.shown.cost.error[1] == 0
    assert_allclose(found.shown.tokenizer.actions.std, Normalisation.of(chunk).std, rtol=0.1)
    assert len(found.tables()[0].columns) == 11 and "grip" in found.markdown()
