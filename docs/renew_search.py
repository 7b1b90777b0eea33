"""Put the search in the store into docs/search.md, and its figures, trials and presets into docs/search/.

    python -m docs.renew_search [NAME]

takes the search of that name, `recipes` by default.
"""

import re
import shutil
import sys
from pathlib import Path

from pipeline.files import whole_file
from pipeline.tracking.names import Kind
from pipeline.tracking.query import artifact, search
from pipeline.tracking.store import open_store, store_name

PAGE = Path(__file__).resolve().parent / "search.md"
EVIDENCE = PAGE.with_name("search")
BLOCK = re.compile(r"(<!-- search: `make results` renews this -->\n).*?(<!-- end of search -->)", re.DOTALL)
TABLES = re.compile(r"^# .*?\n\n", re.DOTALL)  # without the report's heading


def main(name: str = "recipes") -> int:
    """Renew the page."""
    store = open_store()
    found = [run for run in search(store, study=f"search:{name}", kind=Kind.SEARCH) if run.status == "FINISHED"]
    if not found:
        print(f"error: {store_name()}: no finished search '{name}' there. See docs/how-to/search.md.", file=sys.stderr)
        return 2
    with artifact(store, found[-1].run_id, "report") as report:
        tables = TABLES.sub("", (report / "search.md").read_text(encoding="utf-8"), count=1)
        shutil.rmtree(EVIDENCE, ignore_errors=True)
        shutil.copytree(report, EVIDENCE, ignore=shutil.ignore_patterns("search.md"))
    text = PAGE.read_text(encoding="utf-8")
    assert BLOCK.search(text), f"{PAGE} has lost its marks"
    with whole_file(PAGE) as temporary:
        temporary.write_text(BLOCK.sub(lambda block: f"{block[1]}\n{tables}\n{block[2]}", text), encoding="utf-8")
    print(f"renewed {PAGE.name} and {EVIDENCE.name}/ in docs/")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
