"""Put the results of the study in the store between the marks in README (verdicts, means) and docs/results.md (all).

    python -m docs.renew_results

takes the report and the figures of the study `ensemble`, which `make study` makes and `make baselines` adds groups to.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from pipeline.files import whole_file
from pipeline.tracking.query import artifact, search
from pipeline.tracking.store import open_store, store_name

ROOT = Path(__file__).resolve().parent.parent
README, RESULTS = ROOT / "README.md", ROOT / "docs" / "results.md"
FIGURES = ("verdicts", "scores", "converge_steps", "plans")
BLOCK = re.compile(r"(<!-- results: `make results` renews this -->\n).*?(<!-- end of results -->)", re.DOTALL)
SHOWN = ("calm", "success", "converge")
LEFT_OUT = "zero action"


def where(entry: dict[str, Any]) -> str:
    """A condition as a heading."""
    return "mean" if entry["action_noise"] is None else f"{entry['action_noise']:g}, {entry['replan']}"


def name_of(group: dict[str, Any]) -> str:
    """A group's name with its number of models; bold if we trained it."""
    count = f" ({len(group['models'])})" if group["kind"] in ("model", "original") else ""
    return (f"**{group['name']}**" if group["kind"] == "model" else group["name"]) + count


def cell(entry: dict[str, Any] | None) -> str:
    """A mean, with the deviation over models where there are several."""
    if entry is None:
        return "-"
    return f"{entry['mean']:.3f}" if entry["std"] is None else f"{entry['mean']:.3f} ± {entry['std']:.3f}"


def difference_cell(entry: dict[str, Any]) -> str:
    """A difference and its interval, bold where one is shown."""
    interval = entry["interval"]
    text = f"**{entry['value']:+.3f}**" if entry["better"] else f"{entry['value']:+.3f}"
    return text + (f" [{interval['low']:.3f}, {interval['high']:.3f}]" if interval else "")


def shown_groups(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The groups of the tables that were evaluated: ours, averages, then what stands beside."""
    return [group for group in report["groups"] if group["name"] != LEFT_OUT and group["scores"]]


def verdict_lines(report: dict[str, Any]) -> list[str]:
    """The verdict of every two groups, a line each."""
    said = {(each["first"], each["second"]): each["verdict"] for each in report["differences"] if each["verdict"]}
    lines = []
    for (first, second), verdict in said.items():
        interval, inner = verdict["interval"], verdict["inner"]
        word = {
            "better": f"**{first} is better**",
            "worse": f"**{second} is better**",
            "equivalent": f"**equivalent within {verdict['margin']:g}**",
            "undecided": "undecided",
        }[verdict["word"]]
        cells = ["-" if each is None else f"[{each['low']:.4f}, {each['high']:.4f}]" for each in (interval, inner)]
        lines.append(f"| {first} minus {second} | {verdict['difference']:+.4f} | {cells[0]} | {cells[1]} | {word} |")
    inner = next((verdict["inner_percent"] for verdict in said.values()), 90)
    head = [f"| calm | difference | 95% interval | {inner:.3g}% interval | verdict |", "|---|---:|---:|---:|---|"]
    return [*head, *lines] if lines else []


def render_front(report: dict[str, Any]) -> str:
    """For the front page: a line a group, over all conditions and in the worst one, and the first one's verdicts."""
    head = "| | calm | success | in its worst condition | converge |"
    lines = [head, "|---" + "|---:" * 4 + "|"]
    for group in shown_groups(report):
        if group["kind"] == "average":
            continue
        by_score = {name: {where(each): each for each in group["scores"][name]} for name in SHOWN}
        worst = min(each["mean"] for each in group["scores"]["success"])
        calm, success, converge = (cell(by_score[name].get("mean")) for name in SHOWN)
        letters = f" {group['letters']}" if group["letters"] else ""
        lines.append(f"| {name_of(group)} | {calm}{letters} | {success} | {worst:.3f} | {converge} |")
    first = next(iter(report["groups"]))["name"]
    pairs = [each for each in report["differences"] if each["first"] == first]
    return "\n".join([*lines, "", *verdict_lines(report | {"differences": pairs}), ""])


def render(report: dict[str, Any]) -> str:
    """Tables of the main scores by condition, and what they say."""
    lines = [f"Evaluation: {report['evaluation']}. Mean ± standard deviation over models (how many)."]
    lines += ["", *verdict_lines(report)]
    groups = shown_groups(report)
    for name in SHOWN:
        columns = [where(each) for each in groups[0]["scores"][name]]
        lines += ["", f"| {name}: noise, replan | {' | '.join(columns)} |", "|---" + "|---:" * len(columns) + "|"]
        for group in groups:
            found = {where(each): each for each in group["scores"][name]}
            lines.append(f"| {name_of(group)} | {' | '.join(cell(found.get(column)) for column in columns)} |")
        for each in report["differences"]:
            cells = {where(found): difference_cell(found) for found in each["scores"].get(name, [])}
            told = " | ".join(cells.get(column, "-") for column in columns)
            lines.append(f"| {each['first']} minus {each['second']} | {told} |")
    return "\n".join([*lines, "", *(f"* {verdict}" for verdict in report["verdicts"]), ""])


def renew(page: Path, block: re.Pattern[str], content: str) -> None:
    """Put `content` between the marks of a page's block."""
    text = page.read_text()
    assert block.search(text), f"{page} has lost its marks"
    with whole_file(page) as temporary:
        temporary.write_text(block.sub(lambda found: f"{found[1]}\n{content}\n{found[2]}", text))


def main() -> int:
    """Renew what the store has results for."""
    store = open_store()
    studies = [run for run in search(store, study="ensemble", kind="study") if run.status == "FINISHED"]
    if not studies:
        print(f"error: {store_name()}: no finished study 'ensemble' there. Run 'make study' first.", file=sys.stderr)
        return 2
    with artifact(store, studies[-1].run_id, "report") as report:
        values = json.loads((report / "report.json").read_text())
        renew(README, BLOCK, render_front(values))
        renew(RESULTS, BLOCK, render(values))
        for name in FIGURES:
            with whole_file(RESULTS.with_name(f"{name}.png")) as temporary:
                temporary.write_bytes((report / f"{name}.png").read_bytes())
    print(f"renewed README.md, docs/results.md and {', '.join(FIGURES)} in docs/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
