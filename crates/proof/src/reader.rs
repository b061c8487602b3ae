//! Reads what the consensus library writes: bytes, and integers in LEB128.

/// What is left to read.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    /// An integer of 8 bytes, the highest first.
    pub(crate) fn fixed(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// An integer in LEB128.
    pub(crate) fn integer(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// A count of at most `most`, in LEB128.
    pub(crate) fn count(&mut self, most: usize) -> Option<usize> {
        let count = usize::try_from(self.integer()?).ok()?;
        (count <= most).then_some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::Reader;

    #[test]
    fn an_integer_ends_within_64_bits() {
        for (bytes, expected) in [
            (&[0_u8][..], Some(0)),
            (&[0x80, 1], Some(128)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Some(u64::MAX)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], None),
            (&[0x80; 11], None),
            (&[0x80], None),
            (&[], None),
        ] {
            assert_eq!(Reader(bytes).integer(), expected, "{bytes:?}");
        }
    }
}
