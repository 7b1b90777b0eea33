"""Drive MLflow's UI in a headless Chromium: what the README says of it is looked at, and pictured.

    python -m docs.screenshots [STORE] [FOLDER]

draws the pictures of the README from a finished study: STORE is an sqlite store, mlruns/mlflow.db by default; FOLDER is
where the pictures go, docs by default. The tests take the same steps.
"""

import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

from playwright.sync_api import Locator, Page, expect, sync_playwright

from pipeline.names import KIND, METHOD, SEED, Kind
from pipeline.server.service import HOST, Service, running

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WAIT_MS = 60_000.0
LOSSES = ["test_loss", "train_loss", "val_loss"]
FIGURES = ["converge_steps.png", "fast_tradeoff.png", "losses.png", "plans.png", "scores.png"]


@contextmanager
def served(database: Path) -> Iterator[str]:
    """The address of MLflow's UI over an sqlite store, while the body runs."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    uri = f"http://{HOST}:{port}"

    def answers() -> bool:
        with urlopen(f"{uri}/health", timeout=2) as response:
            return bool(response.status == 200)

    command = [
        sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{database.absolute()}",
    ]  # fmt: skip
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    service = Service("MLflow", command, port, answers, quiet)
    with tempfile.TemporaryDirectory() as folder, running(service, Path(folder) / "mlflow.log"):
        yield uri


@contextmanager
def browser(width: int = 1400, height: int = 900) -> Iterator[Page]:
    """A page of the machine's Chromium, with a profile of its own that is gone afterwards."""
    chromium = shutil.which("chromium")
    assert chromium, "no Chromium: apt-get install chromium fonts-liberation"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        try:
            page = opened.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(WAIT_MS)
            expect.set_options(timeout=WAIT_MS)
            yield page
        finally:
            opened.close()


@dataclass(frozen=True)
class Member:
    """A model of a study, as MLflow has it."""

    run_id: str
    name: str
    method: str
    seed: int


def members(uri: str, study: str) -> tuple[str, str, list[Member]]:
    """Of a study: its experiment's id, its run's id, its models."""
    from mlflow.tracking import MlflowClient

    from pipeline.tracking.query import all_pages

    client = MlflowClient(uri)
    experiments = [each.experiment_id for each in all_pages(client.search_experiments)]
    runs = all_pages(partial(client.search_runs, experiments, f"tags.study = '{study}'"))
    (parent,) = [run for run in runs if run.data.tags[KIND] == Kind.STUDY]
    models = [
        Member(run.info.run_id, run.info.run_name, run.data.tags[METHOD], int(run.data.params[SEED]))
        for run in runs if run.data.tags[KIND] == Kind.MODEL
    ]  # fmt: skip
    models.sort(key=lambda model: (model.method, model.seed))
    return parent.info.experiment_id, parent.info.run_id, models


def tidy(page: Page) -> None:
    """Close the assistant and fold the menu, so that the runs have the room."""
    assistant = page.get_by_role("button", name="Close", exact=True)
    if assistant.count():
        assistant.first.click()
    if page.get_by_role("link", name="Model registry").count():
        page.get_by_role("button", name="Toggle sidebar").click()


def load(page: Page, address: str) -> None:
    """Load a view of the UI anew: where the fragment alone changes, what was set before stays."""
    page.goto("about:blank")
    page.goto(address)


def list_runs(page: Page, uri: str, experiment: str, **query: str) -> None:
    """Open an experiment's list of runs, and wait until it has them."""
    words = "&".join(f"{name}={quote(value)}" for name, value in {"workflowType": "machine_learning", **query}.items())
    load(page, f"{uri}/#/experiments/{experiment}/runs?{words}")
    expect(page.get_by_text(re.compile(r"^[1-9]\d* matching runs"))).to_be_visible()
    tidy(page)


