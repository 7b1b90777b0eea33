"""An episode as a drawing, in a plane: one way of drawing a task for GIFs, report pages and docs alike.

Shapes: T control steps, n points of a shape.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Kind = Literal["line", "polygon", "disc"]
Role = Literal["ground", "body", "light", "goal", "obstacle", "force"]
"""What a shape is, which decides its colour: rails and walls; moving parts; marks on them; where to go; what not to
touch; an applied action."""


@dataclass(frozen=True)
class Shape:
    """A shape, still or moving."""

    kind: Kind
    role: Role
    points: Array  # (T+1, n, 2), one position per state; (1, n, 2) if it never moves; a disc: n = 1
    size: float  # the width of a line, or the radius of a disc; of a polygon 0


@dataclass(frozen=True)
class Scene:
    """The shapes of an episode, the first at the back."""

    shapes: tuple[Shape, ...]
    left: float  # the part of the plane that must be visible
    right: float
    bottom: float
    top: float
    trace: Array | None = None  # (T+1, 2), a point whose way so far is shown as a line
    label: str = ""  # of the horizontal axis, with its unit; empty: no axis is shown
