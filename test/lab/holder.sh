# Holds one lab: a mount and a network namespace of its own, with a pure
# cgroup v2 tree and a bridge, on machines of any cgroup layout.
#
# Lives until its standard input ends, that is until whoever started it closed
# the lab or died in whatever way; then it kills all that ran in the lab. Mounts,
# files and links go with the namespaces, so only the cgroups need removing.
#
# usage: meshd-lab-holder BASE GATEWAY/BITS
set -eu
base=$1 gateway=$2
cgroups=/sys/fs/cgroup

bury() {
	echo 1 >"$1/cgroup.kill"
	while grep -q 'populated 1' "$1/cgroup.events"; do sleep 0.02; done
	find "$1" -depth -type d -exec rmdir {} \;
}

# The base may lie below a directory that is about to be hidden.
exec 9<"$base"
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir /tmp/base
mount -c --bind /proc/self/fd/9 /tmp/base
exec 9<&-
mount -t tmpfs -o mode=755 tmpfs /run
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 $cgroups

# A lab outlives its holder only when the holder itself was killed.
for old in $cgroups/meshd-lab-*; do
	[ -d "$old" ] || continue
	grep -q meshd-lab-holder "/proc/${old##*-}/cmdline" 2>/dev/null || bury "$old"
done

mkdir "$cgroups/meshd-lab-$$"
ip link set lo up
ip link add br0 type bridge
ip address add "$gateway" dev br0
ip link set br0 up

echo ready
cat >/dev/null
bury "$cgroups/meshd-lab-$$"
