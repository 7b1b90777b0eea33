"""Bad input of each kind: one clear line on stderr, exit code 2, and no run is started."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli.main import COMMANDS as COMMAND_LINE
from pipeline.cli.main import main
from pipeline.cli.train import train_command
from pipeline.errors import RunError, one_line, reason
from pipeline.methods.settings import Pi0FastSettings, Pi0Settings
from tests.conftest import Run

COMMANDS = {
    "pi0": train_command("pi0", Pi0Settings),
    "pi0_fast": train_command("pi0_fast", Pi0FastSettings),
}
PAIRS = {"pi0": "training_pairs_original.npz", "pi0_fast": "training_pairs_fast.npz"}


def refused(capsys: pytest.CaptureFixture[str], method: str, *words: object) -> str:
    """Run a training that must be refused, in this process, and return its one line."""
    code = main(COMMANDS[method], list(map(str, words)))
    errors = capsys.readouterr().err
    assert code == 2, errors
    assert errors.startswith("error: ") and errors.count("\n") == 1 and len(errors) < 700
    assert not Path("mlruns/mlflow.db").exists() and not Path("train").exists()
    return errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch-size", 0], "batch_size: expected 1 or more, found '0'"),
        (["--batch_size", "many"], "batch_size: expected a whole number"),
        (["--batch-size", 1.5], "batch_size: expected a whole number"),
        (["--lr", -1], "lr: expected a number above 0, found '-1'"),
        (["--lr", "nan"], "lr: expected"),
        (["--lr", "inf"], "lr: expected"),
        (["--width", 65], "heads: must divide the width 65, found 2"),
        (["--schedule", "linear"], "schedule: expected 'cosine', 'plateau' or 'constant', found 'linear'"),
        (["--device", "cuda"], "device: expected one that this machine has, found 'cuda'"),
        (["--run-name", "../../x"], "run_name: expected a name of letters"),
        (["--experiment", ""], "experiment: expected a name of letters"),
        (["--dropout", 1], "dropout: expected a number below 1"),
        (["--wings", 2], "No such option"),
        (["--seed"], "requires an argument"),
        (["extra"], "unexpected extra argument"),
        (["--pairs", "nowhere.npz"], "nowhere.npz: expected an .npz file, found none"),
    ],
)
def test_settings(words: list[object], message: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "cuda" in words:
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("this machine has a GPU")
    assert message in refused(capsys, "pi0", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("compare --csv none.csv", "none.csv: expected a table as CSV, found: no such file or directory."),
        ("compare --csv none.parquet", "none.parquet: expected a table as parquet, found: no such file or directory."),
        ("compare a/eval_info.json b/eval_info.json", "per_episode or per_task, found: no such file or directory."),
        ("search --space none.yaml", "none.yaml: expected a space file in YAML, found: no such file or directory."),
        ("search --space folder", "folder: expected a space file in YAML, found: is a directory."),
        ("ensemble --preset folder", "folder: expected a preset in YAML, found: is a directory."),
        ("play --policy http://127.0.0.1:1", "expected an answer of a policy server, found: connection refused."),
    ],
)
def test_what_the_system_says_of_a_file(
    words: str, message: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "folder").mkdir()
    assert main(COMMAND_LINE, words.split()) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1 and "[Errno" not in errors


def test_an_error_of_the_system_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as found:
        (tmp_path / "a").open()
    wrapped = RunError(f"mlflow: {found.value}")
    assert one_line(found.value) == f"No such file or directory: '{tmp_path / 'a'}'"
    assert one_line(wrapped) == f"mlflow: No such file or directory: '{tmp_path / 'a'}'"
    assert reason(found.value) == "no such file or directory" and reason(OSError("damaged")) == "damaged"


def unsealed(content: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The content without its digest: a file as users make it, whose numbers are checked one by one."""
    metadata = json.loads(str(content["metadata"]))
    del metadata["content_sha256"]
    return content | {"metadata": np.array(json.dumps(metadata))}


