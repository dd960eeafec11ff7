#!/usr/bin/env bash
# packages.sh: installs what tests/board needs, where that disturbs nobody: as root in a container of
# Debian or Ubuntu, that has no init system. Elsewhere it says what is missing; those tests are skipped.
set -uo pipefail
missing=()
for pair in ssh:openssh-client sshd:openssh-server mmdebstrap:mmdebstrap qemu-aarch64-static:qemu-user-static; do
    PATH=$PATH:/usr/sbin command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ] && [ ! -d /run/systemd/system ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null && exit 0
fi
echo "tests/board skips what needs: apt-get install ${missing[*]}" >&2
