"""The scores of an episode, and the way that it took through the rows of posts.

Shapes: B episodes, T control steps, P state, A action, H horizon of a chunk, R = 3 rows.
"""

import numpy as np

from pipeline.tasks.avoiding.world import (
    ACTION_LIMIT,
    EPISODE_STEPS,
    FINISH,
    POSTS,
    PUCK_RADIUS,
    RADII,
    ROWS,
    WORLD,
    clearance,
    touching,
)
from pipeline.tasks.score import Score, action_change
from pipeline.tasks.task import Array, Bools, Columns, Ints, Ways
from pipeline.tasks.ways import carry_out

SCORES = {
    "success": Score(
        "success",
        "success, share of episodes that cross the finish and touch no post",
        "",
        3,
        +1,
        binary=True,
        primary=True,
    ),
    "untouched": Score("untouched", "untouched, share of episodes that touch no post", "", 3, +1, binary=True),
    "rows": Score("rows", "rows of posts passed", "of 3", 2, +1),
    "finish_step": Score("finish", "finish step", f"steps, {EPISODE_STEPS} without success", 1, -1),
    "clearance": Score("clearance", "least space to a post, to the finish", "m", 4, +1),
    "action_change": Score("act. change", "mean |action change| per step", "action units", 4, -1),
}
"""Every episode has a number for each of these; a model's score is the mean over its episodes."""


def _first(found: Bools) -> Ints:
    """Return the first step of `found (B, N)` that is true, N without one: `(B,)`."""
    first: Ints = np.where(found.any(1), found.argmax(1), found.shape[1])
    return first


def finish_steps(states: Array) -> Ints:
    """Return the first step of `states (B, N, P)` beyond the finish, N without one: `(B,)`."""
    return _first(states[..., 1] >= FINISH)


def succeeds(states: Array) -> Bools:
    """Tell for episodes `states (B, N, P)` whether they cross the finish before they touch a post: `(B,)`."""
    finish = finish_steps(states)
    before: Bools = finish < np.minimum(_first(touching(states)), states.shape[1])
    return before


def score(states: Array, actions: Array) -> Columns:
    """Score episodes given `states (B, T+1, P)`, the last one after the last action, and `actions (B, T, A)`.

    An episode ends at the finish or where the puck touches a post, and later steps are ignored:
    `success`: whether it crosses the finish; `untouched`: whether it touches no post before;
    `rows`: rows passed; `finish_step`: the first state beyond the finish, T without success;
    `clearance`: the least space between puck and post, m, below 0 if it touches;
    `action_change`: mean |change of action| between steps, action units: small is smooth.
    """
    steps = actions.shape[1]
    finish, touch = finish_steps(states), _first(touching(states))
    end = np.minimum(finish, touch)[:, None]
    running = np.arange(steps) < end  # the steps whose action belongs to the episode
    success = succeeds(states)
    space = clearance(states).min(1, where=np.arange(steps + 1) <= end, initial=np.inf)
    return {
        "success": success,
        "untouched": (touch > steps) | success,
        "rows": (taken(states) >= 0).sum(1),
        "finish_step": np.where(success, finish, steps).clip(max=steps),
        "clearance": space,
        "action_change": action_change(actions, ACTION_LIMIT, running),
    }


def gaps(states: Array) -> Ints:
    """Return the gap in which the middle of each row is crossed in `states (B, N, P)`, 0 the left one: `(B, R)`.

    -1 if the row was behind at the begin, or if the puck does not get so far. Posts do not stop the puck.
    """
    options = np.full((len(states), len(ROWS)), -1)
    last = states.shape[1] - 1
    for row, (y, posts) in enumerate(zip(ROWS, POSTS, strict=True)):
        middle = _first(states[..., 1] > y)
        x = states[np.arange(len(states)), middle.clip(max=last), 0]
        options[:, row] = np.where((middle > 0) & (middle <= last), (x[:, None] > np.array(posts)).sum(1), -1)
    return options


def taken(states: Array) -> Ints:
    """Return the gap by which each row is passed in `states (B, N, P)`, see `gaps`: `(B, R)`.

    -1 also if the puck does not get out of the row's reach, or touches a post before it does.
    """
    touch, beyond = _first(touching(states)), ROWS + RADII + PUCK_RADIUS
    out = np.stack([_first(states[..., 1] > height) for height in beyond], 1)
    return np.where(out < np.minimum(touch, states.shape[1])[:, None], gaps(states), -1)


def path(states: Array) -> Array:
    """Return the places of the puck, m, in episodes `states (B, N, P)`, to where it crosses the finish: `(B, N, 2)`."""
    steps = np.minimum(np.arange(states.shape[1]), finish_steps(states)[:, None])
    places: Array = np.take_along_axis(states[..., :2], steps[..., None], axis=1)
    return places


WAYS = Ways(
    decisions=(("left", "right"), ("left", "middle", "right"), ("far left", "left", "right", "far right")),
    entropy=float(np.log2(2 * 3 * 4)),  # each gap of a row has equal chances
    taken=taken,
    planned=lambda states, chunks: gaps(carry_out(WORLD, states, chunks)),
    path=path,
)
"""A plan's way is that of the plan alone in the simulator, whether it touches posts or not: where it leads."""
