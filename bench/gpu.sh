#!/usr/bin/env bash
# For a machine with an NVIDIA card: does the card give the bits of this CPU, and how fast is it?
#
#   bench/gpu.sh [--device cuda:N] [--without-pytorch] [--built]
#
# 1. Builds `crates/model/examples/card.rs` in release mode (not with --built).
# 2. Compares, bit by bit, with the CPU engine: functions and a small score (the self-test), twenty
#    products of fresh random extents and hostile values, whole scores of V1 with fresh random
#    weights, and short documents that share a pass. The first difference ends it with status 1.
# 3. Measures scores of V1 on the card in turn with the same layers in PyTorch (float32, TF32 off):
#    A B A B, the median of each. PyTorch must be installed unless --without-pytorch is given.
#
# After the build it takes less than five minutes; step 2 mostly waits for the CPU.
set -euo pipefail
cd "$(dirname "$0")/.."

device=cuda:0
pytorch=yes
built=
while [ $# -gt 0 ]; do
    case $1 in
        --device) device=$2; shift ;;
        --without-pytorch) pytorch= ;;
        --built) built=yes ;;
        *) echo "gpu: unknown argument $1" >&2; exit 2 ;;
    esac
    shift
done

fail() {
    echo "gpu: FAILED: $1" >&2
    exit 1
}

if [ -n "$pytorch" ]; then
    python3 -c 'import torch; assert torch.cuda.is_available()' ||
        fail "PyTorch with CUDA is absent (pip install torch), or use --without-pytorch"
fi
if [ -z "$built" ]; then
    cargo build --locked --release --package soma-model --example card
fi
program=${CARGO_TARGET_DIR:-target}/release/examples/card
[ -x "$program" ] || fail "$program is not built"
seed=$(od -An -N8 -tx8 /dev/urandom | tr -d ' ')
echo "gpu: seed $seed"

if [ -z "$pytorch" ]; then
    timeout 300 "$program" --device "$device" --seed "$seed" || fail "see above"
    echo "gpu: equal; PyTorch was not asked"
else
    timeout 300 python3 bench/gpu.py "$program" --device "$device" --seed "$seed" ||
        fail "see above"
fi
