"""Files and names made to do harm: refused in one line, nothing executed, nothing written outside its folder."""

import io
import json
import os
import pickle
import shlex
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from datetime import datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from mlflow.projects._project_spec import load_project
from onnx import TensorProto, helper

import pipeline
from pipeline.cli.main import COMMANDS, main
from pipeline.cli.train import train_command
from pipeline.config import make
from pipeline.data.npz import read_npz, write_npz
from pipeline.errors import CheckpointError, DataError, TokenizerError
from pipeline.files import whole_file
from pipeline.methods.registry import METHODS
from pipeline.methods.settings import Pi0FastSettings, Pi0Settings
from pipeline.policies.checkpoint import Checkpoint, save_checkpoint
from pipeline.policies.exported import DIGEST, FORMAT, UNSEALED, seal
from pipeline.tokenizer.stored import load_tokenizer
from pipeline.tracking.mirror import reserve
from tests.conftest import ROOT, files_of, mlflow_run

MARKER = "executed"
TRAIN = {"pi0": train_command("pi0", Pi0Settings), "pi0_fast": train_command("pi0_fast", Pi0FastSettings)}


class Hostile:
    """Unpickled, it runs a command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {MARKER}",)


@pytest.fixture(autouse=True)
def nothing_happens(workplace: Path, request: pytest.FixtureRequest) -> object:
    """Whatever a test opens: no marker appears, and a file outside stays as it is."""
    outside = workplace.parent / f"outside-{workplace.name}"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    request.node.outside = outside
    yield
    assert not list(workplace.rglob(MARKER)) and not (workplace.parent / MARKER).exists()
    assert [path.name for path in outside.iterdir()] == ["precious"]
    assert (outside / "precious").read_text() == "precious"


@pytest.fixture
def outside(request: pytest.FixtureRequest) -> Path:
    return request.node.outside


@pytest.fixture
def model(workplace: Path, data: Path) -> Path:
    method = METHODS["pi0"]
    settings = make(method.settings_type, {**files_of("pi0", data), "width": 16, "layers": 1})
    interface = method.prepare(settings).interface
    weights = method.build(settings, interface).state_dict()
    save_checkpoint(workplace / "model.pth", Checkpoint(method, settings, interface, weights, {"name": "small"}))
    return workplace / "model.pth"


def refused(capsys: pytest.CaptureFixture[str], command: object, *words: object) -> str:
    """Run a command that must be refused in seconds, and return its one line."""
    started = time.monotonic()
    assert main(command, list(map(str, words))) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1 and len(errors) < 700
    assert time.monotonic() - started < 20
    return errors


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def repack(path: Path, content: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, part in content.items():
            archive.writestr(name, part)


# Python objects


@pytest.mark.parametrize("kind", ["bare pickle", "in the zip", "old torch format", "object weight", "npz as model"])
def test_code_in_a_model_never_runs(kind: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if kind == "bare pickle":
        model.write_bytes(pickle.dumps(Hostile()))
    elif kind == "in the zip":
        repack(model, {n: pickle.dumps(Hostile()) if n.endswith(".pkl") else c for n, c in members(model).items()})
    elif kind == "old torch format":
        torch.save({"weights": Hostile()}, model, _use_new_zipfile_serialization=False)
    elif kind == "object weight":
        content = torch.load(model, weights_only=True)
        torch.save(content | {"provenance": {"name": Hostile()}}, model)
    else:
        np.savez(model.open("wb"), weights=np.array([Hostile()], dtype=object))
    assert "model.pth" in refused(capsys, COMMANDS, "evaluate", "--checkpoint", "model.pth")
    with pytest.raises(CheckpointError, match=r"model\.pth"):
        pipeline.load_policy(model)


@pytest.mark.parametrize("key", ["state", "metadata", "unused"])
def test_object_arrays_never_run(key: str, workplace: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(data / "training_pairs_original.npz") as file:
        content = {name: file[name] for name in file.files}
    np.savez(workplace / "pairs.npz", **content | {key: np.array([Hostile()], dtype=object)})
    assert "Object arrays are never loaded" in refused(capsys, TRAIN["pi0"], "--pairs", "pairs.npz")


# Sizes


def zeros_zip(path: Path, name: str, head: bytes, megabytes: int) -> None:
    """A zip of a few kilobytes a member, that unpacks to so many megabytes of zeros after `head`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w", force_zip64=True) as part:
        part.write(head)
        for _ in range(megabytes):
            part.write(bytes(2**20))


