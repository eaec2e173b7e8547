#!/usr/bin/env bash
# Installs what is missing and says so; does nothing, in a moment, where all is there.
#   setup.sh server          a PostgreSQL server, psql, sshd and ssh, for the demo
#   setup.sh server tests    and what the tests drive: Chromium, Python's libpq, clients of SSH
#   setup.sh pages           npm, which scripts/player.sh brings the terminal player by
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()

# has COMMAND PACKAGE: PACKAGE is wanted where COMMAND fails.
has() {
	eval "$1" >/dev/null 2>&1 || missing+=("$2")
}

postgres='command -v initdb || compgen -G "/usr/lib/postgresql/*/bin/initdb"'
for part in "$@"; do
	case "$part" in
	server)
		has "$postgres" postgresql
		has 'command -v psql' postgresql-client
		has 'test -x /usr/sbin/sshd' openssh-server
		has 'command -v ssh' openssh-client
		has 'command -v cc' gcc
		has 'compgen -G "/usr/include/*/sys/types.h" || test -e /usr/include/sys/types.h' libc6-dev
		;;
	tests)
		has 'command -v pgbench || compgen -G "/usr/lib/postgresql/*/bin/pgbench"' postgresql-contrib
		has 'command -v chromium || command -v chromium-browser || command -v google-chrome' chromium
		has 'test -x /usr/bin/python3 && /usr/bin/python3 -c "import psycopg2"' python3-psycopg2
		has 'command -v dbclient' dropbear-bin
		has 'command -v plink' putty-tools
		has 'command -v vi' vim-tiny
		has 'test -x /usr/bin/python3 && /usr/bin/python3 -c "import paramiko"' python3-paramiko
		has 'command -v ansible' ansible-core
		has 'command -v rsync' rsync
		has 'test -x /usr/sbin/nginx' nginx-light
		has 'test -x /usr/sbin/haproxy' haproxy
		has 'command -v git' git
		has 'command -v openssl' openssl
		has 'command -v curl' curl
		has 'command -v jq' jq
		has 'command -v ip' iproute2
		has 'test -x /sbin/mkfs.ext4' e2fsprogs
		;;
	pages)
		has 'command -v npm' npm
		;;
	*)
		echo "setup.sh: no part is called $part" >&2
		exit 2
		;;
	esac
done

if ((${#missing[@]})); then
	if ! command -v apt-get >/dev/null; then
		echo "Please install: ${missing[*]} (Debian's names), and try again." >&2
		exit 1
	fi
	as_root=()
	if ((EUID != 0)); then
		command -v sudo >/dev/null || {
			echo "Please run as root: apt-get install ${missing[*]}" >&2
			exit 1
		}
		as_root=(sudo)
	fi
	echo "Installing ${missing[*]} with apt-get."
	log=$(mktemp)
	# Debian would start a cluster of its own; ours are private to a test or a demo.
	quiet() {
		"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 "$@" >>"$log" 2>&1 </dev/null || {
			cat "$log" >&2
			exit 1
		}
	}
	quiet apt-get update -q
	if [[ ! -e /etc/postgresql-common/createcluster.conf ]]; then
		"${as_root[@]}" mkdir -p /etc/postgresql-common
		echo 'create_main_cluster = false' | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
	fi
	quiet apt-get install -qy --no-install-recommends -o Dpkg::Options::=--force-confold "${missing[@]}"
	# Debian would also start services; a demo and tests start what they need themselves.
	declare -A services=([openssh-server]="ssh.service ssh.socket" [nginx-light]=nginx.service [haproxy]=haproxy.service)
	for package in "${missing[@]}"; do
		if [[ -n "${services[$package]:-}" ]] && command -v systemctl >/dev/null; then
			# shellcheck disable=SC2086 # one word each
			"${as_root[@]}" systemctl disable --now ${services[$package]} >>"$log" 2>&1 || true # without systemd running nothing was started
		fi
	done
	rm -f "$log"
fi

# As root the demo's machine web-1 has an account of its own: it has no password, and is
# expired, so that nothing but the demo's own sshd lets anybody in.
if ((EUID == 0)) && [[ " $* " == *" server "* ]] && ! id sallyport-web-1 >/dev/null 2>&1 && command -v useradd >/dev/null; then
	echo "Adding the account sallyport-web-1."
	useradd --system --user-group --create-home --home-dir /var/lib/sallyport-web-1 --shell /bin/sh --expiredate 1 sallyport-web-1
fi
