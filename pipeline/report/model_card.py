"""The model card: input and output, data, training, selection, scores and limits."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.names import (
    COMMIT,
    DATA_SET,
    DATA_SHA256,
    LICENCE,
    MEMBERS,
    METHOD,
    SEED,
    SPLIT_DIGEST,
    TOKENIZER_SHA256,
    TREE,
)
from pipeline.report.comparison import Where
from pipeline.report.comparison_tables import where_heading, where_text
from pipeline.report.statistics import exact_bound
from pipeline.report.tables import Table
from pipeline.report.words import as_sentence, interval_text, listed
from pipeline.tasks.score import shares_of
from pipeline.tasks.task import Task

SHOWN_SETTINGS = (SEED, "epochs", "batch_size", "lr", "width", "layers", "heads", "ema", "arch")
DATA = {
    "data set": DATA_SET,
    "licence of the data": LICENCE,
    "training pairs, sha256": DATA_SHA256,
    "tokenizer, sha256": TOKENIZER_SHA256,
    "split 80% / 10% / 10%, digest": SPLIT_DIGEST,
    "members, sha256": MEMBERS,
}
LIMITS = """\
* It was trained on demonstrations of one task and tested only in simulation: not on a real machine, which has delays,
  friction and sensor noise that the simulation lacks.
* It is trained on the states that the demonstrations visit. It also answers for other states, without a warning.
* Chunks are executed open-loop. Tested were the first {replans} actions, and uniform action noise up to ±{noise:g}.
* The intervals are for this one model over these episodes. They do not tell how another training would perform."""
LIMITS_OF_PLANS = """\
* **It was never tested in control.** It was trained on demonstrations without a simulator, and judged by how near its
  plans are to what was demonstrated from the same states of held-out episodes. Small errors need not mean good control.
* It is trained on the states that the demonstrations visit. It also answers for other states, without a warning.
* Judged were the first {replans} actions of its plans. A plan that goes another good way counts as wrong.
* The intervals are for this one model over these episodes. They do not tell how another training would perform."""


@dataclass(frozen=True)
class CardFacts:
    """The facts about a model from the store, as plain values."""

    task: Task
    horizon: int  # actions of a chunk
    name: str
    about: str  # one line: method and seed, or the members of an averaged policy
    run_id: str
    data: Mapping[str, str]  # the data set's name and licence, and digests, by role
    settings: Mapping[str, str]
    chosen: str  # how this model was selected
    protocol: str  # of the evaluation; empty if there was none
    episodes: int  # per condition
    scores: Mapping[str, Mapping[Where, float]]  # shares, by score and condition, None: the mean


def training_facts(
    task: Task, horizon: int, name: str, run_id: str, tags: Mapping[str, str], params: Mapping[str, object]
) -> CardFacts:
    """What is known of a model once it is trained: chunks of `horizon` actions, and its run's tags and params."""
    code = {"code": f"{tags[COMMIT]}, {tags.get(TREE, '')}"} if COMMIT in tags else {}
    return CardFacts(
        task=task,
        horizon=horizon,
        name=name,
        about=f"{tags[METHOD]}, seed {params[SEED]}." if SEED in params else f"{tags[METHOD]}.",
        run_id=run_id,
        data={what: tags[tag] for what, tag in DATA.items() if tag in tags},
        settings={each: str(params[each]) for each in SHOWN_SETTINGS if each in params} | code,
        chosen="Not chosen: one training.",
        protocol="",
        episodes=0,
        scores={},
    )


def model_card(facts: CardFacts) -> str:
    """Return the card as Markdown."""
    task = facts.task
    actions = "; ".join(f"{each}" + (f", applied within ±{each.limit:g}" if each.limit else "") for each in task.action)
    replans = sorted({condition.replan for condition in task.conditions})
    noise = max(condition.action_noise for condition in task.conditions)
    limits = LIMITS if task.world else LIMITS_OF_PLANS
    parts = [
        f"# {facts.name}",
        facts.about,
        f"**Task** `{task.name}`: {task.description}",
        f"**Input**: states `(N, {task.state_dim})`: {'; '.join(map(str, task.observation))}. "
        f"**Output**: chunks `(N, {facts.horizon}, {task.action_dim})`: actions for the next {facts.horizon} steps of "
        f"{task.control_seconds:g} s: {actions}.",
        f"## Data\n\n{_lines(facts.data)}",
        f"## Training\n\n{_lines({'MLflow run': facts.run_id, **facts.settings})}",
        f"## How it was chosen\n\n{facts.chosen}",
        f"## Scores\n\n{_scores(facts)}",
        f"## Limits\n\n{limits.format(replans=listed(replans), noise=noise)}",
    ]
    return "\n\n".join(parts) + "\n"


def _lines(values: Mapping[str, str]) -> str:
    return "\n".join(f"* {name}: {value}" for name, value in values.items())


def _scores(facts: CardFacts) -> str:
    if not facts.protocol:
        return "Not evaluated yet: `python -m pipeline evaluate --run " + facts.run_id + "`, then register again."
    table = facts.task.scores
    shares = shares_of(table)
    places = list(facts.scores[shares[0]])

    def cell(name: str, where: Where) -> str:
        # No score in [0, 1] varies more over starts than a share of as many: the interval is not too narrow for the
        # mean over the conditions, which have their starts in common, nor for a share of an episode.
        value = facts.scores[name][where]
        interval = exact_bound(round(value * facts.episodes), facts.episodes)
        return f"{table[name].text(value)} {interval_text(interval, 3)}"

    rows = [(where_text(where, facts.task), *(cell(name, where) for name in shares)) for where in places]
    title = f"Scores with 95% intervals (Clopper-Pearson) of so many episodes; {facts.protocol}"
    about = "; ".join(str(table[name]) for name in shares)
    about += ". The intervals are exact for a share of the episodes of one condition, and no narrower than need be for "
    about += "shares of an episode and for means over the conditions, which vary less"
    return Table(title, (where_heading(facts.task), *shares), rows, f"{as_sentence(about)}.").markdown()
