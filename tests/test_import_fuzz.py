"""Damage of every kind to what people bring: refused in one line with code 2, or read as it then is.

Always the same cases. What is read must be what a plain reader finds in the damaged files.
"""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from pipeline.cli.main import COMMANDS, main
from pipeline.data.pairs import load_action_pairs
from pipeline.data.trajectories import load_trajectories
from tests.layouts import WRITERS, Demos, demos
from tests.test_fuzz import NUMBERS, REALS, TEXTS, changed, damaged, within_time

HORIZON = 5
LENGTHS = (8, 12, 6)
ODD_NAMES = st.sampled_from(["observation.state", "action", "states", "actions", "obs", "episode_0", "demo_1", "x", ""])


def plain_lerobot(path: Path) -> Demos:
    keys = ["episode_index", "observation.state", "action"]  # damage to others need not be seen
    tables = [pq.read_table(file, columns=keys) for file in sorted(path.glob("data/*/*.parquet"))]
    columns = {key: [row for table in tables for row in table[key].to_pylist()] for key in keys}
    which = np.array(columns["episode_index"])
    both = [np.array(columns[key]).reshape(len(which), -1) for key in ("observation.state", "action")]
    return [(both[0][which == number], both[1][which == number]) for number in sorted(set(which.tolist()))]


def _tree(group: Any, count: int) -> Any:
    if isinstance(group, h5py.Dataset):
        numeric = group.ndim in (1, 2) and group.dtype.kind in "fiub"
        return group[:count].reshape(count, -1) if numeric else np.empty((count, 0))
    return np.concatenate([_tree(group[name], count) for name in sorted(group)], 1)


def plain_minari(path: Path) -> Demos:
    found = []
    with h5py.File(path / "data" / "main_data.hdf5") as file:
        for number in range(len(file)):
            group = file[f"episode_{number}"]
            count = int(group.attrs["total_steps"])
            found.append((_tree(group["observations"], count), _tree(group["actions"], count)))
    return found


def plain_robomimic(path: Path) -> Demos:
    with h5py.File(path) as file:
        names = sorted((name for name in file["data"] if name.startswith("demo")), key=lambda name: int(name[5:] or 0))
        groups = [file["data"][name] for name in names]
        counts = [int(group.attrs["num_samples"]) for group in groups]
        return [
            (_tree(group["obs"], count), _tree(group["actions"], count))
            for group, count in zip(groups, counts, strict=True)
        ]


def plain_npz(path: Path) -> Demos:
    with np.lib.npyio.NpzFile(path) as file:  # np.load takes no zip that something stands before
        state = next(key for key in ("states", "state", "observations", "obs") if key in file)
        action = next(key for key in ("actions", "action") if key in file)
        if "episode_ends" not in file:
            return list(zip(file[state], file[action], strict=True))
        parts = [np.split(file[key], file["episode_ends"][:-1]) for key in (state, action)]
        return [tuple(each.reshape(len(each), -1) for each in pair) for pair in zip(*parts, strict=True)]  # type: ignore[misc]


READERS: dict[str, Callable[[Path], Demos]] = {
    "lerobot v3.0": plain_lerobot,
    "lerobot v2.1": plain_lerobot,
    "minari": plain_minari,
    "robomimic": plain_robomimic,
    "npz": plain_npz,
}


# Damage of the content, by the kind of the file


def damage_json(data: st.DataObject, path: Path) -> None:
    path.write_text(json.dumps(changed(data, json.loads(path.read_text()))), errors="surrogatepass")


def damage_lines(data: st.DataObject, path: Path) -> None:
    path.write_text("\n".join(map(json.dumps, changed(data, [*map(json.loads, path.read_text().splitlines())]))))


