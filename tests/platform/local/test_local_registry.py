from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from local_cloud import platform as platform_at

from runbook.errors import NotFound, PlatformError, UsageError
from runbook.modelling import training
from runbook.platform.local import LocalPlatform


@dataclass(frozen=True)
class Logged:
    """A tiny model that a run logged: how the run names it, how MLflow names it, and its digest."""

    by_run: str
    by_id: str
    digest: str


def graph(constant: float) -> Any:
    from onnx import TensorProto, helper

    value = helper.make_tensor("c", TensorProto.FLOAT, [1], [constant])
    nodes = [helper.make_node("Constant", [], ["one"], value=value), helper.make_node("Add", ["x", "one"], ["y"])]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None]) for n in ("x", "y")]
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(helper.make_graph(nodes, "tiny", ends[:1], ends[1:]), opset_imports=opsets, ir_version=8)


def logged(platform: LocalPlatform, constant: float) -> Logged:
    import mlflow

    mlflow.set_tracking_uri(platform.tracking_uri())
    mlflow.set_experiment("tiny")
    with mlflow.start_run() as run:
        made = mlflow.onnx.log_model(graph(constant), name="model", pip_requirements=["onnxruntime"])
    path = next((platform.home.path / "artifacts").rglob(f"{made.model_id}/**/model.onnx"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Logged(f"runs:/{run.info.run_id}/model", made.model_uri, digest)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> LocalPlatform:
    return platform_at(tmp_path_factory.mktemp("registry") / "a home? 50% #1")


@pytest.fixture(scope="module")
def first(platform: LocalPlatform) -> Logged:
    return logged(platform, 1.0)


def test_a_path_with_signs_of_urls_keeps_everything_in_the_home_and_private(
    platform: LocalPlatform, first: Logged
) -> None:
    assert platform.register_model("Odd", first.by_run, first.digest, "", {}).changed
    home = platform.home.path
    assert list(home.parent.iterdir()) == [home]
    assert (home / "mlflow.db").stat().st_size > 0
    assert (home / "mlflow.db").stat().st_mode & 0o777 == 0o600
    assert (home / "artifacts").stat().st_mode & 0o777 == 0o700


def test_the_environment_has_no_say_in_what_mlflow_does(
    platform: LocalPlatform, first: Logged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    other = f"sqlite:///{tmp_path}/other.db"
    said = {
        "MLFLOW_RUN_ID": first.by_run.split("/")[1],
        "MLFLOW_EXPERIMENT_NAME": "theirs",
        "MLFLOW_EXPERIMENT_ID": "77",
        "MLFLOW_TRACKING_URI": other,
        "MLFLOW_REGISTRY_URI": other,
        "MLFLOW_RUN_CONTEXT": '{"theirs": "1"}',
        "MLFLOW_DISABLE_TELEMETRY": "false",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": str(tmp_path / "theirs"),
    }
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    experiment = training.open_experiment(platform.tracking_uri(), "mine")
    assert not {name: os.environ.get(name) for name in said}.items() & said.items()
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_text("mine", "mine.txt")
    made = mlflow.get_run(run.info.run_id)
    assert run.info.run_id not in first.by_run
    assert (made.info.experiment_id, made.data.tags.get("theirs")) == (experiment, None)
    assert mlflow.get_tracking_uri() == platform.tracking_uri()
    assert len(list((platform.home.path / "artifacts").rglob("mine.txt"))) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_run_is_refused_by_its_name(platform: LocalPlatform, first: Logged) -> None:
    with pytest.raises(NotFound, match="register Tiny.*no-such-run"):
        platform.register_model("Tiny", "runs:/no-such-run/model", first.digest, "", {})


def test_before_anything_is_logged_there_is_no_model_and_no_import_of_mlflow() -> None:
    assert LocalPlatform().find_model("Tiny") is None


def test_the_same_source_is_the_same_version_however_it_is_named(platform: LocalPlatform, first: Logged) -> None:
    made = platform.register_model("Same", first.by_run, first.digest, "a tiny model", {"training_key": "k"})
    again = platform.register_model("Same", first.by_id, first.digest, "a tiny model", {"training_key": "k"})
    assert (made.changed, again.changed) == (True, False)
    assert made.result == again.result
    assert (made.result.version, made.result.digest, made.result.description) == ("1", first.digest, "a tiny model")
    assert made.result.source == first.by_id
    assert made.result.tags["training_key"] == "k"
    assert "runbook-owner" in made.result.tags


def test_versions_compare_as_numbers(platform: LocalPlatform, first: Logged) -> None:
    for constant in range(2, 12):
        model = logged(platform, float(constant))
        platform.register_model("Many", model.by_run, model.digest, "", {})
    newest = platform.find_model("Many")
    assert newest is not None
    assert newest.version == "10"
    ninth = platform.find_model("Many", version="9")
    assert ninth is not None
    assert ninth.version == "9"
    assert platform.find_model("Many", version="11") is None


def test_the_champion_moves_and_moving_it_again_changes_nothing(platform: LocalPlatform, first: Logged) -> None:
    second = logged(platform, 20.0)
    for model in (first, second):
        platform.register_model("Champ", model.by_run, model.digest, "", {})
    assert platform.find_model("Champ", alias="champion") is None
    assert platform.promote_model("Champ", "1").changed
    assert not platform.promote_model("Champ", "1").changed
    assert platform.promote_model("Champ", "2").result.aliases == ("champion",)
    champion = platform.find_model("Champ", alias="champion")
    assert champion is not None
    assert champion.version == "2"
    one = platform.find_model("Champ", version="1")
    assert one is not None
    assert one.aliases == ()
    with pytest.raises(NotFound, match="no version 7"):
        platform.promote_model("Champ", "7")
    assert platform.demote_model("Champ").changed
    assert platform.find_model("Champ", alias="champion") is None
    assert not platform.demote_model("Champ").changed


def test_a_wrong_digest_registers_nothing(platform: LocalPlatform, first: Logged) -> None:
    with pytest.raises(PlatformError, match="not the bytes"):
        platform.register_model("Wrong", first.by_run, "0" * 64, "", {})
    assert platform.find_model("Wrong") is None


def test_a_source_that_was_never_logged_is_not_found(platform: LocalPlatform, first: Logged) -> None:
    run = first.by_run.split("/")[1]
    for source in ("runs:/" + "0" * 32 + "/model", f"runs:/{run}/other", "models:/m-" + "0" * 32):
        with pytest.raises(NotFound):
            platform.register_model("None", source, "0" * 64, "", {})
    with pytest.raises(UsageError, match="expected runs:/"):
        platform.register_model("None", "/etc/passwd", "0" * 64, "", {})


def test_a_downloaded_model_has_the_registered_bytes_and_others_are_refused(
    platform: LocalPlatform, tmp_path: Path
) -> None:
    model = logged(platform, 30.0)
    platform.register_model("Bytes", model.by_run, model.digest, "", {})
    path = platform.download_model("Bytes", "1", tmp_path / "one")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == model.digest
    assert path.is_relative_to(tmp_path / "one")
    stored = next((platform.home.path / "artifacts").rglob(f"{model.by_id.removeprefix('models:/')}/**/model.onnx"))
    stored.write_bytes(stored.read_bytes() + b"x")
    with pytest.raises(PlatformError, match="not the bytes"):
        platform.download_model("Bytes", "1", tmp_path / "two")
    with pytest.raises(NotFound, match="no version 2"):
        platform.download_model("Bytes", "2", tmp_path / "three")


def test_the_model_that_replicas_read_is_laid_out_as_in_the_cloud(platform: LocalPlatform, first: Logged) -> None:
    from runbook.platform.local import registry

    version = platform.register_model("Laid", first.by_run, first.digest, "", {}).result
    registry.provide(platform.home, version)
    folder = platform.home.models / "Laid" / "1"
    assert (folder / "model" / "MLmodel").is_file()
    (folder / "model" / "model.onnx").write_bytes(b"damaged")
    registry.provide(platform.home, version)
    assert hashlib.sha256((folder / "model" / "model.onnx").read_bytes()).hexdigest() == first.digest
    assert [p.name for p in folder.parent.iterdir()] == ["1"]


def test_the_store_is_private_and_artifacts_stay_below_the_home(platform: LocalPlatform, first: Logged) -> None:
    assert (platform.home.path / "mlflow.db").stat().st_mode & 0o077 == 0
    assert list((platform.home.path / "artifacts").rglob("model.onnx"))
    assert not Path("mlruns").exists()


def test_a_copied_home_has_its_own_artifacts(platform: LocalPlatform, first: Logged, tmp_path: Path) -> None:
    platform.register_model("Copied", first.by_run, first.digest, "", {})
    shutil.copytree(platform.home.path, tmp_path / "copy")
    copy = platform_at(tmp_path / "copy")
    for path in (tmp_path / "copy" / "artifacts").rglob("model.onnx"):
        path.write_bytes(b"changed in the copy")
    assert platform.download_model("Copied", "1", tmp_path / "original").is_file()
    with pytest.raises(PlatformError, match="not the bytes"):
        copy.download_model("Copied", "1", tmp_path / "copied")
    again = logged(copy, 40.0)
    assert copy.register_model("Copied", again.by_run, again.digest, "", {}).result.version == "2"
    assert platform.find_model("Copied", version="2") is None
    assert "a home" not in str(copy.find_model("Copied"))
