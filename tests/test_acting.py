"""How a policy acts is not how it was trained: chosen anew for a file, at an evaluation, and in a study's groups."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow.entities import Run as MlflowRun
from numpy.testing import assert_array_equal

import pipeline
from pipeline.cli.main import COMMANDS, main
from pipeline.config import make
from pipeline.errors import SettingsError
from pipeline.methods.registry import METHODS
from pipeline.methods.settings import FlowActing, TokenActing
from pipeline.models.original import OriginalFlowTransformer
from pipeline.policies.checkpoint import load_checkpoint, save_checkpoint
from pipeline.policies.ensemble import save_ensemble
from pipeline.stages.train import train
from pipeline.studies.groups import plan_groups, plan_members
from pipeline.studies.settings import EnsembleSettings
from tests.conftest import TINY, files_of, put_store, runs_of, store
from tests.test_docs import RUNS, tags_on
from tests.test_export import STATES, random_model

GROUPS = "pi0 start_noise=1,pi0"


def saved(folder: Path, method: str, **settings: Any) -> Path:
    path = folder / f"{method}{''.join(map(str, settings.values()))}.pth"
    save_checkpoint(path, random_model(method, **settings))
    return path


@pytest.mark.parametrize(
    ("method", "act"),
    [("pi0", {"start_noise": "1", "flow_steps": "2"}), ("pi0_fast", {"decoding": "greedy"}), ("pi0", {})],
)
def test_a_file_acts_by_the_rule_that_is_chosen(tmp_path: Path, method: str, act: dict[str, str]) -> None:
    path = saved(tmp_path, method)
    chosen, own = pipeline.load_policy(path, act=act), pipeline.load_policy(path)
    assert_array_equal(chosen.act(STATES), pipeline.load_policy(saved(tmp_path, method, seed=1, **act)).act(STATES))
    assert (chosen.act(STATES) != own.act(STATES)).any() == bool(act)
    average = tmp_path / "average.pth"
    save_ensemble(average, "both", [path, path])
    two = pipeline.load_policy(average, act=act)
    assert two.act(STATES).shape == own.act(STATES).shape
    assert (two.act(STATES) != pipeline.load_policy(average).act(STATES)).any() == bool(act)


def test_a_checkpoint_has_a_record_of_acting(tmp_path: Path) -> None:
    likeliest = TokenActing(decoding="greedy")
    for method, acting in (("pi0", FlowActing()), ("pi0_fast", TokenActing()), ("binning", likeliest)):
        assert load_checkpoint(saved(tmp_path, method)).acting == acting
    assert load_checkpoint(saved(tmp_path, "regression")).acting.model_dump() == {}
    sampled = load_checkpoint(saved(tmp_path, "pi0", start_noise=0.5))
    assert sampled.acting == FlowActing(start_noise=0.5)
    again = sampled.acting_by({"flow_steps": 3})
    assert again.acting == FlowActing(start_noise=0.5, flow_steps=3)
    assert again.weights is sampled.weights and again.provenance == sampled.provenance


@pytest.mark.parametrize(
    ("method", "act", "message"),
    [
        (
            "pi0",
            {"decoding": "greedy"},
            "act: expected a setting of how pi0 acts (flow_steps, start_noise), found 'deco",
        ),
        ("pi0", {"width": 8}, "found 'width'"),
        ("regression", {"flow_steps": 1}, "act: expected a setting of how regression acts (none), found 'flow_steps'"),
        ("pi0", {"flow_steps": 0}, "flow_steps: expected 1 or more, found 0"),
        ("binning", {"decoding": "likely"}, "decoding: expected 'expected', 'greedy' or 'sampled', found 'likely'"),
    ],
)
def test_a_rule_that_a_method_lacks_is_refused(tmp_path: Path, method: str, act: dict[str, Any], message: str) -> None:
    path = saved(tmp_path, method)
    with pytest.raises(SettingsError) as caught:
        pipeline.load_policy(path, act=act)
    assert message in str(caught.value)
    save_ensemble(tmp_path / "average.pth", "one", [path])
    with pytest.raises(SettingsError) as caught:
        pipeline.load_policy(tmp_path / "average.pth", act=act)
    assert message in str(caught.value)


def test_exports_act_as_they_were_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, "pi0", start_noise=1.0)
    assert main(COMMANDS, ["export", str(path)]) == 2
    assert "choose --act start_noise=0" in capsys.readouterr().err
    assert main(COMMANDS, ["export", str(path), "--act", "start_noise=0", "flow_steps=1"]) == 0
    expected = pipeline.load_policy(path, act={"start_noise": 0, "flow_steps": 1}).act(STATES)
    exported = path.with_suffix(".onnx")
    np.testing.assert_allclose(pipeline.load_policy(exported).act(STATES), expected, atol=1e-5)
    with pytest.raises(SettingsError, match=r"is an exported file, which acts as it was exported"):
        pipeline.load_policy(exported, act={"flow_steps": 2})
    assert main(COMMANDS, ["play", "--policy", "http://127.0.0.1:1", "--act", "flow_steps=2"]) == 2
    assert "act: expected none with --policy" in capsys.readouterr().err


def test_sampled_tokens_are_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(COMMANDS, ["export", str(saved(tmp_path, "pi0_fast", decoding="sampled"))]) == 2
    assert "an exported policy draws no tokens, found sampled" in capsys.readouterr().err


def test_the_originals_weights_act_as_published_only(tmp_path: Path) -> None:
    torch.save(OriginalFlowTransformer(4, 50).state_dict(), tmp_path / "original.pth")
    assert pipeline.load_policy(tmp_path / "original.pth", act={}).method == "pi0"
    with pytest.raises(SettingsError, match="the reference system's weights, which act as published only"):
        pipeline.load_policy(tmp_path / "original.pth", act={"start_noise": 0})


def trained_by(methods: str, **values: object) -> list[str]:
    groups = plan_groups(make(EnsembleSettings, {"methods": methods, **values}))
    assert [group.name for group in groups] == [text.strip() for text in methods.split(",")]
    return [group.trained for group in groups]


def test_groups_that_differ_only_in_acting_share_their_models() -> None:
    assert trained_by("pi0,pi0_fast,regression,binning") == ["pi0", "pi0_fast", "regression", "binning"]
    assert trained_by("pi0 flow_steps=1,pi0,pi0 start_noise=1 flow_steps=2") == 3 * ["pi0"]
    assert trained_by("pi0 flow_steps=1,pi0 flow_steps=2") == 2 * ["pi0 flow_steps=1"]
    assert trained_by("pi0,pi0 width=32,pi0 start_noise=1 width=32") == ["pi0", "pi0 width=32", "pi0 width=32"]
    assert trained_by("pi0_fast,binning decoding=greedy") == ["pi0_fast", "binning decoding=greedy"]
    assert trained_by("pi0,pi0 start_noise=0", set="start_noise=1") == 2 * ["pi0 start_noise=0"]
    settings = make(EnsembleSettings, {"methods": "pi0 flow_steps=1,pi0", "n_models": 1, "base_seed": 4})
    first, second = plan_members(settings, plan_groups(settings))
    assert (first.name, first.model) == ("pi0 flow_steps=1 seed 4", "pi0 seed 4")
    assert (second.name, second.model) == ("pi0 seed 4", "pi0 seed 4")


@pytest.mark.usefixtures("with_store")
def test_weights_do_not_depend_on_acting(data: Path) -> None:
    for method, act in (("pi0", {"start_noise": 1, "flow_steps": 2}), ("pi0_fast", {"decoding": "greedy"})):
        small = files_of(method, data) | {"width": 16, "layers": 1, "epochs": 1}
        made = [
            train(METHODS[method], make(METHODS[method].settings_type, small | own), lambda _: None, lambda _: None)
            for own in ({}, act)
        ]
        assert made[0].weights_digest == made[1].weights_digest
        assert made[0].metrics["best_val_loss"] == made[1].metrics["best_val_loss"]


@pytest.fixture(scope="module")
def folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a study of two rules of acting."""
    made = tmp_path_factory.mktemp("acting")
    (made / "data").symlink_to(data)
    put_store(made)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            patch.delenv(name)
        patch.chdir(made)
        assert study() == 0
        yield made


