"""Params and deployment files that YAML would settle silently, and files that are no YAML: one sentence each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from runbook import paths, strict_yaml
from runbook.engine import params
from runbook.errors import AnatomyError, ParamsError
from runbook.platform import files

LATIN = "# Überlebende\ncv_folds: 5\n".encode("latin-1")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A params folder of this test; returns its base.yml."""
    for name in ("base", "local", "azure", "dev", "prod"):
        (tmp_path / f"{name}.yml").write_text("")
    monkeypatch.setattr(paths, "PARAMS", tmp_path)
    return tmp_path / "base.yml"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (LATIN, "line 1: byte 0xdc is not UTF-8"),
        (b"cv_folds: 5\nseed: 1\ncv_folds: 6\n", "line 3: 'cv_folds' stands here again, the first time in line 1"),
        (b"seed: 1\ncv_folds: 010\n", "line 2: YAML reads 010 as 8. Write 8 when that is meant"),
        (b"cv_folds: 0x10\n", "YAML reads 0x10 as 16"),
        (b"cv_folds: 1:30\n", "YAML reads 1:30 as 90"),
        (b"cv_folds: 1_0\n", "YAML reads 1_0 as 10"),
        (b"holdout_max_log_loss: 1_0.5\n", "YAML reads 1_0.5 as 10.5"),
        (b"cv_folds: " + b"9" * 5000 + b"\n", "line 1: 999999999999999999... has 5000 digits"),
        (b"holdout_max_log_loss: 1" + b"0" * 400 + b"\n", "has 401 digits"),
        (b"holdout_max_log_loss: 1.0e+999\n", "is inf, expected a finite number"),
        (b"cv_folds: " + b"[" * 100_000 + b"\n", "line 1: values are nested deeper than 20 levels"),
        (b"cv_folds: " + b"{a: " * 100_000 + b"\n", "line 1: values are nested deeper than 20 levels"),
        (b"seed: &s 1\ncv_folds: *s\n", "line 2: *s is an alias"),
        (b"<<: {cv_folds: 5}\n", "line 1: << merges one mapping into another"),
        (b"cv_folds: 5\n\tseed: 1\n", "line 2: this is not YAML"),
        (b"cv_folds: 5\x00\n", "this is not YAML"),
        (b"[]\n", "expected flat 'key: value' lines"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_params_file_that_cannot_be_taken_at_its_word_is_refused_with_file_and_line(
    base: Path, content: bytes, says: str
) -> None:
    base.write_bytes(content)
    with pytest.raises(ParamsError) as caught:
        params.layers("local", None)
    message = str(caught.value)
    assert str(base) in message and says in message
    assert "\n" not in message and len(message) < 500


def test_a_folder_in_the_place_of_a_params_file_is_named(base: Path) -> None:
    base.unlink()
    base.mkdir()
    with pytest.raises(ParamsError, match="base.yml is a folder, expected a YAML file"):
        params.layers("local", None)


@pytest.mark.parametrize("override", ["cv_folds=010", "cv_folds=1_0", "cv_folds=" + "9" * 5000, "seed=" + "9" * 19])
def test_a_number_on_the_command_line_means_what_it_means_in_a_file(base: Path, override: str) -> None:
    with pytest.raises(ParamsError) as caught:
        params.layers("local", None, overrides=[override])
    assert len(str(caught.value)) < 500 and "int" in str(caught.value)


def test_the_command_shows_one_sentence_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "more.yml").write_bytes(LATIN)
    command = [str(Path(sys.executable).with_name("runbook")), "plan", "ci", "-f", str(tmp_path / "more.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2 and done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert f"{tmp_path / 'more.yml'}, line 1" in done.stderr


def test_a_deployment_file_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deployment.yml").write_text("instance_count: 1\nname: blue\ninstance_count: 3\n")
    with pytest.raises(AnatomyError, match="line 3: 'instance_count' stands here again"):
        files.read(tmp_path / "deployment.yml")


def test_every_file_of_the_checkout_means_the_same_strictly_read() -> None:
    found = [
        p for folder in ("params", "deployment", "environment_setup") for p in (paths.ROOT / folder).rglob("*.yml")
    ]
    assert len(found) > 8
    for path in found:
        assert strict_yaml.read(path, ParamsError) == yaml.safe_load(path.read_text(encoding="utf-8")), path
