"""What runs in MLflow call themselves and what they hold: names that more than one file writes or reads.

A stored run has these words, so they stay as they are. A model file has the tags in its provenance, a token file the
digests in its metadata, a run's journal its method and name. docs/reference/runs.md lists all that a run leaves.
"""

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


# Tags: what a run is, and where it belongs
KIND = "kind"  # one of `Kind`
METHOD = "method"  # the name of the method
NAME = "name"  # of the run's files in the mirror
TASK = "task"  # the name of the task
STUDY = "study"  # the name of its study; of a search and its models "search:NAME"
GROUP = "group"  # the name of its group within the study
SEARCH = "search"  # of a search's models: its name; no report takes them for models of their own
TRIAL = "trial"  # of a trial and its models: its number
TRAINED = "trained_run"  # of a run of the kind "acting": the run that trained its weights
MEMBERS = "members"  # of an average: digest of the models behind it
CONTINUED = "continued"  # of a continuation: the id of the run that goes on

# Tags: what a model is made of
SHA256 = "_sha256"  # ends the name of a file's digest, which begins with what the method calls the file
DATA_SHA256 = f"data{SHA256}"  # of the file that it was trained on: action pairs, or tokens
PAIRS_SHA256 = f"pairs{SHA256}"  # of the action pairs from which that was made
TOKENIZER_SHA256 = f"tokenizer{SHA256}"  # of its tokenizer, if it has one
WEIGHTS_SHA256 = f"weights{SHA256}"  # of the kept weights
SPLIT_DIGEST = "split_digest"  # of the trajectories in each part of the split
MADE_FROM = "pairs_file"  # the action pairs that its tokens were made from, where these lie beside them
DATA_SET = "data_set"  # the name of its data set
LICENCE = "data_licence"  # what its data set states
CHUNK = "chunk"  # of a model and an average: actions of a chunk of its data
DEVICE = "device"  # where it was trained: "cpu", "cuda" or "mps"
SAME_BITS = "same_bits"  # whether one seed gives the same bits each time: "yes" or "no"
COMMIT, TREE = "code_commit", "code_tree"  # git's commit; "clean" or "dirty"
TOGETHER = "together"  # how many were trained at once, as one stack
OF_TRAINING = (  # those that a run of the kind "acting" takes over from the one that trained its weights
    WEIGHTS_SHA256, DATA_SHA256, TOKENIZER_SHA256, PAIRS_SHA256, MADE_FROM, SPLIT_DIGEST, DEVICE,
    DATA_SET, CHUNK,
)  # fmt: skip

# Tags: what became of a run
EVALUATION = "evaluation"  # the protocol that it was evaluated by, in words
VERDICT = "verdict"  # of a study, in words
EARLIER = "design.earlier"  # of a study: its designs before the present one, with their verdicts, as JSON
LOOKED = "looked"  # of a study: the numbers of models per group at which its verdict was read: "8 12"
SETTINGS_USED = "settings_used"  # those for which MLflow shows another param
COMPLETE = "complete"  # of a study: whether its last call came to its end, "yes" or "no"
FAILURES = "failures"  # of a study, suite and search: the jobs that failed, and why
FAILURE = "failure"  # why a run ended that should not have

# Params: settings of a training
SEED = "seed"  # of a study's model also a tag
HORIZON = "horizon"  # actions per chunk that were asked for; 0: those of its data
PAIRS = "pairs"  # the path of the file that it was trained on
DATA_ASKED = "data"  # the name of the data set that was asked for, or "none"

# Metrics of a training
SAMPLES_PER_SECOND = "samples_per_second"  # training pairs
BEST_VAL_LOSS, BEST_TEST_LOSS = "best_val_loss", "test_loss_at_best_val"  # of the epoch whose weights are kept
TRAIN_SECONDS = "train_seconds"
PARAMETERS = "parameters"  # a number
CHUNK_MAE, CHUNK_MSE = "chunk_mae", "chunk_mse"  # of an evaluation: plans against the expert's chunks, action units

# Artifacts of a training: all that `reproduce` needs
SETTINGS_FILE, LOCK_FILE = "settings.json", "lock.json"
