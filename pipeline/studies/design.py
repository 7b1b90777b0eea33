"""The design of a study: what its verdict rests on, fixed in tags of its run before the first evaluation."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import chain, combinations
from math import comb
from textwrap import shorten

from pipeline.config import AUTO, MAX_SEED, NONE
from pipeline.names import EARLIER, LOOKED, VERDICT
from pipeline.report.design import Design, design_of, earlier_of
from pipeline.report.looks import blind_looks, fewest_models
from pipeline.report.statistics import ALPHA
from pipeline.studies.settings import EnsembleSettings
from pipeline.tasks.task import Task
from pipeline.tracking.study import LONGEST_TAG

NO_VERDICT = "none yet"


def design_for(
    task: Task, settings: EnsembleSettings, recipes: Mapping[str, Mapping[str, str]], tags: Mapping[str, str]
) -> Design:
    """The design that a call asks for. `tags` are of the study's run, if there is one already.

    By default the episodes of a new study come from its recipes: a changed recipe meets episodes that nobody has seen,
    and all groups the same ones. A study that goes on keeps its own.
    """
    known = design_of(tags)
    if settings.evaluation_seed != AUTO:
        seed = int(settings.evaluation_seed)
    else:
        seed = known.seed if known else seed_of(recipes)
    return Design(
        primary=task.primary,
        margin=settings.margin,
        conditions=", ".join(map(str, task.conditions)),
        episodes=settings.episodes,
        seed=seed,
        looks=settings.looks if settings.until == "decided" else NONE,
    )


def caution(design: Design, trained: Sequence[str]) -> str | None:
    """Say at which looks of a study no difference can be shown, if there are such; else None.

    `trained` names for each group the one that trains its models: groups with the same models are compared in pairs,
    with fewer relabellings.
    """
    pairs, looks = comb(len(trained), 2), design.planned
    kinds = {first == second for first, second in combinations(trained, 2)}
    blind = {paired: blind_looks(looks, ALPHA / pairs, paired) for paired in kinds}
    if not any(blind.values()):
        return None
    which = f"{pairs} pairs of groups" if pairs > 1 else "two groups"
    fewest = max(fewest_models(len(looks), ALPHA / pairs, paired) for paired in kinds)
    at = f"{len(looks)} looks" if len(looks) > 1 else "one look"
    where = " and ".join(map(str, sorted({*chain(*blind.values())})))
    whose = "" if blind.get(False) else " between groups of the same models"
    return (
        f"looks: at {where} models per group equivalence can be shown but no difference{whose}: for {which} and {at} "
        f"the permutation test needs {fewest} models at the first."
    )


def seed_of(recipes: Mapping[str, Mapping[str, str]]) -> int:
    """A seed from the digest of what the groups share: settings and data."""
    digest = sha256(json.dumps(recipes, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:8], "big") % MAX_SEED


def tags_of(design: Design, tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that fix a design. Where the study's run has another in its `tags`, that and its verdict are kept."""
    known = design_of(tags)
    if known is None or known == design:
        return design.tags()
    before = {"design": str(known), "verdict": tags.get(VERDICT, NO_VERDICT)}
    return design.tags() | {EARLIER: _in_a_tag([*earlier_of(tags), before]), LOOKED: "", VERDICT: NO_VERDICT}


def _in_a_tag(earlier: Sequence[Mapping[str, str]]) -> str:
    """Earlier designs as JSON that is no longer than a tag: their verdicts are cut, then the oldest are left out.

    A store would cut the JSON.
    """
    for most in (LONGEST_TAG, 1000, 300, 100):
        short = [{**each, "verdict": shorten(each["verdict"], most, placeholder=" ...")} for each in earlier]
        if len(text := json.dumps(short)) <= LONGEST_TAG:
            return text
    return _in_a_tag(earlier[1:])
