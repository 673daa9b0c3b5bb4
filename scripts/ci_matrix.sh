#!/bin/sh
# The CI matrices, one line each, as a workflow's outputs: images, compile, device.
set -eu
cd "$(dirname "$0")/.."
for jobs in images compile device; do
    rows=$(.venv/bin/invoke matrix --format=github --jobs="$jobs")
    echo "$jobs=$rows"
done
