"""Damage of every kind: each case works correctly or ends in one clear line and exit code 2. Always the same cases.

Two kinds of damage: of the bytes, as disks and networks do it, and of the content, as people and programs do it. A file
of ours that was changed is refused, or gives what the unchanged one gives. A file without our digest, as users bring
it, is refused or gives what it says.
"""

import json
import os
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

import pipeline
from pipeline.cli.main import COMMANDS, main
from pipeline.cli.options import settings_command
from pipeline.config import fields_of, make
from pipeline.data.pairs import load_action_pairs, load_token_pairs
from pipeline.data.trajectories import load_trajectories
from pipeline.errors import RunError, UserError
from pipeline.methods.registry import METHODS
from pipeline.policies.checkpoint import Checkpoint, save_checkpoint
from pipeline.policies.exported import seal
from pipeline.results.settings import ReportSettings
from pipeline.stages import export as export_workflow
from pipeline.stages.settings import EvaluateSettings, ExportSettings
from pipeline.studies.settings import shorthands
from pipeline.tasks.pendulum.world import draw_starts
from pipeline.tokenizer.stored import load_tokenizer
from tests.conftest import ROOT, files_of
from tests.test_project import ENTRY_POINTS

SECONDS = 20  # for one case; most take a few ms
STATES = draw_starts(np.random.default_rng(0), 2).astype(np.float32)
MODELS = ("pi0", "pi0_fast")
pytestmark = pytest.mark.xdist_group("fuzz")  # one process tries all cases, and counts them
outcomes: Counter[str] = Counter()


@pytest.fixture(autouse=True, scope="module", params=[0.2, pytest.param(1.0, marks=pytest.mark.long)])
def share(request: pytest.FixtureRequest) -> float:
    """The part of the cases that are tried: a fifth of them every day."""
    cases.share = request.param  # type: ignore[attr-defined]
    outcomes.clear()
    return request.param


