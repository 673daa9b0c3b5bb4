#!/bin/sh
# A Docker engine for tests, on a socket and a bridge of its own, beside any other engine of the machine. Needs root.
#
#   scripts/ci_engine.sh start DIR   starts it and prints its DOCKER_HOST; DIR holds its data, socket, log and pid
#   scripts/ci_engine.sh stop DIR    ends it by its pid and removes its bridge; DIR's data stays
#
# PORTWRIGHT_TEST_SUBNET=a.b.c.d/24 names the bridge's own address where the chosen one is taken.
set -eu

usage() {
    echo "usage: $0 start|stop DIR" >&2
    exit 2
}
[ $# -eq 2 ] || usage
action=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
# Interface names are short, and two engines must share neither a bridge nor its network.
number=$(printf %s "$dir" | cksum | cut -d' ' -f1)
bridge=pw$number
subnet=${PORTWRIGHT_TEST_SUBNET:-172.29.$((number % 254 + 1)).1/24}
TRIES=60 # half-seconds

answers() {
    curl --silent --fail --max-time 2 --unix-socket "$dir/docker.sock" http://docker/_ping >/dev/null 2>&1
}

start() {
    if ! answers; then
        command -v dockerd >/dev/null || { echo "dockerd is missing: apt-get install docker.io" >&2; exit 1; }
        if ! ip link show "$bridge" >/dev/null 2>&1; then
            ip link add "$bridge" type bridge
            ip addr add "$subnet" dev "$bridge"
            ip link set "$bridge" up
        fi
        rm -f "$dir/docker.pid"
        # A containerd that the machine already runs would be shared: the namespaces keep the engines apart in it.
        dockerd --data-root "$dir/data" --exec-root "$dir/exec" --host "unix://$dir/docker.sock" \
            --pidfile "$dir/docker.pid" --bridge "$bridge" --group "$(id -gn)" \
            --containerd-namespace "$bridge" --containerd-plugins-namespace "$bridge-plugins" \
            >"$dir/docker.log" 2>&1 </dev/null &
        tries=0
        until answers; do
            tries=$((tries + 1))
            if [ "$tries" -gt "$TRIES" ]; then
                tail -n 20 "$dir/docker.log" >&2
                stop
                exit 1
            fi
            sleep 0.5
        done
    fi
    echo "unix://$dir/docker.sock"
}

stop() {
    pid=$(cat "$dir/docker.pid" 2>/dev/null || true)
    # The number may be another process's by now.
    if [ -n "$pid" ] && grep -qs dockerd "/proc/$pid/cmdline"; then
        kill -TERM "$pid"
        tries=0
        while kill -0 "$pid" 2>/dev/null; do
            tries=$((tries + 1))
            [ "$tries" -ne "$TRIES" ] || kill -KILL "$pid"
            [ "$tries" -le "$TRIES" ] || break
            sleep 0.5
        done
    fi
    # What an engine that was killed left mounted would keep its folder from being removed. Inner mounts first.
    awk -v top="$dir/" 'index($2, top) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mounted; do
        umount -l "$mounted" || true
    done
    ip link delete "$bridge" 2>/dev/null || true
}

case $action in
    start) start ;;
    stop) stop ;;
    *) usage ;;
esac
