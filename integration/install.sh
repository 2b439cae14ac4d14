#!/usr/bin/env bash
# Installs those Debian packages of packages.txt that are missing. Does nothing, and needs no rights,
# when nothing is. Servers that come with a package (Redis, etcd, nutcracker) are neither started nor left to
# start at boot: Catena's scripts start their own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

fail() {
  echo "install.sh: $*" >&2
  exit 1
}

mapfile -t wanted < <(sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' packages.txt)

is_installed() {
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null || true)" = installed ]
}

command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || fail \
  "this needs Debian or a system with its packages (apt-get); on others install what packages.txt lists by hand"

missing=()
for package in "${wanted[@]}"; do
  is_installed "$package" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || fail "missing: ${missing[*]}
Run as root, or install sudo, or install them with: apt-get install ${missing[*]}"
  # Without a terminal nobody can type a password.
  [ -t 0 ] || sudo -n true 2>/dev/null || fail "missing: ${missing[*]}
sudo wants a password and there is no terminal to ask for it; run as root: apt-get install ${missing[*]}"
  as_root=(sudo)
fi

# Maintainer scripts ask this file before they start a service.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
  trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi

echo "install.sh: installing ${missing[*]}" >&2
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
# Package lists of another day may name versions that are gone.
"${apt[@]}" update >&2 || echo "install.sh: apt-get update failed; trying with the lists there are" >&2
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" >&2 ||
  fail "apt-get could not install: ${missing[*]}"

for package in "${missing[@]}"; do
  is_installed "$package" || fail "$package is still missing after apt-get install"
  case $package in
    redis-server) service=redis-server ;;
    etcd-server) service=etcd ;;
    nutcracker) service=nutcracker ;;
    *) continue ;;
  esac
  if [ -d /run/systemd/system ]; then
    "${as_root[@]}" systemctl disable --now "$service" >/dev/null 2>&1 || true
  fi
done
