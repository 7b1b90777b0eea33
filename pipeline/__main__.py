"""`python -m pipeline`: the data commands."""

import sys

from pipeline.missing import packages_needed

with packages_needed():
    from pipeline.cli.main import COMMANDS, main

sys.exit(main(COMMANDS))
