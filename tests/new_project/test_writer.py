from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from runbook import paths, strict_yaml
from runbook.engine import params
from runbook.errors import ParamsError

ROWS = 240
QUESTIONS = {"TITLE": "Customers who leave", "ROW": "customer", "POSITIVE": "leaves", "GROUP": None}


@dataclass(frozen=True)
class Place:
    """A copy of this checkout with one commit, and the projects that are made from it."""

    root: Path

    def git(self, folder: Path, *words: str) -> str:
        author = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        done = subprocess.run(["git", "-C", str(folder), *author, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def python(self, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        command = [sys.executable, *words]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)

    def runbook(self, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        return self.python(folder, "-m", "runbook.cli", *words)


def data(folder: Path) -> Path:
    lines = ["customer id,monthly price,plan,member since,left"]
    for i in range(ROWS):
        plan = ("basic", "gold", "silver")[i % 3]
        left = "yes" if (i % 3 == 0) != (i % 11 == 0) else "no"
        lines.append(f"C{i:04d},{10 + i % 37}.5,{plan},2024-{1 + i % 12:02d}-15,{left}")
    path = folder / "customers.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("newer") / "checkout"
    listed = subprocess.run(
        ["git", "-C", str(paths.ROOT), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (paths.ROOT / name).is_file() and not name.startswith("reports/sample"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes((paths.ROOT / name).read_bytes())
    place = Place(root)
    place.git(root, "init", "--quiet", "--initial-branch", "main")
    place.git(root, "add", "--all")
    place.git(root, "commit", "--quiet", "--message", "The runbook")
    return place


@pytest.fixture(scope="module")
def project(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new")
    made = place.runbook(place.root, "new", str(folder / "leavers"), "--data", str(data(folder)), "--label", "left")
    assert made.returncode == 0, made.stderr
    assert "customer id: an identifier" in made.stdout
    assert "make swagger && make check && make run" in made.stdout
    return folder / "leavers"


def fill_blanks(project: Path) -> None:
    path = project / "data" / "dataset.py"
    text = path.read_text()
    for name, answer in QUESTIONS.items():
        text = re.sub(rf"(?m)^{name} = .*$", f"{name} = {answer!r}".replace("'", '"'), text)
    path.write_text(text)


def test_a_new_project_lists_its_blanks_with_their_lines_and_no_more(place: Place, project: Path) -> None:
    done = place.runbook(project, "check")
    assert done.returncode == 1
    blanks = [line for line in done.stderr.splitlines() if "still blank" in line]
    assert [re.sub(r".*still blank\. (\w+)\..*", r"\1", line) for line in blanks] == [
        "GROUP",
        "TITLE",
        "ROW",
        "POSITIVE",
    ]
    assert all(re.match(r"data/dataset\.py:\d+: ", line) for line in blanks)
    assert done.stderr.splitlines() == [*blanks, "4 problems."]


def test_with_its_blanks_filled_it_keeps_every_rule(place: Place, project: Path) -> None:
    fill_blanks(project)
    assert place.python(project, "-m", "runbook.lint.swagger").returncode == 0
    done = place.runbook(project, "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "To decide: params/base.yml:" in done.stdout
    for command in (("format", "--check", "."), ("check", ".")):
        tidy = place.python(project, "-m", "ruff", *command)
        assert tidy.returncode == 0, tidy.stdout


@pytest.mark.slow
def test_what_holds_for_every_model_holds_for_it(place: Place, project: Path) -> None:
    fill_blanks(project)
    place.python(project, "-m", "runbook.lint.swagger")
    tested = place.python(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/models/test_any_model.py")
    assert tested.returncode == 0, tested.stdout[-6000:]


def test_nothing_of_the_first_data_set_is_left_in_the_four_places(project: Path) -> None:
    words = "passenger|Pclass|SibSp|Parch|Fare|Embarked|Survived|Titanic"
    files = [*project.glob("data/*"), *(project / "deployment").rglob("*.*"), project / "params" / "base.yml"]
    files.append(project / "notebooks" / "20_train.ipynb")
    hits = {p.name: re.findall(words, p.read_text(), re.IGNORECASE) for p in files if p.is_file()}
    assert {name: found for name, found in hits.items() if found} == {}


def test_a_notebook_in_jupyterlab_has_the_limits_that_the_runner_reads(project: Path) -> None:
    values = strict_yaml.read(project / "params" / "base.yml", ParamsError)
    declared: dict[str, params.Parameter] = {}
    for name in ("20_train", "30_evaluate"):
        declared |= params.declared(project / "notebooks" / f"{name}.ipynb")
    limits = {key: value for key, value in values.items() if key != "project"}
    assert len(limits) == 7
    assert {key: declared[key].default for key in limits} == limits


def test_a_folder_that_is_not_empty_is_refused_and_left_as_it_is(place: Place, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    done = place.runbook(place.root, "new", str(tmp_path / "mine"), "--data", str(data(tmp_path)), "--label", "left")
    assert done.returncode == 2 and "exists and is not empty" in done.stderr
    assert (tmp_path / "mine" / "file").read_text() == "mine"


def test_a_newer_runbook_merges_into_a_project_that_has_edited_its_four_places(place: Place, project: Path) -> None:
    fill_blanks(project)
    place.python(project, "-m", "runbook.lint.swagger")
    place.git(project, "add", "--all")
    place.git(project, "commit", "--quiet", "--message", "Fill the blanks")
    before = (project / "data" / "dataset.py").read_text()

    newer = place.root / "runbook" / "errors.py"
    newer.write_text(newer.read_text() + "\n# A newer runbook.\n")
    titanic = place.root / "data" / "dataset.py"
    titanic.write_text(titanic.read_text().replace("HOLDOUT_SHARE = 0.2", "HOLDOUT_SHARE = 0.25"))
    place.git(place.root, "commit", "--quiet", "--all", "--message", "Newer")

    place.git(project, "fetch", "--quiet", "runbook")
    merge = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(project), "merge", "runbook/main"],
        capture_output=True,
        text=True,
    )
    conflicts = place.git(project, "diff", "--name-only", "--diff-filter=U").split()
    assert conflicts == ["data/dataset.py"], merge.stdout + merge.stderr
    place.git(project, "checkout", "--ours", "data/dataset.py")
    place.git(project, "add", "--all")
    place.git(project, "commit", "--quiet", "--message", "Take the newer runbook")

    assert (project / "data" / "dataset.py").read_text() == before
    assert "# A newer runbook." in (project / "runbook" / "errors.py").read_text()
    assert place.runbook(project, "check").returncode == 0


def test_a_file_with_windows_line_ends_has_the_same_digest_in_every_clone(place: Place, tmp_path: Path) -> None:
    source = data(tmp_path)
    source.write_bytes(source.read_bytes().replace(b"\n", b"\r\n"))
    made = place.runbook(place.root, "new", str(tmp_path / "leavers"), "--data", str(source), "--label", "left")
    assert made.returncode == 0, made.stderr
    place.git(tmp_path, "clone", "--quiet", str(tmp_path / "leavers"), str(tmp_path / "clone"))
    found = hashlib.sha256((tmp_path / "clone" / "data" / "customers.csv").read_bytes()).hexdigest()
    assert found in (tmp_path / "clone" / "data" / "dataset.py").read_text()