def cases(number: int) -> Callable[[Any], Any]:
    """So many cases times the share, the same in every run."""
    return settings(
        max_examples=round(number * cases.share),  # type: ignore[attr-defined]
        derandomize=True,
        database=None,
        deadline=None,  # `within_time` ends a case that hangs
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def within_time() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise AssertionError(f"still running after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def loaded(what: str, load: Callable[[], Any]) -> Any:
    """What `load` gives, or None if it refuses as it should: a `UserError` of one line."""
    with within_time(), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = load()
        except UserError as error:
            line = str(error)
            assert line and "\n" not in line and len(line) < 900 and "Traceback" not in line, line
            found = None
    spoken = [str(each.message) for each in said if not issubclass(each.category, DeprecationWarning)]
    assert not spoken, spoken  # a warning would be a second line
    if found is None:
        outcomes[f"{what} refused"] += 1
        return None
    outcomes[f"{what} loaded"] += 1
    return found


@pytest.fixture(scope="module")
def folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files of each kind, as we write them."""
    torch.set_num_threads(1)
    made = tmp_path_factory.mktemp("fuzz")
    for name in ("trajectories.npz", "training_pairs_original.npz", "training_pairs_fast.npz", "fast_tokenizer.json"):
        (made / name).write_bytes((data / name).read_bytes())
    for name in MODELS:
        method = METHODS[name]
        chosen = make(method.settings_type, {**files_of(name, data), "width": 8, "layers": 1})
        interface = method.prepare(chosen).interface
        torch.manual_seed(0)
        weights = method.build(chosen, interface).state_dict()
        path = made / f"{name}.pth"
        provenance = {"name": name, "loss": 0.5, "versions": {"torch": "2"}}
        save_checkpoint(path, Checkpoint(method, chosen, interface, weights, provenance))
        export_workflow.export(make(ExportSettings, {"checkpoint": path}))
    return made


# What a file gives, in a form that can be compared


def of_pairs(load: Callable[[Path], Any]) -> Callable[[Path], Any]:
    def read(path: Path) -> dict[str, Any]:
        return vars(load(path))

    return read


def of_tokenizer(path: Path) -> dict[str, Any]:
    tokenizer = load_tokenizer(path)
    tokens = [row for row in range(tokenizer.vocabulary) if tokenizer.lengths[row]]
    assert tokenizer.dequantise(np.zeros((1, tokenizer.coefficients), np.int64)).shape[1:] == (
        tokenizer.horizon,
        tokenizer.action_dim,
    )
    return {"digest": tokenizer.digest, "pieces": [tokenizer.pieces[token] for token in tokens]}


def of_model(path: Path) -> dict[str, Any]:
    """Provenance and plans; a model that loads can act, or says that what it plans is not finite."""
    policy = pipeline.load_policy(path)
    states = np.resize(STATES, (2, policy.state_dim)).astype(np.float32)
    try:
        actions = policy.act(states)
    except RunError as error:
        assert "expected plans of" in str(error)
        actions = np.zeros((2, policy.horizon, policy.action_dim))
    assert np.isfinite(actions).all() and actions.shape == (2, policy.horizon, policy.action_dim)
    return {"actions": actions, "provenance": policy.provenance, "name": policy.name}


FILES: dict[str, Callable[[Path], Any]] = {
    "trajectories.npz": of_pairs(load_trajectories),
    "training_pairs_original.npz": of_pairs(load_action_pairs),
    "training_pairs_fast.npz": of_pairs(load_token_pairs),
    "fast_tokenizer.json": of_tokenizer,
    "pi0.pth": of_model,
    "pi0_fast.pth": of_model,
    "pi0.onnx": of_model,
    "pi0_fast.onnx": of_model,
}


def same(one: Any, other: Any) -> bool:
    """Equal to the bit, NaN included."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return bool(one == other)


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, Any]:
    return {name: read(folder / name) for name, read in FILES.items()}


# Damage of the bytes


def damaged(data: st.DataObject, content: bytes) -> bytes:
    """Some bytes flipped, cut, inserted, doubled or zeroed, anywhere, or where the structure is: at either end."""
    for _ in range(data.draw(st.integers(1, 3))):
        size = len(content)
        near = data.draw(st.sampled_from(("start", "end", "anywhere")))
        low, high = {"start": (0, min(size, 2000)), "end": (max(0, size - 3000), size), "anywhere": (0, size)}[near]
        at = data.draw(st.integers(low, high))
        length = data.draw(st.sampled_from((1, 2, 8, 100, 4096)))
        before, part, after = content[:at], content[at : at + length], content[at + length :]
        kind = data.draw(st.sampled_from(("flip", "cut", "truncate", "insert", "double", "zero", "swap")))
        if kind == "flip":
            mask = data.draw(st.integers(1, 255))
            part = bytes([part[0] ^ mask]) + part[1:] if part else part
        content = {
            "flip": before + part + after,
            "cut": before + after,
            "truncate": before,
            "insert": before + data.draw(st.binary(min_size=1, max_size=16)) + part + after,
            "double": before + part + part + after,
            "zero": before + bytes(len(part)) + after,
            "swap": before + after[:length] + part + after[length:],
        }[kind]
    return content


@pytest.mark.parametrize("name", list(FILES))
def test_bytes(name: str, folder: Path, whole: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    content, place = (folder / name).read_bytes(), tmp_path_factory.mktemp("bytes")

    @cases(130)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        path = place / name
        path.write_bytes(damaged(data, content))
        found = loaded(f"{name} bytes", lambda: FILES[name](path))
        assert found is None or same(found, whole[name])

    check()


# Damage of the content

NUMBERS = st.sampled_from([0, 1, -1, 7, 49, 51, 255, 2**31, -(2**63), 2**64, 10**40])
REALS = st.one_of(st.floats(), st.sampled_from([1e300, -1e300, 1e-300, 1e19]))
ODD = ["", "../../x", "/etc/passwd", "\0", "\ud800", "nan", "x" * 5000]
TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(ODD))
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, REALS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=4,
)


