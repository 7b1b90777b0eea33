"""MLflow's real UI over a study, in a real browser: curves overlay, a study shows its members, figures open."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from docs import screenshots
from tests import warm
from tests.conftest import store

pytestmark = [pytest.mark.slow(seconds=8), pytest.mark.xdist_group("study")]

OTHERS = [figure for figure in screenshots.FIGURES if figure != "scores.png"]  # which open in the same way

needs_chromium = pytest.mark.skipif(
    shutil.which("chromium") is None and os.geteuid() != 0,
    reason="no Chromium, and only root can install it: apt-get install chromium fonts-liberation",
)  # as root `make test` has installed it, so that its absence is a failure


@pytest.fixture(scope="module")
def page(study: Path) -> Iterator[tuple[screenshots.Page, str]]:
    """A browser's page, and the address of the UI over the study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", warm.python())
        with screenshots.served(study / "mlruns/mlflow.db") as uri, screenshots.browser(height=1100) as opened:
            yield opened, uri


@needs_chromium
def test_losses_of_two_runs_a_method_overlay(page: tuple[screenshots.Page, str], study: Path, tmp_path: Path) -> None:
    opened, uri = page
    experiment, _, models = screenshots.members(uri, "ensemble")
    assert [(model.method, model.seed) for model in models] == [
        ("pi0", 0), ("pi0", 1), ("pi0_fast", 0), ("pi0_fast", 1),
    ]  # fmt: skip
    charts = screenshots.compare(opened, uri, experiment, models)
    client: MlflowClient = store(study)
    logged = [
        {
            model.name: [value.value for value in client.get_metric_history(model.run_id, loss)]
            for model in models
        }
        for loss in screenshots.LOSSES
    ]  # fmt: skip
    assert screenshots.curves(charts) == logged
    for model in models:
        assert opened.get_by_role("link", name=model.name, exact=True).is_visible()


@needs_chromium
def test_a_study_shows_its_members(page: tuple[screenshots.Page, str]) -> None:
    opened, uri = page
    experiment, _, models = screenshots.members(uri, "ensemble")
    listed = screenshots.nested(opened, uri, experiment, "ensemble", ["pi0", "pi0_fast"])
    screenshots.expect(listed).to_have_count(len(models) + 3)
    parents = ["ensemble", "ensemble pi0", "ensemble pi0_fast"]
    assert sorted(listed.all_inner_texts()) == sorted([*parents, *(model.name for model in models)])


@needs_chromium
@pytest.mark.parametrize("figure", ["scores.png", *(pytest.param(each, marks=pytest.mark.long) for each in OTHERS)])
def test_figures_of_the_report_open(page: tuple[screenshots.Page, str], study: Path, figure: str) -> None:
    opened, uri = page
    experiment, run, _ = screenshots.members(uri, "ensemble")
    picture = screenshots.artifact(opened, uri, experiment, run, f"report/{figure}")
    opened.wait_for_function("picture => picture.complete && picture.naturalWidth > 0", arg=picture.element_handle())
    header = (study / "project/train/reports/ensemble" / figure).read_bytes()[16:24]  # width and height of a PNG
    size = [int.from_bytes(header[:4]), int.from_bytes(header[4:])]
    assert picture.evaluate("picture => [picture.naturalWidth, picture.naturalHeight]") == size
