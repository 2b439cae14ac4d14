#!/usr/bin/env bash
# Installs what is missing of packages.txt (Debian packages), and of programs/package-lock.json
# (packages for Node.js, into programs/node_modules). Does nothing, needs no rights, when nothing is.
# Servers that come with a package (Redis, etcd, nutcracker, Prometheus) are neither started nor left to start at
# boot: Catena's scripts start their own.
#
#   install.sh [--without-tests]   (leaves out what only the tests need)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

fail() {
  echo "install.sh: $*" >&2
  exit 1
}

as_root=()
policy=/usr/sbin/policy-rc.d
case ${1-} in
  '') tests=true ;;
  --without-tests) tests=false ;;
  *) fail "unknown argument $1; allowed: --without-tests" ;;
esac

list_packages() {
  if $tests; then cat packages.txt; else sed '/^\[tests\]/,$d' packages.txt; fi |
    sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^\[/d' -e '/^$/d'
}

is_installed() {
  # Other builds of Node.js bring an npm of their own, which conflicts with Debian's package.
  if [ "$1" = npm ] && command -v npm >/dev/null && command -v node >/dev/null; then return 0; fi
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null || true)" = installed ]
}

install_debian_packages() {
  local wanted missing=() apt package service
  command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || fail \
    "this needs Debian or a system with its packages (apt-get); on others install what packages.txt lists by hand"
  mapfile -t wanted < <(list_packages)
  for package in "${wanted[@]}"; do
    is_installed "$package" || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0

  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "missing: ${missing[*]}
Run as root, or install sudo, or install them with: apt-get install ${missing[*]}"
    # Without a terminal nobody can type a password.
    [ -t 0 ] || sudo -n true 2>/dev/null || fail "missing: ${missing[*]}
sudo wants a password and there is no terminal to ask for it; run as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi

  # Maintainer scripts ask this file before they start a service.
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
      prometheus) service=prometheus ;;
      *) continue ;;
    esac
    if [ -d /run/systemd/system ]; then
      "${as_root[@]}" systemctl disable --now "$service" >/dev/null 2>&1 || true
    fi
  done
}

install_node_packages() {
  # npm leaves a copy of the lock behind what it has installed.
  local installed=programs/node_modules/.package-lock.json
  [ "$installed" -nt programs/package-lock.json ] && return 0
  echo "install.sh: installing the packages of programs/package-lock.json" >&2
  (cd programs && npm ci) >&2 || fail "npm ci failed in $PWD/programs: does npm reach its registry?"
}

install_debian_packages
if $tests; then install_node_packages; fi
