#!/bin/bash
# fuzz.sh TIME: runs each fuzz target of the module for that time. Inputs that
# fail are kept by go test under testdata/fuzz: commit them with the fix.
set -euo pipefail
time=$1
targets=$(git ls-files '*_test.go' | xargs grep -H '^func Fuzz' | sed -E 's|(.*)/[^/]*:func (Fuzz[A-Za-z0-9_]*).*|\1 \2|' | sort)
[ -n "$targets" ] || { echo "no fuzz targets"; exit 1; }
while read -r dir name; do
	printf '%s %s ' "$dir" "$name"
	output=$(go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "./$dir" 2>&1) || { echo; echo "$output"; exit 1; }
	grep -o 'execs: [0-9]*' <<<"$output" | tail -n 1 || echo 'execs: none in that time'
done <<<"$targets"
