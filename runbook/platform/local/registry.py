"""The model registry: versions in MLflow, and the model files that replicas read."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook import hint
from runbook.errors import NotFound, PlatformError, UsageError
from runbook.platform import files
from runbook.platform.base import CHAMPION, OWNER_TAG, Change, ModelVersion
from runbook.platform.local import names, state_dir, tracking
from runbook.platform.local.state_dir import Home

if TYPE_CHECKING:
    from mlflow import MlflowClient

DIGEST_TAG = "sha256"
MODEL_FILE = "model.onnx"


def register(
    of: Home, name: str, source: str, digest: str, description: str, tags: Mapping[str, str]
) -> Change[ModelVersion]:
    """Make a version of ``name`` exist for the logged model at ``source`` (runs:/RUN/NAME or models:/m-ID).

    Raises PlatformError when the sha256 of its model.onnx is not ``digest``, NotFound when there is no such model.
    """
    client = tracking.client(of)
    with tracking.errors(f"register {name}"):
        logged, run_id = _logged_model(client, source)
        labels = {OWNER_TAG: files.names().owner, **tags, DIGEST_TAG: digest}
        sent = {
            "name": names.model(name),
            "source": logged,
            "run_id": run_id,
            "description": description,
            "tags": labels,
        }
        call = f"MlflowClient.create_model_version({name!r}, {logged!r})"
        known = next((v for v in client.search_model_versions(f"name = '{name}'") if v.source == logged), None)
        with tempfile.TemporaryDirectory() as folder:
            _download(of, logged, Path(folder), digest)
        if known is not None:
            return Change(call, sent, False, _model_version(client.get_model_version(name, str(known.version))))
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name, tags={OWNER_TAG: files.names().owner})
        model_id = logged.removeprefix("models:/")
        made = client.create_model_version(
            name, logged, run_id=run_id, tags=labels, description=description, model_id=model_id
        )
        return Change(call, sent, True, _model_version(client.get_model_version(name, str(made.version))))


def find(of: Home, name: str, version: str | None, alias: str | None) -> ModelVersion | None:
    """Return one version by number or by alias, the newest when neither is given, or None when there is none."""
    if not (of.path / "mlflow.db").exists():
        return None
    client = tracking.client(of)
    with tracking.errors(f"find {name}"):
        every = client.search_model_versions(f"name = '{names.model(name)}'")
        if version is not None:
            wanted = {str(int(names.version(version)))}
        elif alias is not None:
            models = client.search_registered_models(f"name = '{name}'")
            wanted = {str(m.aliases[alias]) for m in models if alias in m.aliases}
        else:
            # As numbers: as text version 10 would be older than 9.
            wanted = {str(max((int(v.version) for v in every), default=0))}
        found = next((v for v in every if str(v.version) in wanted), None)
        # The search leaves aliases out.
        return None if found is None else _model_version(client.get_model_version(name, str(found.version)))


def download(of: Home, name: str, version: str, into: Path) -> Path:
    """Download a version below ``into`` and return its model.onnx; PlatformError when its bytes are not the registered ones."""
    found = find(of, name, version, None)
    if found is None:
        raise NotFound(
            f"Model {name} has no version {version} in {of.path}. Run first: {hint.RUNBOOK} step 40_register"
        )
    with tracking.errors(f"download {name} version {version}"):
        return _download(of, found.source, into, found.digest)


def promote(of: Home, name: str, version: str) -> Change[ModelVersion]:
    """Move the alias champion to ``version``."""
    call = f"MlflowClient.set_registered_model_alias({name!r}, {CHAMPION!r}, {version!r})"
    sent = {"name": name, "alias": CHAMPION, "version": version}
    found = find(of, name, version, None)
    if found is None:
        raise NotFound(f"Model {name} has no version {version} in {of.path}: it cannot become {CHAMPION}.")
    if CHAMPION in found.aliases:
        return Change(call, sent, False, found)
    client = tracking.client(of)
    with tracking.errors(f"promote {name} version {version}"):
        client.set_registered_model_alias(name, CHAMPION, version)
        return Change(call, sent, True, _model_version(client.get_model_version(name, version)))


def demote(of: Home, name: str) -> Change[None]:
    """Take the alias champion from whoever has it."""
    call = f"MlflowClient.delete_registered_model_alias({name!r}, {CHAMPION!r})"
    sent = {"name": name, "alias": CHAMPION}
    if find(of, name, None, CHAMPION) is None:
        return Change(call, sent, False, None)
    client = tracking.client(of)
    with tracking.errors(f"take the alias {CHAMPION} from {name}"):
        client.delete_registered_model_alias(name, CHAMPION)
    return Change(call, sent, True, None)


def provide(of: Home, model: ModelVersion) -> None:
    """Put the files of a version where replicas read them: models/<name>/<version>/model/ of the home.

    That is how Azure ML lays out AZUREML_MODEL_DIR for an MLflow model. Nothing happens when the right bytes are there.
    """
    target = of.models / names.model(model.name) / names.version(model.version)
    if _digest(target / "model" / MODEL_FILE) == model.digest:
        return
    state_dir.private_folder(target.parent)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as folder:
        download(of, model.name, model.version, Path(folder) / "new" / "model")
        shutil.rmtree(target, ignore_errors=True)
        os.replace(Path(folder) / "new", target)


def _logged_model(client: MlflowClient, source: str) -> tuple[str, str | None]:
    """Return (models:/m-ID, run id) of a training's logged model, whichever way it is named."""
    if source.startswith("runs:/"):
        run_id, _, model_name = source.removeprefix("runs:/").partition("/")
        run = client.get_run(run_id)
        outputs = run.outputs.model_outputs if run.outputs else []
        for output in sorted(outputs, key=lambda o: o.step, reverse=True):
            if client.get_logged_model(output.model_id).name == model_name:
                return f"models:/{output.model_id}", run_id
        raise NotFound(f"Run {run_id} logged no model called {model_name!r}. Run first: {hint.RUNBOOK} step 20_train")
    model_id = source.removeprefix("models:/")
    if not model_id.startswith("m-"):
        raise UsageError(f"source is {source!r}, expected runs:/RUN/NAME or models:/m-ID: what the training logged.")
    return f"models:/{model_id}", client.get_logged_model(model_id).source_run_id


def _download(of: Home, source: str, into: Path, digest: str) -> Path:
    from mlflow.artifacts import download_artifacts

    into.mkdir(parents=True, exist_ok=True)
    download_artifacts(artifact_uri=source, dst_path=str(into), tracking_uri=tracking.tracking_uri(of))
    path = into / MODEL_FILE
    found = _digest(path)
    if found != digest:
        raise PlatformError(
            f"{MODEL_FILE} of {source} has sha256 {found or '(no such file)'}, expected {digest}: not the bytes that were "
            "trained. Restore them, or train and register again."
        )
    return path


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _model_version(found: Any) -> ModelVersion:
    return ModelVersion(
        name=found.name,
        version=str(found.version),
        digest=found.tags.get(DIGEST_TAG, ""),
        description=found.description or "",
        tags=dict(found.tags),
        aliases=tuple(found.aliases),
        source=found.source,
    )
