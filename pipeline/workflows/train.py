"""Train one model: data in, MLflow run and mirror out."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import torch

from pipeline.config import AUTO, TrainSettings
from pipeline.env.pendulum import ACTION_DIM, STATE_DIM
from pipeline.errors import DataError, RunError, SettingsError, one_line
from pipeline.evaluation.control import LONGEST_REPLAN, Condition, draw_episodes, evaluate_planner, mean_scores
from pipeline.files import file_digest
from pipeline.methods.method import Interface, Method, Prepared
from pipeline.policies.checkpoint import Checkpoint, save_checkpoint, weights_digest
from pipeline.policies.policy import policy_of
from pipeline.report.loss_curves import draw_loss_curves
from pipeline.streams import global_torch_stream
from pipeline.tracking.mirror import MIRROR, Mirror, reserve
from pipeline.tracking.run import Place, TrackedRun, start_run
from pipeline.tracking.store import open_store
from pipeline.training.fit import Epoch, Problem, Step, fit
from pipeline.versions import code_state, environment
from pipeline.workflows.make_data import make_missing_data

# A first look at control after training, on other episodes than an evaluation meets, unless it is given this seed.
CHECK_SEED, CHECK_EPISODES, CHECK = 1_000_003, 100, Condition(action_noise=0.03, replan=13)

Say = Callable[[str], None]
Watch = Callable[[Step], None]


@dataclass(frozen=True)
class Trained:
    """What a finished run left."""

    mirror: Mirror
    run_id: str
    url: str  # of the run, below the UI's address
    best_epoch: int
    metrics: dict[str, float]
    weights_digest: str


def train(method: Method, settings: TrainSettings, say: Say, watch: Watch, place: Place | None = None) -> Trained:
    """Train, track and mirror one model, in a study's `place` if it is part of one.

    Bad input raises a `UserError` before any run is started. Once a run is started it ends FINISHED, FAILED with the
    reason in its log, or KILLED.
    """
    torch.set_num_threads(settings.threads)
    device = choose_device(settings.device)
    make_missing_data(settings, say)
    prepared = method.prepare(settings)
    check_sizes(prepared.interface)
    for warning in prepared.warnings:
        say(f"warning: {warning}")
    with global_torch_stream(settings.seed, "weights"):
        network = method.build(settings, prepared.interface).to(device)
    client = open_store()

    mirror = reserve(method.prefix, datetime.now())
    try:
        chosen = settings.run_name != AUTO
        name = settings.run_name if chosen else mirror.name
        run = start_run(client, settings.experiment, name, chosen, place)
    except BaseException:
        mirror.hidden_log.unlink()
        raise
    problem = Problem(network, method.loss, prepared.train, prepared.val, prepared.test)
    try:
        return _tracked_fit(method, settings, prepared, problem, run, mirror, say, watch)
    except BaseException as error:
        _end_unfinished(run, mirror, error, say)
        raise


def _end_unfinished(run: TrackedRun, mirror: Mirror, error: BaseException, say: Say) -> None:
    """End the run as KILLED or FAILED, whatever else goes wrong on the way, with the reason in its log."""
    killed = isinstance(error, (KeyboardInterrupt, SystemExit))
    try:
        mirror.write(f"{'killed' if killed else 'failed'}: {one_line(error)}")
        mirror.publish_log()
        run.file(mirror.log)
    except Exception as second:
        say(f"warning: the log could not be stored: {one_line(second)}")
    finally:
        run.end("KILLED" if killed else "FAILED")


def end_abandoned(run: TrackedRun, name: str, reason: str) -> None:
    """End a run whose process is gone, and show the log that it left hidden in the mirror."""
    mirror = Mirror(name, MIRROR)
    run.tags({"failure": reason})
    if mirror.hidden_log.exists():
        mirror.write(f"failed: {reason}")
        mirror.publish_log()
        run.file(mirror.log)
    run.end("FAILED")


def check_sizes(interface: Interface) -> None:
    """Raise `DataError` if the pairs are not of the pendulum, or too short for the conditions of an evaluation."""
    found = len(interface.state.mean), len(interface.action.mean), interface.horizon
    if found[:2] != (STATE_DIM, ACTION_DIM) or interface.horizon < LONGEST_REPLAN:
        raise DataError(
            f"training pairs: expected {STATE_DIM} state and {ACTION_DIM} action dimensions and chunks of at least "
            f"{LONGEST_REPLAN} actions, for the pendulum; found {found[0]}, {found[1]} and {found[2]}. "
            "Make them with 'python -m pipeline collect'."
        )


def choose_device(name: str) -> torch.device:
    """The device that `--device` names; "auto" takes a GPU if there is one. Raises `SettingsError` if it is absent."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == AUTO:
        name = next(device for device in ("cuda", "mps", "cpu") if available[device])
    if not available[name]:
        raise SettingsError(f"device: expected one that this machine has, found '{name}'. Use --device auto.")
    return torch.device(name)


