"""The picture of plans in a state with two answers: it has two, their mean is none, and every plan is counted."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image

from docs import two_answers
from pipeline.config import make
from pipeline.evaluation.control import draw_episodes
from pipeline.methods.registry import METHODS
from pipeline.policies.checkpoint import Checkpoint, save_checkpoint
from pipeline.stages.collect import collect
from pipeline.stages.settings import CollectSettings
from pipeline.tasks.registry import find_task
from pipeline.tasks.settings import settle
from pipeline.tasks.ways import carry_out
from tests.conftest import files_of


@pytest.mark.parametrize("name", two_answers.TASKS)
def test_the_state_has_two_answers_and_their_mean_is_none(name: str) -> None:
    task = find_task(name)
    start = two_answers.first_start(task)
    assert_array_equal(start, draw_episodes(task, task.conditions, 9, seed=0).starts[:1])
    taken = two_answers.demonstrated(task, start)
    assert set(taken.options) == {0, 1} and 0.3 < taken.options.mean() < 0.7

    (mean,) = (each for each in task.yardsticks if each.startswith("mean of"))
    controllers = task.yardsticks[mean].controllers(start)
    calm = np.zeros((1, task.horizon, task.action_dim))
    chunks = np.mean([task.simulator.simulate(each, start, calm, 1)[1] for each in controllers], axis=0)
    assert two_answers.fan_of(task, carry_out(task.simulator, start, chunks)).options.tolist() == [-1]


def test_every_model_and_every_draw_is_a_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(two_answers, "PICTURE", tmp_path / "picture.png")
    collect(settle(make(CollectSettings, {"task": "avoiding", "trajectories": 20}))[0])
    files = []
    for number, name in enumerate(("pi0", "pi0", "regression")):
        method = METHODS[name]
        settings = make(method.settings_type, {**files_of(name, Path("data/avoiding")), "width": 16, "layers": 1})
        interface = method.prepare(settings).interface
        torch.manual_seed(number)
        weights = method.build(settings, interface).state_dict()
        files.append(f"{number}.pth")
        save_checkpoint(Path(files[-1]), Checkpoint(method, settings, interface, weights, {"name": str(number)}))

    assert two_answers.main(files) == 0
    said = [line.split(", ", 1)[1].partition(": ")[::2] for line in capsys.readouterr().out.splitlines()[-4:]]
    assert [title for title, _ in said] == [
        "demonstrators", "regression", "pi0 from zero", "pi0 from sampled noise",
    ]  # fmt: skip
    for (_, counts), plans in zip(said, (60, 1, 2, 60), strict=True):
        assert counts.count(f" of {plans}") == 3
        assert sum(int(part.split(": ")[1].split(" of ")[0]) for part in counts.split(", ")) == plans
    with Image.open("picture.png") as image:
        assert image.width > 2 * image.height > 800  # three panels in a row


@pytest.mark.parametrize(
    ("words", "found"),
    [([], "expected a suite or model files of avoiding or reacher, found none"), (["no.pth"], "expected a model file")],
)
def test_what_cannot_be_drawn_is_told_in_a_line(
    words: list[str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert two_answers.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and found in line
