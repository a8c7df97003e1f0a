# Runs the scenarios in the guest. What udev would do to arrays and drives by itself is kept away: that
# is mdadm's and LVM's doing, not the kernel's, and whoever reads a drive that fails changes what is seen.
# systemd would make units of all the devices, and takes a sixth of a processor for it.
# shellcheck shell=bash
mkdir -p /run/udev/rules.d
for rules in 13-dm-disk 60-persistent-storage{,-dm} 63-md-raid-arrays 64-md-raid-assembly 69-lvm 99-systemd; do
    ln -sf /dev/null "/run/udev/rules.d/$rules.rules"
done
udevadm control --reload
# Of what LVM would take for physical volumes it sees the drives of the scenarios that are made of them.
cat >/etc/lvm/lvmlocal.conf <<'CONF'
devices { global_filter = [ "a|^/dev/dm-9[0-9][0-9][0-9]$|", "r|.*|" ] }
CONF
exec /opt/lund/truth run --on linux "$@"
