//! What has won before: the rules refuse data that repeats it, when it is published and its bond is
//! at stake.

use std::collections::BTreeMap;

use soma_codes::{Code, Coded as _};
use soma_protocol::{Epoch, TargetId, sketch};
use soma_sdk::client::Client;

use crate::error::Result;

/// Data that is published and may win while an epoch competes, and what this machine has won with,
/// by its pieces. What others have won with is asked for document by document.
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
        self.remember(target, sketch::sketch(data));
    }

    /// Adds the pieces of what won a target.
    pub(crate) fn remember(&mut self, target: u32, pieces: Vec<u64>) {
        for piece in pieces {
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
        let won: Vec<Option<u32>> =
            won.iter().map(|winner| winner.as_ref().map(|winner| winner.target)).collect();
        Ok(self.repeats(&pieces, &won))
    }

    /// Whether the pieces repeat what won; `won` has the winner of each piece that has one. A win
    /// that is known here and that the node tells of counts once.
    fn repeats(&self, pieces: &[u64], won: &[Option<u32>]) -> bool {
        let won = won.iter().copied().chain(std::iter::repeat(None));
        let earlier = pieces.iter().zip(won).map(|(piece, won)| {
            let known = self.published.get(piece).into_iter().flatten().copied();
            known.chain(won)
        });
        sketch::repeated(earlier).is_some()
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
    fn data_is_seen_if_the_rules_would_refuse_it_after_what_is_published_and_paid() {
        let mut seen = Seen::default();
        seen.add(7, &text(1));
        let pieces = sketch::sketch(&text(1));
        assert!(seen.repeats(&pieces, &[]));
        let other = sketch::sketch(&text(2));
        assert!(!seen.repeats(&other, &[None; 16]));
        let from_one = |count| -> Vec<Option<u32>> { vec![Some(3); count] };
        assert!(seen.repeats(&other, &from_one(8)));
        assert!(!seen.repeats(&other, &from_one(7)));
        let from_three =
            |count: u32| -> Vec<Option<u32>> { (0..count).map(|piece| Some(piece % 3)).collect() };
        assert!(seen.repeats(&other, &from_three(12)));
        assert!(!seen.repeats(&other, &from_three(11)));
    }

    #[test]
    fn what_this_machine_has_won_with_is_not_submitted_again_though_a_node_denies_the_win() {
        let mut seen = Seen::default();
        let pieces = sketch::sketch(&text(1));
        assert!(!seen.repeats(&pieces, &[None; 16]));
        seen.remember(7, pieces.clone());
        assert!(seen.repeats(&pieces, &[None; 16]));
        // A part of it is not counted twice if a node tells of it, too.
        let mut seen = Seen::default();
        seen.remember(7, pieces[..7].to_vec());
        assert!(!seen.repeats(&pieces, &[Some(7); 7]));
    }
}
