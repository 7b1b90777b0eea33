"""The figures of a suite as Markdown: for the front page, the page of all results, and the pages of the tasks."""

import textwrap
from collections.abc import Iterable, Sequence

from docs.findings import MEAN_OF_ANSWERS
from pipeline.report.comparison import Comparison, Group
from pipeline.report.comparison_tables import between_text, condition_table, mean_text, verdict_table
from pipeline.report.leaders import best_of, primary_summary, verdict_of, verdicts_of
from pipeline.report.overview import cautions
from pipeline.report.statistics import Components
from pipeline.report.suite import Suite, methods_of, planners_of, suite_cell
from pipeline.report.tables import Table
from pipeline.report.words import interval_name, interval_text, letters_note, listed, would_decide

WIDTH = 120
LEFT_OUT = ("zero action",)


def wrapped(text: str, indent: str = "") -> str:
    """Break a paragraph into lines; those after the first begin with `indent`."""
    return "\n".join(
        textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    )


def bullets(sentences: Iterable[str]) -> str:
    """Write sentences as a list."""
    return "\n".join(wrapped(f"* {sentence}", "  ") for sentence in sentences)


def grid(columns: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[str] = ()) -> str:
    """Write a Markdown table: the first column and those named in `words` to the left, the others to the right."""
    sides = ["---" if number == 0 or column in words else "---:" for number, column in enumerate(columns)]
    return "\n".join(
        f"| {' | '.join(row)} |" if row is not sides else f"|{'|'.join(row)}|" for row in (columns, sides, *rows)
    )


def front_table(suite: Suite, folder: str) -> str:
    """A row per task and a column per method; `folder` is that of the tasks' pages."""
    methods = methods_of(suite)
    rows = []
    for name, comparison in suite.items():
        groups = {group.name: group for group in comparison.of_kind("model")}
        cells = [_front_cell(comparison, groups.get(method)) for method in methods]
        rows.append((f"[{name}]({folder}/{name}.md): {comparison.primary.short}", *cells, verdict_of(comparison)))
    return grid(("", *methods, "verdict"), rows, ("verdict",))


def _front_cell(comparison: Comparison, group: Group | None) -> str:
    """A mean with its letters, and the deviation in a line below it."""
    if group is None or (found := primary_summary(comparison, group)) is None:
        return "-"
    letters = comparison.letters.get(group.name)
    mean = comparison.primary.text(found.mean) + (f"&nbsp;{letters}" if letters else "")
    spread = "" if found.std is None else f"<br>±{comparison.primary.text(found.std)}"
    return (f"**{mean}**" if group.name in best_of(comparison) else mean) + spread


def reading(suite: Suite, missing: Sequence[str] = ()) -> str:
    """How the front table is to be read, how much is decided, and which tasks are left out."""
    counts = [len(group.models) for each in suite.values() for group in each.of_kind("model")]
    between = " to ".join(map(str, sorted({min(counts), max(counts)})))
    margins = sorted({each.design.margin for each in suite.values()})
    words = [verdict.word for each in suite.values() for verdict in verdicts_of(each)]
    open_ones, equal = words.count("undecided"), words.count("equivalent")
    return wrapped(
        f"Mean ± std over {between} models of the score that decides. Bold: no other is shown to "
        f"be better. {letters_note('Methods', ' or '.join(f'{each:g}' for each in margins))} "
        f"Of {len(words)} pairs within a task "
        f"{len(words) - open_ones - equal} differ, {equal} {'is' if equal == 1 else 'are'} equivalent, "
        f"{open_ones} undecided." + (f" No results yet: {listed(missing)}." if missing else "")
    )


def summary(suite: Suite) -> str:
    """What holds over all tasks: equivalent pairs, and undecided ones with what would decide them."""
    equal, unknown = [], []
    for task, comparison in suite.items():
        digits = comparison.primary.digits
        for verdict in verdicts_of(comparison):
            pair = f"{verdict.first} minus {verdict.second}"
            difference = f"{verdict.difference:+.{digits}f}"
            if verdict.word == "equivalent":
                equal.append((task, pair, difference, interval_text(verdict.inner, digits)))
            if verdict.word == "undecided":
                interval = interval_text(verdict.interval, digits)
                needed = would_decide(verdict) if verdict.interval else "not known: so few models give no interval"
                unknown.append((task, pair, difference, interval, needed))
    parts = ["## Equivalent", ""]
    parts += [grid(("task", "pair", "difference", "interval"), equal, ("pair",)) if equal else "No two methods.", ""]
    parts += ["## Undecided, and what would decide", ""]
    if not unknown:
        return "\n".join([*parts, "Nothing."])
    parts += [wrapped("If the difference is what it seems, this would decide in four of five repetitions:"), ""]
    name = interval_name(verdict for comparison in suite.values() for verdict in verdicts_of(comparison))
    columns = ("task", "pair", "difference", name, "would probably decide")
    return "\n".join([*parts, grid(columns, unknown, ("pair", "would probably decide"))])


