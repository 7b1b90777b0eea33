"""What each command does and prints. Libraries are imported when they are needed, so that `--help` waits for none."""

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import (
    CollectSettings,
    DoctorSettings,
    EnsembleSettings,
    EvaluateSettings,
    ExportSettings,
    InfoSettings,
    MoveStoreSettings,
    PlaySettings,
    PromoteSettings,
    RegisterSettings,
    ReportSettings,
    ReproduceSettings,
    ServerSettings,
    SyncSettings,
    TokenizeSettings,
    TrainSettings,
)
from pipeline.errors import RunError

if TYPE_CHECKING:
    from pipeline.upkeep.doctor import Finding

BY_PAIR = "the file has no 'trajectory' key, so chunks of one trajectory stand in several parts"


def collect(settings: CollectSettings) -> None:
    """Collect and say what was made."""
    from pipeline.cli.console import print_rows
    from pipeline.stages import collect as workflow

    made = workflow.collect(settings)
    rows = [
        ("trajectories", f"{made.trajectories:,}, all upright, converged and finite"),
        (
            "refused",
            ", ".join(f"{n} {fault}" for fault, n in made.refused.items()) + " (replaced)" if made.refused else "none",
        ),
        ("converge step", f"{made.converge_step:.1f} on average"),
        ("training pairs", f"{made.pairs:,}"),
        ("files", "\n".join(map(str, made.files))),
    ]
    print_rows("Collected demonstrations", rows, "files")


def tokenize(settings: TokenizeSettings) -> None:
    """Tokenize and say how well it went."""
    from pipeline.cli.console import print_rows
    from pipeline.stages import tokenize as workflow

    made, files = workflow.tokenize(settings)
    rows = [
        ("tokens a chunk", f"{made.tokens_mean:.2f} on average, {made.tokens_max} at most"),
        (
            "vocabulary",
            f"{made.vocabulary_used} of {made.vocabulary} entries occur ({made.alphabet} integers, 3 specials)",
        ),
        ("error, action units", f"{made.error_mean:.4f} on average, {made.error_max:.4f} at most"),
        ("coefficients", f"all decode exactly; {made.clipped} clipped to the training range"),
        ("fitted on", "training split, by trajectory" if made.by_trajectory else f"training split, by pair: {BY_PAIR}"),
        ("files", "\n".join(map(str, files))),
    ]
    print_rows("FAST tokens", rows, "files")


def train(method_name: str, settings: TrainSettings) -> None:
    """Train and say what the run left."""
    from pipeline.cli.console import OUT, print_rows
    from pipeline.cli.progress import training_display
    from pipeline.methods import METHODS
    from pipeline.stages import train as workflow
    from pipeline.tracking.store import ui_command

    with training_display(OUT) as display:
        made = workflow.train(METHODS[method_name], settings, display.line, display.step)
    metrics = made.metrics
    rows = [
        (
            "loss",
            f"val {metrics['best_val_loss']:.5f}, test {metrics['best_test_loss']:.5f}, at epoch {made.best_epoch}",
        ),
        ("control", f"success {metrics['check_success']:.2f}, converge {metrics['check_converge']:.2f} (a first look)"),
        ("training", f"{metrics['train_seconds']:.1f} s"),
        ("model", str(made.mirror.model)),
        ("loss curves", str(made.mirror.picture)),
        ("log", str(made.mirror.log)),
        ("MLflow run", made.run_id),
        ("in the UI", made.url),
        ("open the UI", ui_command()),
    ]
    if made.undelivered:
        rows.append(("MLflow", f"was away: {made.undelivered} calls wait; 'python -m pipeline sync' delivers them"))
    print_rows(made.mirror.name, rows, "model")


def evaluate(settings: EvaluateSettings) -> None:
    """Evaluate and print the scores of each model."""
    from pipeline.cli.console import ERR, print_result
    from pipeline.cli.progress import jobs_display
    from pipeline.stages import evaluate as workflow

    with jobs_display(ERR, "evaluating") as display:
        judged = workflow.evaluate(settings, display.show)
    if settings.format == "json":
        print(json.dumps(workflow.describe(settings, judged), allow_nan=False))
    else:
        for table in workflow.score_tables(judged):
            print_result("\n" + table.text())


