"""The only room that knows MLflow. Its switches are set here, before it is imported."""

import logging
import os
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # we print our own link, and not if quiet
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
try:
    Path.home()
except RuntimeError:  # a user without an entry and without HOME, as in a container: MLflow needs some name
    os.environ["HOME"] = "/nonexistent"
logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)  # it announces its start and its end
logging.getLogger("mlflow.store.db").setLevel(logging.WARNING)  # it announces every new table
