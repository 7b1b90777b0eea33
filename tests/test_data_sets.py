"""Data sets by name: what is in `data/`, training on one, runs whose data has changed, removing one."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli.main import COMMANDS, main
from pipeline.cli.train import train_command
from pipeline.config import make
from pipeline.data.pairs import ActionPairs, load_action_pairs, load_token_pairs, save_action_pairs
from pipeline.data.trajectories import load_trajectories
from pipeline.errors import DataError, SettingsError
from pipeline.files import file_digest
from pipeline.methods.registry import METHODS
from pipeline.methods.settings import BinningSettings, Pi0FastSettings, Pi0Settings, TokenSettings
from pipeline.results.gather import gather
from pipeline.stages.changed import changed_data, pairs_beside
from pipeline.stages.collect import collect
from pipeline.stages.contenders import open_contender
from pipeline.stages.evaluate import evaluate
from pipeline.stages.make_data import make_missing_data
from pipeline.stages.settings import (
    CollectSettings,
    CompareSettings,
    EvaluateSettings,
    ExportDataSettings,
    TokenizeSettings,
)
from pipeline.stages.tokenize import tokenize
from pipeline.studies.groups import plan_groups
from pipeline.studies.settings import EnsembleSettings
from pipeline.studies.study_plan import prepare_data
from pipeline.tasks.dataset import DataSet, name_of, read_dataset, write_dataset
from pipeline.tasks.facts import KEY, facts_of
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.registry import find_task
from pipeline.tasks.settings import ForData, at_task, settle
from pipeline.tasks.task import Channel
from pipeline.tokenizer.stored import load_tokenizer
from pipeline.tracking.query import StoredRun, fetch
from pipeline.tracking.registry import versions_of
from pipeline.upkeep.data_sets import contents, find, find_all, ranges, users
from pipeline.upkeep.info import info
from tests.conftest import SMALL_TRAJECTORIES, put_store, runs_of, store

ARM = DataSet(
    name="arm",
    task="arm",
    observation=(Channel("joint", "joint", "rad"), Channel("finger", "finger", "m")),
    action=(Channel("torque", "torque", "N m", 2.0),),
    control_seconds=0.1,
    horizon=20,
    episodes=30,
    frames=600,
    format="npz",
    source="somewhere/arm.npz",
    source_sha256="0" * 64,
    licence="MIT",
)
TINY = ("--epochs", "1", "--width", "16", "--layers", "1")


@pytest.fixture
def place(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data to write to: the pendulum's own, `more` of it, and `arm` without a simulator."""
    for folder in ("data", "data/more", "data/arm"):
        (tmp_path / folder).mkdir()
    for file in data.glob("*.*"):
        shutil.copy(file, tmp_path / "data")
    for name in ("trajectories.npz", "training_pairs_original.npz"):
        shutil.copy(data / name, tmp_path / "data" / "more")
    (tmp_path / "data" / "README.md").write_text("a page")
    put_store(tmp_path)
    monkeypatch.chdir(tmp_path)
    made = read_dataset("pendulum")
    assert made is not None
    write_dataset(replace(made, name="more", format="lerobot v3.0", licence="CC-BY-4.0"))
    write_dataset(ARM)
    random = np.random.default_rng(0)
    pairs = ActionPairs(
        random.normal(size=(600, 2)).astype(np.float32), random.normal(size=(600, 20, 1)).astype(np.float32),
        np.repeat(np.arange(30), 20), np.tile(np.arange(20), 30), {KEY: facts_of(find_task("arm")).values()},
    )  # fmt: skip
    save_action_pairs(tmp_path / "data/arm/training_pairs_original.npz", pairs)
    return tmp_path