def header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def test_zip_bombs_are_not_unpacked(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zeros_zip(workplace / "bomb.npz", "state.npy", header((2**28,)), 1024)
    shutil.copy("bomb.npz", "bomb.pth")
    assert Path("bomb.npz").stat().st_size < 2**21
    for command, words in (
        (TRAIN["pi0"], ("--pairs", "bomb.npz")),
        (COMMANDS, ("tokenize", "--pairs", "bomb.npz")),
        (COMMANDS, ("evaluate", "--checkpoint", "bomb.pth")),
    ):
        started = time.monotonic()
        assert "it unpacks to 1,073,741," in refused(capsys, command, *words)
        assert time.monotonic() - started < 5


def test_a_zip_that_lies_about_its_sizes(workplace: Path) -> None:
    zeros_zip(workplace / "bomb.npz", "state.npy", header((2**28,)), 200)
    whole = bytearray((workplace / "bomb.npz").read_bytes())
    entry = whole.rindex(b"PK\x01\x02")
    struct.pack_into("<I", whole, entry + 24, 1000)  # the directory now declares 1,000 bytes
    (workplace / "bomb.npz").write_bytes(whole)
    with pytest.raises(DataError, match=r"bomb\.npz"):
        read_npz(workplace / "bomb.npz", "x")


@pytest.mark.parametrize("shape", [(10**15,), (2**62, 4), (10, 10**6), (2**64,), (-1,), (0, 10**30)])
def test_an_array_that_claims_more_than_there_is(shape: tuple[int, ...], workplace: Path) -> None:
    repack(workplace / "pairs.npz", {"state.npy": header(shape) + bytes(64)})
    with pytest.raises(DataError, match=r"pairs\.npz: expected an \.npz file of plain arrays"):
        read_npz(workplace / "pairs.npz", "x")


def test_a_model_that_claims_more_than_there_is(model: Path) -> None:
    """Settings of a giant network, a tensor of one number shown a billion times, and values within values."""
    content = torch.load(model, weights_only=True)
    del content["content_sha256"]
    nested: list[object] = []
    for _ in range(40):
        nested = [nested, nested]
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    circle: list[object] = []
    circle.append(circle)
    mean = {"mean": torch.zeros(1).expand(10**9), "std": torch.ones(1).expand(10**9)}
    for change in (
        {"settings": content["settings"] | {"width": 8192, "layers": 128}},
        {"horizon": 10**9},
        {"horizon": 10**40},
        {"weights": {name: torch.zeros(1).expand(10**6, 10**6) for name in content["weights"]}},
        {"normalisation": content["normalisation"] | {"state": mean}},
        {"provenance": {"name": nested}},
        {"provenance": {"name": circle}},
        {"tokenizer": deep},
    ):
        pickling = {"pickle_module": _deep_pickle()} if "tokenizer" in change else {}
        torch.save(content | change, model, **pickling)
        started = time.monotonic()
        with pytest.raises(CheckpointError, match=r"model\.pth"):
            pipeline.load_policy(model)
        assert time.monotonic() - started < 10


def _deep_pickle() -> object:
    """The pickle module, without a limit of depth for writing."""

    class Deep:
        class Pickler(pickle._Pickler):  # in Python: its recursion can be raised
            def dump(self, value: object) -> None:
                before = sys.getrecursionlimit()
                sys.setrecursionlimit(100_000)
                try:
                    super().dump(value)
                finally:
                    sys.setrecursionlimit(before)

        dump, load, Unpickler = pickle.dump, pickle.load, pickle.Unpickler

    return Deep


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"format": "tinypi-fast-2", "bpe": ' + "[" * 900 + "]" * 900 + "}",
        '{"format": "tinypi-fast-2", "scale": ' + "9" * 5000 + "}",
        " " * (17 * 2**20),
        '{"vocab": {"' + "1," * 10**6 + '1": 0}, "merges": []}',
        '{"vocab": {"0": 99999999999999999999, "1": -1}, "merges": []}',
        '{"vocab": {"0": 0, "999999999999": 1}, "merges": []}',
    ],
    ids=["nested", "nested objects", "nested bpe", "long number", "large", "long token", "huge ids", "huge range"],
)
def test_absurd_tokenizers(text: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "tokenizer.json").write_text(text)
    assert "tokenizer.json" in refused(capsys, TRAIN["pi0_fast"], "--tokenizer", "tokenizer.json")


def test_tokenizers_that_do_more_than_bpe(workplace: Path, data: Path) -> None:
    """The library's format also holds regular expressions, truncation and dropout: ours has none of them."""
    fields = json.loads((data / "fast_tokenizer.json").read_text())
    del fields["sha256"]
    evil = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Removed", "invert": False}
    cut = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    for name, part in (("pre_tokenizer", evil), ("truncation", cut)):
        (workplace / "t.json").write_text(json.dumps(fields | {"bpe": fields["bpe"] | {name: part}}))
        with pytest.raises(TokenizerError, match="is not a plain BPE"):
            load_tokenizer(workplace / "t.json")


