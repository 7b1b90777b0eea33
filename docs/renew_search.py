"""Put searches in the store into docs/search.md, and their figures, trials and presets into docs/search/.

    python -m docs.renew_search [NAME ...]

takes the searches of these names, those of the default recipes by default.
"""

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from docs.command import command
from docs.marks import renew, renewed
from pipeline.errors import SettingsError
from pipeline.names import KIND, STUDY, Kind
from pipeline.tracking.query import artifact, search
from pipeline.tracking.store import open_store, store_name

PAGE = Path(__file__).resolve().parent / "search.md"
EVIDENCE = PAGE.with_name("search")
RECIPES = ("pi0-within-limits", "recipes")
PART = "search"
HEADING = re.compile(r"^# .*?\n\n.*?\n\n", re.DOTALL)  # of the report, and its task


@command
def main(names: Sequence[str]) -> int:
    """Renew the page."""
    store, parts = open_store(), []
    runs = {name: search(store, {STUDY: f"search:{name}", KIND: Kind.SEARCH}) for name in names or RECIPES}
    for name, found in runs.items():
        if not found or found[-1].status != "FINISHED":
            raise SettingsError(f"{store_name()}: no finished search '{name}' there. See docs/how-to/search.md.")
    renewed(PAGE, {PART: ""})  # raises before anything is written
    for name, found in runs.items():
        with artifact(store, found[-1].run_id, "report") as report:
            tables = HEADING.sub("", (report / "search.md").read_text(encoding="utf-8"), count=1)
            parts.append(f"### Search {name}\n\n{tables}")
            shutil.rmtree(EVIDENCE / name, ignore_errors=True)
            shutil.copytree(report, EVIDENCE / name, ignore=shutil.ignore_patterns("search.md"))
    renew(PAGE, {PART: "\n".join(parts).rstrip()})
    print(f"renewed {PAGE.name} and {EVIDENCE.name}/ in docs/")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
