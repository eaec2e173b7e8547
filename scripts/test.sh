#!/usr/bin/env bash
# Runs every test. Packages run under the race detector; the end-to-end tests start the
# real binary, which is not built with it, so there it would only slow the clients down.
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

status=0
go test -race -timeout 10m "${inside[@]}" || status=$?
if ((${#outside[@]})); then
	go test -count=1 -timeout 12m "${outside[@]}" || status=$?
fi
exit "$status"
