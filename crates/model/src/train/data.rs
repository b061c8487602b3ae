//! What a model is trained on: documents, their held-out part, and the order in which training sees
//! them. The order is a pure function of the seed and the documents; it must never depend on
//! threads, clocks or file names.

use std::ops::Range;

use crate::error::Error;
use crate::layers::loss::NO_TARGET;
use crate::tokenizer::EOS;

/// The bytes of one or more documents. A document is the content of one file; windows never cross
/// from one document into the next.
#[derive(Clone, Debug, Default)]
pub struct Corpus {
    bytes: Vec<u8>,
    documents: Vec<Document>,
}

/// One document as a range of the corpus.
#[derive(Clone, Debug)]
struct Document {
    range: Range<usize>,
    /// Whether the range ends where the file ends; the point where a document was split is no place
    /// for EOS.
    ends: bool,
}

impl Corpus {
    /// A corpus without documents.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a document. An empty one is left out.
    pub fn push(&mut self, document: &[u8]) {
        self.append(document, true);
    }

    /// Appends the beginning of a document whose rest is elsewhere: its last byte has no target.
    pub fn push_beginning(&mut self, document: &[u8]) {
        self.append(document, false);
    }

    /// Number of bytes in all documents together.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to train on.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The documents' bytes, in the order in which they were pushed.
    pub fn documents(&self) -> impl Iterator<Item = &[u8]> {
        self.documents.iter().map(|document| &self.bytes[document.range.clone()])
    }

    /// Cuts off the last tenth of the bytes, rounded up: `(for training, held out)`. A document on
    /// the border is split. Fewer than two bytes cannot be split and leave the first part empty.
    pub fn hold_out(&self) -> (Self, Self) {
        let border = self.len() - self.len().div_ceil(10);
        let (mut kept, mut held_out) = (Self::new(), Self::new());
        for Document { range, ends } in &self.documents {
            let cut = border.clamp(range.start, range.end);
            kept.append(&self.bytes[range.start..cut], *ends && cut == range.end);
            held_out.append(&self.bytes[cut..range.end], *ends);
        }
        (kept, held_out)
    }

    /// Whether any byte, or the end of a document, follows a byte and can be learned.
    pub(crate) fn has_targets(&self, context: usize) -> bool {
        let mut documents = self.documents.iter();
        documents.any(|Document { range, ends }| range.len() > 1 || (*ends && context > 1))
    }

    /// Identifies the documents and their borders: a checkpoint resumes on the corpus that it was
    /// made with.
    pub(crate) fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_derive_key("soma train: corpus v1");
        for Document { range, ends } in &self.documents {
            hasher.update(&(range.len() as u64).to_le_bytes());
            hasher.update(&[u8::from(*ends)]);
        }
        hasher.update(&self.bytes).finalize()
    }

    fn append(&mut self, document: &[u8], ends: bool) {
        if !document.is_empty() {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(document);
            self.documents.push(Document { range: start..self.bytes.len(), ends });
        }
    }
}

impl From<&[u8]> for Corpus {
    /// One document.
    fn from(document: &[u8]) -> Self {
        let mut corpus = Self::new();
        corpus.push(document);
        corpus
    }
}

/// A stretch of one document, at most one context long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    start: usize,
    length: usize,
    /// Whether the document ends with this window, so that its last byte predicts EOS where the
    /// context has room for it.
    ends: bool,
    /// Whether another byte of the same document follows, as the last position's target.
    continues: bool,
}

/// Walks the corpus in epochs. In each, every document is cut into windows from a new offset, so
/// that borders move, and all windows are shuffled; every byte is seen exactly once per epoch.
#[derive(Debug)]
pub(crate) struct Order {
    corpus: Corpus,
    seed: [u8; 32],
    context: usize,
    windows: Vec<Window>,
    epoch: u64,
    cursor: usize,
}

impl Order {
    /// Starts at a place given by [`Order::place`], or at `(0, 0)`.
    ///
    /// # Errors
    /// [`Error::EmptyData`] for a corpus without bytes, [`Error::NothingToPredict`] for one in
    /// which no byte follows another.
    pub(crate) fn new(
        corpus: Corpus,
        seed: [u8; 32],
        context: usize,
        (epoch, cursor): (u64, usize),
    ) -> Result<Self, Error> {
        if corpus.is_empty() {
            return Err(Error::EmptyData);
        }
        if !corpus.has_targets(context) {
            return Err(Error::NothingToPredict);
        }
        // An offset adds at most one window to each document.
        let most = corpus.documents().map(|d| d.len().div_ceil(context) + 1).sum();
        let windows = Vec::with_capacity(most);
        let mut order = Self { corpus, seed, context, windows, epoch, cursor };
        order.cut_and_shuffle();
        order.cursor = cursor.min(order.windows.len());
        Ok(order)
    }

    /// `(epoch, windows already taken from it)`.
    pub(crate) fn place(&self) -> (u64, usize) {
        (self.epoch, self.cursor)
    }

