"""Put the results of a suite in the store between the marks of README, docs/results.md and the pages of the tasks.

    python -m docs.renew_results [SUITE]

takes the suite that `make suite` makes, or another one: of every task of this project the study in the store, if it has
one at its end, else the one that docs/episodes/ has from an earlier call. Figures of plans and paths are drawn from the
store, and stay as they are without it. A task that neither has is named, and its own page stays as it is. No page is
written unless all could be made.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

from docs import findings
from docs.command import command
from docs.marks import renewed
from docs.picture import save_small
from docs.published import publish
from docs.result_pages import bullets, by_method, front_table, reading, section, summary, task_block
from pipeline.errors import SettingsError
from pipeline.files import whole_file
from pipeline.report.comparison import Comparison, Model, compare_models
from pipeline.report.plotting import Figure
from pipeline.report.suite import Suite
from pipeline.report.suite_figure import draw_suite
from pipeline.results.figures import draw_figures, draw_scored
from pipeline.tasks.project import DEFAULT, TASKS
from pipeline.tracking.store import Store, open_store, store_name

ROOT = Path(__file__).resolve().parent.parent
README, DOCS = ROOT / "README.md", ROOT / "docs"
SUITE = "suite"
RESULTS, FINDINGS = "results", "findings"
LABELS = {
    "pi0 start_noise=1": f"pi0{findings.PUBLISHED}",
    "pi0_fast scheme=one_scale decoding=greedy": f"pi0_fast{findings.PUBLISHED}",
    "pi0_fast decoding=sampled": f"pi0_fast{findings.SAMPLED}",
}
"""What groups are called on the pages."""
PICTURE = "The score of every method on every task, with intervals over models and episodes, and yardsticks"
PENDULUM = {
    "scores": "Scores of all groups by action noise and replan interval, with intervals, models and yardsticks",
    "converge_steps": "Share of episodes that have converged by each step and never fall, in every condition",
    "plans": "Plans of the methods beside the expert's chunks, and their error along the chunk",
}
"""Figures of the default task's report that the page of all results shows, in words."""
VERDICTS = "Differences between every two methods, with intervals and the margin"
PATHS = "Paths of the methods' episodes over those of the demonstrators"


@dataclass(frozen=True)
class Found:
    """What there is of a suite."""

    suite: Suite
    settings: findings.Settings  # of its last call
    missing: Mapping[str, str]  # by task: why the store has no study of it
    figures: Mapping[str, Figure]  # by their file in docs/


def read_suite(store: Store, name: str) -> Found:
    """Read what there is of a suite; raises `SettingsError` if there is nothing."""
    published = publish(store, name)
    if not published.suite:
        why = " ".join(published.missing.values())
        raise SettingsError(
            f"{store_name()}: expected a suite '{name}' there, found none. Run 'make suite' first. {why}"
        )
    figures: dict[str, Figure] = {}
    suite = {task: labelled(comparison) for task, comparison in published.suite.items()}
    for task in suite:
        renewed = published.renewed.get(task)
        drawn = draw_scored(suite[task]) if renewed is None else draw_figures(store, labelled(renewed), None)[0]
        figures |= figures_of(drawn, task)
    return Found(suite, published.settings, published.missing, figures)


def labelled(comparison: Comparison) -> Comparison:
    """Return the comparison with the names of groups that the pages use."""
    found = [model for group in comparison.groups for model in group.models]
    models = [
        replace(model, group=label(model), averages=LABELS.get(model.averages, model.averages)) for model in found
    ]
    methods = list(dict.fromkeys(model.method for model in models))
    models.sort(key=lambda model: (methods.index(model.method), model.group))
    notes = [reduce(lambda text, name: text.replace(name, LABELS[name]), LABELS, note) for note in comparison.notes]
    return compare_models(comparison.task, comparison.title, comparison.protocol, comparison.design, models, notes)


def label(model: Model) -> str:
    """What the group of a model, or of an average, is called on the pages."""
    if model.averages:
        return LABELS.get(model.averages, model.averages) + model.group.removeprefix(model.averages)
    return LABELS.get(model.group, model.group)


def figures_of(drawn: Mapping[str, Figure], task: str) -> dict[str, Figure]:
    """Those figures of a study that the pages show, by their file in docs/."""
    files = {name: f"{name}.png" for name in PENDULUM if task == DEFAULT}
    files |= {name: f"tasks/{task}_{name}.png" for name in ("verdicts", "paths")}
    return {file: drawn[name] for name, file in files.items() if name in drawn}


def pages_of(found: Found) -> dict[Path, str]:
    """The new text of every page; raises `SettingsError` for a page without its marks."""
    suite, missing = found.suite, [task for task in TASKS if task not in found.suite]
    said = findings.findings(suite, found.settings)
    reads = reading(suite, missing)
    front = [front_table(suite, "docs/tasks"), reads, f"![{PICTURE}](docs/suite.png)"]
    full = [
        reads,
        front_table(suite, "tasks"),
        f"![{PICTURE}](suite.png)",
        f"## What this shows\n\n{bullets(said)}",
    ]
    full.append(summary(suite))
    pages = {}
    for task, comparison in suite.items():
        full.append(section(comparison, task, shown(found.figures, {f"tasks/{task}_verdicts.png": VERDICTS})))
        full += shown(found.figures, {f"{name}.png": words for name, words in PENDULUM.items() if task == DEFAULT})
        if (page := DOCS / f"tasks/{task}.md").exists():
            ways = shown(found.figures, {f"tasks/{task}_paths.png": PATHS}, "tasks/")
            pages[page] = renewed(page, {RESULTS: "\n\n".join([task_block(comparison, task), *ways])})
    return {
        README: renewed(README, {RESULTS: "\n\n".join(front), FINDINGS: "\n".join(f"* {each}" for each in said)}),
        DOCS / "results.md": renewed(DOCS / "results.md", {RESULTS: "\n\n".join(full)}),
        DOCS / "tasks/README.md": renewed(DOCS / "tasks/README.md", {RESULTS: by_method(suite)}),
        **pages,
    }


def shown(figures: Mapping[str, Figure], files: Mapping[str, str], folder: str = "") -> list[str]:
    """Those of the files in docs/ that are there or drawn, with their words, for a page in this folder of docs/."""
    there = [file for file in files if file in figures or (DOCS / file).exists()]
    return [f"![{files[file]}]({file.removeprefix(folder)})" for file in there]


@command
def main(words: Sequence[str]) -> int:
    """Renew what the store has results for."""
    found = read_suite(open_store(), words[0] if words else SUITE)
    pages = pages_of(found)
    for page, text in pages.items():
        with whole_file(page) as temporary:
            temporary.write_text(text)
    count = max(len(group.models) for each in found.suite.values() for group in each.of_kind("model"))
    drawn = {"suite.png": draw_suite(f"{count} models per method", found.suite), **found.figures}
    for file, figure in drawn.items():
        save_small(figure, DOCS / file)
    for task, why in found.missing.items():
        print(f"{task}: {'as it was kept' if task in found.suite else 'left as it was'}: {why}", file=sys.stderr)
    print(f"renewed {', '.join(str(page.relative_to(ROOT)) for page in pages)} and the figures beside them")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
