#!/usr/bin/env bash
# Runs every fuzz target FUZZTIME long (20000x), one after the other. A count of runs and
# not a time: where the time ends in the middle of a run, go test reports a failure. What it finds is written
# to the package's testdata/fuzz, where `go test` tries it for ever after.
set -euo pipefail
cd "$(dirname "$0")/.."

count=0
while IFS=: read -r file line; do
	name=$(sed -E 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/' <<<"$line")
	echo "== ${file%/*} $name"
	go test -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-20000x}" "./${file%/*}"
	count=$((count + 1))
done < <(git grep -E '^func Fuzz[A-Za-z0-9_]*\(' -- '*_test.go')
echo "fuzz: $count targets"
((count > 0))
