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
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
finally:
    if _chosen is not None:
        os.environ[BACKEND] = _chosen
if _chosen is not None:
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = _chosen

__all__ = [
    "Axes", "Circle", "Figure", "FigureCanvasAgg", "FixedLocator", "Line2D", "MaxNLocator", "NullLocator", "Polygon",
    "logarithmic", "plain", "to_rgb",
]  # fmt: skip


@contextmanager
def plain() -> Iterator[None]:
    """Draw with matplotlib's default settings, to the same bytes everywhere; also a decorator, `@plain()`."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["svg.hashsalt"] = "tinypi"
        yield


def logarithmic(axes: Axes) -> None:
    """Give the y axis a logarithmic scale with plain numbers at 1, 2 and 5 of every decade, as 0.05."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
