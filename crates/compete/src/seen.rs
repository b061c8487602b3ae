//! What has won before: the rules refuse data of which half the sketch is from one earlier winner,
//! when it is published and its bond is at stake.

use std::collections::BTreeMap;

use soma_codes::{Code, Coded as _};
use soma_protocol::{Epoch, TargetId, sketch};
use soma_sdk::client::Client;

use crate::error::Result;

/// Data that is published and may win while an epoch competes, by its pieces. What has won already
/// is asked for document by document.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    published: BTreeMap<u64, Vec<u32>>,
}

impl Seen {
    /// What is published when the targets of this epoch are open: for those of the epoch before.
    ///
    /// # Errors
    /// Network errors.
    pub(crate) async fn in_epoch(client: &Client, epoch: u32) -> Result<Self> {
        let mut seen = Self::default();
        for target in client.targets(Some(Epoch(epoch.saturating_sub(1)))).await? {
            let Some(publication) = &target.publication else {
                continue;
            };
            match client.target_data(TargetId(target.id), publication.data_hash.0).await {
                Ok(data) => seen.add(target.id, &data),
                // It was settled in this moment, and is among what has won.
                Err(error) if error.code() == Code::DataNotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(seen)
    }

    fn add(&mut self, target: u32, data: &[u8]) {
        for piece in sketch::sketch(data) {
            self.published.entry(piece).or_default().push(target);
        }
    }

    /// Whether the rules would refuse this data when it is published.
    ///
    /// # Errors
    /// Network errors.
    pub(crate) async fn has(&self, client: &Client, data: &[u8]) -> Result<bool> {
        let pieces = sketch::sketch(data);
        let won = client.winners(&pieces).await?;
        Ok(self.repeats(&pieces, won.iter().flatten().map(|winner| winner.target)))
    }

    /// Whether so many of the pieces are from one winner; `won` has that of each that has one.
    fn repeats(&self, pieces: &[u64], won: impl Iterator<Item = u32>) -> bool {
        let published = pieces.iter().filter_map(|piece| self.published.get(piece));
        let mut repeated = BTreeMap::new();
        for target in published.flatten().copied().chain(won) {
            *repeated.entry(target).or_insert(0_usize) += 1;
        }
        repeated.values().any(|count| *count >= sketch::repeated_min(pieces.len()))
    }
}

#[cfg(test)]
mod tests {
    use soma_protocol::sketch;

    use super::Seen;

    fn text(seed: u8) -> Vec<u8> {
        let mut bytes = vec![0; 4_000];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn data_is_seen_if_half_of_its_pieces_are_from_one_winner_that_is_published_or_paid() {
        let mut seen = Seen::default();
        seen.add(7, &text(1));
        let pieces = sketch::sketch(&text(1));
        assert!(seen.repeats(&pieces, std::iter::empty()));
        let other = sketch::sketch(&text(2));
        assert!(!seen.repeats(&other, std::iter::empty()));
        let half = sketch::repeated_min(other.len());
        assert!(seen.repeats(&other, std::iter::repeat_n(3, half)));
        assert!(!seen.repeats(&other, std::iter::repeat_n(3, half - 1)));
        assert!(!seen.repeats(&other, (0..16).map(|piece| piece % 3)), "of three winners");
    }
}
