"""`python -m pipeline`: the data commands."""

import sys

from pipeline.cli import COMMANDS, main

sys.exit(main(COMMANDS))