Change = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def change(**arrays: Callable[[np.ndarray], np.ndarray | None]) -> Change:
    def apply(content: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        changed = content | {key: function(content[key].copy()) for key, function in arrays.items()}
        return {key: array for key, array in changed.items() if array is not None}

    return apply


def put(value: object, *where: object) -> Callable[[np.ndarray], np.ndarray]:
    def function(array: np.ndarray) -> np.ndarray:
        array[where] = value
        return array

    return function


@pytest.mark.parametrize(
    ("method", "alter", "message"),
    [
        ("pi0", change(state=lambda a: None), "expected the key 'state', found only"),
        ("pi0", change(action_chunk=lambda a: None), "expected the key 'action_chunk'"),
        ("pi0", change(state=lambda a: a[:-1]), r"'action_chunk' must have the shape"),
        ("pi0", change(state=lambda a: a[0]), "'state' must have the shape (N, N)"),
        ("pi0", change(action_chunk=lambda a: a[:, :, None, None]), "'action_chunk' must have the shape"),
        ("pi0", change(trajectory=lambda a: a[:7]), "'trajectory' must have the shape (1500)"),
        ("pi0", change(state=lambda a: a.astype(np.int32)), "'state' must hold floating-point numbers, found int32"),
        ("pi0", change(state=lambda a: a.astype(str)), "'state' must hold floating-point numbers"),
        ("pi0", change(state=put(np.nan, 17, 2)), "found 1 NaN or infinite, the first in row 17"),
        ("pi0", change(action_chunk=put(np.inf, 3)), "found 50 NaN or infinite, the first in row 3"),
        ("pi0", change(state=lambda a: a.astype(float) * 1e300), "NaN or infinite"),
        ("pi0", change(state=lambda a: a[:, :3]), "expected 4 state and 1 action dimensions"),
        ("pi0", change(action_chunk=lambda a: a[:, :10]), "chunks of at least 15 actions"),
        ("pi0", change(trajectory=lambda a: a % 9), "expected at least 10 trajectories"),
        ("pi0", change(state=lambda a: a.astype(object)), "found a damaged or foreign file (Object arrays"),
        ("pi0", change(state=lambda a: a[:0], action_chunk=lambda a: a[:0]), "'state' must have the shape"),
        ("pi0_fast", change(token_seq=put(9999, 5, 1)), "holds id 9999, but data/fast_tokenizer.json has"),
        ("pi0_fast", change(token_seq=put(-4, 5, 1)), "holds id -4"),
        ("pi0_fast", change(token_seq=put(2, 5, 1)), "row 5 of 'token_seq' is not [BOS], tokens, EOS, PAD"),
        ("pi0_fast", change(token_seq=put(0, 5, 2)), "row 5 of 'token_seq' is not [BOS], tokens, EOS, PAD"),
        ("pi0_fast", change(token_seq=lambda a: a.astype(float)), "'token_seq' must hold integers, found float64"),
        ("pi0_fast", change(token_seq=lambda a: a[:, :4]), "does not encode 50 coefficients"),
    ],
)
def test_pairs(
    method: str, alter: Change, message: str, workplace: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(data / PAIRS[method]) as file:
        content = alter(unsealed({key: file[key] for key in file.files}))
    np.savez(workplace / "pairs.npz", **content)
    errors = refused(capsys, method, "--pairs", "pairs.npz")
    assert message in errors and ("pairs.npz" in errors or "training pairs" in errors)


@pytest.mark.parametrize("method", list(PAIRS))
@pytest.mark.parametrize("kind", ["empty", "truncated", "text", "npy", "folder", "not a zip"])
def test_damaged_files(method: str, kind: str, workplace: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = workplace / "pairs.npz"
    whole = (data / PAIRS[method]).read_bytes()
    if kind == "folder":
        path.mkdir()
    elif kind == "npy":
        with path.open("wb") as stream:
            np.save(stream, np.zeros(3))
    else:
        content = {
            "empty": b"",
            "truncated": whole[:-5000],
            "text": b"hello\n",
            "not a zip": b"PK\x03\x04" + whole[200:],
        }
        path.write_bytes(content[kind])
    assert "pairs.npz: expected an .npz file" in refused(capsys, method, "--pairs", "pairs.npz")


def test_tokenizer_faults(workplace: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = workplace / "tokenizer.json"
    sealed = json.loads((data / "fast_tokenizer.json").read_text())
    fields = {name: value for name, value in sealed.items() if name != "sha256"}
    for content, message in (
        ("{", "damaged or foreign file"),
        ("[]", "damaged or foreign file"),
        ('{"vocab": 3, "merges": []}', "damaged or foreign file"),
        (json.dumps(fields | {"scale": 20.0}), "was made with the tokenizer"),
        (json.dumps(sealed | {"scale": 20.0}), "its sha256 does not match"),
    ):
        path.write_text(content)
        assert message in refused(capsys, "pi0_fast", "--tokenizer", "tokenizer.json")
    assert "found no file" in refused(capsys, "pi0_fast", "--tokenizer", "other.json")


def test_unreachable_server(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = workplace / "damaged.db"
    damaged.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    for uri in ("http://127.0.0.1:9", "sqlite:////proc/nowhere/mlflow.db", "nonsense://x", f"sqlite:///{damaged}"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        errors = refused(capsys, "pi0")
        assert f"MLflow store {uri}: expected a tracking store that answers" in errors


@pytest.mark.usefixtures("with_store")
def test_read_only_mirror(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "train").write_text("a file where a folder should be")
    assert main(COMMANDS["pi0"], []) == 2
    assert "train: expected a folder to write the run's files to" in capsys.readouterr().err
    (workplace / "train").unlink()
    (workplace / "train").mkdir()
    (workplace / "train/loss_pics").write_text("another")
    assert main(COMMANDS["pi0"], []) == 2


def test_foreign_tokens_of_another_tokenizer(workplace: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(data / PAIRS["pi0_fast"]) as file:
        state, tokens = file["state"], file["token_seq"]
    mixed = np.where(tokens > 2, np.random.default_rng(0).integers(3, 256, tokens.shape), tokens)
    long = np.concatenate((tokens[:, :1], np.full((len(tokens), 60), 9), tokens[:, 1:]), axis=1)
    for wrong in (mixed, long):
        np.savez(workplace / "pairs.npz", state=state, token_seq=wrong)
        assert "does not encode 50 coefficients" in refused(capsys, "pi0_fast", "--pairs", "pairs.npz")


def test_tokens_made_from_other_pairs(workplace: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "data").unlink()
    (workplace / "data").mkdir()
    for name in ("fast_tokenizer.json", PAIRS["pi0_fast"]):
        (workplace / "data" / name).symlink_to(data / name)
    with np.load(data / PAIRS["pi0"]) as file:
        np.savez(workplace / "data" / PAIRS["pi0"], **{key: file[key][:500] for key in ("state", "action_chunk")})
    assert "the methods would train on different data" in refused(capsys, "pi0_fast")
    assert main(COMMANDS["pi0_fast"], ["--pairs", str(data / PAIRS["pi0_fast"]), "--lr", "2"]) == 2


@pytest.mark.parametrize(
    ("variable", "option"), [("MLFLOW_RUN_NAME", "--run-name"), ("MLFLOW_EXPERIMENT_NAME", "--experiment")]
)
def test_a_value_of_the_environment_is_named_by_its_variable(
    variable: str, option: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, "my / own")
    asked = "a name of letters, digits, dots, dashes and underscores, found 'my / own'. See --help."
    assert f"error: {variable}: expected {asked} {option} wins over it." in refused(capsys, "pi0")
    own = f"error: {option[2:].replace('-', '_')}: expected {asked}\n"
    assert refused(capsys, "pi0", option, "my / own") == own


def test_text_that_the_locale_cannot_read_is_called_so(
    workplace: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In ASCII, Python has bytes above 127 as halves of surrogate pairs, though files of that name may be there."""
    name = b"d\xc3\xa4ta.npz".decode("ascii", "surrogateescape")
    (workplace / name).symlink_to(data / PAIRS["pi0"])
    asked = "expected text that the locale can read (with LC_ALL=C.UTF-8 it reads all), found 'd\\udcc3\\udca4ta.npz'"
    assert f"pairs: {asked}" in refused(capsys, "pi0", "--pairs", name)
    assert main(COMMAND_LINE, ["evaluate", name]) == 2
    assert "expected text that the locale can read" in capsys.readouterr().err


def test_real_process_ends_the_same_way(run: Run) -> None:
    for words, code in ((("train.train_pi0", "--lr", 0), 2), (("pipeline", "collect", "--trajectories", 0), 2)):
        result = run(*words)
        assert result.returncode == code and result.stdout == ""
        assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    debug = run("train.train_pi0", "--lr", 0, "--debug")
    assert debug.returncode != 0 and "Traceback" in debug.stderr


def test_data_commands_refuse_and_keep_what_is_there(run: Run, workplace: Path) -> None:
    (workplace / "kept").mkdir()
    (workplace / "kept/fast_tokenizer.json").write_text("precious")
    result = run("pipeline", "tokenize", "--vocabulary", 50, "--out", "kept")
    assert result.returncode == 2 and "vocabulary: expected more than" in result.stderr
    assert (workplace / "kept/fast_tokenizer.json").read_text() == "precious"
    assert [path.name for path in (workplace / "kept").iterdir()] == ["fast_tokenizer.json"]
    assert run("pipeline", "collect", "--out", "data/trajectories.npz").returncode != 0


@pytest.mark.parametrize(
    ("content", "found"),
    [("{", "Expecting property name"), ("[]", "indices must be integers"), ('{"admin_password": "x"}', "'postgres_p")],
)
def test_a_server_does_not_start_without_its_own_passwords(
    content: str, found: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "server").mkdir()
    (workplace / "server/credentials.json").write_text(content)
    assert main(COMMAND_LINE, ["server", "--folder", "server"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "credentials.json: expected the server's passwords and keys" in line and found in line
    assert (workplace / "server/credentials.json").read_text() == content


def test_a_server_needs_a_folder(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "file").touch()
    for folder in ("file", "file/below"):
        assert main(COMMAND_LINE, ["server", "--folder", folder]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "folder: expected one that is there or can be made, found:" in line


@pytest.mark.parametrize(
    ("content", "found"), [(b"not a database", "file is not a database"), (b"", "no such table: experiments")]
)
def test_what_is_no_store_is_not_moved(
    content: bytes, found: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "foreign.db").write_bytes(content)
    assert main(COMMAND_LINE, ["move-store", "--source", "foreign.db", "--folder", "new"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "foreign.db: expected the sqlite file of an MLflow store" in line and found in line
    assert not (workplace / "new").exists() and (workplace / "foreign.db").read_bytes() == content


@pytest.mark.usefixtures("with_store")
def test_foreign_files_load_with_a_warning(run: Run, workplace: Path, data: Path) -> None:
    """The reference system's files have no trajectory index."""
    for method, keys in (("pi0", ("state", "action_chunk")), ("pi0_fast", ("state", "token_seq"))):
        with np.load(data / PAIRS[method]) as file:
            content = {key: file[key] for key in keys}
        if method == "pi0_fast":
            content["token_seq"] = content["token_seq"][:, 1:]  # and there without BOS, cut at 25 tokens
            content["token_seq"] = content["token_seq"][:, :25]
        np.savez(workplace / f"{method}.npz", **content)
        result = run(f"train.train_{method}", "--pairs", f"{method}.npz", "--epochs", 1, "--width", 16, "--layers", 1)
        assert result.returncode == 0, result.stderr
        assert f"warning: {method}.npz: has no 'trajectory' key, so the split is by pair" in result.stdout
        assert "by pair, digest" in result.stdout
