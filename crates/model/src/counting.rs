//! What counting predicts: the loss of a predictor that knows nothing but what it has counted in
//! the chunk so far. A model that predicts data no better does not understand it.
//!
//! Integers only, and the same for every model of an architecture. No data may make it much worse
//! than the best of its experts: where counting failed, garbage would look understood.
//!
//! One expert says that all symbols are equally likely. The others, one for each order from 0 to 6,
//! look at what followed the last so many symbols. They are blended from the bottom as in "The
//! zero-frequency problem" (1991, method C), their counts are updated from the top as in
//! "Implementing the PPM data compression scheme" (Moffat, 1990), and all share a prediction as in
//! "Tracking the best expert" (Herbster and Warmuth, 1998). `docs/numerics.md` defines every bit.

use crate::tokenizer::{EOS, chunks};

/// Contexts of a position: its last 0, 1, .. 6 symbols.
const ORDERS: usize = 7;
/// The orders, and the expert that knows nothing.
const EXPERTS: usize = ORDERS + 1;
/// Symbols that can come next: the bytes and EOS.
const SYMBOLS: u64 = 257;
/// One, as a probability or a weight.
const ONE: u64 = 1 << 32;
/// What each expert gets of a 32nd of the weights, which all share whatever they predicted.
const SHARE: u64 = ONE / 32 / EXPERTS as u64;
/// `ln 2` in units of 2^-64, rounded down.
const LN_2: u128 = 0xb172_17f7_d1cf_79ab;

/// Mean loss of counting over the predicted positions of `data`, cut into chunks of this many
/// positions, in 2^-32 nat, rounded down. `None` if no position is predicted.
pub fn counting_q32(data: &[u8], positions: usize) -> Option<i64> {
    let (mut counts, mut probability) = (Counts::default(), Probability::default());
    let mut predicted = 0;
    for chunk in chunks(data, positions) {
        counts.clear(chunk.positions());
        let mut experts = Experts::default();
        for (position, symbol) in chunk.tokens().enumerate() {
            let given = counts.take(symbol);
            if position > 0 {
                probability.multiply(experts.predict(&given));
            }
        }
        predicted += chunk.predicted() as u128;
    }
    let nats = (probability.bits_q32() * LN_2) >> 64;
    i64::try_from(nats.checked_div(predicted)?).ok()
}

/// A string that has occurred in the chunk. Its parent is the string without its last symbol: it
/// counts that symbol in the context of its parent, and is the context of its children.
#[derive(Clone, Copy, Default)]
struct Node {
    symbol: u16,
    /// How often the last symbol was counted after the others.
    count: u32,
    /// Sum of the children's counts.
    total: u32,
    /// Children that were counted.
    distinct: u32,
    /// A child, or 0.
    child: u32,
    /// Another child of the same parent, or 0.
    sibling: u32,
}

/// What has been counted in a chunk.
#[derive(Default)]
struct Counts {
    /// The first is the empty string.
    nodes: Vec<Node>,
    /// The children of the empty string, by symbol: lists of them would be long.
    symbols: Vec<u32>,
    /// The contexts of the next position, by order.
    contexts: [u32; ORDERS],
    /// How many contexts it has: fewer at the start of a chunk.
    orders: usize,
}

impl Counts {
    /// Forgets everything, before a chunk of this many positions.
    fn clear(&mut self, positions: usize) {
        self.nodes.clear();
        self.nodes.reserve(1 + ORDERS * positions);
        self.nodes.push(Node::default());
        self.symbols.clear();
        self.symbols.resize(usize::from(EOS) + 1, 0);
        self.contexts = [0; ORDERS];
        self.orders = 1;
    }

    /// Takes the next symbol. Returns the probabilities that the experts gave it.
    fn take(&mut self, symbol: u16) -> [u64; EXPERTS] {
        let mut continued = [0; ORDERS];
        for (child, context) in continued.iter_mut().zip(self.contexts).take(self.orders) {
            *child = self.child(context, symbol);
        }
        let given = self.probabilities(&continued);
        self.count(&continued);
        self.contexts[1..].copy_from_slice(&continued[..ORDERS - 1]);
        self.orders = ORDERS.min(self.orders + 1);
        given
    }

