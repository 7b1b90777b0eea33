"""The compact letter display of all pairwise comparisons."""

from collections.abc import Sequence, Set
from string import ascii_letters


def letters(names: Sequence[str], different: Set[tuple[str, str]]) -> dict[str, str]:
    """Give each name letters, so that two names share one if and only if they are not `different` (in either order).

    Piepho 2004, "An Algorithm for a Letter-Based Representation of All-Pairwise Comparisons": a column of all names is
    split for each different pair, columns within others are dropped, and letters that no pair needs are swept out.
    Letters are in the order of `names`: in order of their means, the first has an "a".
    """
    place = {name: number for number, name in enumerate(names)}
    columns = [frozenset(names)]
    for pair in sorted(different, key=lambda pair: sorted(map(place.__getitem__, pair))):  # in any order they explode
        split = [part for column in columns for part in _without(column, *pair)]
        columns = [part for part in dict.fromkeys(split) if not any(part < other for other in split)]
    columns = _swept(sorted(columns, key=lambda column: sorted(place[name] for name in column)), names)
    return {name: "".join(_letter(i) for i, column in enumerate(columns) if name in column) for name in names}


def _letter(number: int) -> str:
    """The letter of a column: a to z, A to Z, then a1, b1 and so on."""
    rounds, place = divmod(number, len(ascii_letters))
    return f"{ascii_letters[place]}{rounds or ''}"


def _without(column: frozenset[str], one: str, other: str) -> list[frozenset[str]]:
    return [column - {one}, column - {other}] if {one, other} <= column else [column]


def _swept(columns: list[frozenset[str]], names: Sequence[str]) -> list[frozenset[str]]:
    """Take a name out of a column if it meets each name of it in another column too."""
    for number in range(len(columns)):
        for name in names:
            elsewhere = frozenset().union(*(c for i, c in enumerate(columns) if i != number and name in c))
            if columns[number] <= elsewhere:
                columns[number] -= {name}
    return [column for column in columns if column]
