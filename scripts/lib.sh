# Shared by the scripts beside it; sourced, never run. Sets root, the repository's folder, and goes there.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# What tests and tools download or build once, outside the repository.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/prism

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

missing_packages() { # NAME...: prints those that are not installed
    local package
    for package in "$@"; do
        dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

# Keeps Debian from starting a service that a package brings: ours are started by the tests, on free ports.
hold_services() {
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
        as_root chmod +x /usr/sbin/policy-rc.d
        trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
    fi
}

release_services() {
    if [ -n "$(trap -p EXIT)" ]; then
        as_root rm -f /usr/sbin/policy-rc.d
        trap - EXIT
    fi
}

need_packages() { # WHAT NAME...: installs what is missing; does nothing, and fast, when nothing is
    local what=$1 missing
    shift
    command -v dpkg-query >/dev/null || die "this needs Debian 12 (or its packages under other names): $*"
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    say "$what: installing" $missing
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        die "neither root nor sudo here; as root run: apt-get update && apt-get install" $missing
    fi
    hold_services
    as_root apt-get update
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing ||
        die "apt-get could not install:" $missing
    release_services
}
