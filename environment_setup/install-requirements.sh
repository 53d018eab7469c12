#!/usr/bin/env bash
# Makes .venv from the one lock. Safe to call before every command: when nothing has changed it is done at once.
set -euo pipefail
cd "$(dirname "$0")/.."
lock=environment_setup/requirements.lock
stamp=.venv/.installed

wanted=$(cat "$lock" pyproject.toml | cksum)
if [ -x .venv/bin/runbook ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted $PWD" ]; then
    exit 0
fi

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

python=""
for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python; do
    if command -v "$candidate" >/dev/null && fits "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
    echo "No Python 3.11 to 3.13 found. Debian/Ubuntu: sudo apt-get install git make python3 python3-venv; macOS: brew install git make python@3.13" >&2
    exit 2
fi

if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Python's venv is missing: installing the Debian package $package."
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package"
    else
        echo "Python's venv is missing. Install it with: sudo apt-get install $package" >&2
        exit 2
    fi
fi

echo "Setting up .venv with $("$python" --version) from $lock ..."
rm -f "$stamp"
uv=$(command -v uv || true)
if [ -z "$uv" ] && [ -x .venv/bin/uv ]; then uv=.venv/bin/uv; fi
if [ ! -x .venv/bin/python ] || ! fits .venv/bin/python || { [ -z "$uv" ] && ! .venv/bin/python -c 'import pip' 2>/dev/null; }; then
    rm -rf .venv
    "$python" -m venv .venv
fi
if [ -z "$uv" ]; then
    # uv installs everything else, so it is held to its own entry of the lock: version and hashes.
    sed -n '/^uv==/,/[^\\]$/p' "$lock" >.venv/uv.txt
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement .venv/uv.txt &&
        uv=.venv/bin/uv || uv=""
fi
if [ -n "$uv" ]; then
    # Compiled here once, else every first start of a scoring server pays for it.
    "$uv" pip sync --quiet --python .venv/bin/python --require-hashes --compile-bytecode "$lock"
    "$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
else
    echo "uv is not to be had here: installing with pip, which takes a few minutes."
    # The lock is complete. Without --no-deps, pip would ask for the package that pyproject.toml leaves out.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement "$lock"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
fi
echo "$wanted $PWD" >"$stamp"
echo "Ready: .venv/bin/runbook"