def section(comparison: Comparison, task: str, pictures: Sequence[str]) -> str:
    """A task in full: all groups, yardsticks, conditions, pairs, and where the spread comes from; with pictures."""
    primary, terms = comparison.primary, comparison.design
    others = [name for name in comparison.main if name != terms.primary]
    parts = [
        f"## {task}",
        wrapped(
            f"**Verdict: {verdict_of(comparison)}.** Decided by {primary}. Of the {comparison.title}: "
            f"{terms.episodes:,} episodes per condition, seed {terms.seed}. [The task](tasks/{task}.md)."
        ),
        groups_table(comparison),
        *pictures,
        *[wrapped(f"Note: {note}") for note in (*comparison.notes, *cautions(comparison))],
        condition_table(comparison, terms.primary).markdown(),
        spread_table(comparison),
        folded("All pairs", verdict_table(comparison).markdown()),
        folded(
            "Other scores", *[condition_table(comparison, name).markdown() for name in others], means_table(comparison)
        ),
    ]
    return "\n\n".join(part for part in parts if part)


def folded(title: str, *parts: str) -> str:
    """Hide parts behind a line that opens them."""
    return "\n\n".join([f"<details><summary>{title}</summary>", *filter(None, parts), "</details>"])


def shown_groups(comparison: Comparison) -> list[Group]:
    """The groups that were evaluated, models first."""
    order = ("model", "average", "original", "yardstick")
    found = [group for group in comparison.groups if primary_summary(comparison, group) and group.name not in LEFT_OUT]
    return sorted(found, key=lambda group: order.index(group.kind))


def groups_table(comparison: Comparison) -> str:
    """All groups by the main scores over all conditions."""
    digits, table = comparison.primary.digits, comparison.scores
    others = [name for name in comparison.main if name != comparison.design.primary]
    rows = []
    for group in shown_groups(comparison):
        found = group.scores[comparison.design.primary][None]
        cells = [group.scores.get(name, {}).get(None) for name in others]
        texts = [
            "-" if each is None else mean_text(each, table[name]) for name, each in zip(others, cells, strict=True)
        ]
        between = between_text(found.interval, found.bound, digits)
        count = str(len(group.models)) if group.kind != "yardstick" else "-"
        rows.append(
            (
                f"**{group.name}**" if group.kind == "model" else group.name,
                count,
                suite_cell(comparison, group),
                between,
                *texts,
            )
        )
    columns = ("", "models", comparison.primary.short, "95% interval", *(table[name].short for name in others))
    starred = any("*" in row[3] for row in rows)
    note = "\\*: no interval can be given; an exact bound for these models on new episodes, and the count it is from."
    return grid(columns, rows) + (f"\n\n{note}" if starred else "")


def means_table(comparison: Comparison) -> str:
    """All scores that are not main ones, means over conditions."""
    table = {
        name: score
        for name, score in comparison.scores.items()
        if name not in comparison.main and any(name in group.scores for group in comparison.groups)
    }
    rows = [
        (
            group.name,
            *(
                score.text(group.scores[name][None].mean) if name in group.scores else "-"
                for name, score in table.items()
            ),
        )
        for group in shown_groups(comparison)
    ]
    if not table:
        return ""
    note = f"{'; '.join(f'{score.short}: {score}' for score in table.values())}."
    return Table("Means over the conditions", ("", *(score.short for score in table.values())), rows, note).markdown()


def spread_table(comparison: Comparison) -> str:
    """Where the spread of the primary score comes from, as standard deviations."""
    digits = comparison.primary.digits + 1
    rows = []
    for group in comparison.of_kind("model"):
        found = primary_summary(comparison, group)
        if found is None or found.std is None or found.components is None or found.std_by_episodes is None:
            continue
        parts = [f"{each**0.5:.{digits}f}" for each in _parts(found.components)]
        rows.append((group.name, f"{found.std:.{digits}f}", f"{found.std_by_episodes:.{digits}f}", *parts))
    columns = ("", "std over models", "of it by episodes alone", "models", "starts", "rest")
    note = "Standard deviations of one outcome: between models, between starts, and the rest, which is both and chance."
    return Table("Where the spread comes from", columns, rows, note).markdown() if rows else ""


def _parts(found: Components) -> tuple[float, float, float]:
    return found.models, found.episodes, found.rest


def task_block(comparison: Comparison, task: str) -> str:
    """The figures of a task for its own page."""
    terms = comparison.design
    return "\n\n".join(
        [
            wrapped(
                f"**Verdict: {verdict_of(comparison)}.** Means over all conditions, {terms.episodes:,} episodes in "
                f"each, ± standard deviation over models. "
                f"{letters_note('Methods', f'{terms.margin:g}')} [In full](../results.md#{task})."
            ),
            groups_table(comparison),
        ]
    )


def by_method(suite: Suite) -> str:
    """A row per method and a column per task, with the yardsticks that bound what can be expected."""
    rows = []
    for method in methods_of(suite):
        groups = [next((each for each in c.of_kind("model") if each.name == method), None) for c in suite.values()]
        rows.append((method, *(suite_cell(c, group) for c, group in zip(suite.values(), groups, strict=True))))
    tops, means = [], []
    for comparison in suite.values():
        planners = [(group.name, comparison.primary.text(found.mean)) for group, found in planners_of(comparison)]
        tops.append(planners[0][1] if planners else "-")
        means.append(next((text for name, text in planners if name.startswith(MEAN_OF_ANSWERS)), "-"))
    rows += [("best that plans in the true simulator", *tops), ("mean of all answers", *means)]
    return grid(("", *(f"{name}: {each.primary.short}" for name, each in suite.items())), rows)
