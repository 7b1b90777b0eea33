"""Matplotlib with its default settings: all drawing code imports it from here, and draws within `plain`.

The user's own configuration (a backend, a matplotlibrc, a style) neither affects our pictures nor is changed. The
colour-blind can distinguish the colours of groups; their markers and line styles differ as well.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.files import whole_file

BACKEND = "MPLBACKEND"
# A notebook passes its backend to the commands it starts; if that is not installed, importing matplotlib fails.
_chosen = None if "matplotlib" in sys.modules else os.environ.pop(BACKEND, None)
try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
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
    "LOOKS", "Axes", "Circle", "Figure", "FigureCanvasAgg", "FixedLocator", "Line2D", "MaxNLocator", "NullLocator",
    "Polygon", "as_svg", "logarithmic", "look", "plain", "save", "to_rgb",
]  # fmt: skip

# Okabe and Ito's colours, ordered so that the lightness of neighbours differs clearly.
LOOKS: tuple[dict[str, Any], ...] = (
    {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    {"color": "#009E73", "marker": "^", "linestyle": "-."},
    {"color": "#CC79A7", "marker": "D", "linestyle": ":"},
    {"color": "#56B4E9", "marker": "v", "linestyle": "-"},
    {"color": "#E69F00", "marker": "P", "linestyle": "--"},
    {"color": "#000000", "marker": "X", "linestyle": "-."},
)


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


def look(number: int) -> dict[str, Any]:
    """Return colour, marker and line of a group; where colours come again, with another marker and line."""
    turn, place = divmod(number, len(LOOKS))
    return LOOKS[(place + turn) % len(LOOKS)] | {"color": LOOKS[place]["color"]}


@plain()
def save(figure: Figure, path: Path, dpi: int = 120) -> None:
    """Write the picture atomically, with so many pixels per inch.

    The canvas writes it, here and below: `savefig` draws all twice, the first time for nothing.
    """
    figure.set_dpi(dpi)
    canvas: Any = FigureCanvasAgg(figure)
    with whole_file(path) as temporary:
        canvas.print_png(temporary)


@plain()
def as_svg(figure: Figure) -> bytes:
    """Return the picture as SVG, with letters as shapes. The same picture gives the same bytes."""
    buffer = io.BytesIO()
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()