def study(*words: str, methods: str = GROUPS) -> int:
    small = [word for name, value in TINY.items() for word in (f"--{name}", str(value))]
    return main(COMMANDS, ["ensemble", "--methods", methods, "--n-models", "2", "--executor", "serial", *small, *words])


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    return folder


def of_kind(kind: str) -> dict[str, MlflowRun]:
    found = {run.info.run_name: run for run in runs_of(Path()) if run.data.tags.get("kind") == kind}
    assert all(run.info.status == "FINISHED" for run in found.values())
    return found


def report(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(COMMANDS, ["report", "--json", *words]) == 0
    return dict(json.loads(capsys.readouterr().out))


@pytest.mark.slow(seconds=30)
@pytest.mark.xdist_group("acting")
class TestStudy:
    def test_one_set_of_weights_stands_under_several_rules(self, here: Path) -> None:
        models, acting = of_kind("model"), of_kind("acting")
        assert sorted(models) == ["pi0 seed 0", "pi0 seed 1"]
        assert sorted(acting) == ["pi0 start_noise=1 seed 0", "pi0 start_noise=1 seed 1"]
        groups = {run.data.tags["group"]: run for run in of_kind("group").values()}
        documented = tags_on("acting", RUNS.read_text().partition("## Tags")[2])
        client = store(here)
        for name, run in acting.items():
            tags, params = run.data.tags, run.data.params
            assert {tag for tag in tags if not tag.startswith("mlflow.")} <= documented
            model = models[f"{tags['method']} seed {tags['seed']}"]
            assert tags["trained_run"] == model.info.run_id and name == f"{tags['group']} seed {tags['seed']}"
            assert tags["weights_sha256"] == model.data.tags["weights_sha256"]
            assert tags["evaluation"] == model.data.tags["evaluation"]
            assert tags["evaluation"].startswith("3 episodes per condition, seed ")
            assert tags["mlflow.parentRunId"] == groups[tags["group"]].info.run_id
            changed = {key for key, value in params.items() if model.data.params[key] != value}
            assert changed == {"start_noise"}
            assert {"success/mean", "chunk_mae"} <= set(run.data.metrics)
            assert "train_seconds" not in run.data.metrics
            file = client.download_artifacts(run.info.run_id, f"{tags['name']}.pth")
            trained = client.download_artifacts(model.info.run_id, f"{model.data.tags['name']}.pth")
            policies = pipeline.load_policy(file), pipeline.load_policy(trained, act={"start_noise": 1})
            assert_array_equal(*(policy.act(np.full((20, 4), 0.1)) for policy in policies))
        assert set(of_kind("average")) == {"pi0 average of 2"}
        assert groups["pi0 start_noise=1"].data.metrics.keys() >= {"success_mean"}

    def test_groups_of_the_report(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        found = report(capsys, "--study", "ensemble")
        models = {group["name"]: len(group["models"]) for group in found["groups"] if group["kind"] == "model"}
        assert models == {"pi0": 2, "pi0 start_noise=1": 2}
        assert [(each["first"], each["second"]) for each in found["differences"]] == [("pi0", "pi0 start_noise=1")]
        note = "pi0 start_noise=1: its models are those of pi0 and act by another rule. The two are compared model by "
        assert f"{note}model." in found["notes"] and found["differences"][0]["verdict"]["paired"]
        everything = report(capsys)
        models = {group["name"]: len(group["models"]) for group in everything["groups"] if group["kind"] == "model"}
        assert models == {"pi0 start_noise=0": 2, "pi0 start_noise=1": 2}
        assert main(COMMANDS, ["report", "--study", "ensemble", "--out", "here", "--html"]) == 0
        said = capsys.readouterr().out
        assert "not drawn" not in said
        page = Path("here/report.html").read_text()
        assert "pi0 start_noise=1, seed 1" in page and "cannot be shown" not in page
        assert "Versions that 2 models were trained with" in page and "expected the file" not in page

    def test_the_same_command_has_nothing_to_do(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = {run.info.run_id for run in runs_of(here)}
        assert study() == 0
        assert "0 jobs run, 2 models reused, 0 failed" in capsys.readouterr().out
        assert study(methods="pi0 start_noise=1") == 0  # alone it would be trained, and it is there already
        assert "0 jobs run, 2 models reused, 0 failed" in capsys.readouterr().out
        assert {run.info.run_id for run in runs_of(here)} == before

    def test_only_trained_models_are_registered(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        acting = of_kind("acting")
        versions = store(here).search_model_versions()
        trained = {run.info.run_id for kind in ("model", "average") for run in of_kind(kind).values()}
        assert {version.run_id for version in versions} == trained
        one = acting["pi0 start_noise=1 seed 0"]
        for words in (["register", "--run"], ["promote", "--candidate"], ["reproduce"]):
            assert main(COMMANDS, [*words, one.info.run_id]) == 2
            said = capsys.readouterr().err
            assert said.count("\n") == 1 and "run: expected a " in said and one.info.run_id in said
        assert main(COMMANDS, ["doctor"]) == 0

    def test_evaluate_by_another_rule_leaves_a_run_as_it_is(
        self, here: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        model, acting = of_kind("model")["pi0 seed 0"], of_kind("acting")["pi0 start_noise=1 seed 0"]
        name = model.data.tags["name"]
        words = ["--episodes", "3", "--json", "--executor", "serial"]

        def evaluated(*more: str, expect: str = "") -> list[dict[str, Any]]:
            capsys.readouterr()
            assert main(COMMANDS, ["evaluate", *more, *words]) == 0
            out, err = capsys.readouterr()
            assert expect in err
            return list(json.loads(out)["models"])

        rule = ("--act", "start_noise=1")
        (by_run,) = evaluated("--run", model.info.run_id, *rule)
        (by_file,) = evaluated(f"train/trained_models/{name}.pth", *rule)
        (in_study,) = evaluated("--run", acting.info.run_id)
        assert by_run["name"] == by_file["name"] == f"{name} start_noise=1"
        assert by_run["conditions"] == by_file["conditions"] == in_study["conditions"]
        assert evaluated("--run", model.info.run_id, expect="has the evaluation that its study 'ensemble' compares")
        assert of_kind("acting")["pi0 start_noise=1 seed 0"].data.tags == acting.data.tags, "shown, not logged"
        after = of_kind("model")["pi0 seed 0"]
        assert (after.data.metrics, after.data.tags) == (model.data.metrics, model.data.tags)
        both = evaluated("--run", model.info.run_id, acting.info.run_id, "--act", "flow_steps=1")
        assert [each["name"].split()[-1] for each in both] == 2 * ["flow_steps=1"]
        # in a comparison a run of this rule is what its model is by it
        assert main(COMMANDS, ["compare", acting.info.run_id, model.info.run_id, "--max-episodes", "9", "--json"]) > 1
        assert json.loads(capsys.readouterr().out)["a"].startswith(acting.info.run_id)

    def test_a_rule_is_refused_before_any_work(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        run_id = of_kind("model")["pi0 seed 0"].info.run_id
        for words, message in (
            (["--study", "ensemble", "--act", "decoding=greedy"], "(flow_steps, start_noise), found 'decoding'"),
            (["--run", run_id, "--act", "start_noise=11"], "start_noise: expected 10 or less, found '11'"),
            (["--run", run_id, "--act", "start_noise"], "act: expected NAME=VALUE, found 'start_noise'"),
            (["--yardsticks", "--act", "decoding=greedy"], "act: name models that are to act so"),
        ):
            assert main(COMMANDS, ["evaluate", *words]) == 2
            said = capsys.readouterr()
            assert said.err.count("\n") == 1 and message in said.err and said.out == ""

    def test_other_episodes_and_more_models_train_nothing_twice(
        self, here: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """This test changes the study, and so it is the last."""
        kept, lost = (of_kind("acting")[f"pi0 start_noise=1 seed {seed}"].info.run_id for seed in (0, 1))
        assert study("--episodes", "4", methods="pi0 start_noise=1") == 0
        assert "6 jobs run, 0 models reused, 0 failed" in capsys.readouterr().out and len(of_kind("model")) == 2
        store(here).delete_run(lost)
        assert study("--episodes", "4", "--n-models", "3") == 0
        assert "6 jobs run, 0 models reused, 0 failed" in capsys.readouterr().out
        again = of_kind("acting")
        assert again["pi0 start_noise=1 seed 0"].info.run_id == kept
        assert lost not in {run.info.run_id for run in again.values()}
        (terms,) = {run.data.tags["evaluation"] for run in again.values()}
        assert terms.startswith("4 episodes per condition, seed ")
        assert len(of_kind("model")) == len(again) == 3
        assert main(COMMANDS, ["evaluate", "--study", "ensemble", "--executor", "serial"]) == 0
        assert {run.data.tags["evaluation"] for run in of_kind("acting").values()} == {terms}
