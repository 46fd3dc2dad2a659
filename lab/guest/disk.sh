#!/bin/bash
# Makes a bootable disk from a base system:
#
#   disk.sh BASE.tar DIRECTORY SIZE
#
# DIRECTORY holds ssh_host_key(.pub), authorized_keys and repo/, which becomes
# /lab in the machine. Adds vmlinuz, initrd and disk.img to it. To be run as root,
# or as root of a user namespace (unshare --map-auto --map-root-user).
set -eu

base=$1
dir=$(realpath "$2")
size=$3
tree=$dir/tree
trap 'rm -rf "$tree"' EXIT

mkdir "$tree"
tar -C "$tree" -xp --numeric-owner --exclude='./dev/*' -f "$base"

cat "$tree"/vmlinuz >"$dir/vmlinuz"
cat "$tree"/initrd.img >"$dir/initrd"

# dbus-daemon stays the bus until somebody enables dbus-broker (lab/provision/packages.sh).
rm -f "$tree/etc/systemd/system/dbus.service" "$tree/etc/systemd/user/dbus.service"

echo lab >"$tree/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 lab\n' >"$tree/etc/hosts"
printf '/dev/vda / ext4 noatime 0 1\n' >"$tree/etc/fstab"
# A fixed address, as QEMU's DHCP would give it: a lease would end when the clock
# of a restored machine is set.
cat >"$tree/etc/systemd/network/80-lab.network" <<'CONF'
[Match]
Name=eth0
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
DNS=10.0.2.3
LinkLocalAddressing=no
IPv6AcceptRA=no
CONF

install -d -m 0700 "$tree/root/.ssh"
install -m 0600 "$dir/authorized_keys" "$tree/root/.ssh/authorized_keys"
rm -f "$tree"/etc/ssh/ssh_host_*
install -m 0600 "$dir/ssh_host_key" "$tree/etc/ssh/ssh_host_ed25519_key"
install -m 0644 "$dir/ssh_host_key.pub" "$tree/etc/ssh/ssh_host_ed25519_key.pub"
# No PAM: a login must not start root's systemd manager, which takes seconds.
cat >"$tree/etc/ssh/sshd_config.d/lab.conf" <<'CONF'
UsePAM no
UseDNS no
HostKey /etc/ssh/ssh_host_ed25519_key
MaxSessions 100
CONF

mkdir "$tree/lab"
cp -r "$dir/repo/." "$tree/lab/"

units=$tree/etc/systemd/system
mkdir -p "$units/multi-user.target.wants"
ln -sf /lib/systemd/system/systemd-networkd.service "$units/multi-user.target.wants/"
ln -sf /lib/systemd/system/ssh.service "$units/multi-user.target.wants/"
# Nothing that wakes up by itself when the clock is set.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    man-db.timer systemd-tmpfiles-clean.timer systemd-timesyncd.service getty@tty1.service; do
    ln -sf /dev/null "$units/$unit"
done
ln -sf /run/systemd/resolve/stub-resolv.conf "$tree/etc/resolv.conf"

# The machine is never switched off in the midst of a write, so it needs no journal.
truncate -s "$size" "$dir/disk.img"
mke2fs -q -t ext4 -O ^has_journal -E lazy_itable_init=0 -d "$tree" "$dir/disk.img"
