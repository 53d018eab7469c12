from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runbook.errors import AnatomyError
from runbook.lint.azure_pipelines.language import AT, evaluate, load

NAMES = {
    "variables": {"Build.Reason": "PullRequest", "empty": ""},
    "parameters": {"deep": {"er": "found"}, "flag": True},
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("eq('Main', 'main')", True),
        ("ne(variables['Build.Reason'], 'PullRequest')", False),
        ("eq(variables['not there'], '')", True),
        ("eq(variables.empty, '')", True),
        ("eq(parameters.flag, 'True')", True),
        ("parameters.deep.er", "found"),
        ("in('b', 'a', 'B')", True),
        ("and(true, or(False, not(eq(1, 2))))", True),
        ("'it''s (one, text)'", "it's (one, text)"),
        ("answer()", 42),
    ],
)
def test_an_expression_has_the_value_the_documentation_gives(expression: str, value: Any) -> None:
    assert evaluate(expression, NAMES, {"answer": lambda: 42}) == value


@pytest.mark.parametrize(
    "expression",
    ["", "eq('a'", "variables[", "variables['a'", "unknown('a')", "elsewhere.x", "eq('a', 'b') more", "a && b"],
)
def test_what_is_not_an_expression_is_refused(expression: str) -> None:
    with pytest.raises(AnatomyError):
        evaluate(expression, NAMES, {})


def expand(tmp_path: Path, text: str, template: str = "", **parameters: Any) -> dict[str, Any]:
    (tmp_path / "p").mkdir(exist_ok=True)
    (tmp_path / "p" / "a.yml").write_text(text)
    (tmp_path / "p" / "b.yml").write_text(template)
    return load(tmp_path, "p/a.yml", parameters)


def test_a_parameter_is_inserted_as_text_inside_text_and_whole_when_it_stands_alone(tmp_path: Path) -> None:
    text = "parameters:\n- {name: x, type: object, default: [a, b]}\n- {name: y, default: z}\n"
    found = expand(tmp_path, text + "stages: ${{ parameters.x }}\nname: '<${{ parameters.y }}>'\n")
    assert (found["stages"], found["name"]) == (["a", "b"], "<z>")


def test_a_template_sees_its_own_parameters_only_and_keeps_its_own_places(tmp_path: Path) -> None:
    text = "parameters:\n- {name: x, default: outside}\nsteps:\n- template: b.yml\n  parameters: {y: '${{ parameters.x }}'}\n"
    template = "parameters:\n- {name: y}\nsteps:\n- bash: echo ${{ parameters.y }}\n"
    (step,) = expand(tmp_path, text, template)["steps"]
    assert step == {AT: "p/b.yml:4", "bash": "echo outside"}
    with pytest.raises(AnatomyError, match="p/b.yml:4: parameter 'x' is not declared"):
        expand(tmp_path, text, template.replace("parameters.y", "parameters.x"))


@pytest.mark.parametrize(("chosen", "wanted"), [("a", ["first", "last"]), ("b", ["middle", "last"])])
def test_a_condition_inserts_items_into_a_list_and_keys_into_a_mapping(
    tmp_path: Path, chosen: str, wanted: list[str]
) -> None:
    text = """
parameters:
- {name: x, values: [a, b]}
steps:
- ${{ if eq(parameters.x, 'a') }}:
  - bash: first
- ${{ if eq(parameters.x, 'b') }}:
  - bash: middle
- bash: last
  env:
    ALWAYS: yes
    ${{ if eq(parameters.x, 'b') }}:
      SOMETIMES: too
"""
    steps = expand(tmp_path, text, x=chosen)["steps"]
    assert [step["bash"] for step in steps] == wanted
    assert ("SOMETIMES" in steps[-1]["env"]) is (chosen == "b")
