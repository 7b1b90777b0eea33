"""`play`."""

from pipeline.cli.options import settings_command
from pipeline.stages.settings import PlaySettings

EXAMPLES = (
    "play --checkpoint train/trained_models/NAME.pth",
    "play --policy http://127.0.0.1:5001 --action-noise 0.05 --replan 15",
    "play --checkpoint NAME.onnx --lockstep --episode 7 --out seven.gif",
)


def run(settings: PlaySettings) -> None:
    """Play an episode and print its result and the policy's response times."""
    from pipeline.cli.console import ERR, print_rows
    from pipeline.cli.progress import play_display
    from pipeline.stages.play import play
    from pipeline.tasks.registry import find_task

    task = find_task(settings.task)
    with play_display(ERR, task) as watch:
        shown = play(settings, watch)
    played = shown.played
    late = f"{played.late} late" + (", the last one never arrived" if played.unanswered else "")
    rows = [
        (task.name, shown.verdict),
        ("episode", shown.about),
        ("plans", f"{len(played.record.chunks)}, {'lockstep' if settings.lockstep else late}"),
        (
            "first answer",
            f"{1000 * played.first_seconds:.1f} ms{'' if settings.lockstep else ', before the clock starts'}",
        ),
    ]
    if shown.latencies:
        values = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in shown.latencies.items())
        rows.append(("next answers", f"{values} ms, of {len(played.latencies)}; a step takes {shown.step_ms:.0f} ms"))
    if not settings.lockstep:
        rows.append(("clock", f"{shown.seconds:.2f} s; steps began at most {1000 * played.behind:.1f} ms late"))
    if shown.path:
        rows.append(("picture", str(shown.path)))
    print_rows(f"played {shown.name}", rows, "picture" if shown.path else task.name)


COMMAND = settings_command("play", PlaySettings, run, EXAMPLES)