def play(settings: PlaySettings) -> None:
    """Play an episode and say how the pendulum fared and how fast the policy answered."""
    from pipeline.cli.console import ERR, print_rows
    from pipeline.cli.progress import play_display
    from pipeline.stages import play as workflow

    with play_display(ERR) as watch:
        shown = workflow.play(settings, watch)
    played = shown.played
    late = f"{played.late} late" + (", the last of them never came" if played.unanswered else "")
    rows = [
        ("pendulum", shown.verdict),
        ("episode", shown.about),
        ("plans", f"{len(played.record.chunks)}, {'each waited for' if settings.lockstep else late}"),
        (
            "first answer",
            f"{1000 * played.first_seconds:.1f} ms{'' if settings.lockstep else ', the clock waits for it'}",
        ),
    ]
    if shown.latencies:
        values = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in shown.latencies.items())
        rows.append(("next answers", f"{values} ms, of {len(played.latencies)}; a step takes {shown.step_ms:.0f} ms"))
    if not settings.lockstep:
        rows.append(("clock", f"{shown.seconds:.2f} s; steps began at most {1000 * played.behind:.1f} ms late"))
    if shown.path:
        rows.append(("picture", str(shown.path)))
    print_rows(f"played {shown.name}", rows, "picture" if shown.path else "pendulum")


def export(settings: ExportSettings) -> None:
    """Export and say how far the file is from the model."""
    from pipeline.cli.console import print_rows
    from pipeline.stages import export as workflow

    made = workflow.export(settings)
    ties = f"; {made.ties} of them by a tie of two plans" if made.ties else ""
    rows = [
        ("file", str(made.path)),
        ("size", f"{made.path.stat().st_size / 1024:,.0f} KiB"),
        ("deviation", f"{made.deviation:.1e} action units at most, over {made.states} states{ties}"),
        ("open it with", f"pipeline.load_policy({str(made.path)!r})"),
    ]
    print_rows(f"Exported {made.name}", rows, "file")


def ensemble(settings: EnsembleSettings) -> None:
    """Run a study and say what came out; raises `RunError` if a part of it failed."""
    from pipeline.cli.console import OUT, print_rows
    from pipeline.cli.progress import jobs_display
    from pipeline.report.overview import as_text
    from pipeline.studies import study as workflow
    from pipeline.tracking.store import ui_command

    with jobs_display(OUT, settings.study) as display:
        study = workflow.ensemble(settings, display.line, display.show)
    if study.reported:
        OUT.print("\n" + as_text(study.reported.comparison, names=()), markup=False)
    rows = [
        ("jobs", f"{study.done} done now, {study.found} models found done, {len(study.failures)} failed"),
        ("time", f"{timedelta(seconds=round(study.seconds))}"),
        ("details", f"python -m pipeline report --study {settings.study}"),
        ("report", "\n".join(str(path) for path in study.reported.files) if study.reported else "none: no model"),
        ("MLflow run", study.run_id),
        ("in the UI", study.url),
        ("open the UI", ui_command()),
        *[("failed", failure) for failure in study.failures],
    ]
    print_rows(f"study {settings.study}", rows, "report")
    if study.failures:
        raise RunError(
            f"study '{settings.study}': {len(study.failures)} jobs failed, the first: {study.failures[0]}. "
            "The same command tries again what is missing."
        )


def report(settings: ReportSettings) -> None:
    """Print the comparison in the format asked for."""
    from pipeline.cli.console import print_result, print_rows
    from pipeline.report.overview import as_markdown, as_text, as_values
    from pipeline.results import report as workflow

    made = workflow.report(settings)
    if settings.format == "text":
        print_result(as_text(made.comparison))
        print_rows("files", [*(("", str(path)) for path in made.files), *(("not drawn", why) for why in made.missing)])
    elif settings.format == "json":
        print(json.dumps(as_values(made.comparison), allow_nan=False))
    else:
        print((workflow.as_csv if settings.format == "csv" else as_markdown)(made.comparison), end="")


def register(settings: RegisterSettings) -> None:
    """Register, and say under which versions."""
    from pipeline.cli.console import OUT, print_rows
    from pipeline.registry import register as workflow

    made = workflow.register_models(settings, lambda line: OUT.print(line, markup=False))
    rows = [
        (str(each.version), f"{each.run.name}{', the best of ' + each.run.tags['study'] if each.best else ''}")
        for each in made
    ]
    print_rows("Registered", rows)


