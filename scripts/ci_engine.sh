#!/bin/sh
# A Docker engine for tests, on a socket and a bridge of its own, beside any other engine of the machine. Needs root.
#
#   scripts/ci_engine.sh start DIR   starts it and prints its DOCKER_HOST; DIR holds its data, socket, log and pid
#   scripts/ci_engine.sh stop DIR    ends it by its pid and removes its bridge; DIR's data stays
set -eu

action=${1:?start or stop}
dir=${2:?a folder}
# Interface names are short, and two engines must not share one.
bridge=pw$(printf %s "$dir" | cksum | cut -d" " -f1)
subnet=${PORTWRIGHT_TEST_SUBNET:-172.29.199.1/24}

start() {
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    command -v dockerd >/dev/null || { echo "dockerd is missing: apt-get install docker.io" >&2; exit 1; }
    if ! ip link show "$bridge" >/dev/null 2>&1; then
        ip link add "$bridge" type bridge
        ip addr add "$subnet" dev "$bridge"
        ip link set "$bridge" up
    fi
    rm -f "$dir/docker.pid"
    dockerd --data-root "$dir/data" --exec-root "$dir/exec" --host "unix://$dir/docker.sock" --pidfile "$dir/docker.pid" \
        --bridge "$bridge" --group "$(id -gn)" >"$dir/docker.log" 2>&1 &
    tries=0
    until curl --silent --fail --unix-socket "$dir/docker.sock" http://docker/_ping >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -gt 60 ]; then
            tail -n 20 "$dir/docker.log" >&2
            exit 1
        fi
        sleep 0.5
    done
    echo "unix://$dir/docker.sock"
}

stop() {
    pid=$(cat "$dir/docker.pid" 2>/dev/null || true)
    if [ -n "$pid" ] && kill -TERM "$pid" 2>/dev/null; then
        tries=0
        while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 60 ]; do
            tries=$((tries + 1))
            sleep 0.5
        done
    fi
    ip link delete "$bridge" 2>/dev/null || true
}

case $action in
    start) start ;;
    stop) stop ;;
    *) echo "usage: $0 start|stop DIR" >&2; exit 2 ;;
esac
