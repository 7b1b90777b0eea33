"""The documentation holds: links lead somewhere, and what is made from the code is as the code is now."""

import re
from pathlib import Path

import pytest

from docs.reference.__main__ import PAGE, render
from tests.conftest import ROOT, Run, runs_of, store

PAGES = sorted(
    page
    for page in (*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("docs/*/*.md"))
    if page.relative_to(ROOT).parts[0] not in (".venv", "train")
)
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
RUNS = ROOT / "docs" / "reference" / "runs.md"
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """What GitHub calls a page's headings: lower case, spaces as hyphens, without other signs; repeats get a number."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?)\s*$", FENCE.sub("", page.read_text()), re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading).lower()).replace(" ", "-")
        number = 0
        while (each := f"{name}-{number}" if number else name) in found:
            number += 1
        found.add(each)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_relative_to(ROOT) and target.exists(), f"{link}: nothing there"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(index.read_text())}
    missing = set((ROOT / "docs").rglob("*.md")) - linked - {index}
    assert not missing, f"not linked from docs/README.md: {sorted(map(str, missing))}"


def test_settings_are_those_of_the_code() -> None:
    page = PAGE.read_text()
    assert page == render(), "docs/reference/settings.md is stale: python -m docs.reference"
    assert not re.search(r"^ {4}", page, re.MULTILINE), "Markdown shows indented help as code"


@pytest.mark.slow
@pytest.mark.usefixtures("with_store")
def test_a_run_has_what_its_page_says(run: Run, workplace: Path) -> None:
    """A pi0-FAST run, evaluated: the page names each metric, tag and artifact that it has, and no others."""
    small = ("--epochs", 1, "--width", 16, "--layers", 1)
    assert run("train.train_pi0_fast", *small).returncode == 0
    (made,) = runs_of(workplace)
    assert run("pipeline", "evaluate", "--run", made.info.run_id, "--episodes", 1).returncode == 0
    (made,) = runs_of(workplace)
    parts = dict(part.split("\n", 1) for part in RUNS.read_text().split("\n## "))
    said = {
        heading: {name for row in re.findall(r"^\| (`.*?) \|", part, re.M) for name in ticked(row)}
        for heading, part in parts.items()
    }
    scores = {name for name in made.data.metrics if "/" in name}
    assert said["Metrics"] - {"SCORE/noiseN_replanR", "SCORE/mean"} == made.data.metrics.keys() - scores
    assert {name.partition("/")[0] for name in scores} <= ticked(parts["Metrics"])

    ours = {name for name in made.data.tags if not name.startswith("mlflow.")}
    of_models = {
        name
        for names, on in re.findall(r"^\| (`.*?) \| (.*?) \|", parts["Tags"], re.M)
        if on == "all" or "model" in on
        for name in ticked(names)
    }
    assert ours <= of_models and of_models - ours == {"settings_used", "resumed", "failure", "study", "seed"}

    client = store(workplace)
    files = {file.path for each in ("", "evaluation") for file in client.list_artifacts(made.info.run_id, each)}
    name = made.data.tags["name"]
    generic = {path.replace(name, "NAME") for path in files} - {"evaluation"}
    assert generic == said["Artifacts"]


def ticked(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))
