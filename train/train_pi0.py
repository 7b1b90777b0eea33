"""`python -m train.train_pi0`: train a model; `--help` lists the settings."""

import sys

from pipeline.missing import packages_needed

with packages_needed():
    from pipeline.cli.main import main
    from pipeline.cli.train import train_command
    from pipeline.methods.settings import Pi0Settings

if __name__ == "__main__":
    sys.exit(main(train_command("pi0", Pi0Settings)))
