"""Runs a command job for real: the uploaded snapshot, its command in a subprocess, what it wrote kept as artifacts."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from azure_standin import assets
from azure_standin.azurite import Azurite
from azure_standin.keeper import Keeper
from azure_standin.state import GROUP, SUBSCRIPTION, WORKSPACE, WORKSPACE_PATH, State

TIMEOUT_SECONDS = 900.0


class Runner:
    """Every job that has been submitted; ``aim`` is the environment that points a client at the stand-in."""

    def __init__(self, state: State, blobs: Azurite, aim: Mapping[str, str], folder: Path, keeper: Keeper) -> None:
        self._state, self._blobs, self._aim, self._folder, self._keeper = state, blobs, aim, folder, keeper
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._shims = _shims(folder / "shims")

    def start(self, path: str) -> None:
        """Start a job in the background."""
        threading.Thread(target=self._run, args=(path,), daemon=True).start()

    def cancel(self, path: str) -> None:
        """End a job's processes."""
        resource = self._state.get(path)
        if resource and resource["properties"]["status"] not in ("Completed", "Failed"):
            resource["properties"]["status"] = "Canceled"
        process = self._processes.get(path)
        if process and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End every job."""
        for path in list(self._processes):
            self.cancel(path)

    def _run(self, path: str) -> None:
        resource = self._state.get(path)
        assert resource
        job, properties = resource["name"], resource["properties"]
        work = Path(tempfile.mkdtemp(prefix="job-", dir=self._folder))
        try:
            properties["status"] = "Preparing"
            code = self._state.get(properties["codeId"])
            if code is None:
                raise FileNotFoundError(f"the code {properties['codeId']} does not exist")
            container, prefix = assets.locate(code["properties"]["codeUri"])
            self._blobs.fetch(container, prefix, work)
            status = self._build_image(job, work) or self._execute(path, work, properties)
        except Exception as error:
            (work / "user_logs").mkdir(exist_ok=True)
            (work / "user_logs" / "std_log.txt").write_text(f"the job could not be started: {error}")
            status = "Failed"
        for kept in ("outputs", "user_logs", "azureml-logs"):
            if (work / kept).is_dir():
                self._blobs.store(assets.ARTIFACT_STORE, f"ExperimentRun/dcid.{job}/{kept}", work / kept)
        shutil.rmtree(work, ignore_errors=True)
        if properties["status"] != "Canceled":
            properties["status"] = status

    def _build_image(self, job: str, work: Path) -> str:
        """Return Failed when a test wants the image build to fail; the program then never starts, and has no log."""
        log = self._state.faults.image_build_log
        if not log:
            return ""
        (work / "azureml-logs").mkdir()
        (work / "azureml-logs" / "20_image_build_log.txt").write_text(log)
        self._state.run_errors[job] = ("UserError", "Image build failed. For more details, check the image build log.")
        return "Failed"

    def _execute(self, path: str, work: Path, properties: dict[str, Any]) -> str:
        (work / "user_logs").mkdir(exist_ok=True)
        command = _fill(properties["command"], properties.get("inputs") or {})
        if properties["status"] == "Canceled":
            return "Canceled"
        with (work / "user_logs" / "std_log.txt").open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-c", command], cwd=work, env=self._environment(path, work, properties), stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
            self._processes[path] = process
            self._keeper.note(process.pid)
            properties["status"] = "Running"
            try:
                code = process.wait(timeout=TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
        return "Completed" if code == 0 else "Failed"

    def _environment(self, path: str, work: Path, properties: dict[str, Any]) -> dict[str, str]:
        # A job is given no credential: what a step does on the compute must not need one.
        job = path.rsplit("/", 1)[-1]
        (work / "home").mkdir(exist_ok=True)
        return {
            **self._aim,
            "PATH": f"{self._shims}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(work / "home"),
            "PYTHONPATH": str(work),
            "LANG": "C.UTF-8",
            "RUNBOOK_REHEARSAL": "1",
            "AZUREML_RUN_ID": job,
            "AZUREML_ARM_SUBSCRIPTION": SUBSCRIPTION,
            "AZUREML_ARM_RESOURCEGROUP": GROUP,
            "AZUREML_ARM_WORKSPACE_NAME": WORKSPACE,
            "MLFLOW_TRACKING_URI": f"azureml://{assets.DATA_PLANE}/mlflow/v1.0{WORKSPACE_PATH}?",
            "MLFLOW_TRACKING_TOKEN": "the-job's-own-token",
            "MLFLOW_RUN_ID": job,
            "MLFLOW_EXPERIMENT_NAME": str(properties.get("experimentName", "Default")),
            "MLFLOW_EXPERIMENT_ID": "11111111-aaaa-bbbb-cccc-000000000001",
            **(properties.get("environmentVariables") or {}),
        }


def _fill(command: str, inputs: Mapping[str, Any]) -> str:
    return re.sub(r"\$\{\{inputs\.(\w+)\}\}", lambda m: str(inputs[m[1]]["value"]), command)


def _shims(folder: Path) -> Path:
    """Stand in for what the image would hold: the runbook's own command, and a pip that installs nothing here."""
    folder.mkdir(parents=True, exist_ok=True)
    scripts = {
        "pip": '#!/bin/sh\necho "stand-in: no image is built, not run: pip $*"\n',
        "python": f'#!/bin/sh\nexec "{sys.executable}" "$@"\n',
        "runbook": f'#!/bin/sh\nexec "{sys.executable}" -m runbook.cli "$@"\n',
    }
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder
