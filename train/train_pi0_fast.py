"""`python -m train.train_pi0_fast`: train a model; `--help` lists the settings."""

import sys

from pipeline.missing import packages_needed

with packages_needed():
    from pipeline.cli.main import main
    from pipeline.cli.train import train_command
    from pipeline.methods.settings import Pi0FastSettings

if __name__ == "__main__":
    sys.exit(main(train_command("pi0_fast", Pi0FastSettings)))
