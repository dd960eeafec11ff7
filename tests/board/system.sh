#!/usr/bin/env bash
# system.sh FOLDER ARCHITECTURE RELEASE PYTHON: a Debian of another kind in FOLDER/r, with the runtime in
# FOLDER/site. Its Python is run in place: for arm64 by qemu-aarch64-static, for amd64 by its own loader.
# Needs mmdebstrap, and a Debian mirror and a package index that can be reached; about 10 s.
set -euo pipefail
folder=$1 architecture=$2 release=$3 python=$4
mkdir -p "$folder/r"
cd "$folder"
mmdebstrap -q --variant=extract --architectures="$architecture" --include=python3,libstdc++6,zlib1g \
    "$release" r.tar </dev/null
tar -xf r.tar -C r --exclude='./dev/*'
rm r.tar
for name in lib bin sbin lib64; do [ -e "r/$name" ] || ln -s "usr/$name" "r/$name"; done
case $architecture in
arm64)
    # onnxruntime reads it on import, and crashes on one of another processor. No more CPUs than there are.
    mkdir -p r/proc
    printf 'processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n' >r/proc/cpuinfo
    machine=aarch64
    ;;
amd64) machine=x86_64 ;;
esac
platforms=()
for tag in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014; do platforms+=(--platform "${tag}_$machine"); done
"${HOST_PYTHON:-python3}" -m pip install -q --no-deps --target site "${platforms[@]}" --implementation cp \
    --python-version "$python" --only-binary=:all: onnxruntime numpy flatbuffers protobuf packaging
