#!/bin/sh
# Compile docker/*/requirements.in, device/*/requirements.in and the host's pyproject.toml into hash locks. Extra arguments go to uv, as in `scripts/lock.sh --upgrade`.
# Package settings (index, find-links) come from the machine and are written into no lock.
set -eu
cd "$(dirname "$0")/.."
uv=.venv/bin/uv
[ -x "$uv" ] || { echo "lock: $uv is missing; run: make setup" >&2; exit 2; }

# uv doesn't read pip's configuration, so that where pip finds the CPU build of PyTorch, uv would not.
pip_setting() { python3 -m pip config get "global.$1" 2>/dev/null | tr '\n' ' ' || true; }
if [ -z "${UV_FIND_LINKS:-}" ]; then
    UV_FIND_LINKS=${PIP_FIND_LINKS:-$(pip_setting find-links)}
    UV_FIND_LINKS=$(echo "$UV_FIND_LINKS" | xargs | tr ' ' ',')
    export UV_FIND_LINKS
fi
if [ -z "${UV_INDEX_URL:-}${UV_DEFAULT_INDEX:-}" ]; then
    UV_DEFAULT_INDEX=${PIP_INDEX_URL:-$(pip_setting index-url)}
    UV_DEFAULT_INDEX=$(echo "$UV_DEFAULT_INDEX" | xargs)
    if [ -n "$UV_DEFAULT_INDEX" ]; then export UV_DEFAULT_INDEX; else unset UV_DEFAULT_INDEX; fi
fi

for source in docker/*/requirements.in; do
    lock=${source%.in}.lock
    echo "lock: $lock"
    # A toolchain for one system says so in its first lines; all others are for the one that compiles the lock.
    platform=$(sed -n 's/^# platform: //p' "$source")
    "$uv" pip compile "$source" --output-file "$lock" --quiet --generate-hashes --python-version 3.11 \
        ${platform:+--python-platform "$platform"} \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" "$@"
done

# What devices without Docker install: one lock a platform, of wheels only, for nothing is compiled there.
list=$(.venv/bin/python -m portwright.device_locks)
echo "$list" | while read -r source lock platform; do
    echo "lock: $lock"
    "$uv" pip compile "$source" --output-file "$lock" --quiet --generate-hashes --python-version 3.11 \
        --python-platform "$platform" --only-binary :all: \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" "$@"
done

# The host's own lock serves every system and every Python that pyproject.toml allows.
echo "lock: requirements.lock"
"$uv" pip compile pyproject.toml --extra dev --universal --output-file requirements.lock --quiet --generate-hashes \
    --python-version 3.11 --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" "$@"
