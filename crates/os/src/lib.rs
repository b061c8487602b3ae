//! What every crate needs from the operating system: the wall clock in milliseconds, a test of a
//! disk, free memory, network addresses, data that a person names, and files that are written
//! atomically.
//!
//! This crate knows nothing of Soma. It never retries, logs or chooses a path. Reading order:
//! `clock`, `disk`, `memory`, `net`, `data`, `file`.

pub mod clock;
pub mod disk;
pub mod memory;
pub mod net;
pub mod data;
pub mod file;
