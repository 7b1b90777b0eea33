"""`compare`."""

import json
from typing import TYPE_CHECKING

from pipeline.cli.command import EXIT_CODES
from pipeline.cli.options import settings_command
from pipeline.config import NONE
from pipeline.stages.settings import CompareSettings

if TYPE_CHECKING:
    from pipeline.report.statistics import Word

CODES: "dict[Word, int]" = {"better": 0, "worse": 1, "equivalent": 10, "undecided": 11}
OF_VERDICTS = (
    "Of a verdict: 0 A is better; 1 A is worse; 10 equivalent; 11 undecided; 0 for more than two methods of a table. "
    "A comparison that failed has 1 as well, with an error on stderr and no result."
)
EXAMPLES = (
    "compare A.pth mine.py:act",
    "compare models:/pi0@champion http://127.0.0.1:5001 --margin 0.01 --json",
    "compare --csv results.csv",
)


def run(settings: CompareSettings) -> int:
    """Compare, print the verdict, and return its exit code."""
    if settings.csv != NONE:
        return _compare_methods(settings)
    from pipeline.cli.console import ERR, OUT, print_rows
    from pipeline.cli.progress import contest_display
    from pipeline.report.contest import UNDECIDED, contest_table, contest_values, needs_sentence, sentence
    from pipeline.stages.compare import compare, most_blocks
    from pipeline.stages.foreign import faults_text

    with contest_display(ERR, most_blocks(settings)) as watch:
        made = compare(settings, watch, lambda line: ERR.print(line, markup=False, soft_wrap=True))
    contest = made.contest
    if settings.format == "json":
        about = {"a": made.names[0], "b": made.names[1], "score": made.score, "margin": settings.margin}
        values = contest_values(made.conditions, contest, settings.margin)
        values |= {"no_plan_a": dict(made.faults[0]), "no_plan_b": dict(made.faults[1])} if any(made.faults) else {}
        print(json.dumps({"format": "tinypi-comparison-1"} | about | values, allow_nan=False))
        return CODES[contest.verdict]
    OUT.print("\n" + contest_table(made.label, made.conditions, contest).text(), markup=False)
    rows = [("A", made.names[0]), ("B", made.names[1]), ("episodes", f"{contest.a.size:,} of each policy")]
    if contest.evidence:
        rows.append(("pairs", f"{contest.evidence.wins} won by A, {contest.evidence.losses} by B, the others equal"))
    rows += [(name, faults_text(faults)) for name, faults in zip("AB", made.faults, strict=True) if faults]
    if contest.verdict == UNDECIDED:
        rows.append(("needed", needs_sentence(contest, settings.margin)))
    print_rows("compare", [*rows, ("verdict", sentence(contest, settings.margin))], "verdict")
    return CODES[contest.verdict]


def _compare_methods(settings: CompareSettings) -> int:
    from pathlib import Path

    from pipeline.cli.console import print_result
    from pipeline.report.methods import compare_methods, methods_tables, methods_values
    from pipeline.stages.recorded import read_recorded

    made = compare_methods(read_recorded(Path(settings.csv), settings.score), settings.margin)
    if settings.format == "json":
        print(json.dumps(methods_values(made, settings.margin), allow_nan=False))
    else:
        for table in methods_tables(made, settings.margin):
            print_result("\n" + table.text())
    return CODES[made.pairs[0].word] if len(made.pairs) == 1 else 0


COMMAND = settings_command("compare", CompareSettings, run, EXAMPLES, exit_codes=f"{OF_VERDICTS}\n{EXIT_CODES}")
