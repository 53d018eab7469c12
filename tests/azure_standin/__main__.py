"""Rehearse on a stand-in of Azure: PYTHONPATH=tests python -m azure_standin runbook run all --target azure."""

from __future__ import annotations

import subprocess
import sys

from azure_standin import azurite
from azure_standin.standin import KNOWN, StandIn, aimed


def main(command: list[str]) -> int:
    """Run a command aimed at a fresh stand-in; its exit code, or 1 when it asked for a host that it should not."""
    missing = azurite.missing()
    if missing or not command:
        sys.stderr.write(f"{missing or 'Name the command to rehearse.'}\n")
        return 2
    with StandIn() as standin:
        print(f"REHEARSAL against a stand-in of Azure: {' '.join(command)}", flush=True)
        code = subprocess.run(command, env=aimed(standin.environment()), check=False).returncode
        wrong = [v for v in standin.violations if v not in KNOWN]
        print(f"REHEARSAL: {len(standin.state.exchanges)} exchanges with {len(standin.proxy.hosts())} hosts.")
        print(f"REHEARSAL: {standin.checked} bodies held against Microsoft's types, {len(wrong)} do not fit.")
        for host in sorted(standin.unexpected()):
            print(f"REHEARSAL: refused a connection to {host}, which nobody should have asked for.")
        return code or int(bool(standin.unexpected() or wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
