#!/bin/bash
# run.sh: checks that a clone of the committed state, on a Debian with nothing
# but Go, git and make, passes the two commands of the README, as a user without
# privileges. Needs root, mmdebstrap and a network to fetch modules from.
set -euo pipefail
repository=$(cd "$(dirname "$0")/../.." && pwd)
suite=bookworm
# Asked for here, since root's go may be configured and the fresh one is not.
go_root=$(go env GOROOT) go_proxy=$(go env GOPROXY) go_sumdb=$(go env GOSUMDB)

if [ "${FRESH_INSIDE:-}" != yes ]; then
	for tool in mmdebstrap unshare; do
		command -v $tool >/dev/null || { echo "$tool is missing: apt-get install mmdebstrap util-linux" >&2; exit 1; }
	done
	tree=$(mktemp -d /var/tmp/meshd-fresh.XXXXXX)
	trap 'rm -rf --one-file-system "$tree"' EXIT
	# Mounts and processes of the tree end with these namespaces.
	FRESH_INSIDE=yes unshare --mount --pid --fork --kill-child --propagation=private bash "$0" "$tree"
	exit
fi
tree=$1

inside() { # a command line, run by the user in the clone
	chroot "$tree" setpriv --reuid=1000 --regid=1000 --clear-groups env -i HOME=/home/user USER=user LANG=C.UTF-8 \
		PATH=/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin GOPROXY="$go_proxy" GOSUMDB="$go_sumdb" \
		bash -c "cd /home/user/meshd && $1"
}

echo "=== a bare $suite with git, make and $("$go_root/bin/go" version | cut -d ' ' -f 3)"
mmdebstrap --quiet --variant=minbase --include=ca-certificates,git,make "$suite" "$tree"
mount -t proc proc "$tree/proc"
mount --rbind /dev "$tree/dev"
mkdir "$tree/usr/local/go"
mount --bind -o ro "$go_root" "$tree/usr/local/go"
cp --dereference /etc/resolv.conf "$tree/etc/resolv.conf"
# A machine behind a proxy may trust authorities that Debian does not know.
cp --dereference /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/ca-certificates.crt"
mkdir -p "$tree/home/user"
git clone --quiet --no-local "$repository" "$tree/home/user/meshd"
chown -R 1000:1000 "$tree/home/user"
if chroot "$tree" sh -c 'command -v gcc cc protoc'; then echo "the tree is not bare"; exit 1; fi

echo "=== make demo"
inside 'make build'
started=$SECONDS
# It runs until it is interrupted, which counts as success for timeout: 124.
inside 'exec timeout --signal=INT --kill-after=10 25 make demo 2>&1' | while IFS= read -r line; do
	printf '%3d s  %s\n' $((SECONDS - started)) "$line"
done >"$tree/demo.log" || [ $? = 124 ]
cat "$tree/demo.log"
grep -q ' 200 in ' "$tree/demo.log" || { echo "make demo showed no call"; exit 1; }

echo "=== make test"
started=$SECONDS
inside 'make test'
echo "make test took $((SECONDS - started)) s, modules and compilation included"
