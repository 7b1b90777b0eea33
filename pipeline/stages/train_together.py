"""Train several models at once on one device: one stack of networks, and a run and files for each model."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch

from pipeline.errors import DivergedError
from pipeline.methods.method import Method
from pipeline.methods.settings import TrainSettings
from pipeline.names import TOGETHER
from pipeline.stages.finish import finish
from pipeline.stages.make_data import make_missing_data
from pipeline.stages.say import Say
from pipeline.stages.train import UnderWay, open_or_resume, prepare, record, start_training
from pipeline.stages.unfinished import going_on
from pipeline.tasks.settings import settle
from pipeline.tracking.begin import Place, system_metrics
from pipeline.training.device import faults_said, use_device
from pipeline.training.fit import Step
from pipeline.training.together import Broken, fit_together, require_alike
from pipeline.versions import code_digest


def train_together(
    method: Method,
    asked: Sequence[tuple[TrainSettings, Place]],
    say: Say,
    watch: Callable[[float], None],
) -> dict[int, Exception]:
    """Train, track and mirror models of one method on the same data, each in a study's place.

    Those with `resume` go on with an unfinished run. `watch` is called with the fraction that is done.

    Returns what `train` would have raised for each model that has failed, such as `DivergedError`, by its place in
    `asked`: the others are not affected. Raises `UserError` kinds before any run is started.
    """
    with ExitStack() as held:
        left = [held.enter_context(going_on(method, each, together=True)) for each, _ in asked]
        if any(one and one.code != code_digest() for one in left):
            say("warning: the code has changed since the runs were started, so their bits may be others")
        settled = [settle(one.settings if one else each) for one, (each, _) in zip(left, asked, strict=True)]
        settings, task = [each for each, _ in settled], settled[0][1]
        require_alike(method.stacked, settings)
        torch.set_num_threads(settings[0].threads)
        use_device(settings[0])  # refuses one that is absent before data are made
        make_missing_data(settings[0], task, say)
        prepared = prepare(method, settings[0], task)
        members: list[UnderWay] = []
        try:
            for each, (_, place), one in zip(settings, asked, left, strict=True):
                members.append(start_training(method, task, each, prepared, place, one, say, len(asked)))
            with faults_said(), ExitStack() as stack:
                for member in members:
                    stack.enter_context(system_metrics(member.training.run))
                return _fit(members, watch)
        except BaseException as error:
            for member in members:
                member.end(error)
            raise


def _fit(members: Sequence[UnderWay], watch: Callable[[float], None]) -> dict[int, Exception]:
    for member in members:
        open_or_resume(member)
        if member.snapshot:  # fewer may go on than have begun
            member.training.run.tags({TOGETHER: str(len(members))})
    trainings = [member.training for member in members]
    events = fit_together(
        [each.problem for each in trainings],
        [each.settings for each in trainings],
        [member.snapshot for member in members],
    )
    failures: dict[int, Exception] = {}
    fractions = [0.0] * len(members)
    before, begun = [each.account.seconds for each in trainings], time.perf_counter()
    for number, event in events:
        member, training = members[number], trainings[number]
        training.account.seconds = before[number] + (time.perf_counter() - begun) / len(members)
        if isinstance(event, Broken):
            failures[number] = DivergedError(event.reason)
            member.end(failures[number])
            continue
        if isinstance(event, Step):
            fractions[number] = event.steps_done / event.steps_total
            watch(sum(fractions) / len(members))
        record(member, event)
    for number, member in enumerate(members):
        if number in failures:
            continue
        try:
            finish(member.training)
        except Exception as error:
            failures[number] = error
            member.end(error)
    return failures