def paths_of(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to each value inside a JSON-like one; of long lists and tables, the first few."""
    if way:
        yield way
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for number, (key, inner) in enumerate(items):
        if number < 20:
            yield from paths_of(inner, (*way, key))


def changed(data: st.DataObject, value: Any, replacements: st.SearchStrategy[Any] = PLAIN) -> Any:
    """A copy with one thing in it removed, replaced, renamed or added."""
    value = json.loads(json.dumps(value)) if not _holds_tensors(value) else _copy(value)
    way = data.draw(st.sampled_from(list(paths_of(value))))
    inside = value
    for key in way[:-1]:
        inside = inside[key]
    kind = data.draw(st.sampled_from(("remove", "replace", "replace", "rename", "add")))
    old = inside[way[-1]]
    if kind == "remove":
        del inside[way[-1]]
    elif kind == "replace" or isinstance(inside, list):
        inside[way[-1]] = data.draw(replacements)
    elif kind == "rename":
        inside[data.draw(TEXTS)] = inside.pop(way[-1])
    else:
        inside[data.draw(TEXTS)] = old
    return value


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or (isinstance(value, dict) and any(map(_holds_tensors, value.values())))


def _copy(value: Any) -> Any:
    if isinstance(value, list):
        return [*map(_copy, value)]
    return {key: _copy(inner) for key, inner in value.items()} if isinstance(value, dict) else value


TYPES = ("f2", "f8", ">f4", "i1", "i8", "u8", "c8", "?", "U8", "S4", "M8[s]", "f16")


def changed_array(data: st.DataObject, array: np.ndarray) -> np.ndarray:
    """Another shape, type or number."""
    kind = data.draw(st.sampled_from(("shape", "type", "number", "number", "empty", "short", "order")))
    array = array.copy()
    if kind == "shape":
        return array.reshape(data.draw(st.sampled_from([(-1,), (1, -1), (*array.shape, 1), (-1, 1)])))
    if kind == "type":
        wanted = data.draw(st.sampled_from(TYPES))
        with np.errstate(all="ignore"):
            try:
                return array.astype(wanted)
            except (ValueError, TypeError):
                return array[..., None]
    if kind == "number" and array.size and array.dtype.kind in "if":
        values = REALS if array.dtype.kind == "f" else st.integers(-(2**31), 2**31 - 1)
        with np.errstate(all="ignore"):
            array.flat[data.draw(st.integers(0, array.size - 1))] = data.draw(values)
        return array
    if not array.ndim:
        return array[None]
    if kind == "order":
        return array[::-1]
    return array[: 0 if kind == "empty" else data.draw(st.integers(0, len(array) - 1))]


@pytest.mark.parametrize("sealed", [True, False], ids=["ours", "foreign"])
@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".npz")])
def test_arrays(
    name: str, sealed: bool, folder: Path, whole: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with np.load(folder / name) as file:
        original = {key: file[key] for key in file.files}
    metadata = json.loads(str(original["metadata"]))
    if not sealed:
        del metadata["content_sha256"]
        original["metadata"] = np.array(json.dumps(metadata))
    path = tmp_path_factory.mktemp("arrays") / name

    @cases(60)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        content = dict(original)
        key = data.draw(st.sampled_from(sorted(content)))
        kind = data.draw(st.sampled_from(("array", "array", "array", "remove", "rename", "metadata")))
        if kind == "array":
            content[key] = changed_array(data, content[key])
        elif kind == "metadata":
            text = json.dumps(changed(data, metadata))
            content["metadata"] = np.array(text.encode("utf-8", "replace").decode())
        else:
            array = content.pop(key)
            if kind == "rename":
                content[data.draw(st.sampled_from(["x", "State", "state ", "trajectory", "../x"]))] = array
        with path.open("wb") as stream:
            np.savez(stream, **content)
        found = loaded(f"{name} content {'ours' if sealed else 'foreign'}", lambda: FILES[name](path))
        if found is None:
            return
        unsealed = kind in ("metadata", "remove", "rename") and "content_sha256" not in str(content.get("metadata", ""))
        if sealed and not unsealed:
            assert same(found, whole[name])  # such as a type that says the same
        for key in set(found) - {"metadata", "task"}:  # it says what is in the file
            if key == "gains" and key not in content:  # of another demonstrator than ours
                assert found[key].shape == (len(found["states"]), 0)
            elif found[key] is not None:
                says = content[key].astype(np.float32) if found[key].dtype.kind == "f" else content[key]
                assert np.array_equal(found[key].ravel(), says.ravel()) and np.isfinite(found[key]).all()

    check()


@pytest.mark.parametrize("sealed", [True, False], ids=["ours", "foreign"])
def test_tokenizer(sealed: bool, folder: Path, whole: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    original = json.loads((folder / "fast_tokenizer.json").read_text())
    if not sealed:
        del original["sha256"]
    path = tmp_path_factory.mktemp("tokenizer") / "t.json"

    @cases(150)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        content = changed(data, original)
        path.write_text(json.dumps(content))
        found = loaded(f"tokenizer content {'ours' if sealed else 'foreign'}", lambda: of_tokenizer(path))
        if found is not None and "sha256" in content:
            assert same(found, whole["fast_tokenizer.json"])

    check()


TENSORS = st.sampled_from(
    [
        torch.zeros(()),
        torch.zeros(0),
        torch.full((4,), torch.nan),
        torch.zeros(4, dtype=torch.float64),
        torch.ones(4, dtype=torch.int64),
        torch.zeros(4, dtype=torch.complex64),
        torch.zeros(4, dtype=torch.bfloat16),
        torch.zeros(2, 2).to_sparse(),
        torch.empty(4, device="meta"),
        torch.zeros(1).expand(10**12),
        torch.ones(1),
    ]
)


def changed_tensor(data: st.DataObject, tensor: torch.Tensor) -> torch.Tensor:
    kind = data.draw(st.sampled_from(("number", "nan", "type", "shape", "negative")))
    tensor = tensor.clone()
    if kind in ("number", "nan"):
        at = data.draw(st.integers(0, tensor.numel() - 1))
        tensor.view(-1)[at] = torch.nan if kind == "nan" else data.draw(st.sampled_from([0.5, 1e30, -1e30, torch.inf]))
        return tensor
    if kind == "type":
        return tensor.to(data.draw(st.sampled_from([torch.float64, torch.float16, torch.int32, torch.bool])))
    return -tensor if kind == "negative" else tensor.reshape(-1)[None]


@pytest.mark.parametrize("sealed", [True, False], ids=["ours", "foreign"])
@pytest.mark.parametrize("name", MODELS)
def test_model(
    name: str, sealed: bool, folder: Path, whole: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    original = torch.load(folder / f"{name}.pth", weights_only=True)
    original["weights"] = dict(original["weights"])
    if not sealed:
        del original["content_sha256"]
    path = tmp_path_factory.mktemp("model") / f"{name}.pth"

    @cases(130)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        if data.draw(st.booleans()):
            content = changed(data, original, st.one_of(PLAIN, TENSORS))
        else:
            content = _copy(original)
            part = data.draw(st.sampled_from([content["weights"], *content["normalisation"].values()]))
            key = data.draw(st.sampled_from(sorted(part)))
            part[key] = changed_tensor(data, part[key])
        torch.save(content, path)
        found = loaded(f"{name}.pth content {'ours' if sealed else 'foreign'}", lambda: of_model(path))
        if found is not None and "content_sha256" in content:
            assert same(found, whole[f"{name}.pth"])

    check()


@pytest.mark.parametrize("resealed", [False, True], ids=["ours", "with its own digest"])
@pytest.mark.parametrize("name", MODELS)
def test_exported(
    name: str, resealed: bool, folder: Path, whole: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Facts and weights changed, the second time by someone who knows the format."""
    original = (folder / f"{name}.onnx").read_bytes()
    path = tmp_path_factory.mktemp("exported") / f"{name}.onnx"

    @cases(50)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        content = onnx.load_from_string(original)
        facts = {entry.key: entry.value for entry in content.metadata_props}
        if data.draw(st.booleans()):
            number = data.draw(st.integers(0, len(content.graph.initializer) - 1))
            tensor = content.graph.initializer[number]
            raw = bytearray(tensor.raw_data)
            if not raw or tensor.data_type != onnx.TensorProto.FLOAT:
                return  # sizes and loop counts: a graph that its author made to run for ever runs for ever
            raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1
            tensor.raw_data = bytes(raw)
        else:
            key = data.draw(st.sampled_from(sorted(set(facts) - {"content_sha256"})))
            value = data.draw(st.one_of(NUMBERS.map(str), st.text(max_size=9), PLAIN.map(json.dumps)))
            facts[key] = value.encode("utf-8", "replace").decode()
            helper.set_model_props(content, facts)
        changed = content.SerializeToString()
        path.write_bytes(seal(changed) if resealed else changed)
        found = loaded(f"{name}.onnx content {'sealed' if resealed else 'ours'}", lambda: of_model(path))
        if not resealed:
            assert found is None or same(found, whole[f"{name}.onnx"])

    check()


# Settings: what a command line, a settings file and `mlflow run -P` can say

WORDS = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        [
            *(
                "",
                " ",
                "0",
                "-0",
                "1e3",
                "1e-3",
                "1_000",
                "0x10",
                "1.0",
                "\uff11\uff12",
                "1e400",
                "-1e400",
                "nan",
                "inf",
                "-inf",
            ),
            *(
                "None",
                "true",
                "9" * 400,
                "9" * 5000,
                "x" * 300,
                "x" * 5000,
                "ä" * 200,
                "../../x",
                "/etc/passwd",
                "/dev/null",
            ),
            *(
                "~",
                ".",
                "..",
                "a/../b",
                "C:\\x",
                "\0",
                "a\nb",
                "a\tb",
                "\x1b[31m",
                "[/red]",
                "\u202e",
                "\ud800",
                "\udcff",
            ),
            *(
                "\U0001f600",
                "0; touch x",
                "$(touch x)",
                "`touch x`",
                "--help",
                "--debug",
                "-x",
                "--",
                "auto",
                "none",
                "all",
            ),
            *("pi0,pi0", "pi0,pi9", "{seed}", "%s"),
        ]
    ),
)
KINDS = {name: kind for name, (_, kind) in ENTRY_POINTS.items()} | {
    "evaluate": EvaluateSettings,
    "export": ExportSettings,
    "report": ReportSettings,
}


