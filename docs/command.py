"""What the commands of this folder share: an error of the user is one line, and exit code 2."""

import functools
import sys
from collections.abc import Callable, Sequence

from pipeline.errors import UserError, one_line

Main = Callable[[Sequence[str]], int]


def command(main: Main) -> Main:
    """Make of `main(words) -> exit code` one that tells errors of the user in a line."""

    @functools.wraps(main)
    def told(words: Sequence[str]) -> int:
        try:
            return main(words)
        except UserError as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            return 2

    return told
