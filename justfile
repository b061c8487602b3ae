# Short names for what CONTRIBUTING.md describes; every recipe calls commands that also work alone.

# List the recipes.
default:
    @just --list

# Format all Rust code.
format:
    cargo fmt --all

# Run the checks that take seconds.
quick:
    cargo fmt --all --check
    cargo xtask tidy
    .ci/spelling

# Test one crate: `just test protocol`.
test crate *arguments:
    cargo test --package soma-{{crate}} {{arguments}}

# Lint one crate with all its tests.
lint crate:
    cargo clippy --package soma-{{crate}} --all-targets -- -D warnings

# Run everything that must hold before a change lands.
all:
    .ci/run

# Run the demo.
demo:
    cargo run --release -- demo

# Build the book into target/book.
book:
    .ci/book

# Build the archive, the Debian package and the checksums into target/release-files.
release:
    .ci/release
