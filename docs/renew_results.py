"""Put the results of the studies in the store between the marks in README (means) and docs/results.md (all of it).

    python -m docs.renew_results

takes the report and the figures of the study `ensemble`, which `make study` makes, and, if the study `baselines` of
`make baselines` is there, compares each method with what it has to beat.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.files import whole_file
from pipeline.tracking.query import artifact, search
from pipeline.tracking.store import open_store, store_name

ROOT = Path(__file__).resolve().parent.parent
README, RESULTS = ROOT / "README.md", ROOT / "docs" / "results.md"
FIGURES = ("scores", "converge_steps", "plans")
BLOCK = re.compile(r"(<!-- results: `make results` renews this -->\n).*?(<!-- end of results -->)", re.DOTALL)
BASELINES = re.compile(r"(<!-- baselines: `make results` renews this -->\n).*?(<!-- end of baselines -->)", re.DOTALL)
COMPARED = (("pi0", "regression"), ("pi0_fast", "binning"), ("pi0", "pi0_fast"))
LEFT_OUT = "zero action"
ALPHA = 0.05


def where(entry: dict[str, Any]) -> str:
    """A condition as a heading."""
    return "mean" if entry["action_noise"] is None else f"{entry['action_noise']:g}, {entry['replan']}"


def group_row(group: dict[str, Any], score: str, columns: list[str]) -> str:
    """A group's means, with deviations where there are several models."""
    found = {where(entry): entry for entry in group["scores"][score]}

    def cell(column: str) -> str:
        entry = found.get(column)
        if entry is None:
            return "-"
        return f"{entry['mean']:.3f}" if entry["std"] is None else f"{entry['mean']:.3f} ± {entry['std']:.3f}"

    count = f" ({len(group['models'])})" if group["kind"] in ("model", "original") else ""
    name = f"**{group['name']}**" if group["kind"] == "model" else group["name"]
    return f"| {name}{count} | {' | '.join(map(cell, columns))} |"


def difference_cell(entry: dict[str, Any]) -> str:
    """A difference and its interval, bold where the corrected test finds one (for the mean: the plain test)."""
    p, interval = entry.get("p_holm", entry["p"]), entry["interval"]
    text = f"{entry['mean']:+.3f}"
    text = f"**{text}**" if p is not None and p < ALPHA else text
    return text + (f" [{interval['low']:.3f}, {interval['high']:.3f}]" if interval else "")


def difference_row(difference: dict[str, Any], score: str, columns: list[str]) -> str:
    """The differences of two groups."""
    found = {where(entry): entry for entry in difference["scores"][score]}
    cells = [difference_cell(found[column]) for column in columns]
    return f"| {difference['first']} minus {difference['second']} | {' | '.join(cells)} |"


def render_means(report: dict[str, Any]) -> str:
    """One table for the front page: a line a group, over all conditions and in the worst one."""
    groups = [group for group in report["groups"] if group["name"] != LEFT_OUT]
    lines = ["| | success | in its worst condition | converge |", "|---|---:|---:|---:|"]

    def line(group: dict[str, Any]) -> str:
        success, converge = (group_row(group, score, ["mean"]) for score in ("success", "converge"))
        worst = min(entry["mean"] for entry in group["scores"]["success"])
        return f"{success} {worst:.3f} |{converge.rsplit('|', 2)[1]}|"

    lines += [line(group) for group in groups if group["kind"] == "model"]
    for each in report["differences"]:
        success, converge = (difference_row(each, score, ["mean"]) for score in ("success", "converge"))
        lines.append(f"{success} |{converge.rsplit('|', 2)[1]}|")
    lines += [line(group) for group in groups if group["kind"] != "model"]
    return "\n".join([*lines, ""])


def render(report: dict[str, Any]) -> str:
    """Tables of success and converge, and what they say."""
    lines = [f"Evaluation: {report['evaluation']}. Mean ± standard deviation over models (how many)."]
    groups = [group for group in report["groups"] if group["name"] != LEFT_OUT]
    for score in ("success", "converge"):
        columns = [where(entry) for entry in groups[0]["scores"][score]]
        lines += ["", f"| {score}: noise, replan | {' | '.join(columns)} |", "|---" + "|---:" * len(columns) + "|"]
        lines += [group_row(group, score, columns) for group in groups if group["kind"] == "model"]
        lines += [group_row(group, score, columns) for group in groups if group["kind"] == "average"]
        lines += [difference_row(difference, score, columns) for difference in report["differences"]]
        lines += [group_row(group, score, columns) for group in groups if group["kind"] in ("original", "yardstick")]
    return "\n".join([*lines, "", *(f"* {verdict}" for verdict in report["verdicts"]), ""])


def render_baselines(report: dict[str, Any]) -> str:
    """The same tables for all trained methods, with the differences that matter."""
    groups = [group for group in report["groups"] if group["kind"] == "model" and group["scores"].get("success")]
    differences = [each for each in report["differences"] if (each["first"], each["second"]) in COMPARED]
    lines: list[str] = []
    for score in ("success", "converge"):
        columns = [where(entry) for entry in groups[0]["scores"][score]]
        lines += ["", f"| {score}: noise, replan | {' | '.join(columns)} |", "|---" + "|---:" * len(columns) + "|"]
        lines += [group_row(group, score, columns) for group in groups]
        lines += [difference_row(difference, score, columns) for difference in differences]
    return "\n".join([*lines, ""])


def renew(page: Path, block: re.Pattern[str], content: str) -> None:
    """Put `content` between the marks of a page's block."""
    text = page.read_text()
    assert block.search(text), f"{page} has lost its marks"
    with whole_file(page) as temporary:
        temporary.write_text(block.sub(lambda found: f"{found[1]}\n{content}\n{found[2]}", text))


def renew_study(report: Path) -> None:
    """Renew pages and figures from a study's report, a folder."""
    values = json.loads((report / "report.json").read_text())
    renew(README, BLOCK, render_means(values))
    renew(RESULTS, BLOCK, render(values))
    for name in FIGURES:
        with whole_file(RESULTS.with_name(f"{name}.png")) as temporary:
            temporary.write_bytes((report / f"{name}.png").read_bytes())
    print(f"renewed README.md, docs/results.md and {', '.join(FIGURES)} in docs/")


def main() -> int:
    """Renew what the store has results for."""
    store = open_store()
    studies = {
        name: [run for run in search(store, study=name, kind="study") if run.status == "FINISHED"]
        for name in ("ensemble", "baselines")
    }
    if not studies["ensemble"]:
        print(f"error: {store_name()}: no finished study 'ensemble' there. Run 'make study' first.", file=sys.stderr)
        return 2
    with artifact(store, studies["ensemble"][-1].run_id, "report") as report:
        renew_study(report)
    if studies["baselines"]:
        command = [sys.executable, "-m", "pipeline", "report", "--json"]
        said = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
        renew(RESULTS, BASELINES, render_baselines(json.loads(said)).strip() + "\n")
        print("renewed the baselines in docs/results.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
