#!/bin/sh
# Carry toolchain images between the machines of a CI run: ci_images.sh save|load FILE. `load` of a file that isn't there
# does nothing: what is missing is built by the command that needs it.
set -eu
[ $# -eq 2 ] || { echo "usage: $0 save|load FILE" >&2; exit 2; }
case $1 in
save)
    images=$(docker image ls --filter label=portwright.toolchain --format '{{.Repository}}:{{.Tag}}')
    [ -n "$images" ] || { echo "ci_images: there is no toolchain image to save" >&2; exit 4; }
    mkdir -p "$(dirname "$2")"
    # shellcheck disable=SC2086 # one argument an image; their names hold no spaces
    docker image save --output "$2" $images
    ;;
load)
    if [ -f "$2" ]; then docker image load --quiet --input "$2"; else echo "ci_images: no $2"; fi
    ;;
*)
    echo "usage: $0 save|load FILE" >&2
    exit 2
    ;;
esac
