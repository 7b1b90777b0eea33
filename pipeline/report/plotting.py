"""Matplotlib as it is delivered: all that draws imports it from here, and draws within `plain`.

What people have set for plots of their own (a backend, a matplotlibrc, a style) neither changes our pictures nor is
changed by them.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BACKEND = "MPLBACKEND"
# A notebook hands its own to the commands it starts: where that is not installed, to import matplotlib fails.
_chosen = None if "matplotlib" in sys.modules else os.environ.pop(BACKEND, None)
try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
finally:
    if _chosen is not None:
        os.environ[BACKEND] = _chosen
if _chosen is not None:
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = _chosen

__all__ = [
    "Axes", "Figure", "FigureCanvasAgg", "FixedLocator", "MaxNLocator", "NullLocator", "Rectangle", "plain", "to_rgb"
]  # fmt: skip


@contextmanager
def plain() -> Iterator[None]:
    """Draw with matplotlib's own settings, to the same bytes everywhere; also a decorator, `@plain()`."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["svg.hashsalt"] = "tinypi"
        yield
