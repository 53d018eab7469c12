from __future__ import annotations

from pathlib import Path

import pytest
from built import Builder

from runbook import paths
from runbook.engine import params
from runbook.engine.params import Parameter
from runbook.errors import AnatomyError, ParamsError

EXTRA = (
    "traffic_percent: int = 0  # share of live traffic, percent, 0..100\n"
    'model_version: str = "1"  # version to deploy\n'
    "rate: float = 0.5  # rate, requests per second, 0..10\n"
    "dry_run: bool = False  # change nothing\n"
    'promote_when: str = "not_worse"  # rule, not_worse|better\n'
    "workspace: str | None = None  # workspace, required on azure\n"
)


@pytest.fixture
def files(build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    build("20_train", extra=EXTRA)
    folder = tmp_path / "params"
    folder.mkdir()
    for name in ("base", "local", "azure", "dev", "prod"):
        (folder / f"{name}.yml").write_text("")
    monkeypatch.setattr(paths, "PARAMS", folder)
    return folder


def refused(*overrides: str) -> str:
    with pytest.raises(ParamsError) as caught:
        params.layers("local", "dev", overrides=overrides)
    return str(caught.value)


def test_later_layers_win(files: Path) -> None:
    (files / "base.yml").write_text("traffic_percent: 1\nrate: 1.0\nmodel_version: '007'\n")
    (files / "local.yml").write_text("traffic_percent: 2\nrate: 2\n")
    (files / "dev.yml").write_text("traffic_percent: 3\n")
    assert params.layers("local", "dev") == {"traffic_percent": 3, "rate": 2, "model_version": "007"}
    assert params.layers("local", "dev", overrides=["traffic_percent=4"])["traffic_percent"] == 4


def test_an_unknown_parameter_is_refused_with_the_nearest_name(files: Path) -> None:
    assert "Did you mean 'traffic_percent'?" in refused("trafic_percent=5")
    (files / "dev.yml").write_text("modle_version: '2'\n")
    message = refused()
    assert "dev.yml" in message and "Did you mean 'model_version'?" in message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("traffic_percent=abc", "expected int"),
        ("traffic_percent=1.5", "expected int"),
        ("traffic_percent=101", "expected 0 to 100"),
        ("rate=nan", "finite"),
        ("rate=11", "expected 0 to 10"),
        ("dry_run=yes", "expected bool"),
        ("promote_when=sometimes", "one of not_worse, better"),
        ("traffic_percent", "expected key=value"),
        ("target=azure", "--target"),
        ("run_id=x", "--run-id"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(files: Path, override: str, words: str) -> None:
    assert words in refused(override)


@pytest.mark.parametrize(("text", "value"), [("007", "007"), ("1e3", "1e3"), ("true", "true")])
def test_a_string_stays_the_string_that_was_typed(files: Path, text: str, value: str) -> None:
    assert params.layers("local", "dev", overrides=[f"model_version={text}"]) == {"model_version": value}


def test_a_value_of_the_wrong_type_in_a_file_is_refused(files: Path) -> None:
    (files / "base.yml").write_text("model_version: 7\n")
    assert "model_version is 7 (int), expected str" in refused()


def test_true_is_not_an_int(files: Path) -> None:
    (files / "base.yml").write_text("traffic_percent: true\n")
    assert "expected int" in refused()


def test_a_nested_file_is_refused(files: Path) -> None:
    (files / "base.yml").write_text("prod:\n  rate: 1\n")
    assert "flat" in refused()


def test_a_step_gets_only_what_it_declares_and_the_runners_own(files: Path, build: Builder) -> None:
    build("30_evaluate")
    values = params.layers("local", "dev", overrides=["rate=1"])
    assert params.for_step(paths.NOTEBOOKS / "30_evaluate.ipynb", "local", None, "r1", values) == {
        "target": "local",
        "run_id": "r1",
    }
    assert params.for_step(paths.NOTEBOOKS / "20_train.ipynb", "local", "prod", "r1", values)["rate"] == 1.0


def test_a_value_required_on_azure_is_missed_there_and_not_here(files: Path) -> None:
    notebook = paths.NOTEBOOKS / "20_train.ipynb"
    params.for_step(notebook, "local", None, "r1", {})
    with pytest.raises(ParamsError, match="workspace is missing, required on azure"):
        params.for_step(notebook, "azure", None, "r1", {})


def test_a_notebook_without_the_parameters_tag_is_refused(build: Builder) -> None:
    path = build("20_train", tagged=False)
    with pytest.raises(AnatomyError, match="0 cells are tagged 'parameters'"):
        params.declared(path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("twice: int = 2 * 3  # computed", "is computed"),
        ("bare = 1  # no type", "expected 'name: type = default"),
        ("silent: int = 1", "has no comment"),
        ("low: int = 5  # out of its own range, 6..9", "the default of low is 5"),
        ("odd: set = None  # strange type", "expected one of"),
    ],
)
def test_a_parameters_cell_that_breaks_its_form_is_refused(build: Builder, line: str, words: str) -> None:
    path = build("20_train", extra=line + "\n")
    with pytest.raises(AnatomyError, match=words):
        params.declared(path)


def test_a_key_with_two_types_is_refused(build: Builder) -> None:
    build("20_train", extra="seed: int = 1  # seed\n")
    build("30_evaluate", extra='seed: str = "1"  # seed\n')
    with pytest.raises(AnatomyError, match="one type everywhere"):
        params.all_declared()


def test_ranges_and_choices_are_read_from_the_meaning() -> None:
    assert Parameter("x", "int", False, 1, "requests, 1..500").bounds == (1, 500)
    assert Parameter("x", "float", False, 1.0, "share, -0.5..1.5").bounds == (-0.5, 1.5)
    assert Parameter("x", "str", False, "a", "rule, not_worse|better").choices == ("not_worse", "better")
    assert Parameter("x", "str", False, "a", "see docs 1.2.3").bounds is None


def test_where_the_workspace_is_may_stand_in_azures_file_alone(build: Builder, files: Path) -> None:
    build("20_train", extra="rate: float = 0.5  # rate, 0..10\n")
    (files / "azure.yml").write_text("subscription_id: s\nresource_group: g\nworkspace: w\nrate: 1.0\n")
    assert params.layers("azure", "dev") == {"rate": 1.0}
    (files / "dev.yml").write_text("resource_group: g\n")
    with pytest.raises(ParamsError, match="unknown parameter 'resource_group'"):
        params.layers("azure", "dev")


@pytest.mark.parametrize("name", ["max_log_loss", "max_brier", "min_roc_auc", "min_accuracy"])
def test_an_old_sealed_key_is_refused_with_its_new_name(name: str, tmp_path: Path) -> None:
    said = rf"the parameter 'sealed_{name}' is called 'holdout_{name}' now\. Write the new name there\."
    with pytest.raises(ParamsError, match=said):
        params.layers("local", "dev", overrides=[f"sealed_{name}=0.5"])
    file = tmp_path / "limits.yml"
    file.write_text(f"sealed_{name}: 0.5\n")
    with pytest.raises(ParamsError, match=rf"limits\.yml: {said}"):
        params.layers("local", "dev", [file])


def test_an_unknown_key_that_begins_like_an_old_one_gets_no_invented_name() -> None:
    with pytest.raises(ParamsError, match="unknown parameter 'sealed_luck'"):
        params.layers("local", "dev", overrides=["sealed_luck=1"])


def test_the_params_files_of_the_checkout_fit_every_target_and_stage() -> None:
    for target in ("local", "azure"):
        for stage in ("dev", "prod"):
            params.layers(target, stage)


def test_what_differs_from_the_plain_command_is_known_with_its_source_limits_first(tmp_path: Path) -> None:
    file = tmp_path / "loose.yml"
    file.write_text("arrival_seed: 7\nmax_p99_ms: 5000\nmax_p95_ms: 400.0\ncv_folds: 5\n")
    notebook = paths.NOTEBOOKS / "80_stress_test.ipynb"
    assert params.given(notebook, "local", "prod", (), ()) == []
    found = params.given(notebook, "local", "prod", (file,), ("max_p50_ms=900", "calm_polls=20"))
    assert [(g.name, g.value, g.plain, g.source) for g in found] == [
        ("max_p50_ms", 900.0, 100.0, "-p"),
        ("max_p99_ms", 5000, 1000.0, "loose.yml"),
        ("arrival_seed", 7, 1, "loose.yml"),
    ]


def test_a_refused_value_says_which_notebook_lists_what_it_may_be() -> None:
    with pytest.raises(ParamsError) as caught:
        params.layers("local", "dev", overrides=["model_kind=woods"])
    message = str(caught.value)
    assert "expected one of auto, logistic_regression, gradient_boosting, random_forest" in message
    assert "Declared in the parameters cell of notebooks/20_train.ipynb." in message


def test_the_short_settings_leave_no_limit_in_milliseconds_to_a_busy_machine() -> None:
    limits = {name: p for name, p in params.all_declared().items() if name.startswith("max_") and name.endswith("_ms")}
    short = params.layers("local", "dev", [paths.PARAMS / "test.yml"])
    assert "max_burst_p99_ms" in limits
    for name, limit in limits.items():
        assert limit.bounds and short.get(name, 0) >= min(5 * limit.default, limit.bounds[1]), name
