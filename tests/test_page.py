"""The report's page: what it says, what it cannot be made to do, and how it behaves in a real browser."""

import functools
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from playwright.sync_api import Browser, Locator, Page, Request, expect, sync_playwright

from pipeline.cli.main import COMMANDS, main
from pipeline.config import make
from pipeline.evaluation.protocol import Protocol
from pipeline.methods.method import Plans
from pipeline.methods.registry import METHODS
from pipeline.report.animation import cut
from pipeline.report.comparison import compare_models
from pipeline.report.comparison_tables import averages_table
from pipeline.report.episodes import Drawing, Kind, draw_episode
from pipeline.report.headline import headline
from pipeline.report.page import Page as Content
from pipeline.report.page import render_page
from pipeline.report.plotting import as_svg
from pipeline.report.score_figures import draw_scores
from pipeline.report.tables import Table
from pipeline.results.episodes import Scored, choose, to_episode
from pipeline.results.figures import literal
from pipeline.stages.judging import EvaluationSpec, judge_run
from pipeline.stages.train import train
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.pendulum.world import ANGLE_LIMIT, EPISODE_STEPS, POLE_LENGTH
from pipeline.tasks.task import Array, Task
from pipeline.tracking.store import open_store, store_name
from tests.conftest import ROOT, files_of
from tests.puck import PUCK
from tests.test_animation import nothing, planned_lqr, push, record_one
from tests.test_report import compared, model, ten

pytestmark = pytest.mark.xdist_group("page")  # one browser, which these tests share

CONDITIONS = PENDULUM.conditions

HOSTILE = "<img src=x onerror=\"document.title='taken'\"></script><script>document.title='taken'</script> $\\bad{$ "
OTHER_WINDOWS = [("light", 1280), ("dark", 390)]
CHROMIUM = shutil.which("chromium")
in_a_browser = pytest.mark.skipif(
    CHROMIUM is None and os.geteuid() != 0, reason="needs chromium, which `make test` installs as root"
)


