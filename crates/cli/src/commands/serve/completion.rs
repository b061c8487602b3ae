//! The text of a completion: bytes as characters, and where a stop text ends it.

/// Text that is made byte by byte. What may be the beginning of a stop text, or of a character, is
/// held back.
#[derive(Debug, Default)]
pub(super) struct Completion {
    stops: Vec<String>,
    /// Bytes that are no whole character yet.
    bytes: Vec<u8>,
    /// Text that is not given out yet.
    held: String,
    stopped: bool,
}

impl Completion {
    /// Ends before the first of these texts, none of which is empty.
    pub(super) fn until(stops: Vec<String>) -> Self {
        Self { stops, ..Self::default() }
    }

    /// Whether a stop text has ended it.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Takes the next byte; returns the text that is certain now, often none.
    pub(super) fn push(&mut self, byte: u8) -> String {
        if self.stopped {
            return String::new();
        }
        self.bytes.push(byte);
        self.decode();
        let first = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(end) = first {
            self.held.truncate(end);
            self.stopped = true;
            return std::mem::take(&mut self.held);
        }
        let longest = self.stops.iter().map(String::len).max().unwrap_or(1);
        let mut certain = self.held.len().saturating_sub(longest - 1);
        while !self.held.is_char_boundary(certain) {
            certain -= 1;
        }
        let rest = self.held.split_off(certain);
        std::mem::replace(&mut self.held, rest)
    }

    /// The rest, once no byte follows.
    pub(super) fn end(&mut self) -> String {
        self.held.push_str(&String::from_utf8_lossy(&self.bytes));
        self.bytes.clear();
        std::mem::take(&mut self.held)
    }

    /// Moves whole characters to the text that is held. Bytes that belong to none become U+FFFD; a
    /// character that is not complete waits.
    fn decode(&mut self) {
        let mut rest = self.bytes.as_slice();
        loop {
            let (text, after) = match std::str::from_utf8(rest) {
                Ok(text) => (text, None),
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    (
                        std::str::from_utf8(valid).unwrap_or_default(),
                        Some((after, error.error_len())),
                    )
                }
            };
            self.held.push_str(text);
            match after {
                Some((after, Some(bad))) => {
                    self.held.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[bad..];
                }
                Some((after, None)) => {
                    self.bytes = after.to_vec();
                    return;
                }
                None => {
                    self.bytes.clear();
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Completion;

    fn told(stops: &[&str], bytes: &[u8]) -> (Vec<String>, bool) {
        let mut completion = Completion::until(stops.iter().map(|stop| (*stop).into()).collect());
        let mut told: Vec<String> = bytes.iter().map(|byte| completion.push(*byte)).collect();
        let stopped = completion.is_stopped();
        if !stopped {
            told.push(completion.end());
        }
        (told.into_iter().filter(|text| !text.is_empty()).collect(), stopped)
    }

    #[test]
    fn characters_come_whole_and_what_is_none_is_replaced() {
        let letters = ["a", "\u{e9}", "\u{20ac}"];
        assert_eq!(told(&[], letters.concat().as_bytes()).0, letters);
        assert_eq!(told(&[], b"a\xffb\xe2\x82").0.concat(), "a\u{fffd}b\u{fffd}");
        assert_eq!(told(&[], b"\xf0\x9f\xe2\x82\xac").0.concat(), "\u{fffd}\u{20ac}");
        assert_eq!(told(&[], b"\xc3\xc3\xa9").0.concat(), "\u{fffd}\u{e9}");
    }

    #[test]
    fn nothing_of_a_stop_text_is_told_and_nothing_before_it_is_lost() {
        let (text, stopped) = told(&["###"], b"ab##c###d");
        assert_eq!((text.concat().as_str(), stopped), ("ab##c", true));
        assert_eq!(told(&["\n", "xy"], b"axb\nxy").0.concat(), "axb");
        assert_eq!(told(&["never"], b"nev").0.concat(), "nev");
        assert!(!told(&["never"], b"nev").1);
    }
}
