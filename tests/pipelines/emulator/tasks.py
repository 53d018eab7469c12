"""The handful of tasks that pipelines/ uses, as far as it uses them."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from emulator.agent import Agent, StepFailed
from emulator.records import Run, UnknownConstruct

Inputs = dict[str, str]


@dataclass(frozen=True)
class Tasks:
    """What the tasks need of the service: the repository, artifacts and caches, the connections, and the source runs."""

    repository: Path
    store: Path
    connections: Mapping[str, Mapping[str, str]]
    sources: dict[str, Run]

    def table(self) -> dict[str, Callable[[Agent, Inputs], None]]:
        """Return every task by its name in YAML."""
        return {
            "checkout": self.checkout,
            "download": self.download,
            "UsePythonVersion@0": use_python,
            "Cache@2": self.cache,
            "AzureCLI@2": self.azure_cli,
            "CopyFiles@2": copy_files,
            "PublishPipelineArtifact@1": self.publish,
            "PublishTestResults@2": publish_tests,
        }

    def checkout(self, agent: Agent, inputs: Inputs) -> None:
        """Clone the repository at the run's commit, detached, as the agent does."""
        if inputs["checkout"] != "self":
            raise UnknownConstruct(f"checkout: {inputs['checkout']}")
        sources = agent.workspace / "s"
        _git("clone", "--quiet", "--no-checkout", str(self.repository), str(sources))
        _git("-C", str(sources), "-c", "advice.detachedHead=false", "checkout", "--quiet", agent.run.commit)

    def download(self, agent: Agent, inputs: Inputs) -> None:
        """Copy an artifact of a source pipeline, or of this run, into the workspace."""
        if inputs == {"download": "none"}:
            return
        alias, name = inputs["download"], inputs["artifact"]
        run = agent.run if alias == "current" else self.sources[alias]
        into = agent.workspace / name if alias == "current" else agent.workspace / alias / name
        _copy_artifact(run, name, into)

    def publish(self, agent: Agent, inputs: Inputs) -> None:
        """Keep a folder as an artifact of the run; a name can be used once."""
        _known(inputs, {"targetPath", "artifact"})
        source, name = Path(inputs["targetPath"]), inputs["artifact"]
        if not source.exists():
            raise StepFailed(f"Path does not exist: {source}")
        if name in agent.run.artifacts:
            raise StepFailed(f"Artifact {name} already exists for build {agent.run.number}.")
        into = self.store / "artifacts" / str(agent.run.number) / name
        shutil.copytree(source, into)
        agent.run.artifacts[name] = into

    def cache(self, agent: Agent, inputs: Inputs) -> None:
        """Put what an earlier job left under the same key in place; a key that only begins alike is not looked for."""
        _known(inputs, {"key", "restoreKeys", "path"})
        folder = self.store / "cache" / _key(inputs["key"], agent.workspace / "s")
        folder.mkdir(parents=True, exist_ok=True)
        Path(inputs["path"]).symlink_to(folder)

    def azure_cli(self, agent: Agent, inputs: Inputs) -> None:
        """Run a bash script with what its service connection brings; the CLI itself is not signed in."""
        _known(inputs, {"azureSubscription", "scriptType", "scriptLocation", "inlineScript"})
        if inputs["scriptType"] != "bash" or inputs["scriptLocation"] != "inlineScript":
            raise UnknownConstruct(f"AzureCLI@2 with {inputs['scriptType']} {inputs['scriptLocation']}")
        if inputs["azureSubscription"] not in self.connections:
            raise StepFailed(f"The service connection {inputs['azureSubscription']} could not be found.")
        own = {key.removeprefix("env "): value for key, value in inputs.items() if key.startswith("env ")}
        agent.shell(inputs["inlineScript"], {**self.connections[inputs["azureSubscription"]], **own})


def use_python(agent: Agent, inputs: Inputs) -> None:
    """Put a Python of this machine first on PATH; one that is not here fails, nothing is downloaded."""
    _known(inputs, {"versionSpec"})
    name = f"python{inputs['versionSpec']}"
    own = Path(sys.base_prefix) / "bin" / name
    found = str(own) if own.exists() else shutil.which(name)
    if not found:
        raise StepFailed(
            f"Version spec {inputs['versionSpec']} for architecture x64 did not match any version on this machine."
        )
    agent.paths.insert(0, str(Path(found).parent))


def copy_files(agent: Agent, inputs: Inputs) -> None:
    """Copy the files that match one of the patterns, keeping their folders."""
    _known(inputs, {"SourceFolder", "Contents", "TargetFolder"})
    source = Path(inputs["SourceFolder"])
    chosen: set[str] = set()
    names = [p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()]
    for line in filter(None, map(str.strip, inputs["Contents"].splitlines())):
        pattern = _pattern(line.removeprefix("!"))
        matching = {name for name in names if pattern.fullmatch(name)}
        chosen = chosen - matching if line.startswith("!") else chosen | matching
    for name in chosen:
        into = Path(inputs["TargetFolder"]) / name
        into.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, into)
    agent.lines.append(f"found {len(chosen)} files")


def publish_tests(agent: Agent, inputs: Inputs) -> None:
    """Read JUnit files and keep (passed, failed) under the title."""
    _known(
        inputs,
        {"testResultsFormat", "testResultsFiles", "searchFolder", "testRunTitle", "failTaskOnMissingResultsFile"},
    )
    files = list(Path(inputs["searchFolder"]).glob(inputs["testResultsFiles"]))
    if not files:
        text = f"No test result files matching {inputs['testResultsFiles']} were found."
        if inputs.get("failTaskOnMissingResultsFile") == "true":
            raise StepFailed(text)
        agent.lines.append(f"##[warning]{text}")
    # The runbook under test wrote these files itself.
    cases = [case for file in files for case in ElementTree.parse(file).iter("testcase")]  # noqa: S314
    failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
    agent.run.tests[inputs["testRunTitle"]] = (len(cases) - failed, failed)


def _known(inputs: Inputs, names: set[str]) -> None:
    unknown = {name for name in inputs if not name.startswith("env ")} - names
    if unknown:
        raise UnknownConstruct(f"task input {sorted(unknown)}")


def _copy_artifact(run: Run, name: str, into: Path) -> None:
    if name not in run.artifacts:
        raise StepFailed(f"Artifact {name} was not found in build {run.number}.")
    shutil.copytree(run.artifacts[name], into, dirs_exist_ok=True)


def _key(text: str, sources: Path) -> str:
    digest = hashlib.sha256()
    for segment in (part.strip() for part in text.split("|")):
        file = sources / segment
        digest.update(file.read_bytes() if not segment.startswith('"') and file.is_file() else segment.encode())
    return digest.hexdigest()


def _pattern(glob: str) -> re.Pattern[str]:
    if re.search(r"[!?\[{]", glob):
        raise UnknownConstruct(f"pattern {glob}")
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return re.compile("".join(words.get(part, re.escape(part)) for part in re.split(r"(\*\*/|\*\*|\*)", glob)))


def _git(*words: str) -> None:
    done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise StepFailed(done.stderr)