class Tags(HTMLParser):
    """All tags of a page with their attributes, and its headings' levels."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in names]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# What it says


def test_the_answer_says_what_the_test_says() -> None:
    ((verdict, details),) = headline(ten(0.1))
    assert verdict == "A is better than b in calm."
    assert details.startswith("0.8") and ", 95% interval [0.099" in details and "over models and episodes" in details


def test_the_answer_without_a_pair_or_without_scores() -> None:
    one = compared([model("a", 0, 0.9)])
    assert headline(one)[0] == ("Calm: 0.905 for a.", "On average over the conditions and 1 model.")
    assert averages_table(one).rows == [("a", "1", "0.905", "1.000", "0.500")]
    none = compared([model("a", 0, 0.9, episodes={}, conditions=())])
    assert headline(none)[0][0] == "No answer yet."


def scored(number: int, label: str = "m", **more: object) -> Scored:
    known = dict.fromkeys(PENDULUM.own_scores, 1.0) | {"success": True}
    return Scored(model(label, 0, 0.9), number, known | more)  # type: ignore[arg-type]


def test_the_worst_episode_and_the_median_of_its_model() -> None:
    """By the primary score, and of equals by the next one."""
    calm = [scored(number, calm=share) for number, share in enumerate((0.7, 0.9, 0.8, 0.6))]
    other = [scored(number, "other") for number in range(3)]
    assert [(kind, each.number) for kind, each in choose(PENDULUM, calm + other)] == [("good", 2), ("bad", 3)]
    falling = [scored(n, calm=0.0, success=False, converge=converge) for n, converge in ((8, True), (9, False))]
    assert choose(PENDULUM, [*other, *falling, *calm])[-1] == ("bad", falling[1])
    assert choose(PENDULUM, falling) == [("bad", falling[1])]
    (good, _) = choose(PENDULUM, [*calm, *falling])
    assert good == ("good", calm[0])


# Episodes


def an_episode(
    planner: Callable[[Array], Plans], kind: Kind, group: str, task: Task = PENDULUM, **changed: object
) -> Drawing:
    """A real one under the hardest condition, drawn; `changed` are scores that the store has otherwise."""
    record = record_one(planner, task.conditions[-1], 0, task)
    found = {name: column[0] for name, column in task.score(record.states[None], record.actions[None]).items()}
    stored = Scored(model(group, 3, 0.9), 1, found | changed)
    return draw_episode(task, to_episode(task, ten(0.1).groups[0], kind, stored, record))


def places(points: str) -> np.ndarray:
    return np.array([point.split(",") for point in points.split()], dtype=np.float64)


def test_episodes_are_told_as_they_went() -> None:
    good, bad = an_episode(planned_lqr, "good", "a"), an_episode(nothing, "bad", "a")
    assert re.fullmatch(r"It ran to its end: calm [01]\.\d{3}\.", good.episode.outcome)
    assert good.steps == EPISODE_STEPS and all(len(part) == EPISODE_STEPS + 1 for part in good.moves["parts"])
    assert [plan["step"] for plan in good.moves["plan"]] == [0, 15, 30, 45, 60, 75, 90]
    assert bad.episode.outcome == f"It fell in step {bad.steps}: calm 0.000." and bad.steps < EPISODE_STEPS
    assert abs(bad.episode.states[-1, 1]) > ANGLE_LIMIT > abs(bad.episode.states[:-1, 1]).max()
    assert good.moves["told"][0].startswith(f"cart position {good.episode.states[0, 0]:.3f} m, pole angle ")
    assert good.moves["told"][0].endswith(" x 100 N") and "force" not in good.moves["told"][-1]


def test_an_episode_is_drawn_as_in_the_moving_picture() -> None:
    """The same scene, upright and to scale; executed is without noise."""
    record, drawn = record_one(planned_lqr, CONDITIONS[-1], 0), an_episode(planned_lqr, "good", "a")
    assert [(each.kind, each.role) for each in drawn.back] == [("polyline", "ground")]
    assert [each.role for each in drawn.front] == ["body", "body", "light", "force", "force"]
    pole, rail = places(drawn.moves["parts"][1][0]), places(drawn.back[0].points)
    scale = np.ptp(rail[:, 0]) / (2 * 0.7 + np.ptp(record.states[:, 0]))
    assert np.hypot(*(pole[1] - pole[0])) / scale == pytest.approx(POLE_LENGTH, rel=0.01)
    lean = np.arctan2(pole[1, 0] - pole[0, 0], pole[0, 1] - pole[1, 1])  # leaning to the right is positive
    assert lean == pytest.approx(record.states[0, 1], abs=0.01)
    shown = cut(PENDULUM, record)
    assert_array_equal(drawn.episode.executed, shown.actions)
    assert_array_equal(drawn.episode.applied, shown.applied)
    assert (drawn.episode.executed != drawn.episode.applied).any() and len(drawn.actions[0].dots) == EPISODE_STEPS


def test_an_episode_that_went_otherwise_says_so() -> None:
    told = an_episode(planned_lqr, "good", "a", velocity_std=0.1).episode.outcome
    assert told.endswith("In the evaluation the result differed: code, versions or processor have changed.")


def test_two_action_dimensions_have_two_panels_and_a_tall_scene_its_height() -> None:
    drawn = an_episode(push, "good", "a", PUCK)
    assert [panel.label for panel in drawn.actions] == ["push along, N", "push across, N"]
    assert [panel.label for panel in drawn.observed] == ["place along, m", "place across, m"] and not drawn.axis
    assert all(len(plan["points"]) == 2 for plan in drawn.moves["plan"]) and drawn.height > 372
    post, goal = (places(each.points)[0] for each in drawn.back)
    assert post[0] < goal[0] and post[1] == goal[1] and [each.role for each in drawn.back] == ["obstacle", "goal"]
    assert drawn.moves["told"][0].count("push") == 2


# The file


@functools.cache
def a_page(group: str = "a") -> str:
    """A page from models made by hand and real episodes."""
    comparison = ten(0.1)
    models = [replace(each, group=group) if each.group == "a" else each for g in comparison.groups for each in g.models]
    comparison = compare_models(
        PENDULUM, f"study {group}", comparison.protocol, comparison.design, models, [f"a note on {group}"]
    )
    episodes = [an_episode(planned_lqr, "good", group), an_episode(nothing, "bad", group)]
    episodes = [replace(each, episode=replace(each.episode, group=group)) for each in episodes]
    settings = Table("Settings", ("setting", "a"), [("width", "64"), (group, group)])
    runs = Table("Runs", ("model", "digest", "n"), [("x", "04f5", "10"), ("y", "4e11", "-"), (group, "1a00", "9")])
    figures = {"scores": as_svg(draw_scores(literal(comparison)))}
    return render_page(Content(comparison, figures, episodes, "By a rule.", settings, [runs], [group]))


def test_one_file_with_nothing_to_load() -> None:
    text = a_page()
    tags = Tags(text)
    links = [value for _, attributes in tags.found for name, value in attributes.items() if name in ("src", "href")]
    assert links and all(str(link).startswith(("data:image/svg+xml;base64,", "#")) for link in links)
    assert "http" not in re.sub(r"data:[^\"]+|http-equiv", "", text)
    assert not any(name.startswith("on") or name == "style" for _, attributes in tags.found for name in attributes)
    policy = next(meta["content"] for meta in tags.of("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'; img-src data:; style-src 'sha256-") and "unsafe" not in str(
        policy
    )
    assert text == a_page.__wrapped__() and len(text) < 1_000_000


def test_names_and_their_order_are_those_of_the_comparison() -> None:
    comparison = replace(ten(0.1), title="study MyLongRun")
    drawn = an_episode(nothing, "bad", "a")
    shown = [replace(drawn, episode=replace(drawn.episode, group=name)) for name in ("zebra", "ant", "zebra")]
    text = render_page(Content(comparison, {}, shown, "By a rule.", Table("Settings", ("setting",), []), []))
    assert "<p>Study MyLongRun. Evaluation:" in text
    assert re.findall("<h3>(zebra|ant)</h3>", text) == ["zebra", "ant"]


def test_it_can_be_read_by_those_who_do_not_see_it() -> None:
    tags = Tags(a_page())
    assert tags.of("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in tags.found if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(image["alt"] for image in tags.of("img")) and all(head["scope"] for head in tags.of("th"))
    assert len(tags.of("caption")) == len(tags.of("table")) >= 10
    ids = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
    assert len(set(ids)) == len(ids)
    named = [name for _, found in tags.found for name in (found.get("aria-labelledby") or "").split()]
    assert named and set(named) <= set(ids)


def test_the_templates_are_installed() -> None:
    """Whatever is not Python below `pipeline` must match the package data."""
    patterns = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["setuptools"]["package-data"]["*"]
    files = [path for path in (ROOT / "pipeline").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert not [path for path in files if path.suffix != ".py" and not any(map(path.match, patterns))]


# From a store


@pytest.fixture
def study(workplace: Path, with_store: None, data: Path) -> dict[str, str]:
    """A store with a study of two small models, trained and evaluated for real, some of its names hostile: run ids."""
    runs, client = {}, open_store()
    for method in ("pi0", "pi0_fast"):
        small = {"epochs": 1, "width": 16, "layers": 1, "heads": 1, **files_of(method, data)}
        made = train(METHODS[method], make(METHODS[method].settings_type, small), lambda *_: None, lambda *_: None)
        judge_run(made.run_id, EvaluationSpec("pendulum", Protocol(2, 0), Path("none")), lambda _: None)
        client.set_tag(made.run_id, "study", "s")
        runs[method] = made.run_id
    client.set_tag(runs["pi0_fast"], "method", HOSTILE)
    client.set_tag(runs["pi0_fast"], "code_commit", HOSTILE)
    client.log_param(runs["pi0_fast"], "hostile", HOSTILE)
    experiment = client.get_run(runs["pi0"]).info.experiment_id
    runs["study"] = client.create_run(experiment, run_name=HOSTILE, tags={"kind": "study", "study": "s"}).info.run_id
    return runs


REPORT = ("report", "--study", "s", "--out", "train/reports/s", "--html")


@pytest.mark.xdist_group("study of a page")
def test_the_page_of_a_study(study: dict[str, str], workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its bytes repeat, its names are text; without weights it says that episodes are missing."""
    page = workplace / "train/reports/s/report.html"
    assert main(COMMANDS, [*REPORT]) == 0, capsys.readouterr().err
    text = read(page)
    assert "&lt;img src=x" in text and "<img src=x" not in text and text.count("</script>") == text.count("<script")
    assert len(Tags(text).of("figure")) == 2 + 4, "an episode of each model that falls, and four figures"
    assert text.count("Seed 0, episode") >= 2 and "result differed" not in text
    assert all(run in text for run in study.values()) and "sqlite file mlflow.db" in text and "torch" in text
    assert str(workplace) not in text
    client = open_store()
    assert client.list_artifacts(study["study"]) == []  # what is written goes to the folder that is named

    assert main(COMMANDS, [*REPORT, "--json"]) == 0
    assert read(page) == text and capsys.readouterr().out.splitlines()[-1].startswith("{")

    for name in ("pi0", "pi0_fast"):
        folder = Path(client.get_run(study[name]).info.artifact_uri.removeprefix("file://"))
        next(folder.glob("*.pth")).unlink()
    (folder / "lock.json").write_text("[]")
    assert main(COMMANDS, [*REPORT]) == 0
    assert "No episode can be shown" in read(page) and read(page).count("cannot be shown: MLflow run") == 2
    assert "expected a record of versions, found another file" in read(page)