def test_metadata_nested_without_end(workplace: Path) -> None:
    write_npz(workplace / "a.npz", {"x": np.zeros(3)}, {})
    for text in ("[" * 100_000, '{"content_sha256": "' + "0" * 64 + '"}', '{"pairs_sha256": [1]}', "[1]"):
        np.savez(workplace / "a.npz", x=np.zeros(3), metadata=np.array(text))
        with pytest.raises(DataError, match=r"a\.npz"):
            read_npz(workplace / "a.npz", "x")


# Exported policies


def exported(path: Path, node: onnx.NodeProto, weights: list[TensorProto]) -> None:
    """An `.onnx` file that says it is ours, digest included."""
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["B", 4]) for n in ("state", "actions")]
    ports[1].type.tensor_type.shape.dim.add().dim_value = 1
    graph = helper.make_graph([node], "g", ports[:1], ports[1:], weights)
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    sizes = {"horizon": "4", "state_dim": "4", "action_dim": "1"}
    facts = {"format": FORMAT, "name": "x", "method": "pi0", "provenance": "{}", **sizes}
    helper.set_model_props(content, facts | {DIGEST: UNSEALED})
    path.write_bytes(seal(content.SerializeToString()))


def test_an_exported_policy_reads_no_other_file(workplace: Path, outside: Path) -> None:
    """ONNX can name files that hold the weights: the bytes are opened without their place, so none can be reached."""
    (workplace / "weights").write_bytes(bytes(64))
    for location in ("weights", str(outside / "precious"), f"../{outside.name}/precious"):
        tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 1, 1], data_location=TensorProto.EXTERNAL)
        for key, value in (("location", location), ("offset", "0"), ("length", "4")):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        exported(workplace / "x.onnx", helper.make_node("Add", ["state", "w"], ["actions"]), [tensor])
        with pytest.raises(CheckpointError, match=r"x\.onnx"):
            pipeline.load_policy(workplace / "x.onnx")


def test_an_exported_policy_has_no_operators_of_its_own(workplace: Path) -> None:
    exported(workplace / "x.onnx", helper.make_node("System", ["state"], ["actions"], domain="evil"), [])
    with pytest.raises(CheckpointError, match=r"x\.onnx: expected an exported policy"):
        pipeline.load_policy(workplace / "x.onnx")


