"""The kinds of runs and the names of their tags, declared once. docs/reference/runs.md says what each means."""

from enum import StrEnum


class Kind(StrEnum):
    """What a run is: the tag `kind`."""

    SUITE = "suite"  # studies of the same methods on several tasks
    SEARCH = "search"  # for a recipe of each method
    TRIAL = "trial"  # of a search: one recipe, its models below it
    STUDY = "study"
    GROUP = "group"  # of a study: models that differ in their seed alone
    MODEL = "model"
    ACTING = "acting"  # of a study: the weights of a model, acting by another rule
    AVERAGE = "average"  # the averaged policy of a group
    ORIGINAL = "original"  # weights of the reference system
    YARDSTICK = "yardstick"
    CONTINUATION = "continuation"  # started by `mlflow run` to continue an earlier run


STUDY, GROUP, METHOD, NAME = "study", "group", "method", "name"  # NAME: of the files in the mirror
TASK = "task"  # the name of the task
MEMBERS = "members"  # digest of the models behind an average
WEIGHTS = "weights_sha256"
VERDICT = "verdict"  # of a study, in words
EARLIER = "design.earlier"  # of a study: its designs before the present one, with their verdicts, as JSON
LOOKED = "looked"  # of a study: the numbers of models per group at which its verdict was read: "8 12"
TRAINED = "trained_run"  # of a run of the kind "acting": the run that trained its weights
SEARCH = "search"  # of a search's models: its name; no report takes them for models of their own
TRIED, OUTCOME = "tried", "outcome"  # of a trial, as JSON: its settings, and what came of it
REASON = "reason"  # of a trial: why its settings make no model, as soon as that is known
TOGETHER = "together"  # of a model: how many were trained at once, as one stack
SAME_BITS = "same_bits"  # of a model: "yes" if one seed gives the same bits each time, else "no"
DATA_SET, LICENCE = "data_set", "data_licence"  # of a model: the name of its data set, and the licence that it states
MADE_FROM = "pairs_file"  # of a model: the action pairs that its tokens were made from, which lie beside them
DEVICE = "device"  # of a model: where it was trained
CHUNK = "chunk"  # of a model and an average: actions of a chunk of its data
SETTINGS_USED = "settings_used"  # those for which MLflow shows another param
FAILURE = "failure"  # why a run ended that should not have
ENTRY_POINTS = frozenset(  # of MLproject
    [
        "collect",
        "tokenize",
        "ensemble",
        "suite",
        "search",
        "train_pi0",
        "train_pi0_fast",
        "train_regression",
        "train_binning",
        "main",
    ]
)
SETTINGS_FILE, LOCK_FILE = "settings.json", "lock.json"  # artifacts of a training: all that `reproduce` needs
