"""The report across tasks as files: table, values, figure."""

import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.files import write_text
from pipeline.report.comparison import Comparison
from pipeline.report.plotting import save
from pipeline.report.suite import suite_csv, suite_markdown, suite_values
from pipeline.report.suite_figure import draw_suite


def write_suite(name: str, comparisons: Mapping[str, Comparison], folder: Path) -> tuple[Path, ...]:
    """Write the comparisons of all tasks as `suite.md`, `.json`, `.csv` and `.png`, and return the files."""
    texts = {
        "suite.md": suite_markdown(comparisons),
        "suite.json": json.dumps(suite_values(comparisons), indent=1, allow_nan=False) + "\n",
        "suite.csv": suite_csv(comparisons),
    }
    for file, text in texts.items():
        write_text(folder / file, text)
    picture = folder / "suite.png"
    save(draw_suite(f"Suite {name}", comparisons), picture)
    return (*(folder / file for file in texts), picture)
