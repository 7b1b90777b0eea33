"""The end of a training: its best weights are judged, and the files of the run are written."""

from dataclasses import dataclass

from pipeline.errors import DivergedError, StoreError, one_line
from pipeline.evaluation.control import draw_episodes, evaluate_planner, mean_scores, policy_planner
from pipeline.names import BEST_TEST_LOSS, BEST_VAL_LOSS, PARAMETERS, TRAIN_SECONDS, WEIGHTS_SHA256
from pipeline.policies.checkpoint import Checkpoint, save_checkpoint, weights_digest
from pipeline.policies.policy import Policy, policy_of
from pipeline.report.loss_curves import draw_loss_curves
from pipeline.report.model_card import model_card, training_facts
from pipeline.stages.account import LOSSES, TEST_LOSS, VAL_LOSS, Training
from pipeline.tasks.score import shares_of
from pipeline.tasks.task import Task
from pipeline.tracking.delivery import BRIEFLY
from pipeline.tracking.mirror import Mirror
from pipeline.tracking.registry import log_model
from pipeline.tracking.store import mlflow_settings

# A first check of control after training, on other episodes than an evaluation meets, unless it is given this seed.
CHECK_SEED, CHECK_EPISODES = 1_000_003, 100

CHECK = "check_"  # before the names of scores

BEST_EPOCH = "best_epoch"  # metric: the epoch whose weights are kept, that of the lowest validation loss
FINAL_METRICS = (BEST_VAL_LOSS, BEST_EPOCH, BEST_TEST_LOSS, TRAIN_SECONDS, PARAMETERS)


@dataclass(frozen=True)
class Trained:
    """What a finished run left."""

    mirror: Mirror
    run_id: str
    url: str  # of the run, below the UI's address
    best_epoch: int
    metrics: dict[str, float]
    check: dict[str, float]  # scores of a first check of control, by their names; none without a simulator
    weights_digest: str
    undelivered: int  # calls that wait for a store that is away
    obstacle: str  # what it said


def finish(training: Training) -> Trained:
    """Judge the best weights, and leave the files of the run: the same, if it is done a second time."""
    account, run, mirror = training.account, training.run, training.mirror
    if not account.best:
        raise DivergedError("training: expected a finite validation loss in some epoch, found none. Try a lower --lr.")

    digest, best = weights_digest(account.best), account.epochs[account.best_epoch - 1]
    final = {
        BEST_VAL_LOSS: best[VAL_LOSS],
        BEST_EPOCH: float(account.best_epoch),
        BEST_TEST_LOSS: best[TEST_LOSS],
    }
    provenance = account.provenance | {WEIGHTS_SHA256: digest, **final}
    interface = training.prepared.interface
    checkpoint = Checkpoint(training.method, training.settings, interface, account.best, provenance)
    policy = policy_of(checkpoint)
    check, told = first_check(training.task, policy, training.settings.threads)
    final |= {f"{CHECK}{name}": value for name, value in check.items()}
    metrics = final | {TRAIN_SECONDS: account.seconds}
    parameters = float(sum(weight.numel() for weight in account.best.values()))
    run.metrics(metrics | {PARAMETERS: parameters}, time_ms=int(account.epochs[-1]["time_ms"]))
    run.tags({WEIGHTS_SHA256: digest})

    training.note(
        f"best: epoch {account.best_epoch}, val {best[VAL_LOSS]:.5f}, test {best[TEST_LOSS]:.5f}; "
        f"weights sha256 {digest[:16]}"
    )
    training.note(f"control, {told}")
    training.note(f"finished after {account.seconds:.1f} s of training", aloud=False)
    save_checkpoint(mirror.model, checkpoint)
    losses = {name.removesuffix("_loss"): [row[name] for row in account.epochs] for name in LOSSES}
    draw_loss_curves(mirror.picture, mirror.name, losses, account.best_epoch, training.method.loss_label)
    mirror.publish_log()
    for path in (mirror.log, mirror.model, mirror.picture):
        run.file(path)
    _log_model(training, policy)
    undelivered = run.end("FINISHED")
    return Trained(mirror, run.run_id, run.url, account.best_epoch, metrics, check, digest, undelivered, run.obstacle)


def first_check(task: Task, policy: Policy, threads: int) -> tuple[dict[str, float], str]:
    """Return scores of a first check of control by name, and what is told of it; none without a simulator."""
    if task.world is None:
        return {}, "no first check: the task has no simulator. 'evaluate' judges its plans"
    condition = task.middle_condition
    episodes = draw_episodes(task, (condition,), CHECK_EPISODES, CHECK_SEED)
    planner = policy_planner(policy, episodes, CHECK_SEED)
    (scores,) = mean_scores(evaluate_planner(planner, episodes, threads))
    check = {name: scores[name] for name in shares_of(task.scores)}
    return check, (
        f"a first check: {', '.join(f'{name} {value:.2f}' for name, value in check.items())} "
        f"({CHECK_EPISODES} episodes, action noise {condition.action_noise:g}, replan {condition.replan})"
    )


def _log_model(training: Training, policy: Policy) -> None:
    """Log the model as MLflow's models are, with its metrics. No training fails by this: `register` makes it good."""
    run, params = training.run, training.settings.model_dump(mode="json")
    horizon, made_of = training.prepared.interface.horizon, training.account.provenance
    card = model_card(training_facts(training.task, horizon, training.mirror.name, run.run_id, made_of, params))
    try:
        run.flush()
        if run.deliver_waiting()[1]:
            raise StoreError("the store is away")
        with mlflow_settings(BRIEFLY):
            checks = [f"{CHECK}{name}" for name in shares_of(training.task.scores)]
            log_model(run.client, run.run_id, policy, training.mirror.model, card, (*FINAL_METRICS, *checks))
    except Exception as error:  # whatever it is: the run has all of its files
        training.say(
            f"warning: no logged model in MLflow: {one_line(error)[:200]}; "
            f"'python -m pipeline register --run {run.run_id}' makes it"
        )
