"""One episode in real time: a planner works in its own thread while its last plan continues.

A step's state is sent when the step begins. If the answer arrives within the step, it is executed from this step on,
as in `evaluation.control`. A later answer is executed from the step in which it arrives, at the index of that step: the
actions of the steps that have passed are skipped. So an answer that takes `d` seconds is floor(d / dt) steps late, as
in Black et al., "Real-Time Execution of Action Chunking Flow Policies", arXiv 2506.07339. The simulation does not
move during the rest of a step.

Shapes: T control steps, P state of the simulator, S observation, A action, K plans, H horizon.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PolicyError, RunError, UserError, one_line
from pipeline.evaluation.record import Record
from pipeline.tasks.task import Array, Task

Chunks = NDArray[np.float32]
Act = Callable[[Array], Chunks]
"""`act(observations (1, S)) -> chunks (1, H, A)`"""
Watch = Callable[[int, Array, int, int], None]
"""`watch(step, observation (S,), plans, late)` is called at every step."""

FIRST_SECONDS = 60.0  # for the first answer of any policy; a server that sends nothing gets less


@dataclass(frozen=True)
class Answer:
    """An answer, and how many seconds it took."""

    found: Chunks | Exception  # (1, H, A)
    seconds: float


class Asking(Protocol):
    """A planner that works concurrently with the episode. At most one request is open."""

    def ask(self, states: Array) -> None: ...

    def answer(self, until: float | None) -> Answer | None:
        """Return the answer to the open request, or None if there is none by the time `until`; None: wait for it."""

    def now(self) -> float:
        """Return the time in seconds, by the clock of `until`."""

    def sleep(self, until: float) -> None: ...


class ThreadAsking:
    """Calls `act` in a thread, by the monotonic clock. The thread is a daemon: an answer may never arrive."""

    def __init__(self, act: Act) -> None:
        self._act = act
        self._questions: SimpleQueue[Array] = SimpleQueue()
        self._answers: SimpleQueue[Answer] = SimpleQueue()
        Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            states = self._questions.get()
            began = self.now()
            found: Chunks | Exception
            try:
                found = self._act(states)
            except Exception as error:
                found = error
            self._answers.put(Answer(found, self.now() - began))

    def ask(self, states: Array) -> None:
        self._questions.put(states)

    def answer(self, until: float | None) -> Answer | None:
        try:
            return self._answers.get(timeout=None if until is None else max(0.0, until - self.now()))
        except Empty:
            return None

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, until: float) -> None:
        time.sleep(max(0.0, until - self.now()))


@dataclass(frozen=True)
class Played:
    """An episode, and the planner's response times."""

    record: Record
    first_seconds: float  # of the first answer; the clock starts after it
    latencies: NDArray[np.float64]  # (K-1,) s, of the other answers
    late: int  # requests that were not answered within their step
    unanswered: bool  # whether one of these was still open at the end
    behind: float  # s, the largest delay of a step's begin: this process itself was late


def play(
    task: Task,
    asking: Asking,
    start: Array,
    noise: Array,
    replan: int,
    lockstep: bool = False,
    watch: Watch | None = None,
) -> Played:
    """Run an episode of a task from `start (Q,)` under `noise (T, A)` with a planner, a plan every `replan` steps.

    With `lockstep` there is no clock: each step waits for its answer, and the episode equals the one that
    `evaluation.control` scores. After an early end nothing is requested or waited for.

    Raises `PolicyError` if the first answer is an error, does not arrive or plans less than `replan` actions;
    `RunError` for a later error, for actions that are not finite, and if a plan is used up before the next arrives.
    """
    executor = _RealTime(task, asking, replan, lockstep, watch)
    states, actions = task.simulator.simulate(executor, start[None], noise[None], 1)
    record = Record(
        states[0],
        actions[0],
        noise,
        np.stack(executor.chunks),
        np.array(executor.asked, dtype=np.int64),
        np.array(executor.taken, dtype=np.int64),
    )
    first, *others = executor.latencies
    return Played(record, first, np.array(others), executor.late, executor.open is not None, executor.behind)


class _RealTime:
    """A controller of one episode."""

    def __init__(self, task: Task, asking: Asking, replan: int, lockstep: bool, watch: Watch | None) -> None:
        self._task = task
        self._asking, self._replan, self._lockstep, self._watch = asking, replan, lockstep, watch
        self._began = 0.0
        self._due = 0  # step of the next request
        self._running = True
        self.open: int | None = None  # step of the open request
        self.chunks: list[Chunks] = []
        self.asked: list[int] = []
        self.taken: list[int] = []
        self.latencies: list[float] = []
        self.late = 0
        self.behind = 0.0

    def __call__(self, step: int, states: Array) -> Array:
        self._running &= not self._task.simulator.ended(states)[0]
        if not self._running:
            return np.zeros((1, self._task.action_dim))
        observations = self._task.simulator.observe(states)
        if step and not self._lockstep:
            self._keep_time(step)
        if step >= self._due and self.open is None:
            self._asking.ask(observations.copy())
            self.open, self._due = step, step + self._replan
        if self.open is not None:
            self._take(step, self._asking.answer(self._until(step)))
        if step == 0:
            self._began = self._asking.now()
        if self._watch:
            self._watch(step, observations[0], len(self.chunks), self.late)
        index = step - self.asked[-1]
        if index >= len(self.chunks[-1]):
            raise RunError(
                f"policy: no answer for {index * self._task.control_seconds:.1f} s: at step {step} the plan of step "
                f"{self.asked[-1]} is used up. Is the server overloaded?"
            )
        return self.chunks[-1][None, index].astype(np.float64)

    def _keep_time(self, step: int) -> None:
        begins = self._began + step * self._task.control_seconds
        self._asking.sleep(begins)
        self.behind = max(self.behind, self._asking.now() - begins)

    def _until(self, step: int) -> float | None:
        if step == 0:
            return self._asking.now() + FIRST_SECONDS
        return None if self._lockstep else self._began + (step + 1) * self._task.control_seconds

    def _take(self, step: int, answer: Answer | None) -> None:
        """Switch to the new plan, if it has arrived."""
        if answer is None:
            self.late += step == self.open
            if step == 0:
                raise PolicyError(f"policy: expected a first plan, found no answer within {FIRST_SECONDS:g} s.")
            return
        if isinstance(answer.found, Exception):
            if step == 0 or not isinstance(answer.found, UserError | RunError):
                raise answer.found
            raise RunError(f"at step {self.open}: {one_line(answer.found)}") from answer.found
        (chunk,) = answer.found
        if step == 0 and len(chunk) < self._replan:
            raise PolicyError(
                f"replan: expected at most the {len(chunk)} steps that this policy plans, found {self._replan}."
            )
        if not np.isfinite(chunk).all():
            raise RunError(f"plan at step {self.open}: expected finite actions, found NaN or infinity. Train it again.")
        assert self.open is not None
        self.chunks.append(chunk)
        self.asked.append(self.open)
        self.taken.append(step)
        self.latencies.append(answer.seconds)
        self.open = None
