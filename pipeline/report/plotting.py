"""Matplotlib with its default settings: all drawing code imports it from here, and draws within `plain`.

The user's own configuration (a backend, a matplotlibrc, a style) neither affects our pictures nor is changed.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BACKEND = "MPLBACKEND"
# A notebook passes its backend to the commands it starts; if that is not installed, importing matplotlib fails.
_chosen = None if "matplotlib" in sys.modules else os.environ.pop(BACKEND, None)
try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Circle, Polygon
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
finally:
    if _chosen is not None:
        os.environ[BACKEND] = _chosen
if _chosen is not None:
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = _chosen

__all__ = [
    "Axes", "Circle", "Figure", "FigureCanvasAgg", "FixedLocator", "Line2D", "MaxNLocator", "NullLocator", "Polygon",
    "plain", "to_rgb",
]  # fmt: skip


@contextmanager
def plain() -> Iterator[None]:
    """Draw with matplotlib's default settings, to the same bytes everywhere; also a decorator, `@plain()`."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["svg.hashsalt"] = "tinypi"
        yield
