#!/bin/sh
# Every static check, all of them even where one fails. `make lint` and CI run this; pre-commit does too.
set -u
cd "$(dirname "$0")/.." || exit 2

failed=''
check() {
    name=$1
    shift
    "$@" || failed="$failed $name"
}

check ruff .venv/bin/ruff check --quiet
check ruff-format .venv/bin/ruff format --quiet --check
check mypy .venv/bin/mypy
check shellcheck .venv/bin/shellcheck scripts/*.sh .ci/run
check actionlint .venv/bin/actionlint -shellcheck .venv/bin/shellcheck
check zizmor .venv/bin/zizmor --offline --quiet .github/workflows
[ -z "$failed" ] || { echo "lint: failed:$failed" >&2; exit 1; }
echo "lint: clean"
