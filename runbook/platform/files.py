"""The static Azure ML v2 YAML files under deployment/ and environment_setup/, as both platforms read them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook import paths, strict_yaml
from runbook.errors import AnatomyError

# Where an Azure ML workspace is; read by the platform itself, so that no notebook has to pass it on.
COORDINATES = ("subscription_id", "resource_group", "workspace")
# The same for the name of the project.
PROJECT_KEY = "project"
# The tag of everything that this project makes; its value ends in OWNER_END.
OWNER_TAG = "runbook-owner"
OWNER_END = "-runbook"
PROJECT = re.compile(r"^(?=.{2,24}$)[a-z][a-z0-9]*(-[a-z0-9]+)*$")


def read(path: Path) -> dict[str, Any]:
    """Return one YAML mapping; raises AnatomyError when the file is missing or not a mapping."""
    if not path.exists():
        raise AnatomyError(f"{path} is missing: the platform reads it. Restore it with: git checkout -- {path}")
    document = strict_yaml.read(path, AnatomyError)
    if not isinstance(document, dict):
        raise AnatomyError(f"{path} holds {type(document).__name__}, expected a mapping.")
    return document


def read_named(path: Path) -> dict[str, Any]:
    """Return one YAML mapping with the names of this project; raises AnatomyError as ``read`` does.

    The tag runbook-owner says which project the file was written for, and whatever begins with that project's name is
    renamed. Example: in the project ``orders``, a file of the project ``churn`` has ``churn-aks`` read as ``orders-aks`` and
    ``azureml:churn-aks`` as ``azureml:orders-aks``. A file without the tag is returned as it is.
    """
    document = read(path)
    owner = (document.get("tags") or {}).get(OWNER_TAG)
    if not isinstance(owner, str) or not owner.endswith(OWNER_END):
        return document
    begin = re.compile(rf"^(azureml:)?{re.escape(owner.removesuffix(OWNER_END))}(?=-|$)")
    renamed: dict[str, Any] = _renamed(document, begin, names().project)
    return renamed


def coordinates() -> dict[str, str]:
    """Return where the workspace is, as far as params/azure.yml says; raises AnatomyError for what is not text."""
    document = read(paths.PARAMS / "azure.yml")
    found = {name: document[name] for name in COORDINATES if document.get(name) is not None}
    for name, value in found.items():
        if not isinstance(value, str):
            raise AnatomyError(f"params/azure.yml: {name} is {value!r}, expected text: quote it.")
    return found


@dataclass(frozen=True)
class Names:
    """Names of what this project makes on a platform."""

    project: str
    model: str
    experiment: str
    compute: str

    def endpoint(self, stage: str) -> str:
        """Return the name of a stage's endpoint, for example orders-prod."""
        return f"{self.project}-{stage}"

    @property
    def owner(self) -> str:
        """The value of the tag runbook-owner on everything that this project makes."""
        return f"{self.project}{OWNER_END}"


def names() -> Names:
    """Return the names that params/base.yml gives, each from ``project`` where it is not given; raises AnatomyError."""
    document = read(paths.PARAMS / "base.yml")
    project = document.get("project")
    if not isinstance(project, str) or not PROJECT.match(project):
        raise AnatomyError(
            f"params/base.yml: project is {project!r}; expected 2 to 24 lower-case letters, digits and single dashes, "
            "beginning with a letter: endpoints are named after it."
        )
    return Names(
        project=project,
        model=str(document.get("model_name", project)),
        experiment=str(document.get("experiment_name", project)),
        compute=str(document.get("compute_name", f"{project}-train")),
    )


def endpoint(stage: str) -> dict[str, Any]:
    """Return deployment/<stage>/endpoint.yml under the project's name for that endpoint."""
    return {**read_named(paths.DEPLOYMENT / stage / "endpoint.yml"), "name": names().endpoint(stage)}


def deployment(stage: str) -> dict[str, Any]:
    """Return deployment/<stage>/deployment.yml for the project's endpoint of that stage."""
    document = read_named(paths.DEPLOYMENT / stage / "deployment.yml")
    return {**document, "endpoint_name": names().endpoint(stage)}


def compute() -> dict[str, Any]:
    """Return environment_setup/compute.yml under the project's name for the training compute."""
    return {**read_named(paths.ENVIRONMENT_SETUP / "compute.yml"), "name": names().compute}


def cluster() -> dict[str, Any]:
    """Return environment_setup/cluster.yml with the project's names."""
    return read_named(paths.ENVIRONMENT_SETUP / "cluster.yml")


def training_job() -> dict[str, Any]:
    """Return environment_setup/training-job.yml for the project's experiment and training compute."""
    document = read_named(paths.ENVIRONMENT_SETUP / "training-job.yml")
    this = names()
    return {**document, "experiment_name": this.experiment, "compute": f"azureml:{this.compute}"}


def shipped(stage: str) -> list[Path]:
    """Return the files that make a deployment of this stage what it is, sorted by path."""
    folder = paths.DEPLOYMENT
    common = [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
    return sorted(common + [folder / stage / "endpoint.yml", folder / stage / "deployment.yml"])


def code_digest(stage: str) -> str:
    """Return sha256 over names and bytes of everything shipped to this stage: same digest, same deployment."""
    digest = hashlib.sha256()
    for path in shipped(stage):
        digest.update(str(path.relative_to(paths.DEPLOYMENT)).encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _renamed(value: Any, begin: re.Pattern[str], project: str) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(inner, begin, project) for key, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(inner, begin, project) for inner in value]
    if isinstance(value, str):
        return begin.sub(lambda found: f"{found[1] or ''}{project}", value)
    return value
