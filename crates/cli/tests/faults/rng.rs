//! What a seed decides.

use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A generator of numbers that one seed decides (`SplitMix64`). Copies share it.
#[derive(Clone)]
pub(crate) struct Rng(Arc<Mutex<u64>>);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))))
    }

    /// A number below `end`.
    pub(crate) fn below(&self, end: u64) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Whether something happens that happens once in `times`.
    pub(crate) fn once_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A place below `end`.
    pub(crate) fn place(&self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap()
    }

    /// A time of at most `longest_ms`.
    pub(crate) fn time(&self, longest_ms: u64) -> Duration {
        Duration::from_millis(self.below(longest_ms))
    }

    /// A text of random words.
    pub(crate) fn text(&self) -> String {
        let letter = |_| char::from(b'a' + u8::try_from(self.below(26)).unwrap());
        let words = 90 + self.below(60);
        let word = |_| (0..2 + self.below(7)).map(letter).collect::<String>() + " ";
        (0..words).map(word).collect()
    }
}