def test_stores_are_named_without_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    for uri, name in {
        "sqlite:////home/me/mlruns/mlflow.db": "sqlite file mlflow.db",
        "postgresql://me:secret@db.lab:5432/runs?sslkey=x": "postgresql://db.lab:5432/runs",
        "https://me:secret@tracking.lab": "https://tracking.lab",
        "file:///home/me/mlruns": "file store mlruns",
    }.items():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert store_name() == name


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    switches = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=switches)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(a_page(HOSTILE), encoding="utf-8")
    return path


@pytest.fixture
def complaints() -> list[str]:
    """What pages said on their consoles, and what they asked the network for."""
    return []


@pytest.fixture
def opened(browser: Browser, page_file: Path, complaints: list[str]) -> Iterator[Callable[..., Page]]:
    contexts = []

    def open_page(**options: Any) -> Page:
        contexts.append(context := browser.new_context(**options))
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: None if local(request) else complaints.append(request.url))
        page.goto(page_file.as_uri())
        return page

    def local(request: Request) -> bool:
        return request.url.startswith((page_file.as_uri(), "data:"))

    yield open_page
    for context in contexts:
        context.close()


@in_a_browser
@pytest.mark.parametrize(
    ("scheme", "width"),
    [("light", 390), ("dark", 1280), *(pytest.param(*each, marks=pytest.mark.long) for each in OTHER_WINDOWS)],
)
def test_it_fits_the_window_and_loads_nothing(
    opened: Callable[..., Page], complaints: list[str], width: int, scheme: str
) -> None:
    page = opened(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.locator("details").evaluate_all("all => all.forEach(each => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("img").evaluate_all("all => all.every(each => each.complete && each.naturalWidth > 0)")
    assert page.locator("h1").inner_text() == f"{' '.join(HOSTILE.split())} and b compared"
    assert page.title().startswith("<img src=x") and page.locator("img[src=x]").count() == 0
    assert complaints == []


def column(table: Locator, number: int) -> list[str]:
    return table.locator(f"tbody tr > :nth-child({number})").all_inner_texts()


@in_a_browser
def test_tables_sort_by_mouse_and_keyboard(opened: Callable[..., Page]) -> None:
    table = opened().locator("section[aria-labelledby=provenance] table")
    assert column(table, 3) == ["10", "-", "9"]
    head = table.locator("thead th").nth(2)
    for order, found in {"ascending": ["9", "10", "-"], "descending": ["10", "9", "-"], None: ["10", "-", "9"]}.items():
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == order and column(table, 3) == found
    other = table.locator("thead th").nth(1)
    other.locator("button").focus()
    other.page.keyboard.press("Enter")
    assert column(table, 2) == ["1a00", "4e11", "04f5"], "text in natural order; 4e11 is no number"
    assert other.get_attribute("aria-sort") == "ascending" and head.get_attribute("aria-sort") is None


@in_a_browser
def test_episodes_play_pause_and_go_where_they_are_told(opened: Callable[..., Page], complaints: list[str]) -> None:
    page = opened(reduced_motion="reduce")
    episode = page.locator(".episode").first
    play, slider = episode.locator(".play"), episode.locator("input")
    cart = episode.locator(".moving polygon").first
    assert episode.locator(".moving").get_attribute("visibility") == "hidden", "nothing moves by itself"
    play.click()
    readout = episode.locator(".readout")
    expect(readout).to_have_text(re.compile(r"step ([4-9]|\d\d) of 100"))
    play.click()
    step, place = slider.input_value(), cart.get_attribute("points")
    page.wait_for_timeout(200)  # five steps, were it not standing
    assert (slider.input_value(), cart.get_attribute("points"), play.inner_text()) == (step, place, "Play")
    slider.fill("50")
    assert str(slider.get_attribute("aria-valuetext")).startswith("step 50 of 100, 2.00 s: cart position ")
    assert episode.locator(".current").get_attribute("points") == episode.locator(".planned").nth(3).get_attribute(
        "points"
    )
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert readout.inner_text().startswith("step 51 of 100")
    slider.fill("98")
    play.click()
    expect(readout).to_have_text(re.compile("step 100 of 100"))
    assert play.inner_text() == "Play"
    assert complaints == []


@in_a_browser
def test_without_scripts_it_is_all_there_but_the_buttons(opened: Callable[..., Page], complaints: list[str]) -> None:
    page = opened(java_script_enabled=False)
    assert page.locator(".controls:visible, thead button, .script:visible").count() == 0
    assert page.locator(".episode .ghosts:visible").count() == 2 and page.locator("table:visible").count() > 4
    assert complaints == []