    /// The child that continues a context with a symbol; a new one has not been counted.
    fn child(&mut self, context: u32, symbol: u16) -> u32 {
        let first = match context {
            0 => self.symbols[usize::from(symbol)],
            context => self.nodes[context as usize].child,
        };
        let mut child = first;
        while child != 0 {
            let node = &self.nodes[child as usize];
            if node.symbol == symbol {
                return child;
            }
            child = node.sibling;
        }
        #[expect(clippy::cast_possible_truncation, reason = "7 nodes for each of 2^16 positions")]
        let new = self.nodes.len() as u32;
        match context {
            0 => self.symbols[usize::from(symbol)] = new,
            context => self.nodes[context as usize].child = new,
        }
        self.nodes.push(Node { symbol, sibling: first, ..Node::default() });
        new
    }

    /// What each expert gives the symbol that continues the contexts: a part of 2^32, and less than
    /// that. An order whose context is new repeats the order below.
    fn probabilities(&self, continued: &[u32; ORDERS]) -> [u64; EXPERTS] {
        let mut probability = ONE / SYMBOLS;
        let mut given = [probability; EXPERTS];
        for order in 0..ORDERS {
            let context = &self.nodes[self.contexts[order] as usize];
            if order < self.orders && context.total > 0 {
                let count = u64::from(self.nodes[continued[order] as usize].count);
                let (total, distinct) = (u64::from(context.total), u64::from(context.distinct));
                probability = (count * ONE + distinct * probability) / (total + distinct);
            }
            given[order + 1] = probability;
        }
        given
    }

    /// Counts the symbol in the longest context and in shorter ones, up to the first in which it
    /// was counted before.
    fn count(&mut self, continued: &[u32; ORDERS]) {
        for order in (0..self.orders).rev() {
            let node = &mut self.nodes[continued[order] as usize];
            let known = node.count > 0;
            node.count += 1;
            let context = &mut self.nodes[self.contexts[order] as usize];
            context.total += 1;
            if known {
                return;
            }
            context.distinct += 1;
        }
    }
}

/// The weights of the experts; their sum is at most [`ONE`].
struct Experts {
    weights: [u64; EXPERTS],
}

impl Default for Experts {
    fn default() -> Self {
        // At the start, the orders have nothing to tell.
        let mut weights = [ONE / 2 / ORDERS as u64; EXPERTS];
        weights[0] = ONE / 2;
        Self { weights }
    }
}

impl Experts {
    /// The probability of a symbol, in 2^-64, if the experts give it these. Each weight then grows
    /// as its expert was right.
    fn predict(&mut self, given: &[u64; EXPERTS]) -> u64 {
        let mut parts = self.weights;
        parts.iter_mut().zip(given).for_each(|(part, given)| *part *= given);
        // Below 2^64, because every part is below 2^32 times a weight; and not below 2^47, because
        // the expert that knows nothing has a share.
        let sum: u64 = parts.iter().sum();
        // Rounded up, so that the weights do not grow beyond one.
        let unit = (sum >> 32) + 1;
        self.weights = parts.map(|part| part / unit * 31 / 32 + SHARE);
        sum
    }
}

/// A product of probabilities: `mantissa * 2^(-63 - halvings)`, with 64 digits.
struct Probability {
    mantissa: u64,
    halvings: u64,
}

impl Default for Probability {
    fn default() -> Self {
        Self { mantissa: 1 << 63, halvings: 0 }
    }
}

impl Probability {
    /// Multiplies by a probability in 2^-64, which is not 0.
    fn multiply(&mut self, probability: u64) {
        let product = u128::from(self.mantissa) * u128::from(probability);
        let zeros = product.leading_zeros();
        self.mantissa = ((product << zeros) >> 64) as u64;
        self.halvings += u64::from(zeros);
    }

    /// How many bits it takes, in 2^-32: the logarithm to base 2, digit by digit.
    fn bits_q32(&self) -> u128 {
        let (mut mantissa, mut logarithm) = (u128::from(self.mantissa), 0);
        for _ in 0..32 {
            let square = (mantissa * mantissa) >> 63;
            let digit = square >> 64;
            logarithm = logarithm << 1 | digit;
            mantissa = square >> digit;
        }
        (u128::from(self.halvings) << 32) - logarithm
    }
}
