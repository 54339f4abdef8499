#!/usr/bin/env bash
# Runs every fuzz target in turn: ./fuzz.sh DURATION [PATTERN]
#
# DURATION is the time for each target, as in 30s or 5m, or a number of inputs,
# as in 100000x. PATTERN is a regular expression that picks targets by name.
#
# An input that fails is kept in testdata/fuzz/TARGET, where go test runs it from
# then on: commit it with the repair. Inputs that reached new code are kept in
# Go's cache, so the next run goes on where this one ended.
#
# It exits with 1 if a target failed, and with 2 if it could not run them.
set -uo pipefail
if [ $# -lt 1 ] || [ $# -gt 2 ] || ! [[ $1 =~ ^([0-9]+x|([0-9]+(\.[0-9]+)?(ms|s|m|h))+)$ ]]; then
	sed -n '2,9s/^# \?//p' "$0" >&2
	exit 2
fi
duration=$1 pattern=${2:-.}
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 2

scratch=$(mktemp -d) || exit 2
trap 'rm -rf "$scratch"' EXIT

# "package target" in lines.
go test -list '^Fuzz' ./... >"$scratch/list" || { cat "$scratch/list"; exit 2; }
awk '/^Fuzz/ { names[++n] = $1 } /^ok/ { for (i = 1; i <= n; i++) print $2, names[i]; n = 0 }' "$scratch/list" |
	awk -v pattern="$pattern" '$2 ~ pattern' >"$scratch/targets"
[ -s "$scratch/targets" ] || { echo "no fuzz target matches $pattern" >&2; exit 2; }

# Each package is built once, for all of its targets. They run where go test runs them,
# and with the cache that it has for them.
cache=$(go env GOCACHE)/fuzz
runs=0 failed=()
while read -r package target; do
	binary=$scratch/${package//\//-}.test
	if [ ! -e "$binary" ]; then
		go test -c -vet=off -fuzz . -o "$binary" "$package" </dev/null || exit 2
		folder=$(go list -f '{{.Dir}}' "$package") || exit 2
	fi
	(cd "$folder" && exec "$binary" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$duration" \
		-test.fuzzminimizetime 10s -test.timeout 0 -test.fuzzcachedir "$cache/$package") >"$scratch/output" 2>&1 </dev/null
	status=$?
	execs=$(sed -n 's/^fuzz: .* execs: \([0-9]*\).*/\1/p' "$scratch/output" | tail -1)
	if [ $status = 0 ]; then
		printf '%-24s %12d runs\n' "$target" "${execs:-0}"
	else
		printf '%-24s %12d runs, FAILED:\n' "$target" "${execs:-0}"
		grep -v '^fuzz: elapsed' "$scratch/output"
		failed+=("$target")
	fi
	runs=$((runs + ${execs:-0}))
done <"$scratch/targets"

printf '%d targets, %d runs, %d failed: %s\n' "$(wc -l <"$scratch/targets")" "$runs" "${#failed[@]}" "${failed[*]:-none}"
[ ${#failed[@]} = 0 ]
