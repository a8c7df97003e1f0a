# Sourced by every script that a test runs in the guest: arrays with data on loop devices.
# shellcheck shell=bash
shopt -s nullglob
LAB=${LAB:-/srv/mem/lab}

# disks COUNT [MIB] [FIRST]: loop devices /dev/loopFIRST.. of MIB each, blank.
disks() {
    local count=$1 mib=${2:-24} first=${3:-0} n
    modprobe loop
    mkdir -p "$LAB"
    for ((n = first; n < first + count; n++)); do
        [ -e "/dev/loop$n" ] || mknod "/dev/loop$n" b 7 "$n"
        truncate -s "${mib}M" "$LAB/disk$n"
        losetup "/dev/loop$n" "$LAB/disk$n"
    done
    udevadm settle
}

# attach COUNT [FIRST]: the loop devices that `disks` made, again after a reboot.
attach() {
    local count=$1 first=${2:-0} n
    modprobe loop
    for ((n = first; n < first + count; n++)); do
        [ -e "/dev/loop$n" ] || mknod "/dev/loop$n" b 7 "$n"
        losetup "/dev/loop$n" "$LAB/disk$n"
    done
    udevadm settle
}

# array NAME LEVEL COUNT [MDADM OPTION...]: over the first COUNT loop devices, in sync and idle.
array() {
    local name=$1 level=$2 count=$3
    shift 3
    local members=() n
    for ((n = 0; n < count; n++)); do members+=("/dev/loop$((n + FIRST))"); done
    mdadm --create "/dev/$name" --run --quiet --metadata=1.2 --level="$level" \
        --raid-devices="$count" "$@" "${members[@]}" 2>&1
    idle "$name"
}
FIRST=0

# idle NAME: waits, woken by the kernel, until nothing runs on it.
idle() {
    udevadm settle
    mdadm --wait "/dev/$1" >/dev/null 2>&1 || true
    # mdadm --wait gives up when an array has not begun yet; the file is the truth.
    local tries=0
    until [ "$(cat "/sys/block/$1/md/sync_completed" 2>/dev/null || echo none)" = none ] \
        && [[ $(cat "/sys/block/$1/md/sync_action" 2>/dev/null || echo idle) =~ ^(idle|frozen)$ ]]; do
        ((++tries < 600)) || { echo "$1 does not come to rest" >&2; cat /proc/mdstat >&2; return 1; }
        mdadm --wait "/dev/$1" >/dev/null 2>&1 || read -rt 0.1 <> <(:) || true
    done
}

# fill NAME: random data all over it; remembers its checksum.
fill() {
    local bytes
    bytes=$(blockdev --getsize64 "/dev/$1")
    head -c "$bytes" /dev/urandom \
        | dd of="/dev/$1" bs=1M iflag=fullblock oflag=direct conv=fsync status=none
    sum "$1" >"$LAB/$1.sum"
}

sum() {
    sync
    echo 3 >/proc/sys/vm/drop_caches
    b2sum <"/dev/$1"
}

# same NAME: the data is what `fill` wrote.
same() {
    [ "$(sum "$1")" = "$(cat "$LAB/$1.sum")" ] || { echo "the data of $1 changed" >&2; return 1; }
}

# consistent NAME: every copy and every parity agrees (raid10 and raid1 compare all copies).
consistent() {
    idle "$1"
    echo check >"/sys/block/$1/md/sync_action"
    idle "$1"
    [ "$(cat "/sys/block/$1/md/mismatch_cnt")" = 0 ] \
        || { echo "$1: copies differ: $(cat "/sys/block/$1/md/mismatch_cnt")" >&2; return 1; }
}

# lose NAME DEVICE: fails a member and takes it out.
lose() {
    mdadm --quiet --fail "/dev/$1" "/dev/$2" 2>&1
    local tries=0
    until mdadm --quiet --remove "/dev/$1" "/dev/$2" 2>/dev/null; do
        ((++tries < 100)) || { echo "cannot remove $2" >&2; return 1; }
        read -rt 0.05 <> <(:) || true
    done
    udevadm settle
}

# blank DEVICE: nothing is left on it.
blank() {
    wipefs --quiet --all "/dev/$1"
    udevadm settle
}

# slow NAME KIB / fast NAME: the speed of its sync.
slow() {
    echo "$2" >"/sys/block/$1/md/sync_speed_min"
    echo "$2" >"/sys/block/$1/md/sync_speed_max"
}
fast() {
    echo 200000 >"/sys/block/$1/md/sync_speed_min"
    echo 200000 >"/sys/block/$1/md/sync_speed_max"
}

# healthy NAME COUNT: mdadm agrees that COUNT members are active and nothing is missing.
healthy() {
    local detail
    detail=$(mdadm --detail "/dev/$1")
    [[ $detail =~ State\ :\ (clean|active)[[:space:]]*$'\n' ]] || { echo "$detail" >&2; return 1; }
    [ "$(grep -c 'active sync' <<<"$detail")" = "$2" ] || { echo "$detail" >&2; return 1; }
    local member
    for member in /sys/block/"$1"/md/rd*; do
        mdadm --examine "/dev/$(basename "$(readlink -f "$member/block")")" | grep -q "Array State : A\{$2\} " \
            || { mdadm --examine "/dev/$(basename "$(readlink -f "$member/block")")" >&2; return 1; }
    done
}

# shelf [MIB]: two disks behind one controller, which has room for no more.
shelf() {
    local mib=${1:-24} n port
    local target=/sys/kernel/config/target
    modprobe -a configfs target_core_mod target_core_file tcm_loop
    mountpoint --quiet /sys/kernel/config || mount -t configfs none /sys/kernel/config
    mkdir -p "$LAB"
    for n in 0 1; do
        truncate -s "${mib}M" "$LAB/shelf$n"
        port=$target/loopback/naa.6001405000000001/tpgt_$n
        mkdir -p "$target/core/fileio_0/disk$n" "$port"
        echo "fd_dev_name=$LAB/shelf$n,fd_dev_size=$((mib << 20))" >"$target/core/fileio_0/disk$n/control"
        echo "$((n + 1))0000001" >"$target/core/fileio_0/disk$n/wwn/vpd_unit_serial"
        echo 1 >"$target/core/fileio_0/disk$n/enable"
        echo "naa.600140500000001$n" >"$port/nexus"
        mkdir -p "$port/lun/lun_0"
        ln -s "$target/core/fileio_0/disk$n" "$port/lun/lun_0/disk"
    done
    udevadm settle
}

# shelf_name N: the name that disk N of the shelf has now.
shelf_name() {
    basename /sys/devices/tcm_loop_0/tcm_loop_adapter_0/host*/target*/*:"$1":0/block/*
}

# pull DISK...: takes disks off the machine, as one pulls them; plug: whatever is there is found again.
pull() {
    local disk
    for disk; do echo 1 >"/sys/block/$disk/device/delete"; done
}
plug() {
    local host
    for host in /sys/class/scsi_host/host*/scan; do echo '- - -' >"$host"; done
    udevadm settle
}
