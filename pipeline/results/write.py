"""A comparison as files: tables, figures, one page."""

import json
from pathlib import Path

from pipeline.files import write_text
from pipeline.report.overview import as_markdown
from pipeline.report.plotting import save
from pipeline.report.values import as_csv, as_values
from pipeline.results.figures import draw_figures
from pipeline.results.gather import Gathered
from pipeline.results.page import make_page
from pipeline.tracking.store import Store


def write_files(store: Store, gathered: Gathered, folder: Path, html: bool = False) -> tuple[list[Path], list[str]]:
    """Write tables, figures and, if requested, the page; return the files, and what could not be drawn."""
    comparison = gathered.comparison
    drawn, missing = draw_figures(store, comparison, gathered.study_run)
    texts = {
        "report.md": as_markdown(comparison),
        "report.json": json.dumps(as_values(comparison), indent=1, allow_nan=False) + "\n",
        "report.csv": as_csv(comparison),
    }
    for name, figure in drawn.items():
        save(figure, folder / f"{name}.png")
    if html:
        texts["report.html"] = make_page(store, gathered, drawn, missing)
    for file, text in texts.items():
        write_text(folder / file, text)
    return [*(folder / file for file in texts), *(folder / f"{name}.png" for name in drawn)], missing
