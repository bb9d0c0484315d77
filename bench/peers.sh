#!/bin/bash
# peers.sh DIR: gets the peers that meshd is compared with into DIR, without
# installing them: Consul 1.8.7, the last that Debian shipped (bullseye), and
# etcd of this machine's own suite. Needs apt and dpkg, and no root.
set -euo pipefail
dir=$(realpath -m "$1")
mkdir -p "$dir/lists/partial" "$dir/unpacked"
[ -x "$dir/consul" ] && [ -x "$dir/etcd" ] && exit
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/\?$')

# get SUITE PACKAGE: unpacks a package of a suite.
get() {
	echo "deb [trusted=yes] $mirror $1 main" >"$dir/sources.list"
	local apt=(apt-get -qq -o "Dir::Etc::SourceList=$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null
		-o "Dir::State::Lists=$dir/lists" -o "Dir::Cache=$dir" -o Debug::NoLocking=1)
	"${apt[@]}" update
	(cd "$dir/unpacked" && "${apt[@]}" download "$2" && dpkg -x "$2"_*.deb .)
}

get bullseye consul
get bookworm etcd-server
mv "$dir/unpacked/usr/bin/consul" "$dir/unpacked/usr/bin/etcd" "$dir"
rm -rf "$dir/unpacked" "$dir/lists" "$dir/sources.list"
