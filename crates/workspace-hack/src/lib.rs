//! No code: this crate makes Cargo choose the same features of third-party crates whichever crate
//! of the workspace is built. Without it `cargo build --release` followed by
//! `cargo build --release -p soma-sim` compiles the consensus engine twice, once for each selection
//! of features, because Cargo unifies features only over the crates that it builds.
//!
//! Binaries, and everything from `store` upward, depend on it. Libraries that outside programs use
//! have it as a dev-dependency only, so that it never reaches those programs: their tests share
//! third-party builds with the rest, and their users get the features that they ask for.
//! `cargo xtask features` checks it.
