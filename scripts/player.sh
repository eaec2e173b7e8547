#!/usr/bin/env bash
# Brings asciinema-player from npm, as package-lock.json pins it, to where the gate embeds
# it. Without npm, or without its registry, the gate is built all the same: its pages then
# offer terminals as downloads.
set -euo pipefail
cd "$(dirname "$0")/.."

from=node_modules/asciinema-player to=web/static/player

without() {
	echo "The pages will not play terminals, and offer them as downloads: $1." >&2
	exit 0
}

if [[ -e $to/asciinema-player.min.js && ! package-lock.json -nt $to/asciinema-player.min.js ]]; then
	exit 0
fi
command -v npm >/dev/null || without "there is no npm (make setup installs it)"
npm ci --no-audit --no-fund --ignore-scripts --silent </dev/null || without "npm could not fetch the player"
for file in dist/bundle/asciinema-player.min.js dist/bundle/asciinema-player.css LICENSE; do
	cp "$from/$file" "$to/"
	touch "$to/${file##*/}"
done
