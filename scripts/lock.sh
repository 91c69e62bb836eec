#!/bin/sh
# Writes requirements/*.txt anew; versions that still fit stay, unless called with --upgrade.
set -eu
cd "$(dirname "$0")/.."

if ! command -v uv >/dev/null 2>&1; then
    [ -x .venv-lock/bin/uv ] || {
        "${PYTHON:-python3}" -m venv .venv-lock
        echo '*' >.venv-lock/.gitignore
        .venv-lock/bin/python -m pip install --quiet --disable-pip-version-check uv
    }
    PATH="$PWD/.venv-lock/bin:$PATH"
fi

# --universal: one file for every platform and every Python from the named one on, with markers.
# --no-header: the header would hold the command line of this machine.
compile() {
    python=$1 target=$2
    shift 2
    uv pip compile --quiet --universal --python-version "$python" --generate-hashes --no-header \
        --output-file "requirements/$target" "$@" >/dev/null
    echo "requirements/$target"
}

# Extras are the SDK's, groups the service's. dev first: `make up` and the images then get the very
# versions that the tests ran with.
compile 3.10 dev.txt pyproject.toml --all-extras \
    --group gateway --group grpc --group worker --group training --group tracing --group local --group dev "$@"
compile 3.10 runtime.txt pyproject.toml --all-extras \
    --group gateway --group grpc --group worker --group training --group tracing --group local \
    --constraints requirements/dev.txt
compile 3.10 gateway.txt pyproject.toml --extra s3 --extra sign --group gateway --group grpc --group tracing \
    --constraints requirements/dev.txt
compile 3.10 worker.txt pyproject.toml --all-extras --group worker --group training --group tracing \
    --constraints requirements/dev.txt
compile 3.11 exporter.txt requirements/exporter.in "$@"
compile 3.11 mlflow.txt requirements/mlflow.in "$@"
compile 3.10 audit.txt requirements/audit.in --constraints requirements/dev.txt "$@"
