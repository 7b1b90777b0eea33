"""`python -m pipeline`: the data commands."""

import sys

from pipeline.cli.main import COMMANDS, main

sys.exit(main(COMMANDS))