def refused(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(COMMANDS, list(words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_collect_tells_what_it_made(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = json.loads((data / "dataset.json").read_text())
    assert told["name"] == told["task"] == "pendulum" and told["simulated"] and told["format"] == "collect"
    assert (told["episodes"], told["frames"], told["horizon"]) == (SMALL_TRAJECTORIES, SMALL_TRAJECTORIES * 100, 50)
    assert told["source"] == "python -m pipeline collect --task pendulum --trajectories 60 --seed 0"
    assert told["source_sha256"] == PENDULUM.digest
    assert [channel["name"] for channel in told["observation"]] == ["x", "theta", "v", "omega"]

    monkeypatch.chdir(tmp_path)
    small = {"trajectories": 1, "threads": 1}
    for values, name, horizon in (
        ({"horizon": 20}, "pendulum", 20), ({"out": "data/mine"}, "mine", 0), ({"task": "swing_up"}, "swing_up", 0),
    ):  # fmt: skip
        made = collect(make(CollectSettings, small | values))
        found = read_dataset(name, horizon)
        assert found is not None and made.files[-1] == find(name, horizon).folder / "dataset.json"
        assert found.horizon == (horizon or 50) and found.has_simulator and found.task == made.task
        assert found.source.endswith(
            " --seed 0 --horizon 20" if horizon else " --seed 0"
        )  # it makes these chunks again
    assert name_of(Path("elsewhere/data/x"), "pendulum") == name_of(Path("data/a b"), "pendulum") == "pendulum"


def test_list_and_show(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collect(make(CollectSettings, {"task": "reacher", "horizon": 20, "trajectories": 2, "threads": 1}))
    (place / "data/reacher/horizon_20/dataset.json").unlink()  # as an early version left it
    (place / "data/plots").mkdir()
    assert [found.words for found in find_all()] == ["pendulum", "arm", "more", "reacher --horizon 20"]
    assert main(COMMANDS, ["data", "list"]) == 0
    rows = {line.split("  ")[0]: line.split() for line in capsys.readouterr().out.splitlines()[3:]}
    pairs = file_digest(Path("data/training_pairs_original.npz"))[:12]
    assert rows["pendulum"][1:5] == ["pendulum", "collect", "60", "6,000"] and rows["pendulum"][-2:] == [pairs, "0"]
    assert rows["arm"][1:5] == ["arm", "npz", "30", "600"]
    assert rows["reacher --horizon 20"][3:8] == ["reacher", "early", "version", "2", "398"]

    assert main(COMMANDS, ["data", "show", "more"]) == 0
    shown = capsys.readouterr().out
    states = np.load("data/more/trajectories.npz")["states"]
    assert f"theta: pole angle, rad, {states[..., 1].min():.4g} to {states[..., 1].max():.4g}\n" in shown
    assert "force: force, 100 N, " in shown and "applied within +-3" in shown
    for text in ("60, 6,000 frames", "25 a second", "lerobot v3.0: ", "CC-BY-4.0", "of 50 actions", "with a simulator"):
        assert text in shown
    for path in Path("data/more").glob("*.npz"):
        assert f"{path}  sha256 {file_digest(path)}" in shown
    assert main(COMMANDS, ["data", "show", "arm"]) == 0
    assert "arm, without a simulator" in capsys.readouterr().out
    assert main(COMMANDS, ["data", "show", "reacher", "--horizon", "20"]) == 0
    shown = capsys.readouterr().out
    assert "2, 398 frames" in shown and "of 20 actions" in shown and "not told: of an early version" in shown


def test_data_of_early_versions_tell_what_their_arrays_do(place: Path) -> None:
    before = read_dataset("pendulum")
    (place / "data/dataset.json").unlink()
    told = contents(find("pendulum"))
    assert isinstance(told, DataSet) and before is not None
    unknown = {"format": "", "source": "", "source_sha256": ""}
    assert told == replace(before, **unknown)
    (place / "data/trajectories.npz").unlink()
    told = contents(find("pendulum"))
    assert isinstance(told, DataSet) and (told.episodes, told.frames, told.horizon) == (60, 0, 50)
    (place / "data/training_pairs_original.npz").write_text("cut off")
    assert "damaged or foreign" in str(contents(find("pendulum")))
    assert settle(Pi0Settings(data="pendulum"))[0].task == "pendulum"


def test_a_set_settles_task_and_files(place: Path) -> None:
    for kind in (Pi0Settings, Pi0FastSettings, BinningSettings, TokenizeSettings, EvaluateSettings, EnsembleSettings):
        settings, task = settle(make(kind, {"data": "arm"}))
        assert settings.task == task.name == "arm" and issubclass(kind, ForData)
        for name in ("pairs", "tokenizer", "out"):
            default = kind.model_fields[name].default if name in kind.model_fields else None
            if isinstance(default, Path):
                assert getattr(settings, name) == Path("data/arm") / default.relative_to("data")
        assert settle(settings) == (settings, task)
    exported, _ = settle(ExportDataSettings(data="more", out=Path("x")))
    assert (exported.task, exported.trajectories) == ("pendulum", Path("data/more/trajectories.npz"))
    named, _ = settle(Pi0Settings(data="more", pairs=Path("my.npz")))
    assert (named.task, named.pairs) == ("pendulum", Path("my.npz"))
    other, _ = settle(Pi0Settings(data="arm", task="arm", horizon=20))
    assert other.pairs == Path("data/arm/training_pairs_original.npz")
    assert settle(Pi0Settings(data="pendulum"))[0].pairs == Pi0Settings().pairs
    for values in ({}, {"task": "reacher"}, {"horizon": 20, "task": "reacher"}):  # without a set, as before
        settings = make(Pi0Settings, values)
        assert settle(settings)[0] == at_task(settings, find_task(settings.task))


def test_ranges_are_by_place_for_states_and_actions_may_share_names(place: Path) -> None:
    made = read_dataset("more")
    assert made is not None
    write_dataset(replace(made, action=made.observation[:1]))
    seen, acted = ranges(find("more"))
    known = load_trajectories(place / "data/more/trajectories.npz")
    assert seen == [(float(known.states[..., n].min()), float(known.states[..., n].max())) for n in range(4)]
    assert acted == [(float(known.actions.min()), float(known.actions.max()))] != seen[:1]


def test_what_does_not_fit_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "data/empty").mkdir()
    made = read_dataset("more")
    assert made is not None
    (place / "data/own").mkdir()
    write_dataset(replace(made, name="own", task="mine"))
    (place / "data/faulty").mkdir()
    (place / "data/faulty/dataset.json").write_text("{")
    cases = {
        "data: expected data of the task 'reacher', found that 'more' is of 'pendulum'.": ("more", "--task", "reacher"),
        "expected the name of a data set, found 'nowhere', which is none.": ("nowhere",),
        "expected the name of a data set, found '../data/more'": ("../data/more",),
        "expected the name of a data set, found '..'": ("..",),
        "expected the name of a data set, found 'empty'": ("empty",),
        "data: 'own' is data of your own task 'mine'. Name it by --task path/to/file.py:NAME": ("own",),
        "data/faulty/dataset.json: expected what 'python -m pipeline collect' or 'import' writes, found": ("faulty",),
        "horizon_30/training_pairs_original.npz: expected the action pairs of the data set 'more', found none.": (
            "more", "--horizon", "30",
        ),
    }  # fmt: skip
    for message, words in cases.items():
        assert main(train_command("pi0", Pi0Settings), ["--data", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and message in line
    assert not (place / "data/more/horizon_30").exists() and runs_of(place) == []
    for action in ("show", "rm"):
        for name in ("nowhere", "../data/more", "..", "a/b", ".", "empty"):
            assert "data: expected" in refused(["data", action, name], capsys)
        assert "data/faulty/dataset.json: expected" in refused(["data", action, "faulty"], capsys)
        assert "name: expected one with" in refused(["data", action], capsys)
    told = refused(["data", "show", "more", "--horizon", "7"], capsys)
    assert "expected the name of a data set with chunks of 7 actions, found 'more'" in told
    assert "name: expected none with list" in refused(["data", "list", "more"], capsys)
    assert main(COMMANDS, ["data", "list"]) == 0
    assert "cannot be read" in capsys.readouterr().out


def test_missing_tokens_of_a_set_are_made_in_its_folder(place: Path) -> None:
    before = file_digest(Path("data/training_pairs_fast.npz"))
    said: list[str] = []
    trained: dict[str, TokenSettings] = {
        "fast": Pi0FastSettings(data="arm"),
        "bins": BinningSettings(data="arm"),
        "one_scale": Pi0FastSettings(data="arm", scheme="one_scale"),
    }
    for scheme, chosen in trained.items():
        settings, task = settle(chosen)
        make_missing_data(settings, task, said.append)
        tokens = load_token_pairs(Path(f"data/arm/training_pairs_{scheme}.npz"))
        assert settings.pairs == Path(f"data/arm/training_pairs_{scheme}.npz") and settle(settings)[0] == settings
        assert tokens.metadata["pairs_sha256"] == file_digest(Path("data/arm/training_pairs_original.npz"))
        assert tokens.metadata["tokenizer_sha256"] == load_tokenizer(settings.tokenizer).digest
    assert len(said) == 3 and file_digest(Path("data/training_pairs_fast.npz")) == before
    made = {path: path.read_bytes() for path in Path("data/arm").glob("fast*")}
    tokenize(TokenizeSettings(data="arm"))
    assert made and all(path.read_bytes() == content for path, content in made.items())
    Path("data/arm/training_pairs_original.npz").unlink()
    Path("data/arm/training_pairs_bins.npz").unlink()
    settings, task = settle(BinningSettings(data="arm"))
    with pytest.raises(DataError, match="expected the action pairs of the data set 'arm', found none"):
        make_missing_data(settings, task, said.append)


def test_groups_of_a_study_use_one_set(place: Path) -> None:
    chosen = make(EnsembleSettings, {"data": "more", "methods": "pi0,pi0_fast,pi0 width=16"})
    settings, task = settle(chosen)
    groups = [replace(group, settings=at_task(group.settings, task)) for group in plan_groups(settings)]
    prepared, _ = prepare_data(task, settings, groups, lambda line: None)
    assert {one.source.files["data"].parent for one in prepared.values()} == {Path("data/more")}
    plain = [group for group in plan_groups(settle(EnsembleSettings())[0]) if group.name == "pi0"]
    same = prepare_data(PENDULUM, EnsembleSettings(), plain, lambda line: None)[0]["pi0"]
    assert groups[0].recipe(prepared["pi0"]) == plain[0].recipe(same)  # the digests count, not the names
    with pytest.raises(SettingsError, match="a setting that all models of a group share, found 'data'"):
        plan_groups(make(EnsembleSettings, {"set": "data=more"}))


def test_a_training_on_a_set_and_after_it_has_changed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(train_command("pi0_fast", Pi0FastSettings), ["--data", "more", *TINY]) == 0
    (run,) = runs_of(place)
    assert run.data.params["data"] == "more" and run.data.params["pairs"] == "data/more/training_pairs_fast.npz"
    assert run.data.tags["pairs_sha256"] == file_digest(Path("data/more/training_pairs_original.npz"))
    capsys.readouterr()
    assert main(COMMANDS, ["data", "list"]) == 0
    rows = {line.split()[0]: line.split()[-1] for line in capsys.readouterr().out.splitlines()[3:]}
    assert rows == {"pendulum": "1", "more": "1", "arm": "0"}  # the pendulum's own pairs are the same here
    assert main(COMMANDS, ["data", "show", "more"]) == 0
    assert f"({run.info.run_id}), FINISHED" in capsys.readouterr().out
    chosen = EvaluateSettings(run=(run.info.run_id,), data="more", episodes=1)
    said: list[str] = []
    (judged,) = evaluate(chosen, lambda event: None, said.append)
    assert said == [] and judged.chunks is not None

    pairs = load_action_pairs(Path("data/more/training_pairs_original.npz"))
    save_action_pairs(
        Path("data/more/training_pairs_original.npz"), replace(pairs, metadata={**pairs.metadata, "seed": 1})
    )
    tokenize(TokenizeSettings(data="more"))
    then, now = run.data.tags["data_sha256"], file_digest(Path("data/more/training_pairs_fast.npz"))
    line = (
        f"data/more/training_pairs_fast.npz has changed since {run.info.run_name} was trained on it: "
        f"sha256 {then[:12]} then, {now[:12]} now"
    )
    (judged,) = evaluate(chosen, lambda event: None, said.append)
    assert said == [f"warning: {line}"] and judged.chunks is None
    assert dict(info())["data changed"] == line
    run_id = run.info.run_id
    assert f"{line}." in gather(store(place)).comparison.notes
    words = ["compare", run_id, run_id, "--max-episodes", "9", "--margin", "0.9"]
    main(COMMANDS, words)
    assert capsys.readouterr().err.count(line) == 2  # of A and of B
    main(COMMANDS, ["reproduce", run_id])
    said_of_data = [each for each in capsys.readouterr().out.splitlines() if "data file has changed" in each]
    assert said_of_data == [f"note: data file has changed: {then[:16]} then, {now[:16]} now"]
    assert main(COMMANDS, ["data", "show", "more"]) == 0
    assert "on files that have changed since" in capsys.readouterr().out


def test_tokens_tell_that_the_pairs_they_were_made_from_have_changed(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train_command("pi0_fast", Pi0FastSettings), ["--data", "more", *TINY]) == 0
    (run,) = runs_of(place)
    tags = run.data.tags
    assert (tags["data_set"], tags["data_licence"], tags["chunk"]) == ("more", "CC-BY-4.0", "50")
    file = Path("data/more/training_pairs_original.npz")
    then, pairs = file_digest(file), load_action_pairs(file)
    save_action_pairs(file, replace(pairs, metadata={**pairs.metadata, "seed": 1}))
    line = (
        f"{file} has changed since {run.info.run_name} was trained on it: sha256 {then[:12]} then, "
        f"{file_digest(file)[:12]} now"
    )
    assert dict(info())["data changed"] == line
    stored = fetch(store(place), run.info.run_id)
    assert users(find("more"), [stored]) == ([], [stored])
    assert main(COMMANDS, ["register", "--run", run.info.run_id]) == 0
    assert f"warning: {line}\n" in "".join(capsys.readouterr())
    (version,) = versions_of(store(place), "pi0_fast")
    assert "* data set: more\n* licence of the data: CC-BY-4.0\n" in version.card
    said: list[str] = []
    open_contender(PENDULUM, version.uri, CompareSettings(policy=(version.uri, "x")), say=said.append)
    assert said == [f"warning: {line}"]
    few = ["--dry-run", "--max-episodes", "9"]
    main(COMMANDS, ["promote", "--model", "pi0_fast", "--candidate", run.info.run_id, *few])
    assert f"warning: {line}\n" in "".join(capsys.readouterr())


def test_pairs_beside_tokens_are_theirs_only_if_these_were_made_from_them(place: Path) -> None:
    beside, mine = Path("data/more/training_pairs_original.npz"), Path("mine/p.npz")
    pairs = load_action_pairs(beside)
    mine.parent.mkdir()
    save_action_pairs(mine, replace(pairs, metadata={**pairs.metadata, "seed": 1}))
    tokenize(TokenizeSettings(pairs=mine, out=beside.parent))
    files = {"pairs": beside.with_name("training_pairs_fast.npz"), "tokenizer": beside.with_name("fast_tokenizer.json")}
    prepared = METHODS["pi0_fast"].prepare(make(Pi0FastSettings, files))
    assert pairs_beside(prepared) is None and prepared.source.pairs_sha256 == file_digest(mine)
    tags = {"tokenizer_sha256": "0", "pairs_sha256": file_digest(mine)}
    run = StoredRun("a", "a", "FINISHED", 0, {"pairs": str(files["pairs"])}, {}, tags, "1", False)
    assert changed_data([run]) == []
    shutil.copy(mine, beside)
    assert pairs_beside(prepared) == beside
    assert pairs_beside(METHODS["pi0"].prepare(Pi0Settings(pairs=beside))) is None, "its own file, which is looked at"


def test_runs_on_one_changed_file_are_one_line(place: Path) -> None:
    def run(name: str, pairs: str, digest: str) -> StoredRun:
        return StoredRun(name, name, "FINISHED", 0, {"pairs": pairs}, {}, {"data_sha256": digest}, "1", False)

    file = "data/training_pairs_original.npz"
    now = file_digest(Path(file))
    runs = [run("a", file, "0" * 64), run("b", file, "0" * 64), run("c", file, now), run("d", "gone.npz", "1" * 64)]
    assert changed_data([*runs, StoredRun("e", "e", "FINISHED", 0, {}, {}, {}, "1", False)]) == [
        f"{file} has changed since a and 1 more were trained on it: sha256 000000000000 then, {now[:12]} now"
    ]
    study = StoredRun("s", "s", "FINISHED", 0, {"pairs": file}, {}, {}, "1", False)  # which records no digests
    after, before = users(find("pendulum"), [*runs, study])
    assert [[one.name for one in part] for part in (after, before)] == [["c"], ["a", "b"]]


@pytest.mark.parametrize("by", ["data_sha256", "pairs_sha256", "data", "pairs"])
def test_what_a_running_run_uses_stays(by: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = store(place)
    made = client.create_run(client.create_experiment("tinypi"), run_name="busy")
    values = {"data": "arm", "pairs": "data/arm/training_pairs_fast.npz"}
    if by in values:
        client.log_param(made.info.run_id, by, values[by])
    else:
        client.set_tag(made.info.run_id, by, file_digest(Path("data/arm/training_pairs_original.npz")))
    assert f"used by busy ({made.info.run_id}), which is RUNNING" in refused(["data", "rm", "arm", "--yes"], capsys)
    assert len(list(Path("data/arm").iterdir())) == 2
    client.set_terminated(made.info.run_id)
    assert main(COMMANDS, ["data", "rm", "arm", "--yes"]) == 0 and not Path("data/arm").exists()


def test_remove(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    everything = {path for path in place.rglob("*") if "mlruns" not in path.parts}
    assert "yes: expected --yes" in refused(["data", "rm", "more"], capsys)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda text, err: print(text))
    assert main(COMMANDS, ["data", "rm", "more"]) == 0
    said = capsys.readouterr().out
    assert (
        "Remove data/more/dataset.json, data/more/training_pairs_original.npz" in said and "nothing is removed" in said
    )
    assert {path for path in place.rglob("*") if "mlruns" not in path.parts} == everything

    (place / "data/more/notes.txt").write_text("mine")
    assert main(COMMANDS, ["data", "rm", "more", "--yes", "-q"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"data/more/{name}" for name in ("dataset.json", "training_pairs_original.npz", "trajectories.npz")
    ]
    assert [path.name for path in (place / "data/more").iterdir()] == ["notes.txt"]
    assert main(COMMANDS, ["data", "rm", "pendulum", "--yes"]) == 0
    left = {path.name for path in (place / "data").iterdir()} - {".lock"}
    assert left == {"README.md", "arm", "more"}
    (place / "data/link").symlink_to("arm")
    made = read_dataset("arm")
    assert made is not None
    capsys.readouterr()
    (place / "data/arm/dataset.json").write_text(
        (place / "data/arm/dataset.json").read_text().replace('"arm"', '"link"')
    )
    assert "data/link is a link" in refused(["data", "rm", "link", "--yes"], capsys)
    assert len(list(Path("data/arm").iterdir())) == 2


def test_what_is_left_of_a_set_is_no_dead_end(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "data/arm/tokenizer_report").mkdir()
    shutil.copytree(place / "data/more", place / "data/arm/horizon_20")
    again = ["import", str(place / "data/more/trajectories.npz"), "--fps", "25", "--out", "data/arm"]
    both = "'python -m pipeline data rm arm' and 'python -m pipeline data rm arm --horizon 20'"
    ours = "move or remove tokenizer_report in data/arm yourself."
    assert f"or first run {both} and {ours}" in refused(again, capsys)
    assert main(COMMANDS, ["data", "rm", "arm", "--yes"]) == 0
    shown = capsys.readouterr().out
    assert "left in data/arm" in shown and "horizon_20, tokenizer_report: no files of the set" in shown
    (both,) = re.findall("'[^']* --horizon 20'", both)
    assert f"found none. To be rid of what is there, run {both} and {ours}" in refused(["data", "rm", "arm"], capsys)
    assert f"or first run {both} and {ours}" in refused(again, capsys)
    shutil.rmtree(place / "data/arm/horizon_20")
    assert f"or first {ours}" in refused(again, capsys)
    (place / "data/arm/tokenizer_report").rmdir()
    (place / "data/arm/notes.npz").touch()  # of nobody's: `data rm` leaves it
    assert "rid of what is there, move or remove notes.npz in data/arm yourself." in refused(
        ["data", "rm", "arm"], capsys
    )
    (place / "data/arm/notes.npz").unlink()
    assert "or first remove the empty folder data/arm." in refused(again, capsys)
    (place / "data/arm").rmdir()
    assert main(COMMANDS, again) == 0


def test_the_runs_that_need_a_set_are_named_before_it_is_removed(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = store(place)
    experiment = client.create_experiment("tinypi")
    for number, name in enumerate(("arm", "more", "more", "more", "more")):
        run = client.create_run(experiment, run_name=f"{name}_{number}").info.run_id
        client.log_param(run, "data", name)
        client.set_tag(run, "task", {"more": "pendulum"}.get(name, name))
        client.set_terminated(run)
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda text, err: asked.append(text))
    for name in ("arm", "more"):
        assert main(COMMANDS, ["data", "rm", name]) == 0
    lost = "of which nothing can be evaluated or reported until it is imported again?"
    assert asked[0].endswith(f" MB), the data of arm_0, {lost}")
    assert asked[1].endswith(" MB), the data of more_2, more_3, more_4 and others?")
    assert main(COMMANDS, ["data", "rm", "arm", "--yes"]) == 0
    for words in (["report", "--task", "arm"], ["evaluate", "--task", "arm", "model.pth"]):
        told = refused(words, capsys)
        assert "found 'arm'. If it was a data set, that was removed: import it again." in told


def test_every_method_has_its_files_removed() -> None:
    from pipeline.stages.data_files import OWN

    assert {
        "trajectories.npz", "training_pairs_original.npz", "training_pairs_fast.npz", "training_pairs_bins.npz",
        "fast_tokenizer.json", "bins_tokenizer.json", "dataset.json",
        "one_scale_tokenizer.json", "training_pairs_one_scale.npz",
    } == OWN  # fmt: skip
