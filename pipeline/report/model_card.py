"""The model card: input and output, data, training, selection, scores and limits."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.report.comparison import Where
from pipeline.report.overview import where_text
from pipeline.report.scores import SCORES
from pipeline.report.statistics import exact_bound
from pipeline.report.tables import Table

SHARES = tuple(name for name, score in SCORES.items() if score.primary or score.binary)  # each in [0, 1]
SHOWN_SETTINGS = ("seed", "epochs", "batch_size", "lr", "width", "layers", "heads", "ema", "arch")
DIGESTS = {
    "training pairs, sha256": "data_sha256",
    "tokenizer, sha256": "tokenizer_sha256",
    "split 80% / 10% / 10%, digest": "split_digest",
    "members, sha256": "members",
}
LIMITS = """\
* It was trained on demonstrations of one task and tested only in simulation: not on a real pendulum, which has delays,
  friction and sensor noise that the simulation lacks.
* It is trained on the states that the demonstrations visit (starts within ±0.5 in each number, pole within ±π/4).
  It also answers for other states, without a warning.
* Chunks are executed open-loop. Tested were the first 10, 13 and 15 actions, and uniform action noise up to ±0.05.
* The intervals are for this one model over these episodes. They do not tell how another training would perform."""


@dataclass(frozen=True)
class CardFacts:
    """The facts about a model from the store, as plain values."""

    name: str
    about: str  # one line: method and seed, or the members of an averaged policy
    run_id: str
    data: Mapping[str, str]  # digests of the data, by role
    settings: Mapping[str, str]
    chosen: str  # how this model was selected
    protocol: str  # of the evaluation; empty if there was none
    episodes: int  # per condition
    scores: Mapping[str, Mapping[Where, float]]  # SHARES, by score and condition, None: the mean


def training_facts(name: str, run_id: str, tags: Mapping[str, str], params: Mapping[str, object]) -> CardFacts:
    """What is known of a model once it is trained: from its run's tags and params."""
    code = {"code": f"{tags['code_commit']}, {tags.get('code_tree', '')}"} if "code_commit" in tags else {}
    return CardFacts(
        name=name,
        about=f"{tags['method']}, seed {params['seed']}." if "seed" in params else f"{tags['method']}.",
        run_id=run_id,
        data={what: tags[tag] for what, tag in DIGESTS.items() if tag in tags},
        settings={each: str(params[each]) for each in SHOWN_SETTINGS if each in params} | code,
        chosen="Not chosen: one training.",
        protocol="",
        episodes=0,
        scores={},
    )


def model_card(facts: CardFacts) -> str:
    """Return the card as Markdown."""
    parts = [
        f"# {facts.name}",
        facts.about,
        "**Input**: states `(N, 4)`: cart position m, pole angle rad, cart velocity m/s, pole rate rad/s. "
        "**Output**: chunks `(N, 50, 1)`: actions for the next 50 steps of 0.04 s, 1 unit is 100 N, applied within ±3.",
        f"## Data\n\n{_lines(facts.data)}",
        f"## Training\n\n{_lines({'MLflow run': facts.run_id, **facts.settings})}",
        f"## How it was chosen\n\n{facts.chosen}",
        f"## Scores\n\n{_scores(facts)}",
        f"## Limits\n\n{LIMITS}",
    ]
    return "\n\n".join(parts) + "\n"


def _lines(values: Mapping[str, str]) -> str:
    return "\n".join(f"* {name}: {value}" for name, value in values.items())


def _scores(facts: CardFacts) -> str:
    if not facts.protocol:
        return "Not evaluated yet: `python -m pipeline evaluate --run " + facts.run_id + "`, then register again."
    places = list(facts.scores[SHARES[0]])

    def cell(name: str, where: Where) -> str:
        # No score in [0, 1] varies more over starts than a share of as many: the interval is not too narrow for the
        # mean over the conditions, which have their starts in common, nor for calm.
        value = facts.scores[name][where]
        interval = exact_bound(round(value * facts.episodes), facts.episodes)
        return f"{SCORES[name].text(value)} [{interval.low:.3f}, {interval.high:.3f}]"

    rows = [(where_text(where), *(cell(name, where) for name in SHARES)) for where in places]
    title = f"Scores with exact 95% intervals (Clopper-Pearson) of so many episodes; {facts.protocol}"
    about = "; ".join(str(SCORES[name]) for name in SHARES)
    return Table(title, ("noise, replan", *SHARES), rows, f"{about}.".capitalize()).markdown()