def damage_parquet(data: st.DataObject, path: Path) -> None:
    """One column or some rows removed, moved, renamed, changed in a number, in a length or in their type."""
    table = pq.read_table(path)
    names = table.column_names
    key, kind = (
        data.draw(st.sampled_from(names)),
        data.draw(st.sampled_from(("column", "rows", "value", "type", "list"))),
    )
    row = data.draw(st.integers(0, len(table) - 1))
    values = table[key].to_pylist()
    if kind == "column":
        table = table.drop_columns(key) if data.draw(st.booleans()) else table.rename_columns(
            [data.draw(ODD_NAMES) if name == key else name for name in names]
        )  # fmt: skip
    elif kind == "rows":
        order = data.draw(st.lists(st.integers(0, len(table) - 1), max_size=len(table)))
        rows = data.draw(st.sampled_from((order, [*range(row)], [*range(len(table))][::-1])))
        table = table.take(pa.array(rows, pa.int64()))
    else:
        if kind == "value":
            new = data.draw(st.one_of(REALS, NUMBERS, st.none()))
            values[row] = [new, *values[row][1:]] if isinstance(values[row], list) else new
        elif kind == "type":
            values = [str(value) for value in values] if data.draw(st.booleans()) else [*map(np.size, values)]
        else:
            values[row] = [0.0] * data.draw(st.sampled_from((0, 1, 3, 4, 5, 1000)))
        try:
            column = pa.array(values)
        except (pa.ArrowException, OverflowError, TypeError):
            return
        table = table.set_column(names.index(key), key, column)
    pq.write_table(table, path)


def damage_hdf5(data: st.DataObject, path: Path) -> None:
    """A group or an array removed, renamed, replaced or linked; an attribute changed."""
    with h5py.File(path, "a") as file:
        names: list[str] = []
        file.visit(names.append)
        name = data.draw(st.sampled_from(names))
        kind = data.draw(st.sampled_from(("remove", "rename", "array", "group", "link", "attribute", "ring", "value")))
        found, parent = file[name], file[name].parent
        if kind == "attribute":
            key = data.draw(st.sampled_from([*found.attrs, "total_steps", "num_samples"]))
            value = data.draw(st.one_of(st.integers(-3, 20), st.sampled_from([2**40, "8", "{", 8.0, [8, 8], np.nan])))
            found.attrs[key] = value
        elif kind == "ring":
            parent[data.draw(TEXTS.filter(lambda text: text.isalnum())) + "_ring"] = file["/"]
        elif kind == "value":
            if isinstance(found, h5py.Dataset) and found.size and found.dtype.kind == "f":
                found[(0,) * found.ndim] = data.draw(st.sampled_from((np.nan, np.inf, 1e30, 7.0)))
        else:
            shape = getattr(found, "shape", (3,))
            if kind == "rename":
                file.move(name, f"{parent.name}/{data.draw(ODD_NAMES) or 'y'}_{len(names)}")
                return
            del file[name]
            if kind == "array":
                dtype = data.draw(st.sampled_from(("f8", ">f4", "i4", "S3", "?", "u1", "c8")))
                size = data.draw(st.sampled_from((0, 1, 5, 10**12)))
                shape = (size, *shape[1:]) if data.draw(st.booleans()) else (*shape, 1)
                file.create_dataset(name, shape, dtype, chunks=tuple(min(100, max(1, each)) for each in shape))
            elif kind == "group":
                file.create_group(name)
            elif kind == "link":
                links = (h5py.SoftLink("/"), h5py.ExternalLink("/etc/passwd", "/x"), h5py.SoftLink("/away"))
                file[name] = data.draw(st.sampled_from(links))