def promote(settings: PromoteSettings) -> None:
    """Decide, and say why."""
    from pipeline.cli.console import ERR, OUT, print_rows
    from pipeline.cli.progress import jobs_display
    from pipeline.registry import promote as workflow

    with jobs_display(ERR, "comparing") as display:
        made = workflow.promote(settings, display.line, display.show)
    if made.contest:
        OUT.print("\n" + workflow.contest_table(made.contest).text(), markup=False)
    rows = [("candidate", made.candidate), ("decision", made.sentence)]
    if made.promoted and not settings.dry_run:
        rows.append(("serve it", f"mlflow models serve -m models:/{settings.model}@champion --env-manager local"))
    print_rows(f"promote {settings.model}", rows, "decision")


def reproduce(settings: ReproduceSettings) -> None:
    """Train again and say whether it is the same; raises `RunError` if not."""
    from pipeline.cli.console import OUT, print_rows
    from pipeline.cli.progress import training_display
    from pipeline.upkeep import reproduce as workflow

    with training_display(OUT) as display:
        made = workflow.reproduce(settings, display.line, display.step)
    rows = [
        ("weights", "match bit for bit" if made.matches else "differ"),
        ("sha256 then", made.then),
        ("sha256 now", made.now),
    ]
    print_rows(f"reproduced {made.name}", rows, "weights")
    if not made.matches:
        others = ", ".join(name for name, _, _ in made.differences) or "nothing that the run's lock knows"
        raise RunError(f"run {settings.run}: the weights differ; other than then: {others}. Bring that back.")


def doctor(settings: DoctorSettings) -> None:
    """Mend, and say what was found."""
    from pipeline.upkeep.doctor import doctor as workflow

    _print_findings("doctor", workflow(), "nothing to mend: no run was left by a process that is gone")


def sync(settings: SyncSettings) -> None:
    """Deliver, and say what; raises `RunError` if something still waits."""
    from pipeline.upkeep.doctor import sync as workflow

    _print_findings("sync", workflow(), "nothing waits to be delivered")


def info(_settings: InfoSettings) -> None:
    """Say what is here."""
    from pipeline.cli.console import print_rows
    from pipeline.upkeep import info as workflow

    print_rows(f"tinypi in {Path.cwd()}", workflow.info(), "next")


def server(settings: ServerSettings) -> None:
    """Serve until Ctrl-C, saying how to reach it."""
    from pipeline.cli.console import OUT, print_rows
    from pipeline.server import team as workflow
    from pipeline.server.parts import ADMIN

    uri = workflow.address(settings)
    rows = [("MLflow", uri), ("use it", f"export MLFLOW_TRACKING_URI={uri}")]
    if settings.auth:
        rows.append(("user", f"{ADMIN}; password: 'admin_password' in {settings.folder / 'credentials.json'}"))
        rows.append(("", "export MLFLOW_TRACKING_USERNAME=... MLFLOW_TRACKING_PASSWORD=..."))
    rows += [("data and logs", str(settings.folder)), ("stop it", "Ctrl-C")]
    OUT.print("starting PostgreSQL, the S3 store and MLflow ...")
    try:
        workflow.serve(settings, lambda: print_rows("team server", rows, "MLflow"))
    except KeyboardInterrupt:
        OUT.print("stopped; the next start finds everything again")


def move_store(settings: MoveStoreSettings) -> None:
    """Copy a local store into the team server's, and say what was copied."""
    from pipeline.cli.console import print_rows
    from pipeline.upkeep.move_store import move

    moved = move(settings)
    rows = [
        ("runs", f"{moved.rows['runs']:,}, with {moved.rows['metrics']:,} metric values"),
        ("models", f"{moved.rows['model_versions']:,} registered versions"),
        ("all rows", f"{sum(moved.rows.values()):,} in {len(moved.rows)} tables, counted again after the copy"),
        ("artifacts", f"{moved.files:,} files, {moved.size / 2**20:,.1f} MiB"),
        ("start the server", f"make server, or python -m pipeline server --folder {settings.folder}"),
    ]
    print_rows(f"copied {settings.source}", rows, "runs")


def _print_findings(title: str, findings: "list[Finding]", nothing: str) -> None:
    from pipeline.cli.console import OUT, print_rows

    if findings:
        print_rows(title, [(found.what, f"{found.state}; {found.done}") for found in findings])
    else:
        OUT.print(nothing)
    if waiting := sum(found.waiting for found in findings):
        raise RunError(f"MLflow: expected the store to take everything, {waiting} calls still wait. Try again later.")