# Names


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", ".hidden", "a/b", "a\\b", "x\0", "-rf", "$(touch x)"])
def test_names_are_not_paths(name: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, words in (
        (TRAIN["pi0"], ("--run-name", name)),
        (TRAIN["pi0"], ("--experiment", name)),
        (COMMANDS, ("ensemble", "--study", name)),
        (COMMANDS, ("report", "--study", name)),
        (COMMANDS, ("evaluate", "--study", name)),
    ):
        refused(capsys, command, *words)
    assert sorted(path.name for path in workplace.iterdir()) == ["data"]


def test_names_in_zips_lead_nowhere(workplace: Path, outside: Path, model: Path) -> None:
    """Members are read, never unpacked to disk, so their names are keys and nothing else."""
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    for name in (f"../{outside.name}/new.npy", str(outside / "new.npy"), "../new.npy"):
        repack(workplace / "a.npz", {name: array.getvalue()})
        arrays, _ = read_npz(workplace / "a.npz", "x")
        assert list(arrays) == [name.removesuffix(".npy")]
        repack(model, members(model) | {name: b"new"})
        with pytest.raises(CheckpointError, match=r"model\.pth"):
            pipeline.load_policy(model)
    assert not (workplace.parent / "new.npy").exists()


@pytest.mark.parametrize("name", ["[/red]", "a\nb", "\x1b[2J", "x" * 300, 7])
def test_a_models_name_is_a_line_of_text(name: object, model: Path) -> None:
    content = torch.load(model, weights_only=True)
    del content["content_sha256"]
    torch.save(content | {"provenance": {"name": name}}, model)
    if name == "[/red]":  # rich's markup, printed as it stands
        assert main(COMMANDS, ["export", "--checkpoint", "model.pth"]) == 0
        return
    with pytest.raises(CheckpointError, match="'name' in 'provenance'"):
        pipeline.load_policy(model)


# Links


def test_whole_files_replace_links(workplace: Path, outside: Path) -> None:
    for target in (outside / "precious", outside / "absent"):
        link = workplace / target.name
        link.symlink_to(target)
        with whole_file(link) as temporary:
            temporary.write_text("new")
        assert not link.is_symlink() and link.read_text() == "new"


def test_links_in_the_place_of_mirrored_files(workplace: Path, outside: Path) -> None:
    now = datetime(2026, 1, 2, 3, 4)
    for folder in ("logs", "trained_models", "loss_pics"):
        (workplace / "train" / folder).mkdir(parents=True)
    for link, target in (
        ("logs/.x_20260102_0304.txt", outside / "precious"),
        ("logs/x_20260102_0304_2.txt", outside / "precious"),
        ("trained_models/x_20260102_0304_3.pth", outside / "absent"),
        ("loss_pics/x_20260102_0304_4.png", outside / "absent"),
        ("logs/.x_20260102_0304_5.txt", outside / "absent"),
    ):
        (workplace / "train" / link).symlink_to(target)
    mirror = reserve("x", now)
    assert mirror.name == "x_20260102_0304_6"  # a name that a link has is taken
    mirror.write("one")
    for path in (mirror.log, mirror.model, mirror.picture):  # links that appear later
        path.symlink_to(outside / "precious")
    mirror.write("two")
    for path in (mirror.model, mirror.picture):
        with whole_file(path) as temporary:
            temporary.write_text("new")
    mirror.publish_log()
    assert mirror.log.read_text() == "one\ntwo\n"
    mirror.write("three")
    mirror.publish_log()
    assert mirror.log.read_text() == "one\ntwo\nthree\n"
    assert not any(path.is_symlink() for path in (mirror.log, mirror.model, mirror.picture))

    mirror = reserve("x", now)
    mirror.hidden_log.unlink()
    mirror.hidden_log.symlink_to(outside / "precious")
    with pytest.raises(OSError, match="symbolic"):
        mirror.write("one")


def test_linked_folders_are_followed(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Users put `train/`, or a folder in it, on a larger disk."""
    disk = tmp_path_factory.mktemp("disk")
    (workplace / "train").mkdir()
    (workplace / "train/logs").symlink_to(disk)
    mirror = reserve("x", datetime(2026, 1, 2, 3, 4))
    mirror.write("one")
    mirror.publish_log()
    assert [path.name for path in disk.iterdir()] == ["x_20260102_0304.txt"]


# MLflow projects


def test_shell_words_in_parameters_are_only_text(workplace: Path) -> None:
    """`mlflow run` starts entry points by a shell, with values quoted by shlex: our parser gets and refuses them."""
    words = ("-P", f"seed=0; touch {MARKER}", "-P", f"run_name=$(touch {MARKER})")
    result = mlflow_run(workplace, "-e", "train_pi0", *words, check=False)
    assert result.returncode != 0
    assert f"error: seed: expected a whole number, found '0; touch {MARKER}'" in (result.stderr)


def test_every_parameter_of_every_entry_point_is_quoted(workplace: Path) -> None:
    """The command that MLflow hands to the shell, run by a shell, with a program that only prints its arguments."""
    project = load_project(str(ROOT))
    evil = [
        f"0; touch {MARKER}",
        f"$(touch {MARKER})",
        f"`touch {MARKER}`",
        f"x' && touch {MARKER} '",
        f"| touch {MARKER}",
        "a b",
        "*",
        "~",
        "{seed}",
        "\\",
    ]
    for name in project._entry_points:
        entry = project.get_entry_point(name)
        values = {key: evil[number % len(evil)] for number, key in enumerate(entry.parameters)}
        command = entry.compute_command({**values, f"wings; touch {MARKER}": f"0; touch {MARKER}"}, None)
        program = f"{shlex.quote(sys.executable)} -c 'import json, sys; print(json.dumps(sys.argv[1:]))'"
        assert command.startswith("python -m ")
        result = subprocess.run(
            ["bash", "-c", command.replace("python -m", program, 1)], capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        words = json.loads(result.stdout)
        assert all(words[words.index(f"--{key}") + 1] == value for key, value in values.items())
        assert words[-1] == f"0; touch {MARKER}"


def test_yaml_tags_make_no_objects(workplace: Path) -> None:
    """MLproject and conda.yaml are read by MLflow, with YAML's safe loader."""
    for name in ("MLproject", "conda.yaml"):
        text = (ROOT / name).read_text()
        assert "!" not in text
        (workplace / name).write_text(f"{text}\nevil: !!python/object/apply:os.system ['touch {MARKER}']\n")
        with pytest.raises(yaml.YAMLError):
            yaml.safe_load((workplace / name).read_text())
    with pytest.raises(yaml.YAMLError):
        load_project(str(workplace))