def compare(page: Page, uri: str, experiment: str, runs: list[Member]) -> Locator:
    """Overlay the losses of some runs in the chart view; returns its charts, each with a curve a run."""
    wanted = ", ".join(f"'{run.run_id}'" for run in runs)
    list_runs(
        page, uri, experiment, compareRunsMode="CHART", searchFilter=f"attributes.run_id IN ({wanted})",
        orderByKey="metrics.`val_loss`", orderByAsc="true",  # so sorted, members stand without their parents
    )  # fmt: skip
    page.get_by_placeholder("Search metric charts").fill("^(train|val|test)_loss$")
    charts = page.locator(".js-plotly-plot")
    expect(charts).to_have_count(len(LOSSES))
    for number in range(len(LOSSES)):
        expect(charts.nth(number).locator(".scatterlayer .trace .js-line").nth(len(runs) - 1)).to_be_attached()
    return charts


def curves(charts: Locator) -> list[dict[str, list[float]]]:
    """What each chart draws: by the name of a run, the values of its curve."""
    read = "plots => plots.map(plot => plot.data.map(line => [line.name, Array.from(line.y)]))"
    return [dict(lines) for lines in charts.evaluate_all(read)]


def nested(page: Page, uri: str, experiment: str, study: str, methods: list[str]) -> Locator:
    """Open a study and its methods in the list of runs; returns the names of all runs that are then listed."""
    others = " and ".join(f"tags.kind != '{kind}'" for kind in ("yardstick", "original", "average"))
    list_runs(
        page, uri, experiment, searchFilter=f"tags.study = '{study}' and {others}",
        orderByKey="attributes.start_time", orderByAsc="false",
    )  # fmt: skip
    names = page.get_by_role("gridcell").and_(page.locator("[col-id='attributes.`Run Name`']"))
    for name in (study, *(f"{study} {method}" for method in methods)):
        row = names.filter(has=page.get_by_role("link", name=name, exact=True))
        row.get_by_role("button").first.click()
    return names.get_by_role("link")


def artifact(page: Page, uri: str, experiment: str, run: str, path: str) -> Locator:
    """Open an artifact of a run in MLflow's viewer, beside its tree of files; returns the picture."""
    load(page, f"{uri}/#/experiments/{experiment}/runs/{run}/artifacts/{path}")
    expect(page.get_by_text(path, exact=True)).to_be_visible()
    tidy(page)
    picture = page.locator("img[src^='blob:'], img[src*='get-artifact']").first
    expect(picture).to_be_visible()
    expect(page.get_by_text(Path(path).name, exact=True)).to_be_visible()  # in the tree, once that has unfolded
    page.wait_for_function("document.getAnimations().every(each => each.playState != 'running')")
    return picture


def main(database: Path, folder: Path, study: str) -> None:
    """Draw the pictures of the README: losses overlaid, members below their study, a figure of the report."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(shutil.copy(database, place))  # the server may write to its store
        with served(copy) as uri, browser() as page:
            experiment, run, models = members(uri, study)
            charts = compare(page, uri, experiment, [model for model in models if model.seed < 2])
            page.set_viewport_size({"width": 1400, "height": 730})
            expect(charts.first).to_be_visible()
            page.screenshot(path=folder / "mlflow_compare.png")
            page.set_viewport_size({"width": 1400, "height": 1080})
            listed = nested(page, uri, experiment, study, sorted({model.method for model in models}))
            expect(listed).to_have_count(len(models) + 3)
            page.screenshot(path=folder / "mlflow_study.png")
            page.set_viewport_size({"width": 1400, "height": 1060})
            artifact(page, uri, experiment, run, "report/scores.png")
            stored = page.get_by_text(str(database.absolute().parent), exact=False)  # folders of this machine
            page.wait_for_timeout(1500)  # the tree of artifacts unfolds by a script, without a sign of its end
            page.screenshot(path=folder / "mlflow_report.png", mask=[stored], mask_color="#ffffff")


if __name__ == "__main__":
    given = sys.argv[1:]
    database, folder, study = (*given, *("mlruns/mlflow.db", "docs", "ensemble")[len(given) :])
    main(Path(database), Path(folder), study)
