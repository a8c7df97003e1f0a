#!/usr/bin/env bash
# Installs lund and lunctl, with the files of this folder.
#   dist/install.sh [--from FOLDER] [--destdir FOLDER]
# The programs come from target/release unless --from names another folder. With --destdir
# everything goes below that folder and nothing of the running system is told.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
destdir=
release=${CARGO_TARGET_DIR:-$here/../target}/release
while [ $# -gt 0 ]; do
    case $1 in
        --destdir) destdir=${2:?--destdir needs a folder}; shift 2 ;;
        --from) release=${2:?--from needs a folder}; shift 2 ;;
        *) echo "usage: $0 [--from FOLDER] [--destdir FOLDER]" >&2; exit 2 ;;
    esac
done

for program in lund lunctl; do
    if [ ! -x "$release/$program" ]; then
        echo "error: $release/$program is not there" >&2
        echo "hint: cargo build --release -p lund -p lunctl" >&2
        exit 1
    fi
done

install -D -m 0755 "$release/lund" "$destdir/usr/sbin/lund"
install -D -m 0755 "$release/lunctl" "$destdir/usr/bin/lunctl"
install -D -m 0644 "$here/lund.service" "$destdir/usr/lib/systemd/system/lund.service"
install -D -m 0644 "$here/org.lund.Vds1.conf" "$destdir/usr/share/dbus-1/system.d/org.lund.Vds1.conf"
install -D -m 0644 "$here/org.lund.Vds1.policy" "$destdir/usr/share/polkit-1/actions/org.lund.Vds1.policy"
for interface in "$here"/interfaces/*.xml; do
    install -D -m 0644 "$interface" "$destdir/usr/share/dbus-1/interfaces/${interface##*/}"
done
install -D -m 0644 "$here/org.lund.Vds1.service" \
    "$destdir/usr/share/dbus-1/system-services/org.lund.Vds1.service"
install -D -m 0644 "$here/lund.catalog" "$destdir/usr/lib/systemd/catalog/lund.catalog"
install -D -m 0644 "$here/completion/lunctl.bash" "$destdir/usr/share/bash-completion/completions/lunctl"
install -D -m 0644 "$here/completion/_lunctl" "$destdir/usr/share/zsh/vendor-completions/_lunctl"
install -D -m 0644 "$here/completion/lunctl.fish" "$destdir/usr/share/fish/vendor_completions.d/lunctl.fish"
for page in "$here"/man/*.[1-8]; do
    install -D -m 0644 "$page" "$destdir/usr/share/man/man${page##*.}/${page##*/}"
done
install -d -m 0755 "$destdir/etc/lund/lund.d"
# An administrator's configuration is never overwritten.
if [ ! -e "$destdir/etc/lund/lund.toml" ]; then
    install -m 0644 "$here/lund.toml" "$destdir/etc/lund/lund.toml"
fi

if [ -z "$destdir" ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl reload dbus.service
    journalctl --update-catalog
fi
