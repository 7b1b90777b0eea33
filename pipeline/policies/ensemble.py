"""The averaged policy: it plans the mean chunk of several models, its members. One `.pth` file holds them all.

format         "tinypi-ensemble-1"
name           the policy's name
members        the contents of the members' own files, see `policies.checkpoint`
content_sha256 of all of the above

Shapes: B batch, S state, H horizon, A action.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import CheckpointError, one_line
from pipeline.methods.method import Noise, Plans
from pipeline.names import MEMBERS, NAME, WEIGHTS_SHA256
from pipeline.policies.checkpoint import (
    DIGEST,
    Checkpoint,
    content_digest,
    content_of,
    load_checkpoint,
    parse_checkpoint,
    write_pth,
)
from pipeline.policies.policy import Policy, policy_of
from pipeline.policies.states import MAX_NAME, Floats, is_name

FORMAT = "tinypi-ensemble-1"
MOST_MEMBERS = 100


def save_ensemble(path: Path, name: str, members: Sequence[Path]) -> None:
    """Write the models of the files `members` as one policy; the same files in the same order give the same bytes.

    Raises `CheckpointError` if one of them is damaged, or they do not plan the same kind of chunk by the same method.
    """
    assert is_name(name), f"a line of at most {MAX_NAME} characters, found {name!r}"
    checkpoints = [load_checkpoint(member) for member in members]
    average(path, name, checkpoints)
    content = {"format": FORMAT, "name": name, "members": [content_of(checkpoint) for checkpoint in checkpoints]}
    write_pth(path, content | {DIGEST: _digest(content)})


def parse_ensemble(path: Path, content: dict[str, Any], act: Mapping[str, Any]) -> Policy:
    """Rebuild the policy from a file's content, with members that act by `act`, see `load_policy`.

    Raises `CheckpointError` naming the part that does not fit.
    """
    name, members = content.get("name"), content.get("members")
    if not is_name(name) or not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
        raise CheckpointError(f"{path}: expected an averaged policy with a name and members, found other content.")
    if not 1 <= len(members) <= MOST_MEMBERS:
        raise CheckpointError(f"{path}: expected 1 to {MOST_MEMBERS} members, found {len(members)}.")
    policy = average(path, str(name), [parse_checkpoint(path, member).acting_by(act) for member in members])
    if content.get(DIGEST) != _digest(content):
        raise CheckpointError(
            f"{path}: the content has changed since it was written: its {DIGEST} does not match. "
            "Copy it again, or make it again with the study's command."
        )
    return policy


def average(path: Path, name: str, checkpoints: Sequence[Checkpoint]) -> Policy:
    """Make the policy whose chunk is the mean of the members' chunks; its `tokens` are the sum over the members.

    Its provenance is what the members' have in common. Raises `CheckpointError` if they differ in method or sizes.
    """
    policies = [policy_of(checkpoint) for checkpoint in checkpoints]
    kinds = {(policy.method, policy.task, policy.state_dim, policy.horizon, policy.action_dim) for policy in policies}
    if len(kinds) != 1:
        raise CheckpointError(
            f"{path}: expected members of one method, one task and one size of states and chunks, found "
            f"{sorted((method, task.name, *sizes) for method, task, *sizes in kinds)}."
        )

    def act(states: Floats, noise: Noise) -> Plans:
        plans = [policy.plan(states, noise) for policy in policies]
        tokens = [plan.tokens for plan in plans if plan.tokens is not None]
        undecodable = [plan.undecodable for plan in plans if plan.undecodable is not None]
        return Plans(
            np.stack([plan.actions for plan in plans]).mean(0, dtype=np.float64).astype(np.float32),
            np.sum(tokens, axis=0) if tokens else None,
            np.any(undecodable, axis=0) if undecodable else None,
        )

    first, *others = (policy.provenance for policy in policies)
    common = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    digests = [policy.provenance.get(WEIGHTS_SHA256) for policy in policies]
    provenance = common | {NAME: name, MEMBERS: digests}
    method, task, state_dim, horizon, action_dim = kinds.pop()
    return Policy(
        name=name,
        method=method,
        task=task,
        state_dim=state_dim,
        horizon=horizon,
        action_dim=action_dim,
        _act=act,
        provenance=provenance,
        rebuild=policies[0].rebuild,
    )


def members_digest(weights: Sequence[str]) -> str:
    """Return one sha256 for members with these digests of weights, in any order."""
    return sha256(" ".join(sorted(weights)).encode()).hexdigest()


def _digest(content: dict[str, Any]) -> str:
    """Return the sha256 over the name and the members' contents."""
    try:
        members = [content_digest(member) for member in content["members"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"its members cannot be read ({one_line(error)[:200]})") from error
    return sha256(json.dumps([content["format"], content["name"], members]).encode()).hexdigest()
