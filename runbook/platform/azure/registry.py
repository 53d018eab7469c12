"""Room of the model registry: versions of one model, the champion told by a tag."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runbook.errors import NotFound, PlatformError
from runbook.platform import files
from runbook.platform.azure import tracking
from runbook.platform.azure.diagnosis import explaining
from runbook.platform.azure.workspace import Workspace, body, sdk
from runbook.platform.base import CHAMPION, OWNER_TAG, Change, ModelVersion

DIGEST_TAG, SOURCE_TAG = "sha256", "source"


def wanted(name: str, source: str, digest: str, description: str, tags: Mapping[str, str]) -> Any:
    """Return the model asset that would be registered; its version is left to the workspace.

    Custom, as in the article: score.py loads the graph itself, and an MLflow asset would be given a server of its own.
    """
    labels = {**tags, DIGEST_TAG: digest, SOURCE_TAG: source, OWNER_TAG: files.names().owner}
    return sdk().entities.Model(
        name=name,
        path=tracking.job_path(source),
        type=sdk().constants.AssetTypes.CUSTOM_MODEL,
        description=description,
        tags=labels,
    )


def register(
    at: Workspace, name: str, source: str, digest: str, description: str, tags: Mapping[str, str]
) -> Change[ModelVersion]:
    """Make a version exist for ``source``; the same source and digest give the same version, however often asked.

    Registered here and not by the job: Azure refuses a job whose output names a model version (assetVersion).
    """
    entity = wanted(name, source, digest, description, tags)
    call = f"models.create_or_update({name})"
    for version in versions(at, name):
        if (version.tags.get(SOURCE_TAG), version.digest) == (source, digest):
            return Change(call, _sent(entity), changed=False, result=version)
    sent = _sent(entity)
    with explaining(f"registering the model {name} from {source}"):
        made = at.ml.models.create_or_update(entity)
    found = find(at, name, version=str(made.version))
    if found is None:
        raise PlatformError(
            f"The model {name}:{made.version} was registered and cannot be read back.\nNext: run it again."
        )
    return Change(call, sent, changed=True, result=found)


def versions(at: Workspace, name: str) -> list[ModelVersion]:
    """Return every version of a model, the newest first; versions compare as numbers, so 10 is newer than 9."""
    try:
        with explaining(f"reading the versions of the model {name}"):
            listed = [m for m in at.ml.models.list(name) if str(m.version).isdigit()]
    except NotFound:
        return []
    # The promotion time is the tag's value: should two versions carry it, the one promoted last is the champion.
    promoted = max((m.tags.get(CHAMPION, "") for m in listed), default="")
    return [_version(m, promoted) for m in sorted(listed, key=lambda m: int(m.version), reverse=True)]


def find(at: Workspace, name: str, version: str | None = None, alias: str | None = None) -> ModelVersion | None:
    """Return one version by number or alias, the newest when neither is given, or None."""
    for found in versions(at, name):
        if version in (None, found.version) and (alias is None or alias in found.aliases):
            return found
    return None


def download(at: Workspace, name: str, version: str, into: Path) -> Path:
    """Download one version below ``into``, compare its digest, and return the path of model.onnx."""
    found = find(at, name, version=version)
    if found is None:
        raise NotFound(
            f"The model {name}:{version} does not exist.\nNext: az ml model list --name {name} --output table"
        )
    with explaining(f"downloading the model {name}:{version}"):
        at.ml.models.download(name, version, download_path=str(into))
    paths = sorted((into / name).rglob("model.onnx"))
    if len(paths) != 1:
        raise PlatformError(f"The model {name}:{version} holds {len(paths)} files model.onnx, expected one.")
    digest = hashlib.sha256(paths[0].read_bytes()).hexdigest()
    if digest != found.digest:
        raise PlatformError(f"The model {name}:{version} has digest {digest}, expected {found.digest} as registered.")
    return paths[0]


def promote(at: Workspace, name: str, version: str) -> Change[ModelVersion]:
    """Move the champion's tag to ``version``; from the first request on there is exactly one champion."""
    call = f"models.create_or_update({name}:{version}, tags={{{CHAMPION}: now}})"
    found = find(at, name, version=version)
    if found is None:
        raise NotFound(
            f"The model {name}:{version} does not exist.\nNext: az ml model list --name {name} --output table"
        )
    if CHAMPION in found.aliases:
        return Change(call, {}, changed=False, result=found)
    with explaining(f"promoting the model {name}:{version}"):
        for other in at.ml.models.list(name):
            if str(other.version) == version:
                _tag(at, other, {CHAMPION: dt.datetime.now(dt.UTC).isoformat()})
        for other in at.ml.models.list(name):
            if str(other.version) != version and other.tags.get(CHAMPION):
                _tag(at, other, {CHAMPION: ""})
    promoted = find(at, name, alias=CHAMPION)
    if promoted is None or promoted.version != version:
        raise PlatformError(f"After promoting {name}:{version} the champion is {promoted}.\nNext: run the step again.")
    return Change(call, {"tags": dict(promoted.tags)}, changed=True, result=promoted)


def demote(at: Workspace, name: str) -> Change[None]:
    """Leave no version of ``name`` with the champion's tag."""
    call = f"models.create_or_update({name}, tags={{{CHAMPION}: ''}})"
    if find(at, name, alias=CHAMPION) is None:
        return Change(call, {}, changed=False, result=None)
    with explaining(f"taking the champion's tag from the model {name}"):
        for other in at.ml.models.list(name):
            if other.tags.get(CHAMPION):
                _tag(at, other, {CHAMPION: ""})
    left = find(at, name, alias=CHAMPION)
    if left is not None:
        raise PlatformError(f"{name}:{left.version} still has the tag {CHAMPION}.\nNext: run the step again.")
    return Change(call, {"tags": {CHAMPION: ""}}, changed=True, result=None)


def _tag(at: Workspace, model: Any, tags: Mapping[str, str]) -> None:
    model.tags = {**model.tags, **tags}
    at.ml.models.create_or_update(model)


def _version(model: Any, promoted: str) -> ModelVersion:
    tags = {str(k): str(v) for k, v in (model.tags or {}).items()}
    champion = bool(promoted) and tags.get(CHAMPION) == promoted
    return ModelVersion(
        model.name,
        str(model.version),
        tags.get(DIGEST_TAG, ""),
        model.description or "",
        tags,
        (CHAMPION,) if champion else (),
        tags.get(SOURCE_TAG, str(model.path)),
    )


def _sent(entity: Any) -> dict[str, Any]:
    return body(entity._to_rest_object())