SHORT = {"ensemble": shorthands()}


def ended_well(errors: str, code: int) -> None:
    """Exit code 0 in silence, or 2 with one line."""
    assert code in (0, 2), errors
    assert (errors == "") == (code == 0)
    assert code == 0 or (errors.startswith("error: ") and errors.count("\n") == 1 and len(errors) < 700), errors


@pytest.mark.parametrize("name", list(KINDS))
def test_settings_by_command_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The real options and the real validation of each command; what comes after is left out."""
    seen: list[Any] = []
    command = settings_command(name, KINDS[name], seen.append, (), shorthands=SHORT.get(name))
    spellings = [word for option in command.params for word in option.opts if option.name not in ("debug", "verbose")]

    @cases(70)
    @given(st.lists(st.tuples(st.sampled_from(spellings), WORDS), min_size=1, max_size=3), st.booleans())
    def check(given_words: list[tuple[str, str]], joined: bool) -> None:
        words = [f"{a}={b}" for a, b in given_words] if joined else [word for pair in given_words for word in pair]
        seen.clear()
        with within_time():
            code = main(command, words)
        said = capsys.readouterr()
        if "usage" in said.out.lower():  # --help, in the place of an option
            return
        ended_well(said.err, code)
        outcomes[f"settings {'accepted' if code == 0 else 'refused'}"] += 1
        if code == 0 and seen:
            assert make(KINDS[name], seen[0].model_dump(mode="json")) == seen[0]

    check()


@pytest.mark.parametrize("name", list(ENTRY_POINTS))
def test_mlproject_parameters(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Values for the parameters of an entry point, through its own command, as `mlflow run` hands them on."""
    entry = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"][name]
    seen: list[Any] = []
    command = settings_command(name, KINDS[name], seen.append, (), shorthands=SHORT.get(name))

    @cases(50)
    @given(st.dictionaries(st.sampled_from(sorted(entry["parameters"])), WORDS, min_size=1, max_size=3))
    def check(values: dict[str, str]) -> None:
        texts = {key: str(values.get(key, declared["default"])) for key, declared in entry["parameters"].items()}
        words = [word for key, text in texts.items() for word in (f"--{key}", text)]
        seen.clear()
        with within_time():
            code = main(command, words)
        ended_well(capsys.readouterr().err, code)
        outcomes[f"parameters {'accepted' if code == 0 else 'refused'}"] += 1
        for key in values if code == 0 else ():  # a number is the number that was written
            if key in SHORT.get(name, {}):  # text until the study is planned
                assert values[key] == "auto" or f"{key}={values[key]}".split(",")[0].strip() in seen[0].set
                continue
            value, kind = getattr(seen[0], key), fields_of(KINDS[name])[key].annotation
            assert kind not in (int, float) or value == float(values[key])

    check()