def damage_npz(data: st.DataObject, path: Path) -> None:
    """An array removed, renamed, added, or of another shape or type."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    key = data.draw(st.sampled_from(list(arrays)))
    kind = data.draw(st.sampled_from(("remove", "rename", "add", "shape", "type", "value")))
    array = arrays[key]
    if kind in ("remove", "rename"):
        del arrays[key]
    if kind in ("rename", "add"):
        arrays[data.draw(ODD_NAMES) or "y"] = array
    elif kind == "shape":
        shapes = (array[:-1], array[None], array.reshape(-1), array[..., None], array[:0], array.T)
        arrays[key] = data.draw(st.sampled_from(shapes))
    elif kind == "type":
        with np.errstate(all="ignore"):
            arrays[key] = array.astype(data.draw(st.sampled_from(("f2", ">f8", "i1", "U3", "c8", "?", "O", "M8[s]"))))
    elif kind == "value":
        array.reshape(-1)[data.draw(st.integers(0, array.size - 1))] = data.draw(st.sampled_from((-1, 0, 7, 100)))
    np.savez(path, **arrays)


DAMAGES = {
    ".json": damage_json,
    ".jsonl": damage_lines,
    ".parquet": damage_parquet,
    ".hdf5": damage_hdf5,
    ".npz": damage_npz,
}


def damage(data: st.DataObject, path: Path) -> None:
    """Damage a file of a source, or remove it, or put something else there."""
    files = sorted(file for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())
    file = data.draw(st.sampled_from(files))
    kind = data.draw(st.sampled_from(("content", "content", "content", "bytes", "bytes", "place")))
    if kind == "content":
        DAMAGES[file.suffix](data, file)
    elif kind == "bytes":
        file.write_bytes(damaged(data, file.read_bytes()))
    else:
        away = data.draw(st.sampled_from(("gone", "/etc/passwd", "/dev/zero", "folder", "other")))
        content = data.draw(st.sampled_from(files)).read_bytes()
        file.unlink()
        if away == "folder":
            file.mkdir()
        elif away == "other":
            file.write_bytes(content)
        elif away != "gone":
            file.symlink_to(away)


@pytest.fixture(scope="module", params=[9, pytest.param(100, marks=pytest.mark.long)])
def number(request: pytest.FixtureRequest) -> int:
    """Of cases for each layout: a few dozen in all every day, 500 in the long run."""
    return request.param


@pytest.mark.parametrize("format", list(WRITERS))
def test_damage(
    format: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sound = WRITERS[format](tmp_path / "sound", demos(LENGTHS))
    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=number, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        for folder in ("source", "data"):
            shutil.rmtree(tmp_path / folder, ignore_errors=True)
        (tmp_path / "data").mkdir()
        shutil.copytree(tmp_path / "sound", tmp_path / "source")
        path = tmp_path / "source" / sound.relative_to(tmp_path / "sound")
        damage(data, path)
        words = ["--format", format.split()[0], "--fps", "25", "--horizon", str(HORIZON), "--every", "1"]
        capsys.readouterr()
        with within_time():
            code = main(COMMANDS, ["import", str(path), "--out", "data/mine", *words])
        shown = capsys.readouterr()
        if code == 2:
            outcomes["refused"] += 1
            assert re.fullmatch(r"error: .{10,700}\n", shown.err), shown.err
            assert not any((tmp_path / "data").iterdir())
            return
        outcomes["imported"] += 1
        assert code == 0 and shown.err == "", shown.err
        expected: list[tuple[Any, Any]] = []
        for states, actions in READERS[format](path):
            seen = (np.asarray(states, np.float32), np.asarray(actions, np.float32))
            copies = [each for each in expected if all(map(np.array_equal, seen, each))]
            if len(states) >= HORIZON and not copies:
                expected.append(seen)
        found = list(load_trajectories(tmp_path / "data/mine/trajectories.npz").episodes())
        assert len(found) == len(expected)
        for pair, (states, actions) in zip(expected, found, strict=True):
            assert_array_equal(pair[0], states)
            assert_array_equal(pair[1], actions)
        pairs = load_action_pairs(tmp_path / "data/mine/training_pairs_original.npz")
        assert len(pairs.state) == sum(len(states) - HORIZON + 1 for states, _ in expected)

    check()
    print(dict(outcomes))
    assert outcomes["refused"] >= number / 3
    assert number < 100 or outcomes["imported"] >= 10
