#!/usr/bin/env bash
# Runs every test. Packages run under the race detector, several at once. What promises
# something within milliseconds cannot be tried like that: files that are built without
# the detector (//go:build !race) hold those tests, and they run with nothing beside them.
# The end-to-end tests start the real binary, which is not built with the detector, so
# there it would only slow the clients down; most of their time they wait, so more of them
# run at once than there are processors.
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t all < <(go list ./...)
inside=() outside=()
for p in "${all[@]}"; do
	case "$p" in
	*/internal/e2e | */internal/e2e/*) outside+=("$p") ;;
	*) inside+=("$p") ;;
	esac
done

mapfile -t files < <(git grep -l '^//go:build !race$' -- '*_test.go')
mapfile -t folders < <(dirname -- "${files[@]}" | sort -u)
names=$(sed -nE 's/^func (Test[A-Za-z0-9_]+)\(t \*testing\.T\).*/\1/p' "${files[@]}" | paste -sd '|')

status=0
go test -race -timeout 10m "${inside[@]}" || status=$?
go test -count=1 -p 1 -timeout 5m -run "^($names)\$" "${folders[@]/#/./}" || status=$?
go test -count=1 -timeout 12m -parallel 4 "${outside[@]}" || status=$?
exit "$status"
