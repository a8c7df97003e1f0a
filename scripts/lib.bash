# Sourced by the scripts in this folder.
# shellcheck shell=bash

say() { echo "$*" >&2; }

die() {
    echo "error: $*" >&2
    exit 1
}

# How to become root; empty when we are. Where only sudo can help and it is not there, the array
# still names it, so that the message of the shell names what is missing.
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    # shellcheck disable=SC2034  # used by the scripts that source this
    as_root=(sudo)
fi
