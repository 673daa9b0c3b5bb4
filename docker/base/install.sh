#!/bin/sh
# Runs in the build of every toolchain's image: installs the lock into /opt/toolchain, as the one layer on the base.
# All that it works with is mounted beneath /tmp, in memory: neither uv, nor certificates, nor index settings enter it.
set -eu
. /tmp/context/settings.env
EPOCH=1704067200

# What an interpreter caches of its own imports would carry the time, and what libraries note at home more than that.
export PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0 HOME=/tmp
export UV_CACHE_DIR=/tmp/cache UV_LINK_MODE=hardlink UV_PYTHON_DOWNLOADS=never UV_NO_CONFIG=1 UV_NO_PROGRESS=1

# On the cache's own disk first, where installing is linking: what is left out is then never written to the layer. A build
# that was killed left its folder there; another one may be removing it, or its own, at this moment.
find /tmp/cache -maxdepth 1 -name 'portwright-stage.*' -mmin +1440 -exec rm -rf {} + || true
stage=$(mktemp -d /tmp/cache/portwright-stage.XXXXXX)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"
ln -s "$stage" /opt/toolchain

/tmp/uv/uv venv --allow-existing --python /usr/bin/python3 /opt/toolchain
/tmp/uv/uv pip install --python /opt/toolchain/bin/python --require-hashes --no-deps \
    --requirements /tmp/context/requirements.lock

# What only a vendor hands out, where the user dropped it in: from the context, with no network.
if [ -f /tmp/context/archives.json ]; then
    /opt/toolchain/bin/python /tmp/context/archives.py /tmp/context/archives.json /tmp/uv/uv
fi

# Of a wheel that lay on a disk uv notes when it was put there: another time, another layer.
find /opt/toolchain/lib -path '*.dist-info/uv_cache.json' -delete
find /opt/toolchain/lib -path '*.dist-info/RECORD' -exec sed -i '/\/uv_cache\.json,/d' {} +

# Leaves out what no stage loads, and compiles the rest.
/opt/toolchain/bin/python -W ignore /tmp/context/slim.py /tmp/cache/portwright-bytecode /tmp/context/slim/*.toml

rm /opt/toolchain
python3 /tmp/context/lay.py "$stage" /opt/toolchain "$EPOCH"
/opt/toolchain/bin/python /tmp/context/symbols.py /tmp/context/slim/*.toml

# What a toolchain does besides, in its own folder.
if [ -f /tmp/context/finish.sh ]; then
    PATH=/opt/toolchain/bin:/usr/bin:/bin sh -eu /tmp/context/finish.sh
fi

find /opt -newermt "@$EPOCH" -exec touch --no-dereference --date="@$EPOCH" {} +
