"""Checks a checkout without running it; `runbook check` prints what breaks a rule."""

from __future__ import annotations


def problems() -> list[str]:
    """Return what breaks a rule of notebooks, params, deployment files, pipelines, or the four places of a model."""
    from runbook.lint import four_places, notebooks, swagger

    found = [*notebooks.everything(), *four_places.problems()]
    # The swagger says in words what the blanks leave open.
    return found if four_places.blanks() else [*found, *swagger.problems()]


def thoughts() -> list[str]:
    """Return limits that work but that a person should decide."""
    from runbook.lint import four_places

    return four_places.thoughts()
