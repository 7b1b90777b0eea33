"""Averaged ensembles: the mean of the members' chunks, from one file that is checked and never runs code."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import pipeline
from pipeline.errors import CheckpointError
from pipeline.policies.checkpoint import save_checkpoint
from pipeline.policies.ensemble import save_ensemble
from pipeline.policies.states import is_name
from pipeline.studies.jobs import averaged_name
from tests.test_export import ACTION_DIM, HORIZON, STATES, random_model


def members(folder: Path, method: str, count: int = 3) -> list[Path]:
    """Files of models with different random weights."""
    paths = []
    for number in range(count):
        model = random_model(method)
        for name, weight in model.weights.items():
            model.weights[name] = weight + 0.02 * number
        path = folder / f"{method}_{number}.pth"
        save_checkpoint(path, model)
        paths.append(path)
    return paths


@pytest.fixture
def ensemble(tmp_path: Path) -> Path:
    path = tmp_path / "average.pth"
    save_ensemble(path, "three of them", members(tmp_path, "pi0"))
    return path


@pytest.mark.parametrize("method", ["pi0", "pi0_fast"])
def test_it_plans_the_mean_of_its_members(tmp_path: Path, method: str) -> None:
    paths, file = members(tmp_path, method), tmp_path / "average.pth"
    save_ensemble(file, "three of them", paths)
    policy = pipeline.load_policy(file)
    plans = [pipeline.load_policy(path).plan(STATES) for path in paths]
    assert not np.allclose(plans[0].actions, plans[1].actions)
    found = policy.plan(STATES)
    assert found.actions.shape == (len(STATES), HORIZON, ACTION_DIM) and found.actions.dtype == np.float32
    assert_allclose(found.actions, np.mean([plan.actions for plan in plans], axis=0), atol=1e-6)
    if method == "pi0_fast":
        np.testing.assert_array_equal(found.tokens, np.sum([plan.tokens for plan in plans], axis=0))
    else:
        assert found.tokens is None
    assert (policy.name, policy.method) == ("three of them", method)
    assert policy.provenance["run_id"] == "r1" and len(policy.provenance["members"]) == 3


def test_the_same_members_give_the_same_bytes(tmp_path: Path, ensemble: Path) -> None:
    save_ensemble(tmp_path / "again.pth", "three of them", members(tmp_path, "pi0"))
    assert (tmp_path / "again.pth").read_bytes() == ensemble.read_bytes()


def test_the_name_of_an_average_is_one_that_its_file_takes() -> None:
    assert averaged_name("pi0 width=64", 10) == "pi0 width=64 average of 10"
    groups = ["pi0 " + "lr=0.001 " * 30 + end for end in ("ema=0.5", "ema=0.9")]
    names = [averaged_name(group, 10) for group in groups]
    assert all(map(is_name, names)) and names[0] != names[1] and names[0].endswith(" average of 10")


def test_members_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    mixed = [*members(tmp_path, "pi0", 1), *members(tmp_path, "pi0_fast", 1)]
    with pytest.raises(CheckpointError, match="of one method"):
        save_ensemble(tmp_path / "mixed.pth", "mixed", mixed)
    with pytest.raises(CheckpointError, match="found none"):
        save_ensemble(tmp_path / "mixed.pth", "mixed", [tmp_path / "none.pth"])
    assert not (tmp_path / "mixed.pth").exists()


def test_changed_files_are_refused(ensemble: Path) -> None:
    content = torch.load(ensemble, weights_only=True)
    one, two, three = content["members"]
    nudged = three | {"weights": {name: weight + 1 for name, weight in three["weights"].items()}}
    faults: list[tuple[dict[str, Any], str]] = [
        ({"members": [one, two]}, "has changed since it was written"),
        ({"members": [two, one, three]}, "has changed since it was written"),
        ({"name": "other"}, "has changed since it was written"),
        ({"content_sha256": None}, "has changed since it was written"),
        ({"members": [one, two, nudged]}, "do not fit together"),
        ({"members": [one, two, {}]}, "expected a tinypi-1 checkpoint"),
        ({"members": [one, two, content]}, "expected a tinypi-1 checkpoint"),
        ({"members": []}, "1 to 100 members"),
        ({"members": 101 * [one]}, "more values than the file has room for"),
        ({"members": 3}, "expected an averaged policy with a name and members"),
        ({"members": ["a"]}, "expected an averaged policy with a name and members"),
        ({"name": "two\nlines"}, "expected an averaged policy with a name and members"),
        ({"name": 3}, "expected an averaged policy with a name and members"),
    ]
    for changes, message in faults:
        torch.save(content | changes, ensemble)
        with pytest.raises(CheckpointError, match=message):
            pipeline.load_policy(ensemble)
    torch.save(content, ensemble)
    assert pipeline.load_policy(ensemble).act(STATES[:1]).shape == (1, HORIZON, ACTION_DIM)
