"""MLflow's model registry: our models as versions that any MLflow server can load and serve.

A version is a `.pth` of ours with the code that acting needs, loaded from code (`served_model.py`) and never from
pickle. The registered model is called like the method; an average is a version of its members' method.
"""

import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version as installed
from pathlib import Path
from typing import TypeVar

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import LoggedModelOutput, Metric
from mlflow.entities.logged_model_status import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec
from requests import RequestException

from pipeline.config import ROOT
from pipeline.errors import SettingsError, StoreError, one_line
from pipeline.policies.policy import Policy
from pipeline.tracking.query import all_pages
from pipeline.tracking.store import advice, mlflow_settings

CHAMPION, MODELS = "champion", "models:/"
VERSION_URI = re.compile(r"models:/([^/@]+)(?:@([^/@]+)|/([1-9]\d{0,8}))")
# What acting needs: the packages, and the part of our code that MLflow copies into each model.
REQUIREMENTS = ("mlflow", "torch", "numpy", "scipy", "tokenizers", "pydantic")
CODE = (
    "__init__.py", "config.py", "errors.py", "files.py", "locks.py", "names.py", "own_code.py", "streams.py",
    "tasks/__init__.py", "tasks/facts.py", "tasks/project.py", "tasks/registry.py", "tasks/settings.py",
    "data", "models", "tokenizer", "methods", "policies",
)  # fmt: skip
MODEL_FILE, POLICY, CARD, ARTIFACTS = "served_model.py", "policy", "card", "artifacts"
T = TypeVar("T")
logging.getLogger("mlflow.models.model").setLevel(logging.ERROR)  # it would have us infer what we state
logging.getLogger("mlflow.pyfunc").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    name: str
    number: int
    run_id: str
    aliases: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    card: str = ""  # Markdown

    @property
    def uri(self) -> str:
        """Where MLflow loads it from."""
        return f"{MODELS}{self.name}/{self.number}"

    def __str__(self) -> str:
        return f"{self.name} version {self.number}"


@contextmanager
def registry_errors(what: str) -> Iterator[None]:
    """Raise `StoreError` where the registry does not do what is asked."""
    try:
        yield
    except (MlflowException, RequestException) as error:
        raise StoreError(
            f"MLflow registry, {what}: expected an answer, found: {one_line(error)[:300]}. {advice(error)}"
        ) from error


def versions_of(client: MlflowClient, name: str) -> list[Version]:
    """All versions of a registered model, the oldest first; none if there is no such model."""
    with registry_errors(f"model '{name}'"):
        found = all_pages(partial(client.search_model_versions, f"name = '{name}'"))
        aliases = aliases_of(client, name) if found else {}
    return sorted((_version(each, aliases) for each in found), key=lambda each: each.number)


def version_of_run(client: MlflowClient, name: str, run_id: str) -> Version | None:
    """The version that was registered from a run; None if there is none."""
    with registry_errors(f"model '{name}'"):
        found = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'", max_results=1)
        return _version(found[0], aliases_of(client, name)) if found else None


def numbered_version(client: MlflowClient, name: str, number: int) -> Version | None:
    """The version with this number; None if there is none."""
    with registry_errors(f"version {number} of model '{name}'"):
        found = _if_any(lambda: client.get_model_version(name, str(number)))
        return _version(found, aliases_of(client, name)) if found else None


def aliases_of(client: MlflowClient, name: str) -> dict[str, int]:
    """The aliases of a registered model, and the versions that they stand for; none if there is no such model."""
    with registry_errors(f"model '{name}'"):
        found = _if_any(lambda: client.get_registered_model(name))
    return {alias: int(number) for alias, number in found.aliases.items()} if found else {}


def champion_of(client: MlflowClient, name: str) -> Version | None:
    """The version that is the champion; None if there is none."""
    return _aliased(client, name, CHAMPION)


def named_version(client: MlflowClient, uri: str) -> Version:
    """The version that `models:/NAME@ALIAS` or `models:/NAME/NUMBER` stands for; raises `SettingsError`."""
    found = VERSION_URI.fullmatch(uri)
    if found is None:
        raise SettingsError(f"model: expected {MODELS}NAME@ALIAS or {MODELS}NAME/NUMBER, found '{uri}'.")
    name, alias, number = found.groups()
    version = _aliased(client, name, alias) if alias else numbered_version(client, name, int(number))
    if version is None:
        raise SettingsError(f"model: expected a version of MLflow's registry, found none called '{uri}'.")
    return version


def _aliased(client: MlflowClient, name: str, alias: str) -> Version | None:
    number = aliases_of(client, name).get(alias)
    return None if number is None else numbered_version(client, name, number)


def _if_any(get: Callable[[], T]) -> T | None:
    """What MLflow gives, or None where it has no such thing."""
    try:
        return get()
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def set_alias(client: MlflowClient, alias: str, version: Version) -> None:
    """Let an alias stand for a version, and no longer for another."""
    with registry_errors(f"alias '{alias}'"):
        client.set_registered_model_alias(version.name, alias, str(version.number))


def tag_version(client: MlflowClient, version: Version, tags: Mapping[str, str]) -> None:
    """Set tags of a version."""
    with registry_errors(f"tags of {version}"):
        for key, value in tags.items():
            client.set_model_version_tag(version.name, str(version.number), key, value)