def _tracked_fit(
    method: Method,
    settings: TrainSettings,
    prepared: Prepared,
    problem: Problem,
    run: TrackedRun,
    mirror: Mirror,
    say: Say,
    watch: Watch,
) -> Trained:
    def note(line: str) -> None:
        mirror.write(line)
        say(line)

    provenance = _describe(method, settings, prepared, run, mirror, note)
    parameters = sum(p.numel() for p in problem.network.parameters())
    device = next(problem.network.parameters()).device
    note(f"{mirror.name}: {method.name}, seed {settings.seed}, {parameters:,} parameters on {device}")
    for key, value in settings.model_dump(mode="json").items():
        mirror.write(f"  {key} = {value}")
    for what, path in prepared.files.items():
        note(f"{what}: {path}, sha256 {provenance[f'{what}_sha256'][:16]}")
    sizes = " / ".join(f"{len(rows[0]):,}" for rows in (prepared.train, prepared.val, prepared.test))
    by = "trajectory" if prepared.split.by_trajectory else "pair"
    note(f"split: {sizes} pairs to train / validate / test, by {by}, digest {prepared.split.digest[:16]}")
    note(f"{'epoch':>5} {'train':>9} {'val':>9} {'test':>9} {'lr':>9} {'gradient':>9} {'samples/s':>10}")

    epochs: list[Epoch] = []
    best: Epoch | None = None
    started = time.perf_counter()
    for event in fit(problem, settings):
        if isinstance(event, Step):
            watch(event)
            continue
        best = event if event.weights is not None else best
        epochs.append(replace(event, weights=None))
        run.metrics(
            {
                "train_loss": event.train_loss,
                "val_loss": event.val_loss,
                "test_loss": event.test_loss,
                "lr": event.lr,
                "grad_norm": event.grad_norm,
                "samples_per_second": event.samples_per_second,
            },
            step=event.epoch,
        )
        note(
            f"{event.epoch:>5} {event.train_loss:>9.5f} {event.val_loss:>9.5f} {event.test_loss:>9.5f}"
            f" {event.lr:>9.2e} {event.grad_norm:>9.3f} {event.samples_per_second:>10,.0f}"
            f"{'  *' if event is best else ''}"
        )
    seconds = time.perf_counter() - started
    if best is None or best.weights is None:
        raise RunError("training: expected a finite validation loss in some epoch, found none. Try a lower --lr.")

    digest = weights_digest(best.weights)
    final = {"best_val_loss": best.val_loss, "best_epoch": float(best.epoch), "best_test_loss": best.test_loss}
    provenance |= {"weights_sha256": digest, **final}
    checkpoint = Checkpoint(method, settings, prepared.interface, best.weights, provenance)
    episodes = draw_episodes((CHECK,), CHECK_EPISODES, CHECK_SEED)
    (scores,) = mean_scores(evaluate_planner(policy_of(checkpoint).plan, episodes, settings.threads))
    final |= {"check_success": scores["success"], "check_converge": scores["converge"]}
    parameters = sum(weight.numel() for weight in best.weights.values())
    run.metrics(final | {"train_seconds": seconds, "parameters": float(parameters)})
    run.tags({"weights_sha256": digest})

    note(f"best: epoch {best.epoch}, val {best.val_loss:.5f}, test {best.test_loss:.5f}; weights sha256 {digest[:16]}")
    note(
        f"control, a first look: success {final['check_success']:.2f}, converge {final['check_converge']:.2f} "
        f"({CHECK_EPISODES} episodes, action noise {CHECK.action_noise}, replan {CHECK.replan})"
    )
    mirror.write(f"finished after {seconds:.1f} s of training")
    save_checkpoint(mirror.model, checkpoint)
    losses = {name: [getattr(epoch, f"{name}_loss") for epoch in epochs] for name in ("train", "val", "test")}
    draw_loss_curves(mirror.picture, mirror.name, losses, best.epoch, method.loss_label)
    mirror.publish_log()
    for path in (mirror.log, mirror.model, mirror.picture):
        run.file(path)
    run.end("FINISHED")
    return Trained(mirror, run.run_id, run.url, best.epoch, final | {"train_seconds": seconds}, digest)


def _describe(
    method: Method, settings: TrainSettings, prepared: Prepared, run: TrackedRun, mirror: Mirror, note: Say
) -> dict[str, Any]:
    """Log what the run is made of, and return it for the checkpoint."""
    commit, tree = code_state()
    digests = {f"{what}_sha256": file_digest(path) for what, path in prepared.files.items()}
    tags = {"kind": "model", "method": method.name, "name": mirror.name, "code_commit": commit, "code_tree": tree}
    tags |= {"split_digest": prepared.split.digest, **digests}
    tags |= {"pairs_sha256": prepared.pairs_sha256} if prepared.pairs_sha256 else {}
    run.tags(tags)
    overridden = run.params(settings.model_dump(mode="json"))
    if overridden:
        used = ", ".join(f"{name}={getattr(settings, name)}" for name in overridden)
        run.tags({"settings_used": used})
        note(f"note: MLflow shows other values for {used}: with 'mlflow run', write -P names with '_'")
    if settings.experiment not in (run.experiment, type(settings).model_fields["experiment"].default):
        note(
            f"note: MLflow started this run in the experiment '{run.experiment}', not '{settings.experiment}': "
            "with 'mlflow run', choose it by --experiment-name"
        )
    run.dataset(prepared.arrays, prepared.files["data"], digests["data_sha256"], "train, val, test")
    versions = environment()
    run.json("settings.json", settings.model_dump(mode="json"))
    run.json("environment.json", versions)
    return tags | {"run_id": run.run_id, "versions": versions}
