#!/bin/sh
# Makes .venv in the checkout, exactly as requirements.lock says; does nothing where that is done already.
# $PYTHON names the interpreter to build it with (3.11 or newer). Package settings are pip's own: index, proxy,
# certificate and find-links come from `pip config` and PIP_* variables.
set -eu
cd "$(dirname "$0")/.."

lock=requirements.lock
stamp=.venv/portwright-setup.stamp
wanted='Python 3.11 or newer with its venv module, git and make'

how_to_install() {
    sudo=''
    [ "$(id -u)" = 0 ] || sudo='sudo '
    if command -v apt-get >/dev/null; then
        echo "${sudo}apt-get install python3 python3-venv make git"
    elif command -v dnf >/dev/null; then
        echo "${sudo}dnf install python3 make git"
    elif command -v brew >/dev/null; then
        echo "brew install python make git"
    else
        echo "install $wanted with the system's package manager"
    fi
}

missing() {
    echo "setup: $1" >&2
    echo "  needed: $wanted" >&2
    echo "  try: $(how_to_install)" >&2
    exit 2
}

# A pyenv shim exists even where no interpreter stands behind it, so finding a name proves nothing: run it.
is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_new_enough "$PYTHON" || missing "PYTHON=$PYTHON does not run, or is older than 3.11"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    found=$(python3 --version 2>/dev/null) || found='no python3'
    missing "no Python 3.11 or newer found ($found)"
}

# What .venv depends on: the lock, the interpreter, and the checkout's own path, which its scripts carry.
fingerprint() {
    "$1" -c 'import hashlib, os, sys
lock = hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest()
print(lock, sys.version.split()[0], sys.platform, os.getcwd())' "$lock" 2>/dev/null
}

up_to_date() {
    [ -f "$stamp" ] && [ -x .venv/bin/python ] && [ "$(fingerprint .venv/bin/python)" = "$(cat "$stamp")" ]
}

command -v git >/dev/null || missing 'git is missing'
# Two setups at once take turns: a lock on the folder itself, which ends with the process that holds it.
if command -v flock >/dev/null; then
    exec 9<.
    flock 9
fi
if up_to_date; then
    exit 0
fi

python=$(find_python)
"$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || missing "$python ($("$python" --version)) lacks the venv module"
echo "setup: making .venv from $lock with $("$python" --version)"
# Without its stamp a half-made .venv counts as none, so a setup killed anywhere below is made anew by the next one.
rm -f "$stamp"
"$python" -m venv --clear .venv
# The lock is complete and hashed: nothing is left to resolve, and nothing else may come in.
if ! .venv/bin/python -m pip --disable-pip-version-check --no-input install -qq --no-user --no-deps --no-compile \
    --require-hashes --only-binary :all: --requirement "$lock"; then
    echo "setup: pip could not install $lock" >&2
    echo "  try: .venv/bin/python -m pip config list  (says which index, proxy and certificate pip uses)" >&2
    exit 4
fi
# Every command starts in half the time where bytecode is there, and some environments forbid Python to write it.
env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -m invoke plan >/dev/null 2>&1 || true
env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -c 'import docker, rich.console, rich.status, rich.table' || true
.venv/bin/python -m compileall -q portwright shared tasks.py
fingerprint .venv/bin/python >"$stamp.new"
mv "$stamp.new" "$stamp"
echo "setup: .venv is ready"
# The toolchain images bring their Python along; virtual environments take this machine's.
is_locked() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1
}
if ! is_locked .venv/bin/python && ! is_locked python3.11; then
    echo "setup: note: toolchains are locked for Python 3.11, which was not found: --engine=venv will need it, docker won't"
fi
