#!/usr/bin/env bash
# Runs every fuzz target for FUZZTIME (10s), one after the other. What it finds is written
# to the package's testdata/fuzz, where `go test` tries it for ever after.
set -euo pipefail
cd "$(dirname "$0")/.."

count=0
while IFS=: read -r file line; do
	name=$(sed -E 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/' <<<"$line")
	echo "== ${file%/*} $name"
	go test -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-10s}" "./${file%/*}"
	count=$((count + 1))
done < <(git grep -E '^func Fuzz[A-Za-z0-9_]*\(' -- '*_test.go')
echo "fuzz: $count targets"
((count > 0))
