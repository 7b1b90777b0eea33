"""Demonstrations exported for other systems: LeRobot's format, column by column, and values bit for bit."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.cli.main import COMMANDS, main
from pipeline.config import make
from pipeline.data.targets import lerobot
from pipeline.data.targets.registry import FORMATS
from pipeline.data.trajectories import Trajectories, load_trajectories
from pipeline.errors import DataError, WriteError
from pipeline.files import whole_folder
from pipeline.stages.export_data import export_data
from pipeline.stages.import_data import import_data, look
from pipeline.stages.settings import ExportDataSettings, ImportSettings
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.reacher import REACHER
from tests import layouts
from tests.conftest import SMALL_TRAJECTORIES

SCALARS = {name: pa.int64() for name in ("frame_index", "episode_index", "index", "task_index")}
STATISTICS = ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99")
FEATURES = ("observation.state", "action", "timestamp", *SCALARS)


@pytest.fixture
def folder(workplace: Path) -> Path:
    """The small data of the pendulum, exported."""
    assert export_data(ExportDataSettings(out=Path("made")), lambda done, total: None).files == 5
    return workplace / "made"


def values(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """A column `(F,)` or `(F, D)`."""
    flat = column.combine_chunks()
    if pa.types.is_fixed_size_list(flat.type):
        return flat.flatten().to_numpy().reshape(len(flat), -1)
    return flat.to_numpy()


def test_frames_are_those_of_the_demonstrations(folder: Path) -> None:
    path = folder / "data/chunk-000/file-000.parquet"
    made, parts = pq.read_table(path), pq.ParquetFile(path).metadata
    ours = load_trajectories(Path("data/trajectories.npz"))
    steps = ours.actions.shape[1]
    assert {field.name: field.type for field in made.schema} == {
        "observation.state": pa.list_(pa.field("element", pa.float32()), 4),
        "action": pa.float32(),
        "timestamp": pa.float32(),
        **SCALARS,
    }
    assert_array_equal(values(made["observation.state"]), ours.states.reshape(-1, 4), strict=True)
    assert_array_equal(values(made["action"]), ours.actions.ravel(), strict=True)
    frame = np.tile(np.arange(steps), SMALL_TRAJECTORIES)
    assert_array_equal(values(made["frame_index"]), frame)
    assert_array_equal(values(made["timestamp"]), (frame / 25).astype(np.float32), strict=True)
    assert_array_equal(values(made["episode_index"]), np.repeat(np.arange(SMALL_TRAJECTORIES), steps))
    assert_array_equal(values(made["index"]), np.arange(len(frame)))
    assert not values(made["task_index"]).any()
    groups = [parts.row_group(number) for number in range(parts.num_row_groups)]
    assert [group.num_rows for group in groups] == [steps] * SMALL_TRAJECTORIES
    assert {group.column(number).compression for group in groups for number in range(parts.num_columns)} == {"SNAPPY"}


def test_what_the_set_tells_of_itself(folder: Path) -> None:
    made = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert made == {
        "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet", "meta/tasks.parquet",
        "meta/stats.json", "meta/info.json",
    }  # fmt: skip
    channels = {"observation.state": ["x", "theta", "v", "omega"], "action": ["force"]}
    assert json.loads((folder / "meta/info.json").read_text()) == {
        "codebase_version": "v3.0",
        "robot_type": "pendulum",
        "total_episodes": SMALL_TRAJECTORIES,
        "total_frames": SMALL_TRAJECTORIES * 100,
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 25,
        "splits": {"train": f"0:{SMALL_TRAJECTORIES}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
        "features": {
            name: {
                "dtype": "int64" if name in SCALARS else "float32",
                "shape": [len(channels.get(name, [1]))],
                "names": channels.get(name),
            }
            for name in FEATURES
        },
    }
    tasks = pd.read_parquet(folder / "meta/tasks.parquet")
    assert tasks.index.name == "task" and tasks.to_dict() == {"task_index": {PENDULUM.description: 0}}


def test_statistics_of_each_episode_and_of_all(folder: Path) -> None:
    made = pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet")
    plain = {name: pa.int64() for name in (
        "episode_index", "length", "data/chunk_index", "data/file_index", "dataset_from_index", "dataset_to_index",
        "meta/episodes/chunk_index", "meta/episodes/file_index",
    )}  # fmt: skip
    whole = {f"stats/{name}/count" for name in FEATURES}
    whole |= {f"stats/{name}/{bound}" for name in SCALARS for bound in ("min", "max")}
    assert {field.name: field.type for field in made.schema} == plain | {"tasks": pa.list_(pa.string())} | {
        name: pa.list_(pa.int64() if name in whole else pa.float64())
        for name in (f"stats/{feature}/{statistic}" for feature in FEATURES for statistic in STATISTICS)
    }
    rows = made.to_pylist()
    assert [row["episode_index"] for row in rows] == [*range(SMALL_TRAJECTORIES)]
    third = rows[3]
    assert (third["dataset_from_index"], third["dataset_to_index"], third["length"]) == (300, 400, 100)
    assert third["tasks"] == [PENDULUM.description] and third["stats/index/min"] == [300]
    everything = json.loads((folder / "meta/stats.json").read_text())
    assert everything.keys() == set(FEATURES) and {tuple(found) for found in everything.values()} == {
        ("min", "max", "mean", "std", "q01", "q10", "q50", "q90", "q99", "count")
    }
    ours = load_trajectories(Path("data/trajectories.npz")).states.astype(np.float64)
    for states, found in (
        (ours[3], {key: third[f"stats/observation.state/{key}"] for key in STATISTICS}),
        (ours.reshape(-1, 4), everything["observation.state"]),
    ):
        assert found["count"] == [len(states)]
        assert (found["min"], found["max"]) == (states.min(0).tolist(), states.max(0).tolist())
        assert_allclose(found["mean"], states.mean(0), rtol=1e-12)
        assert_allclose(found["std"], states.std(0), rtol=1e-12)
        for percent in (1, 10, 50, 90, 99):
            assert_allclose(found[f"q{percent:02d}"], np.percentile(states, percent, 0), rtol=1e-12)


def test_what_is_exported_is_imported_bit_for_bit(folder: Path) -> None:
    ours = load_trajectories(Path("data/trajectories.npz"))
    Path("data").unlink()  # the link to what all tests share
    for task in ("pendulum", "none"):
        settings = make(ImportSettings, {"path": folder, "task": task, "out": f"data/of_{task}"})
        made = import_data(settings, look(settings), lambda done, total: None).dataset
        assert (made.episodes, made.frames, made.control_seconds) == (SMALL_TRAJECTORIES, len(ours.states) * 100, 0.04)
        assert made.format == "lerobot v3.0" and [each.name for each in made.action] == ["force"]
        again = load_trajectories(Path(f"data/of_{task}/trajectories.npz"))
        states, actions, ends = again.end_to_end()
        assert_array_equal(states, ours.states.reshape(-1, 4), strict=True)
        assert_array_equal(actions, ours.actions.reshape(-1, 1), strict=True)
        assert_array_equal(ends, np.arange(1, SMALL_TRAJECTORIES + 1) * 100)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("license: apache-2.0", "apache-2.0"),
        ("license:\n- cc-by-4.0", "cc-by-4.0"),
        ("license:\n  - 'mit'\n  - cc-by-4.0  # both\ntags: x", "mit, cc-by-4.0"),
        ('license: [mit, "cc0-1.0"]', "mit, cc0-1.0"),
        ("license: [mit,\n  apache-2.0]", "mit, apache-2.0"),
        ("license: >-\n  cc-by-4.0", "cc-by-4.0"),
        ("license: null  # none yet", ""),
        ("license: [mit", ""),
        ("tags:\n- license: mit", ""),
    ],
)
def test_licence_and_instruction_come_back(card: str, licence: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    layouts.lerobot_v3(tmp_path / "source", layouts.demos((12, 12)))
    (tmp_path / "source" / "README.md").write_text(f"---\n{card}\n---\n\nlicense: gpl\n")
    for path, name in (("source", "one"), ("made", "two")):
        settings = make(ImportSettings, {"path": path, "out": f"data/{name}", "horizon": 10})
        made = import_data(settings, look(settings), lambda done, total: None).dataset
        assert (made.licence, made.instruction) == (licence, "balance")
        if name == "one":
            export_data(make(ExportDataSettings, {"data": name, "out": "made"}), lambda done, total: None)
            assert pd.read_parquet("made/meta/tasks.parquet").index.tolist() == ["balance"]
            assert (tmp_path / "made" / "README.md").exists() == bool(licence)


def test_exact_statistics() -> None:
    columns = {"a": np.arange(101), "b": np.array([[2.0, 0.5]] * 101, np.float32)}
    assert lerobot.statistics(columns) == {
        "a": {
            "min": [0], "max": [100], "mean": [50.0], "std": [pytest.approx(np.sqrt(850))],
            "q01": [1.0], "q10": [10.0], "q50": [50.0], "q90": [90.0], "q99": [99.0], "count": [101],
        },
        "b": {key: [2.0, 0.5] for key in ("min", "max", "mean", "q01", "q10", "q50", "q90", "q99")}
        | {"std": [0.0, 0.0], "count": [101]},
    }  # fmt: skip


def test_files_and_chunks_are_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes of several lengths, in files below the size, and two files a chunk."""
    monkeypatch.setattr(lerobot, "CHUNKS_SIZE", 2)
    monkeypatch.setattr(lerobot, "AT_ONCE", 8)
    monkeypatch.setattr(lerobot, "DATA_MB", 0.06)
    random = np.random.default_rng(0)
    ends = random.integers(40, 90, 40).cumsum()
    states, actions = (random.normal(size=(ends[-1], size)).astype(np.float32) for size in (12, 2))
    seen: list[int] = []
    demonstrations = Trajectories(states, actions, np.empty((40, 0), np.float32), {}, ends)
    lerobot.write_lerobot(tmp_path, REACHER, demonstrations, seen.append)
    assert seen == [*range(1, 41)]
    paths = sorted(tmp_path.glob("data/*/*.parquet"))
    places = [(int(path.parent.name[-3:]), int(path.stem[-3:])) for path in paths]
    assert places == [divmod(number, 2) for number in range(len(paths))] and len(paths) > 3
    assert max(path.stat().st_size for path in paths) < 0.08 * 2**20  # a footer comes on top
    tables = [pq.read_table(path) for path in paths]
    assert_array_equal(values(pa.concat_tables(tables)["observation.state"]), states)
    assert_array_equal(values(pa.concat_tables(tables)["action"]), actions)
    parts = sorted(tmp_path.glob("meta/episodes/*/*.parquet"))
    assert len(parts) > 1
    rows = []
    for path in parts:
        own = pq.read_table(path).to_pylist()
        assert {(row["meta/episodes/chunk_index"], row["meta/episodes/file_index"]) for row in own} == {
            (int(path.parent.name[-3:]), int(path.stem[-3:]))
        }
        rows += own
    assert [row["dataset_to_index"] for row in rows] == ends.tolist()
    for row in rows:
        table = tables[places.index((row["data/chunk_index"], row["data/file_index"]))]
        assert (values(table["episode_index"]) == row["episode_index"]).sum() == row["length"]
        (first, *_) = np.flatnonzero(values(table["episode_index"]) == row["episode_index"])
        assert table["index"][first].as_py() == row["dataset_from_index"]


