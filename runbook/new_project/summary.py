"""Says in the terminal what `runbook new` wrote, what it left out and what a person must fill in."""

from __future__ import annotations

from runbook.modelling.description import BLANK, THINK, marked
from runbook.new_project.profile import Profile
from runbook.new_project.writer import NewProject


def text(project: NewProject, profile: Profile) -> str:
    """Return fields, columns left out, blanks, limits to decide and the next commands, a line each."""
    lines = [
        f"Project {project.name} in {project.folder}: {profile.rows:,} rows of {profile.path.name}.",
        f"The label {profile.label} is 1 in {100 * profile.positive_share:.1f} % of them.",
        "",
        f"{len(profile.columns)} columns became request fields:",
        *[f"  {c.field} ({c.kind}{', null allowed' if c.nullable else ''}): {c.found}" for c in profile.columns],
    ]
    if profile.left_out:
        lines += ["", "Left out:", *[f"  {name}: {reason}" for name, reason in profile.left_out.items()]]
    lines += ["", "Fill in, because only a person can know:"]
    lines += [f"  {where}: {question}" for where, question in marked(project.folder, BLANK)]
    lines += ["", "Works, but decide it before you trust a release:"]
    lines += [f"  {where}: {question}" for where, question in marked(project.folder, THINK)]
    lines += [
        "",
        f"Written: {', '.join(project.written)}. Requests and answers are not collected.",
        "After the first green run: make reference. The tables that nbval compares are still those of the first data set.",
        f"Next: cd {project.folder}, fill in the blanks, then: make swagger && make check && make run",
    ]
    return "\n".join(lines)
