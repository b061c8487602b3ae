//! Answers that nobody needs to believe: what records of the state are after the last finalized
//! block, with proofs against the root in its header and the certificate of the block; and the
//! handovers that lead from genesis to its committee. [`soma_proof`] verifies them.
//!
//! One question is answered at a time, and each is bounded.

use std::{sync::Arc, time::Duration};

use commonware_codec::Encode as _;
use commonware_consensus::{marshal::Identifier, types::Height};
use commonware_runtime::Spawner;
use commonware_storage::Context as StorageContext;
use soma_proof::RecordProof;
use soma_protocol::Key;
use soma_store::State;
use tokio::sync::{mpsc, oneshot};

use crate::{consensus::components::MarshalMailbox, sync::handover::HandoverStore};

/// The most records of one answer.
pub const PROVED_RECORDS_MAX: usize = 64;
/// The most bytes of records and proofs in one answer: the longest record fits.
pub const PROVED_BYTES_MAX: usize = 1 << 20;
/// The most handovers of one answer.
pub const HANDOVERS_MAX: usize = 32;
/// How many questions wait.
const QUESTIONS_WAITING_MAX: usize = 16;
/// How often, and after which pauses, the certificate of a block is looked for: a block that was
/// finalized by a later one alone has none of its own, but then the later one is next.
const LOOKS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// Records of a state, in the order of the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// The height of the block.
    pub height: u64,
    /// Its header.
    pub header: Vec<u8>,
    /// Its certificate.
    pub certificate: Vec<u8>,
    /// For each key, a proof of what its record is. Fewer than were asked for if all would be too
    /// long.
    pub records: Vec<Vec<u8>>,
}

/// A question, and where its answer goes.
enum Question {
    Records(Vec<Key>, oneshot::Sender<Option<Proved>>),
    Handovers(Option<u64>, oneshot::Sender<Option<Vec<Vec<u8>>>>),
}

/// Asks a running node for proofs.
#[derive(Clone, Debug)]
pub struct Prover(mpsc::Sender<Question>);

impl Prover {
    /// What the records of at most [`PROVED_RECORDS_MAX`] keys are; `None` if there is no certified
    /// block or the node stops.
    pub async fn records(&self, mut keys: Vec<Key>) -> Option<Proved> {
        keys.truncate(PROVED_RECORDS_MAX);
        let (sender, answer) = oneshot::channel();
        self.0.send(Question::Records(keys, sender)).await.ok()?;
        answer.await.ok()?
    }

    /// The handovers that change the committee after this term, at most [`HANDOVERS_MAX`]; `None`
    /// if the disk fails or the node stops.
    pub async fn handovers(&self, after: Option<u64>) -> Option<Vec<Vec<u8>>> {
        let (sender, answer) = oneshot::channel();
        self.0.send(Question::Handovers(after, sender)).await.ok()?;
        answer.await.ok()?
    }
}

/// What answers are made from.
pub(crate) struct Answering<E: Spawner + StorageContext> {
    context: E,
    marshal: MarshalMailbox,
    state: Arc<State>,
    handovers: Arc<HandoverStore<E>>,
}

impl<E: Spawner + StorageContext> Answering<E> {
    /// Answers from a running node until nobody can ask anymore.
    pub(crate) fn start(
        context: &E,
        marshal: &MarshalMailbox,
        state: &Arc<State>,
        handovers: &Arc<HandoverStore<E>>,
    ) -> Prover {
        let (sender, mut questions) = mpsc::channel(QUESTIONS_WAITING_MAX);
        let answering = Self {
            context: context.child("proving"),
            marshal: marshal.clone(),
            state: Arc::clone(state),
            handovers: Arc::clone(handovers),
        };
        let prover = answering.context.child("prover");
        prover.spawn(move |_| async move {
            while let Some(question) = questions.recv().await {
                // Whoever asked may be gone.
                match question {
                    Question::Records(keys, answer) => {
                        let _ = answer.send(answering.records(&keys).await);
                    }
                    Question::Handovers(after, answer) => {
                        let _ = answer.send(answering.handovers(after).await);
                    }
                }
            }
        });
        Prover(sender)
    }

    async fn records(&self, keys: &[Key]) -> Option<Proved> {
        for look in 0..LOOKS {
            if look > 0 {
                self.context.sleep(PAUSE).await;
            }
            if let Some(proved) = self.attempt(keys).await {
                return Some(proved);
            }
        }
        None
    }

    /// The records with the certificate of their block, if it has one.
    async fn attempt(&self, keys: &[Key]) -> Option<Proved> {
        let (tip, records) = self.state.prove(keys, PROVED_BYTES_MAX);
        let height = Height::new(tip.height);
        let block = self.marshal.get_block(Identifier::Height(height)).await?;
        let certificate = self.marshal.get_finalization(height).await?;
        let header = block.inner().header();
        Some(Proved {
            height: tip.height,
            header: header.encode().to_vec(),
            certificate: certificate.encode().to_vec(),
            records: records.iter().map(RecordProof::encode).collect(),
        })
    }

    async fn handovers(&self, mut after: Option<u64>) -> Option<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        while found.len() < HANDOVERS_MAX
            && let Some((term, handover)) = self.handovers.after(after).await.ok()?
        {
            found.push(handover.encode().to_vec());
            after = Some(term);
        }
        Some(found)
    }
}
