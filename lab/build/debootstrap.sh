#!/bin/sh
# debootstrap.sh PATTERN...: writes Debian 12's smallest file system to standard output as a tar archive,
# without what the patterns below /usr/share match. Needs root. For machines that have no mmdebstrap.
set -eu

# A mount namespace of its own: whatever ends this, no mount of debootstrap's outlives it.
if [ -z "${LAB_UNSHARED:-}" ]; then
    LAB_UNSHARED=1 exec unshare --mount --propagation private sh "$0" "$@"
fi

folder=$(mktemp -d)
trap 'rm -rf --one-file-system "$folder"' EXIT
trap 'exit 143' HUP INT TERM
root=$folder/root

debootstrap --variant=minbase bookworm "$root" >&2
umount "$root/proc" "$root/sys" 2>/dev/null || :

for pattern in "$@"; do
    find "$root/usr/share" -path "$root/usr/share/$pattern" ! -type d ! -path '*/doc/*/copyright' -delete
    echo "path-exclude=/usr/share/$pattern"
done >"$root/etc/dpkg/dpkg.cfg.d/lab"
echo "path-include=/usr/share/doc/*/copyright" >>"$root/etc/dpkg/dpkg.cfg.d/lab"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/debootstrap
cat >"$root/etc/apt/sources.list" <<'END'
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-updates main
deb http://security.debian.org/debian-security bookworm-security main
END

# Extended attributes hold file capabilities; without them ping, for one, would lose its right.
tar --xattrs --xattrs-include='*' --numeric-owner --sort=name -C "$root" -c .
