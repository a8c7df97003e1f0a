#!/usr/bin/env bash
# Adds one spare to one array twice, through mdadm and through lund's own hand, and compares what is on it.
set -euo pipefail

act=/opt/lund/act
work=$(mktemp -d)
head -c 4M /dev/zero | tr '\0' U > "$work/pattern"
for number in 0 1 2 3 4; do
    truncate -s 64M "$work/disk$number"
    losetup "/dev/loop$number" "$work/disk$number"
done
spare=/dev/loop4

fail() { echo "FAILED: $*"; exit 1; }

# A drive with something in it that is no signature: what nobody writes is seen.
fill() {
    wipefs --all --quiet "$spare"
    dd if="$work/pattern" of="$spare" bs=1M conv=fsync status=none
    udevadm settle
}

bytes() { dd if="$spare" iflag=direct bs=4096 skip="$1" count="$2" status=none; }

# The superblock without what is particular to a moment and to a device: UUID, time, events, checksum.
superblock() {
    bytes 1 1 | head -c 512 | od -A d -t x1 -v -w8 \
        | sed -e '/^0000168/d; /^0000176/d; /^0000192/d; /^0000200/d; s/^0000216 .. .. .. ../0000216/'
}

# The bitmap without its count of events.
bitmap() { bytes 2 2 | od -A d -t x1 -v -w8 | sed '/^0000024/d'; }

examine() {
    mdadm --examine "$spare" | sed -e '/Device UUID/d; /Update Time/d; /Checksum/d; /Events/d'
}

look() { superblock > "$work/$1.superblock"; bitmap > "$work/$1.bitmap"; examine > "$work/$1.examine"; }

idle() { mdadm --wait /dev/md0 > /dev/null 2>&1 || true; udevadm settle; }

create() {
    mdadm --create /dev/md0 --run --assume-clean --quiet "$@" > /dev/null 2>&1
    idle
}

destroy() {
    mdadm --stop --quiet /dev/md0
    for number in 0 1 2 3 4; do wipefs --all --quiet "/dev/loop$number"; done
    udevadm settle
}

by_mdadm() {
    fill
    mdadm --quiet /dev/md0 --add-spare "$spare"
    udevadm settle
    look mdadm
    mdadm --quiet /dev/md0 --remove "$spare"
}

# The kernel takes it, fills it, and puts the array together with it again.
used() {
    mdadm --quiet /dev/md0 --fail /dev/loop0
    idle
    [ "$(cat /sys/block/md0/md/degraded)" = 0 ] || fail "$*: the spare was not filled"
    mdadm --quiet /dev/md0 --remove /dev/loop0
    mdadm --zero-superblock /dev/loop0
    mdadm --stop --quiet /dev/md0
    mdadm --assemble --quiet /dev/md0 "${@:2}" "$spare"
    [ "$(cat /sys/block/md0/md/degraded)" = 0 ] || fail "$1: not whole after it was assembled"
    echo check > /sys/block/md0/md/sync_action
    idle
    [ "$(cat /sys/block/md0/md/mismatch_cnt)" = 0 ] || fail "$1: copies differ"
}

compare() {
    local name=$1 members=("${@:2}") what
    by_mdadm
    fill
    # It does nothing that mdadm would do: mdadm is not there.
    mv /sbin/mdadm /sbin/mdadm.away
    "$act" add-spare md0 loop4 || { mv /sbin/mdadm.away /sbin/mdadm; fail "$name: the spare was not added"; }
    mv /sbin/mdadm.away /sbin/mdadm
    udevadm settle
    look native
    for what in superblock bitmap examine; do
        diff -u "$work/mdadm.$what" "$work/native.$what" || fail "$name: another $what"
    done
    used "$name" "${members[@]:1}"
    destroy
    echo "$name: the same"
}

one() {
    local level=$1 count=$2 map=$3 members=()
    for number in $(seq 0 $((count - 1))); do members+=("/dev/loop$number"); done
    create --level="$level" --raid-devices="$count" --bitmap="$map" "${@:4}" "${members[@]}"
    compare "raid$level, bitmap $map ${*:4}" "${members[@]}"
}

for map in none internal; do
    one 1 2 "$map"
    one 4 3 "$map"
    one 5 3 "$map"
    one 6 4 "$map"
    one 10 4 "$map"
done
# A bitmap of more than one block, and a drive whose size is of no round number.
losetup --detach "$spare"
truncate -s $((70 * 1024 * 1024 + 37 * 512)) "$work/disk4"
losetup "$spare" "$work/disk4"
one 5 3 internal --bitmap-chunk=4K --chunk=16

other() {
    create "${@:2}"
    fill
    "$act" add-spare md0 loop4
    mdadm --detail /dev/md0 | grep -q 'spare.*loop4' || fail "$1: the spare was not added"
    mv /sbin/mdadm /sbin/mdadm.away
    mdadm.away --quiet /dev/md0 --remove "$spare"
    fill
    ! "$act" add-spare md0 loop4 2> "$work/said" || fail "$1: mdadm was not asked"
    mv /sbin/mdadm.away /sbin/mdadm
    destroy
    echo "$1: left to mdadm"
}

other "metadata 1.0" --level=1 --raid-devices=2 --metadata=1.0 --bitmap=none /dev/loop0 /dev/loop1
other "a log of parity" --level=5 --raid-devices=3 --consistency-policy=ppl /dev/loop0 /dev/loop1 /dev/loop2

for number in 0 1 2 3 4; do losetup --detach "/dev/loop$number"; done
rm -rf "$work"
