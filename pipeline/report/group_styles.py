"""How groups are drawn in all figures: the colour and marker of their method, and the line of their variant of it."""

from collections.abc import Mapping
from typing import Any

from pipeline.report.comparison import Comparison
from pipeline.report.plotting import look, to_rgb

Style = dict[str, Any]
"""Colour, marker, line style and the marker's face, as `Axes.plot` takes them."""
LINES = ("-", "--", ":")  # of a method's first, second and third group
ORIGINAL = {"linestyle": "-.", "markerfacecolor": "white"}
SHADES = ("0.2", "0.6")  # of the reference system's weights


def styles_of(methods: Mapping[str, str]) -> dict[str, Style]:
    """Return the style of each group, by the groups' methods.

    Groups of one method share its colour and marker. The second one is dashed with open markers, the third one dotted
    with pale ones. Groups of one method alone, and those of a method with more than three, have styles of their own.
    """
    counts = [[*methods.values()].count(method) for method in methods.values()]
    own = len(set(methods.values())) == 1 or max(counts, default=0) > len(LINES)
    keys = {name: name if own else method for name, method in methods.items()}
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys.values()))}
    styles: dict[str, Style] = {}
    seen: dict[str, int] = {}
    for name, key in keys.items():
        style, variant = look(numbers[key]), seen.get(key, 0)
        seen[key] = variant + 1
        face = (style["color"], "white", pale(style["color"]))[variant]
        styles[name] = style | {"markerfacecolor": face} | ({} if own else {"linestyle": LINES[variant]})
    return styles


def styles_in(comparison: Comparison) -> dict[str, Style]:
    """Return the styles of a comparison's groups; the reference system's weights are grey, with the method's marker."""
    methods = {group.name: group.method for group in comparison.of_kind("model")}
    styles = styles_of(methods)
    markers = {methods[name]: style["marker"] for name, style in reversed(styles.items())}
    for number, group in enumerate(comparison.of_kind("original")):
        shade = SHADES[number % len(SHADES)]
        styles[group.name] = {"color": shade, "marker": markers.get(group.method, "X"), **ORIGINAL}
    return styles


def lines_of(style: Style) -> Style:
    """Return colour and line of a style, without its marker."""
    return {key: style[key] for key in ("color", "linestyle")}


def mark_of(style: Style) -> Style:
    """Return a style without its line."""
    return style | {"linestyle": ""}


def pale(colour: str) -> tuple[float, ...]:
    """Return a colour half as strong."""
    return tuple(0.5 + part / 2 for part in to_rgb(colour))
