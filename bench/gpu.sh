#!/usr/bin/env bash
# For a machine with an NVIDIA card: does the card give the bits of this CPU, and how fast is it?
#
#   bash bench/gpu.sh [--device cuda:N] [--without-pytorch] [--built]
#
# It needs NVIDIA's driver, Rust and Python; PyTorch, if it is there, is measured, too.
# 1. Builds `crates/model/examples/card.rs` in release mode (not with --built).
# 2. Compares, bit by bit, with the CPU engine: functions, products and small scores (the
#    self-test), products of fresh random extents and hostile values in every tile, with every kind
#    of weights and every epilogue, whole scores of V1 with fresh random weights, and short
#    documents that share a pass. The first difference ends it with status 1.
# 3. Measures scores of V1 on the card, in turn with the same layers in PyTorch (float32, TF32 off):
#    A B A B, the median of each.
#
# After the build it takes less than five minutes. What a slow processor or a small card has no
# time or no memory for is left out, in lines that say `skipped`.
set -euo pipefail
cd "$(dirname "$0")/.."

device=cuda:0
pytorch=()
built=
while [ $# -gt 0 ]; do
    case $1 in
        --device) device=${2:?a device} && shift ;;
        --without-pytorch) pytorch=(--without-pytorch) ;;
        --built) built=yes ;;
        *) echo "gpu: unknown argument $1" >&2; exit 2 ;;
    esac
    shift
done

fail() {
    echo "gpu: FAILED: $1" >&2
    exit 1
}

command -v python3 >/dev/null || fail "python3 is absent"
if [ -z "$built" ]; then
    command -v cargo >/dev/null || fail "cargo is absent: install Rust, see https://rustup.rs"
    # rust-toolchain.toml pins the compiler; where it cannot be installed the default one is used.
    cargo --version >/dev/null 2>&1 || export RUSTUP_TOOLCHAIN=stable
    cargo build --locked --release --package soma-model --example card
fi
program=${CARGO_TARGET_DIR:-target}/release/examples/card
[ -x "$program" ] || fail "$program is not built"
seed=$(od -An -N8 -tx8 /dev/urandom | tr -d ' ')
echo "gpu: seed $seed"
# It ends by itself before; a card that hangs does not.
timeout 300 python3 bench/gpu.py "$program" --device "$device" --seed "$seed" \
    ${pytorch[@]+"${pytorch[@]}"} || fail "see above"
