"""What forks of `tests.warm` have done once for all, besides importing libraries."""

from mlflow.utils.requirements_utils import _init_modules_to_packages_map

# MLflow reads the metadata of all packages, a second of a core, before it logs its first model in a process.
_init_modules_to_packages_map()
