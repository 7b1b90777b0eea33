"""Parts of pages that commands write: they stand between marks that name the part and the command.

<!-- NAME: `COMMAND` renews this -->
...
<!-- end of NAME -->
"""

import re
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.files import whole_file

PART = re.compile(r"(<!-- (\w+): [^\n]* renews this -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def parts_of(page: Path) -> list[str]:
    """Return the names of a page's parts, in order."""
    return [found[2] for found in PART.finditer(page.read_text())]


def renew(page: Path, contents: Mapping[str, str]) -> None:
    """Put these contents, by the names of their parts, between the marks of a page, which must have them."""
    text = renewed(page, contents)
    with whole_file(page) as temporary:
        temporary.write_text(text)


def renewed(page: Path, contents: Mapping[str, str]) -> str:
    """Return the text of a page with these contents between its marks; raises `SettingsError` if it lacks some."""
    if missing := sorted(set(contents) - set(parts_of(page))):
        raise SettingsError(f"{page.name}: expected a part between marks, found none: {', '.join(missing)}.")

    def put(found: re.Match[str]) -> str:
        return f"{found[1]}\n{contents[found[2]]}\n\n{found[3]}" if found[2] in contents else found[0]

    return PART.sub(put, page.read_text())
