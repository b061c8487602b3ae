//! The portable lanes, watched: they count every subnormal number that enters or leaves an
//! operation, on this thread. Tests score hostile weights on them and expect none.
//!
//! It must never be compiled outside tests.

use std::cell::Cell;

use super::{LANES, Operation, Portable, Simd};

thread_local! {
    static SUBNORMALS: Cell<u64> = const { Cell::new(0) };
}

/// How many subnormal numbers `run` met on this thread, and its result.
pub(crate) fn subnormals<T>(run: impl FnOnce() -> T) -> (u64, T) {
    SUBNORMALS.set(0);
    let result = run();
    (SUBNORMALS.get(), result)
}

/// Counts subnormal numbers.
fn watch<const N: usize>(numbers: [[f32; LANES]; N]) {
    let found = numbers.as_flattened().iter().filter(|x| x.is_subnormal()).count();
    SUBNORMALS.set(SUBNORMALS.get() + found as u64);
}

/// Portable lanes that count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched;

/// An operation whose operands and result are watched.
macro_rules! watched {
    ($($name:ident($($x:ident),+);)*) => {
        $(
            #[inline(always)]
            fn $name(self, $($x: Self::F),+) -> Self::F {
                let result = Portable.$name($($x),+);
                watch([$($x,)+ result]);
                result
            }
        )*
    };
}

/// An operation that only moves bits.
macro_rules! moved {
    ($($name:ident($($x:ident: $t:ty),*) -> $to:ty;)*) => {
        $(
            #[inline(always)]
            fn $name(self, $($x: $t),*) -> $to {
                Portable.$name($($x),*)
            }
        )*
    };
}

impl Simd for Watched {
    type F = [f32; LANES];
    type U = [u32; LANES];
    type M = [bool; LANES];
    const TILE_ROWS: usize = 4;
    const TILE_VECTORS: usize = 1;

    #[inline(always)]
    fn dispatch<O: Operation>(self, operation: O) -> O::Output {
        operation.run(self)
    }
    #[inline(always)]
    fn turn(self, p: Self::F, scale: f64) -> Self::F {
        let result = Portable.turn(p, scale);
        watch([p, result]);
        result
    }
    #[inline(always)]
    fn shl_bits<const N: u32>(self, a: Self::U) -> Self::U {
        Portable.shl_bits::<N>(a)
    }
    #[inline(always)]
    fn sar_bits<const N: u32>(self, a: Self::U) -> Self::U {
        Portable.sar_bits::<N>(a)
    }

    watched! {
        add(a, b);
        sub(a, b);
        mul(a, b);
        div(a, b);
        sqrt(a);
        fma(a, b, c);
        fnma(a, b, c);
    }

    moved! {
        splat(x: f32) -> Self::F;
        load(x: &[f32; LANES]) -> Self::F;
        store(v: Self::F, to: &mut [f32; LANES]) -> ();
        operand(a: Self::F) -> Self::F;
        less(a: Self::F, b: Self::F) -> Self::M;
        first(n: usize) -> Self::M;
        select(m: Self::M, a: Self::F, b: Self::F) -> Self::F;
        bits(a: Self::F) -> Self::U;
        with_bits(a: Self::U) -> Self::F;
        splat_bits(x: u32) -> Self::U;
        add_bits(a: Self::U, b: Self::U) -> Self::U;
        sub_bits(a: Self::U, b: Self::U) -> Self::U;
        and_bits(a: Self::U, b: Self::U) -> Self::U;
        or_bits(a: Self::U, b: Self::U) -> Self::U;
    }
}
