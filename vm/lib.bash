# Sourced by vm/build: where things lie and what the machine's apt knows.
# shellcheck shell=bash

# shellcheck disable=SC2154  # set by the sourcing script
vm_dir=${LUND_VM_DIR:-$(dirname "$here")/target/vm}
# shellcheck disable=SC2034
root_size=10G

say() { echo "vm: $*" >&2; }
die() {
    echo "error: vm/build: $*" >&2
    exit 1
}

hash_of() { printf '%s\0' "$@" | sha256sum | cut -c1-16; }
packages() { grep -v '^#' "$here/packages.txt"; }

# What the two layers are made by, for the hashes.
# shellcheck disable=SC2034
base_recipe=$(sed -n '/^base_tree()/,/^}/p' "$here/build")
# shellcheck disable=SC2034
guest_recipe=$(
    sed -n '/^initrd()/,/^}/p; /^make_image()/,/^}/p' "$here/build"
    echo "$root_size"
    cd "$here/guest" && find . -type f | LC_ALL=C sort | while read -r file; do
        echo "$file"
        cat "$file"
    done
)

# shellcheck disable=SC2034
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo)
fi

# The machine's own proxy settings, for the apt that mmdebstrap starts.
# shellcheck disable=SC2034
mapfile -t apt_proxy < <(apt-config dump 2> /dev/null | grep -E '^Acquire::(http|https)::Proxy "..*"' | sed 's/^/--aptopt=/')

# The address from which this machine's apt gets Debian's main archive.
debian_mirror() {
    if [ -n "${LUND_VM_MIRROR:-}" ]; then
        echo "$LUND_VM_MIRROR"
        return
    fi
    local codename found list
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
    found=$(
        {
            # one-line style: deb [options] URI suite component...
            cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2> /dev/null \
                | sed -n 's/^deb[[:space:]]\{1,\}\(\[[^]]*\][[:space:]]*\)\{0,1\}//p' \
                | awk '{ uri = $1; suite = $2; $1 = $2 = ""; print uri "\t" suite "\t" $0 }'
            # deb822 style: stanzas
            for list in /etc/apt/sources.list.d/*.sources; do
                [ -e "$list" ] || continue
                grep -v '^#' "$list" | awk -v RS= -F '\n' '{
                    types = uris = suites = components = ""
                    enabled = "yes"
                    for (i = 1; i <= NF; i++) {
                        value = $i
                        sub(/^[^:]*:[[:space:]]*/, "", value)
                        if ($i ~ /^Types:/) types = value
                        if ($i ~ /^URIs:/) uris = value
                        if ($i ~ /^Suites:/) suites = value
                        if ($i ~ /^Components:/) components = value
                        if ($i ~ /^Enabled:/) enabled = value
                    }
                    split(uris, first, /[[:space:]]+/)
                    if ((" " types " ") ~ / deb / && enabled != "no") print first[1] "\t" suites "\t" components
                }'
            done
        } | awk -F '\t' -v want="^($codename|oldstable|stable|testing|unstable|sid)$" '{
            split($2, suites, /[[:space:]]+/)
            hit = 0
            for (i in suites) if (suites[i] ~ want) hit = 1
            if (hit && (" " $3 " ") ~ /[[:space:]]main[[:space:]]/) { print $1; exit }
        }'
    )
    case $found in
        mirror+file:*) found=$(grep -m 1 -o '^[^[:space:]#]*' "${found#mirror+file:}") ;;
    esac
    [ -n "$found" ] || die "found no Debian archive (suite $codename, component main) among this machine's
apt sources. Next: name one, as in LUND_VM_MIRROR=http://<mirror>/debian vm/build"
    echo "${found%/}"
}

# The keys with which the archive's signatures are checked; they are always checked.
debian_keyring() {
    local file=${LUND_VM_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
    [ -r "$file" ] || die "no keyring $file. Next: apt-get install debian-archive-keyring"
    echo "$file"
}
