#!/bin/sh
# Runs in the builder stage of every toolchain: installs the lock into /opt/toolchain and lays it out under /out.
# The context is bind-mounted, so neither uv, nor certificates, nor index settings enter a layer.
set -eu
. /context/settings.env

export UV_CACHE_DIR=/cache UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_NO_CONFIG=1 UV_NO_PROGRESS=1
/context/uv venv --python /usr/bin/python3 /opt/toolchain
/context/uv pip install --python /opt/toolchain/bin/python --require-hashes --no-deps \
    --requirements /context/requirements.lock

# What only a vendor hands out, where the user dropped it in: from the context, with no network.
if [ -f /context/archives.json ]; then
    /opt/toolchain/bin/python /context/archives.py /context/archives.json /context/uv
fi

# Of a wheel that lay on a disk uv notes when it was put there: another time, another layer.
find /opt/toolchain/lib -path '*.dist-info/uv_cache.json' -delete
find /opt/toolchain/lib -path '*.dist-info/RECORD' -exec sed -i '/\/uv_cache\.json,/d' {} +

# Leaves out what no stage loads, and compiles the rest. The interpreter must not cache what it imports itself: that would
# carry the time.
PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0 /opt/toolchain/bin/python -W ignore \
    /context/slim.py /cache/portwright-bytecode /context/slim/*.toml

mkdir -p /out/opt
mv /opt/toolchain /out/opt/toolchain
find /out -exec touch --no-dereference --date=@1704067200 {} +