def add_version(
    client: MlflowClient, name: str, run_id: str, model_id: str, card: str, tags: Mapping[str, str]
) -> Version:
    """Register a run's logged model as a version of the registered model `name`. Raises `StoreError`."""
    with registry_errors(f"model '{name}'"):
        _ensure_model(client, name)
        # An sqlite store looks the model up in MLflow's global store, whatever its own address.
        with mlflow_settings({"MLFLOW_TRACKING_URI": client.tracking_uri}):
            made = client.create_model_version(
                name, f"{MODELS}{model_id}", run_id, tags=dict(tags), description=card, model_id=model_id
            )
        return _version(made, {})


def renew_version(client: MlflowClient, version: Version, card: str, tags: Mapping[str, str]) -> None:
    """Give a version its card and tags, where they are others. Raises `StoreError`."""
    if card != version.card:
        with registry_errors(str(version)):
            client.update_model_version(version.name, str(version.number), card)
    tag_version(client, version, {key: value for key, value in tags.items() if version.tags.get(key) != value})


def logged_model(client: MlflowClient, run_id: str) -> str | None:
    """The id of the whole logged model of a run; None if it has none. Raises `StoreError`."""
    with registry_errors(f"logged model of run {run_id}"):
        run = client.get_run(run_id)
        found = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    return next((str(each.model_id) for each in found if each.status == LoggedModelStatus.READY), None)


def log_model(client: MlflowClient, run_id: str, policy: Policy, path: Path, card: str, metrics: Sequence[str]) -> str:
    """Log a run's model file as an MLflow model of the run, with the last values of these of its metrics.

    Returns the model's id. A run has one: called again, as by a run that went on, it leaves it as it is. A model that
    could not be made is FAILED. Raises what MLflow raises.
    """
    if known := logged_model(client, run_id):
        return known
    run = client.get_run(run_id)
    made = client.create_logged_model(
        run.info.experiment_id, name=policy.name, source_run_id=run_id, params=run.data.params, model_type=policy.method
    )
    status = LoggedModelStatus.FAILED
    try:
        with tempfile.TemporaryDirectory() as folder:
            model = Model(made.artifact_location, run_id, model_uuid=made.model_id, model_id=made.model_id)
            _save(Path(folder), model, policy, path, card)
            client.log_model_artifacts(made.model_id, f"{folder}/model")
        client.log_outputs(run_id, [LoggedModelOutput(made.model_id, step=0)])
        last = [client.get_metric_history(run_id, name)[-1] for name in metrics if name in run.data.metrics]
        client.log_batch(
            run_id, [Metric(each.key, each.value, each.timestamp, each.step, made.model_id) for each in last]
        )
        status = LoggedModelStatus.READY
    finally:
        client.finalize_logged_model(made.model_id, status)
    return str(made.model_id)


@contextmanager
def model_file(client: MlflowClient, version: Version) -> Iterator[Path]:
    """The `.pth` of a version as a local file, gone after use; raises `StoreError` if it is not one of ours."""
    with tempfile.TemporaryDirectory() as folder:
        with registry_errors(str(version)):
            source = str(client.get_model_version(version.name, str(version.number)).source)
            place = client.get_logged_model(source.removeprefix(MODELS)).artifact_location
            uri = f"{place}/{ARTIFACTS}"
            path = mlflow.artifacts.download_artifacts(uri, dst_path=folder, tracking_uri=client.tracking_uri)
        found = sorted(Path(path).glob("*.pth"))
        if len(found) != 1:
            raise StoreError(f"{version}: expected one .pth file in it, found {len(found)}: it is not one of ours.")
        yield found[0]


def _ensure_model(client: MlflowClient, name: str) -> None:
    about = f"Controllers of the method {name}: states (N, S) in, chunks of actions (N, H, A) out, in physical units."
    try:
        client.create_registered_model(name, description=about)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _save(folder: Path, model: Model, policy: Policy, path: Path, card: str) -> None:
    """Write the MLflow model to `folder`/model."""
    code = folder / "pipeline"
    for part in CODE:
        source = ROOT / "pipeline" / part
        if source.is_dir():
            shutil.copytree(source, code / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (code / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, code / part)
    card_file = folder / "model_card.md"
    card_file.write_text(card, encoding="utf-8")
    # Inputs are not declared: MLflow would drop the names of columns, or refuse arrays without, and all other types
    # of number. The model checks them itself. The metadata name the channels of both, for tensors have no such names.
    channels = policy.task.observation
    actions = TensorSpec(np.dtype(np.float32), (-1, policy.horizon, policy.action_dim))
    example = np.zeros((1, policy.state_dim))
    mlflow.pyfunc.save_model(
        folder / "model",
        mlflow_model=model,
        python_model=str(Path(__file__).with_name(MODEL_FILE)),
        artifacts={POLICY: str(path), CARD: str(card_file)},
        code_paths=[str(code)],
        signature=ModelSignature(outputs=Schema([actions])),
        input_example=pd.DataFrame(example, columns=channels) if channels else example,
        metadata={"state": list(channels), "action": list(policy.task.action)},
        pip_requirements=[f"{package}=={installed(package)}" for package in REQUIREMENTS],
    )


def _version(found: ModelVersion, aliases: Mapping[str, int]) -> Version:
    number = int(found.version)
    named = tuple(sorted(alias for alias, at in aliases.items() if at == number))
    return Version(found.name, number, found.run_id or "", named, dict(found.tags), found.description or "")
