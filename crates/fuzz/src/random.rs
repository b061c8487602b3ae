//! Inputs: random bytes, and valid ones with a few things wrong. One seed gives one sequence, and every input of it can be made
//! again by its number.

/// A stream of random bytes.
pub(crate) struct Random(blake3::OutputReader);

impl Random {
    /// The stream of one input.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("soma fuzz 1");
        hasher
            .update(&seed.to_le_bytes())
            .update(&number.to_le_bytes());
        Self(hasher.finalize_xof())
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.fill(&mut bytes);
        bytes
    }

    pub(crate) fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() % (end.max(1) as u64)).unwrap_or(0)
    }

    /// Random bytes, or one of `samples` with a few things wrong.
    pub(crate) fn input(&mut self, samples: &[Vec<u8>]) -> Vec<u8> {
        if samples.is_empty() || self.below(4) == 0 {
            let length = [8, 64, 300, 2_000][self.below(4)];
            let length = self.below(length);
            return self.sparse(length);
        }
        let sample = self.below(samples.len());
        let mut bytes = samples[sample].clone();
        for _ in 0..=self.below(4) {
            self.spoil(&mut bytes, samples);
        }
        bytes
    }

    /// Bytes that are small numbers as often as not: lengths and tags are such.
    pub(crate) fn sparse(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = self.bytes(length);
        let sparse = self.below(3);
        for (byte, choice) in bytes.iter_mut().zip(self.bytes(length)) {
            match choice % 8 {
                0..=3 if sparse > 0 => *byte = 0,
                4 if sparse > 0 => *byte %= 4,
                _ => {}
            }
        }
        bytes
    }

    fn spoil(&mut self, bytes: &mut Vec<u8>, samples: &[Vec<u8>]) {
        let at = self.below(bytes.len());
        let count = self.below(16).min(bytes.len() - at.min(bytes.len()));
        match self.below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..at + count)),
            4 => {
                let more = self.sparse(count);
                bytes.splice(at..at, more);
            }
            5 => {
                let other = &samples[self.below(samples.len())];
                let from = self.below(other.len()).min(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => bytes[at..at + count].fill(0xff),
        }
    }
}