def test_the_formats_are_those_of_the_settings() -> None:
    for name in FORMATS:
        assert make(ExportDataSettings, {"format": name, "out": "x"}).format == name
    assert len(FORMATS) == 1


def test_the_command(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(COMMANDS, ["export-data", "--out", "deep/made"]) == 0
    assert "60 of the task pendulum, 6,000 frames" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in Path("deep").rglob("*") if path.is_file()}
    assert main(COMMANDS, ["export-data", "--out", "deep/again", "-q"]) == 0
    assert capsys.readouterr().out == "deep/again\n"
    assert {Path(str(path).replace("made", "again")).read_bytes() for path in before} == {*before.values()}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "data"], "out: expected a folder that does not exist yet, found 'data'"),
        (["--out", "x", "--format", "zarr"], "format: expected"),
        (["--out", "x", "--task", "reacher"], "data/reacher/trajectories.npz: expected an .npz file, found none."),
        (
            ["--out", "x", "--task", "reacher", "--trajectories", "data/../data/trajectories.npz"],
            "found one of 'pendulum'",
        ),
        (["--out", "x", "--trajectories", "data/training_pairs_original.npz"], "expected the key 'states'"),
        ([], "Missing option '--out'"),
    ],
)
def test_bad_input(words: list[str], message: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(workplace.rglob("*"))
    assert main(COMMANDS, ["export-data", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert sorted(workplace.rglob("*")) == before


def test_a_rate_that_is_no_whole_number_is_refused() -> None:
    assert lerobot.frames_per_second(REACHER) == 50
    for seconds in (0.03, 1.5, 3.0):
        with pytest.raises(DataError, match="whole number of frames a second"):
            lerobot.frames_per_second(dataclasses.replace(PENDULUM, control_seconds=seconds))


@pytest.mark.parametrize("reason", [RuntimeError, KeyboardInterrupt])
def test_a_folder_is_whole_or_not_there(reason: type[BaseException], workplace: Path) -> None:
    def break_off(done: int, total: int) -> None:
        if done == 5:
            raise reason

    with pytest.raises(reason):
        export_data(ExportDataSettings(out=Path("made")), break_off)
    assert [path.name for path in workplace.iterdir()] == ["data"]


def test_a_folder_that_came_meanwhile_is_kept(tmp_path: Path) -> None:
    place = tmp_path / "made"
    with pytest.raises(WriteError, match="another process has written meanwhile"), whole_folder(place) as folder:
        (folder / "new").write_text("new")
        place.mkdir()
        (place / "old").write_text("old")
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "old"]
