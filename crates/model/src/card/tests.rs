//! The kernels on an emulated card against the reference, bit by bit.
//!
//! `cuda/emulated.cpp` is a driver whose card is the host: the same kernels, compiled by the
//! system's C++ compiler. Tests that need it say that they skip where there is no compiler. No test
//! here shows anything about a real card; `bench/gpu.sh` does.

mod choice;
mod emulated;
mod products;
mod ptx;
mod scores;
