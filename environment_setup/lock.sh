#!/usr/bin/env bash
# Renews requirements.lock from pyproject.toml: one resolution for everything, because a second one could change the
# libraries under the server that the tests have approved. The lock names versions and hashes, never a registry.
set -euo pipefail
cd "$(dirname "$0")/.."
uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --quiet \
    --no-emit-index-url --no-emit-find-links --no-annotate --no-header --output-file environment_setup/requirements.lock "$@"