OURS = ["fast_tokenizer.json", "training_pairs_original.npz", "pi0.pth", "pi0_fast.pth", "pi0.onnx", "."]
OPTIONS = [
    ("tokenize", "--pairs", ()),
    ("tokenize", "--out", ("--pairs", "training_pairs_original.npz")),
    ("collect", "--out", ()),
    ("evaluate", "--checkpoint", ()),
    ("evaluate", "--pairs", ("--checkpoint", "fast_tokenizer.json")),
    ("export", "--checkpoint", ()),
    ("export", "--out", ("--checkpoint", "pi0.pth")),
]


def can_be_made(word: str) -> bool:
    """Whether a folder, or a file, of that name could be made."""
    try:
        return any(place.is_dir() and os.access(place, os.W_OK) for place in (Path(word), *Path(word).parents))
    except (OSError, ValueError):
        return False


def test_paths_by_command_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The real commands on names of files that are of another kind, or none."""
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("[!.]*")}

    @cases(250)
    @given(st.sampled_from(OPTIONS), st.one_of(WORDS, st.sampled_from(OURS)))
    def check(option: tuple[str, str, tuple[str, ...]], word: str) -> None:
        command, name, others = option
        if (word in OURS[1:4] and name != "--out") or (name == "--out" and can_be_made(word)):
            return  # that works, or may
        with within_time():
            code = main(COMMANDS, [command, f"{name}={word}", *others])
        ended_well(capsys.readouterr().err, code)
        assert code == 2
        outcomes["paths refused"] += 1

    check()
    assert {path.name: path.read_bytes() for path in tmp_path.glob("[!.]*")} == before


def test_number_of_cases(share: float) -> None:
    """At least 2,000 in a whole run of this file, or their share; `-s` shows them by kind."""
    print("\n" + "\n".join(f"{number:5d} {what}" for what, number in sorted(outcomes.items())))
    if {"settings refused", "paths refused", "pi0.pth bytes refused"} <= outcomes.keys():
        assert outcomes.total() >= 2000 * share, outcomes.total()
