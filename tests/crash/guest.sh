# Sourced after lab.sh by what the crash tests run in the guest.
# shellcheck shell=bash

# device N: the kernel's name of disk N.
device() { basename "$(readlink -f "/dev/disk/by-id/virtio-disk$1")"; }

# array_of UUID: the kernel's name of the array, also while it is not running.
array_of() {
    local file
    for file in /sys/block/md*/md/uuid; do
        [ "$(cat "$file" 2>/dev/null)" != "$1" ] || basename "$(dirname "$(dirname "$file")")"
    done
}

# assembled UUID: waits until it runs again after a boot, and prints its name.
assembled() {
    local tries name
    for ((tries = 0; tries < 1200; tries++)); do
        name=$(array_of "$1")
        case $(cat "/sys/block/$name/md/array_state" 2>/dev/null || echo none) in
            none | inactive | clear) read -rt 0.1 <> <(:) || true ;;
            *) echo "$name"; return ;;
        esac
    done
    echo "array $1 does not come back" >&2
    cat /proc/mdstat >&2
    return 1
}

# facts NAME: what the kernel says of an array: `NAME VALUE` lines, and `member DEV SLOT START STATE`.
facts() {
    local md=/sys/block/$1/md file member value
    for file in sync_action sync_completed array_state degraded; do
        read -r value 2>/dev/null <"$md/$file" || value=unknown
        echo "$file $value"
    done
    for member in "$md"/dev-*; do
        printf 'member %s' "${member##*/dev-}"
        for file in slot recovery_start state; do
            read -r value 2>/dev/null <"$member/$file" || value=unknown
            printf ' %s' "$value"
        done
        echo
    done
}

# quiet NAME: waits until nothing is being written, so that the array is marked clean.
quiet() {
    local tries
    for ((tries = 0; tries < 600; tries++)); do
        case $(cat "/sys/block/$1/md/array_state") in
            clean | read-auto | readonly) return ;;
        esac
        read -rt 0.05 <> <(:) || true
    done
    echo "$1 does not become clean" >&2
    return 1
}

# back PID: waits until the service runs again in another process, and answers.
back() {
    local tries pid
    for ((tries = 0; tries < 600; tries++)); do
        pid=$(systemctl show --value -p MainPID lund)
        if [ "$pid" != 0 ] && [ "$pid" != "$1" ] && [ "$(systemctl is-active lund)" = active ]; then
            lunctl list --json >/dev/null && return
        fi
        read -rt 0.1 <> <(:) || true
    done
    systemctl status lund >&2
    return 1
}

# ledger: every operation in the ledger, as JSON lines.
ledger() {
    sqlite3 -readonly -cmd '.timeout 5000' /var/lib/lund/lund.db \
        "select json_object('id', id, 'lun', lun, 'state', state, 'ended', ended, 'op', json(json)) from ops order by id"
}

# half NAME SLOT...: the data of these slots alone, as a read-only device; prints it. One slot of a raid1, or
# those of a raid10 (near-2) that hold every chunk once. The array may run: a loop device claims nothing.
half() {
    local md=/sys/block/$1/md size slot disk loops=() table
    size=$(blockdev --getsz "/dev/$1")
    shift
    for slot in "$@"; do
        disk=/dev/$(basename "$(readlink -f "$md/rd$slot/block")")
        blockdev --flushbufs "$disk"
        loops+=("$(losetup --find --show --read-only --direct-io=on --offset $(($(cat "$md/rd$slot/offset") * 512)) \
            --sizelimit $((size / $# * 512)) "$disk")")
    done
    if [ $# = 1 ]; then
        echo "${loops[0]}"
        return
    fi
    table="0 $size striped $# $(($(cat "$md/chunk_size") / 512))"
    for disk in "${loops[@]}"; do table+=" $disk 0"; done
    dmsetup create --readonly "half$1" --table "$table"
    echo "/dev/mapper/half$1"
}

# halves_down: takes all of them away.
halves_down() {
    local name
    for name in /dev/mapper/half*; do dmsetup remove "$name"; done
    losetup --detach-all
    udevadm settle
}

# clear_disks NAME...: nothing of an earlier round is left on them.
clear_disks() {
    wipefs --quiet --all "${@/#//dev/}"
    udevadm settle
}