    /// Returns to a place that [`Order::place`] gave earlier.
    pub(crate) fn return_to(&mut self, (epoch, cursor): (u64, usize)) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.cut_and_shuffle();
        }
        self.cursor = cursor;
    }

    pub(crate) fn corpus_hash(&self) -> blake3::Hash {
        self.corpus.hash()
    }

    /// The next window's tokens and, for each, the token it must predict (or [`NO_TARGET`]).
    pub(crate) fn next(&mut self, tokens: &mut Vec<u16>, targets: &mut Vec<u16>) {
        if self.cursor == self.windows.len() {
            self.epoch += 1;
            self.cursor = 0;
            self.cut_and_shuffle();
        }
        let Window { start, length, ends, continues } = self.windows[self.cursor];
        self.cursor += 1;
        tokens.clear();
        targets.clear();
        let bytes = &self.corpus.bytes[start..start + length];
        tokens.extend(bytes.iter().map(|&byte| u16::from(byte)));
        if ends && length < self.context {
            tokens.push(EOS);
        }
        targets.extend_from_slice(&tokens[1..]);
        targets.push(if continues {
            u16::from(self.corpus.bytes[start + length])
        } else {
            NO_TARGET
        });
    }

    fn cut_and_shuffle(&mut self) {
        let mut random = Random::new(&self.seed, self.epoch);
        self.windows.clear();
        for Document { range, ends } in &self.corpus.documents {
            let mut start = range.start;
            let mut end = start + self.context;
            if range.len() > self.context {
                end -= random.below(self.context);
            }
            while start < range.end {
                end = end.min(range.end);
                let last = end == range.end;
                let (ends, continues) = (last && *ends, !last);
                self.windows.push(Window { start, length: end - start, ends, continues });
                (start, end) = (end, end + self.context);
            }
        }
        for i in (1..self.windows.len()).rev() {
            self.windows.swap(i, random.below(i + 1));
        }
    }
}

/// Integers from BLAKE3 in XOF mode.
struct Random(blake3::OutputReader);

impl Random {
    fn new(seed: &[u8; 32], epoch: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("soma train: data order v1");
        Self(hasher.update(seed).update(&epoch.to_le_bytes()).finalize_xof())
    }

    /// A number below `bound`, which is not zero: the high half of a 64-bit draw times the bound.
    fn below(&mut self, bound: usize) -> usize {
        let mut draw = [0; 8];
        self.0.fill(&mut draw);
        let product = u128::from(u64::from_le_bytes(draw)) * bound as u128;
        #[expect(clippy::cast_possible_truncation, reason = "the high half is below the bound")]
        let number = (product >> 64) as usize;
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus(documents: &[&[u8]]) -> Corpus {
        let mut corpus = Corpus::new();
        for document in documents {
            corpus.push(document);
        }
        corpus
    }

    #[test]
    fn the_last_tenth_rounded_up_is_held_out_across_documents() {
        let all: Vec<u8> = (0..=104).collect();
        let (kept, held_out) = corpus(&[&all[..90], &all[90..96], &all[96..]]).hold_out();
        assert_eq!((kept.len(), held_out.len()), (94, 11));
        assert_eq!(held_out.documents().next(), Some(&all[94..96]));
        let ends: Vec<_> = kept.documents.iter().map(|d| d.ends).collect();
        assert_eq!(ends, [true, false], "a cut document must not teach EOS at the cut");
    }

    #[test]
    fn an_epoch_shows_every_byte_once_and_every_target_is_the_next_byte() {
        let bytes: Vec<u8> = (0..=250).collect();
        let mut order = Order::new(corpus(&[&bytes]), [7; 32], 16, (0, 0)).unwrap();
        let (mut tokens, mut targets, mut seen) = (vec![], vec![], vec![]);
        while order.epoch == 0 {
            order.next(&mut tokens, &mut targets);
            if order.epoch > 0 {
                break;
            }
            assert_eq!(tokens.len(), targets.len());
            for (&token, &target) in tokens.iter().zip(&targets) {
                let next = if token == 250 { EOS } else { token + 1 };
                assert!(target == next || (target == NO_TARGET && (token == EOS || token == 250)));
                seen.extend((token != EOS).then_some(token));
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..=250).collect::<Vec<u16>>());
    }

    #[test]
    fn the_order_continues_from_any_place_and_changes_with_the_seed() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let draw = |seed, place, n| {
            let mut order = Order::new(corpus(&[&bytes]), [seed; 32], 32, place).unwrap();
            let (mut tokens, mut targets, mut all) = (vec![], vec![], vec![]);
            for _ in 0..n {
                order.next(&mut tokens, &mut targets);
                all.push(tokens.clone());
            }
            (all, order.place())
        };
        let (whole, _) = draw(1, (0, 0), 100);
        let (first, place) = draw(1, (0, 0), 41);
        let (rest, _) = draw(1, place, 59);
        assert_eq!(whole, [first, rest].concat());
        assert_ne!(whole, draw(2, (0, 0), 100).0);
    }
}
