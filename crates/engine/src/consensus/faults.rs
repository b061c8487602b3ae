//! Proof of equivocation, from the votes that consensus reports.
//!
//! Consensus detects two contradicting votes and disconnects their sender, but does not verify the
//! signatures. They are verified here, by the rule that the protocol will judge them by: nobody is
//! accused without proof.

use commonware_actor::Feedback;
use commonware_codec::{Encode, Read, ReadExt as _};
use commonware_consensus::{
    Epochable as _, Reporter, Viewable as _,
    simplex::types::{Activity, Attributable as _, Finalize, Notarize, Nullify},
};
use commonware_cryptography::{blake3::Digest, certificate::Scheme as _};
use commonware_utils::ordered::Quorum as _;
use soma_protocol::{Hash, evidence::Evidence};
use tokio::sync::mpsc;

use crate::{
    ballots::{finalize, notarize, nullify},
    keys::consensus_key,
    scheme::Scheme,
};

/// How many proofs wait before more are dropped: a validator that equivocates once does so again.
pub const FAULTS_WAITING_MAX: usize = 16;

/// Where proof of equivocation goes.
#[derive(Clone)]
pub(crate) struct Faults {
    chain: Hash,
    found: mpsc::Sender<Evidence>,
}

impl Faults {
    pub(crate) const fn new(chain: Hash, found: mpsc::Sender<Evidence>) -> Self {
        Self { chain, found }
    }

    /// Observes what consensus reports to `reporter` in a term whose votes `scheme` verifies.
    pub(crate) fn observe<R>(&self, scheme: Scheme, reporter: R) -> FaultReporter<R> {
        FaultReporter { reporter, scheme, faults: self.clone() }
    }
}

/// Forwards what consensus reports, and keeps proof of equivocation.
#[derive(Clone)]
pub(crate) struct FaultReporter<R> {
    reporter: R,
    scheme: Scheme,
    faults: Faults,
}

impl<R: Reporter<Activity = Activity<Scheme, Digest>>> Reporter for FaultReporter<R> {
    type Activity = R::Activity;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        if let Some(evidence) = evidence(&self.scheme, &activity)
            && evidence.proves(&self.faults.chain)
        {
            let (key, view) = (evidence.consensus_key, evidence.view);
            tracing::warn!(%key, view, "a validator equivocated");
            // A full queue already holds enough proof.
            let _ = self.faults.found.try_send(evidence);
        }
        self.reporter.report(activity)
    }
}

/// Two contradicting votes as the protocol's evidence.
fn evidence(scheme: &Scheme, activity: &Activity<Scheme, Digest>) -> Option<Evidence> {
    let (signer, [first, second]) = match activity {
        Activity::ConflictingNotarize(pair) => {
            let (first, second) = votes::<Notarize<Scheme, _>, Notarize<Scheme, _>>(pair)?;
            (pair.signer(), [notarize(&first)?, notarize(&second)?])
        }
        Activity::ConflictingFinalize(pair) => {
            let (first, second) = votes::<Finalize<Scheme, _>, Finalize<Scheme, _>>(pair)?;
            (pair.signer(), [finalize(&first)?, finalize(&second)?])
        }
        Activity::NullifyFinalize(pair) => {
            let (first, second) = votes::<Nullify<Scheme>, Finalize<Scheme, _>>(pair)?;
            (pair.signer(), [nullify(&first)?, finalize(&second)?])
        }
        _ => return None,
    };
    Some(Evidence {
        consensus_key: consensus_key(scheme.participants().key(signer)?),
        term: activity.epoch().get(),
        view: activity.view().get(),
        first,
        second,
    })
}

/// The two votes of a contradiction, whose encoding is one after the other.
fn votes<A: Read<Cfg = ()>, B: Read<Cfg = ()>>(pair: &impl Encode) -> Option<(A, B)> {
    let mut bytes = pair.encode();
    Some((A::read(&mut bytes).ok()?, B::read(&mut bytes).ok()?))
}

#[cfg(test)]
mod tests {
    use super::{
        Activity, Digest, Faults, Feedback, Finalize, Notarize, Nullify, Reporter, Scheme,
        evidence, finalize, notarize, nullify,
    };
    use crate::{ConsensusSecret, keys::private_key, leases::holder::Permit};
    use commonware_consensus::{
        simplex::types::{ConflictingFinalize, ConflictingNotarize, NullifyFinalize, Proposal},
        types::{Epoch, Round, View},
    };
    use commonware_cryptography::{Signer as _, certificate::Attestation};
    use commonware_utils::ordered::Set;
    use soma_protocol::{
        Hash,
        evidence::{Ballot, Evidence, SignedBallot, namespace},
    };
    use tokio::sync::mpsc;

    const CHAIN: Hash = Hash([7; 32]);
    /// Both numbers take more than one byte as LEB128.
    const ROUND: Round = Round::new(Epoch::new(300), View::new(20_000));

    /// The scheme of one of four validators.
    fn scheme(of: u8) -> Scheme {
        let key = |validator: u8| private_key(&ConsensusSecret([validator + 1; 32]));
        let keys = Set::from_iter_dedup((0..4).map(|validator| key(validator).public_key()));
        let scheme = Scheme::signer(&namespace(&CHAIN), keys, key(of)).unwrap();
        scheme.permitted(Permit::of_adversary())
    }

    fn proposal(block: u8) -> Proposal<Digest> {
        Proposal::new(ROUND, View::new(19_000), Digest([block; 32]))
    }

    /// One contradiction of each kind.
    fn contradictions(scheme: &Scheme) -> [Activity<Scheme, Digest>; 3] {
        let notarize = |block| Notarize::sign(scheme, proposal(block)).unwrap();
        let finalize = |block| Finalize::sign(scheme, proposal(block)).unwrap();
        let nullify = Nullify::sign::<Digest>(scheme, ROUND).unwrap();
        [
            Activity::ConflictingNotarize(ConflictingNotarize::new(notarize(1), notarize(2))),
            Activity::ConflictingFinalize(ConflictingFinalize::new(finalize(1), finalize(2))),
            Activity::NullifyFinalize(NullifyFinalize::new(nullify, finalize(2))),
        ]
    }

    #[test]
    fn the_protocol_accepts_what_consensus_signs() {
        for validator in 0..4 {
            let scheme = scheme(validator);
            for activity in contradictions(&scheme) {
                let evidence = evidence(&scheme, &activity).unwrap();
                assert!(evidence.proves(&CHAIN), "{evidence:?}");
                let key = ConsensusSecret([validator + 1; 32]).public();
                assert_eq!(evidence.consensus_key, key);
            }
        }
    }

    #[test]
    fn changed_evidence_proves_nothing() {
        let (ours, theirs) = (scheme(0), scheme(1));
        for activity in contradictions(&ours) {
            let found = evidence(&ours, &activity).unwrap();
            let changed = |change: fn(&mut Evidence)| {
                let mut evidence = found;
                change(&mut evidence);
                evidence
            };
            let key = evidence(&theirs, &contradictions(&theirs)[0]).unwrap();
            let mut all = vec![
                changed(|evidence| evidence.term += 1),
                changed(|evidence| evidence.view += 1),
                changed(|evidence| evidence.first = evidence.second),
                changed(|evidence| evidence.second = evidence.first),
                changed(|evidence| evidence.first.signature[0] ^= 1),
                changed(|evidence| evidence.second.signature[63] ^= 1),
                changed(|evidence| {
                    std::mem::swap(&mut evidence.first.ballot, &mut evidence.second.ballot);
                }),
            ];
            all.push(Evidence { consensus_key: key.consensus_key, ..found });
            for vote in [Ballot::Nullify, found.first.ballot] {
                let ballot = match vote {
                    Ballot::Notarize { parent, block } => Ballot::Finalize { parent, block },
                    Ballot::Finalize { parent, block } => {
                        Ballot::Finalize { parent: parent + 1, block }
                    }
                    Ballot::Nullify => Ballot::Notarize { parent: 19_000, block: CHAIN },
                };
                let first = SignedBallot { ballot, ..found.first };
                all.push(Evidence { first, ..found });
            }
            assert!(all.iter().all(|evidence| !evidence.proves(&CHAIN)));
            assert!(!found.proves(&Hash([8; 32])), "another chain");
        }
    }

    #[test]
    fn votes_that_do_not_contradict_prove_nothing() {
        let scheme = scheme(2);
        let both = |first: SignedBallot, second: SignedBallot| {
            let activity = &contradictions(&scheme)[0];
            Evidence { first, second, ..evidence(&scheme, activity).unwrap() }
        };
        let yes = notarize(&Notarize::sign(&scheme, proposal(1)).unwrap()).unwrap();
        let last = finalize(&Finalize::sign(&scheme, proposal(1)).unwrap()).unwrap();
        let none = nullify(&Nullify::sign::<Digest>(&scheme, ROUND).unwrap()).unwrap();
        // A validator that notarized may still nullify the round if it takes too long.
        for (first, second) in [(yes, last), (yes, none), (yes, yes), (last, last)] {
            assert!(!both(first, second).proves(&CHAIN));
        }
    }

    /// Counts reports.
    #[derive(Clone, Default)]
    struct Count(usize);

    impl Reporter for Count {
        type Activity = Activity<Scheme, Digest>;

        fn report(&mut self, _: Self::Activity) -> Feedback {
            self.0 += 1;
            Feedback::Ok
        }
    }

    #[test]
    fn all_reports_are_forwarded_and_only_proof_is_kept() {
        let (found, mut faults) = mpsc::channel(16);
        let honest = scheme(0);
        let faults_of_chain = Faults::new(CHAIN, found);
        let mut reporter = faults_of_chain.observe(honest.clone(), Count::default());
        let all = contradictions(&scheme(3));
        for activity in all.iter().cloned() {
            reporter.report(activity);
        }
        // The signature of another vote proves nothing.
        let Activity::ConflictingNotarize(_) = &all[0] else { unreachable!() };
        let real = Notarize::sign(&scheme(3), proposal(1)).unwrap();
        let forged = Notarize {
            proposal: proposal(2),
            attestation: Attestation {
                signer: real.attestation.signer,
                signature: real.attestation.signature.clone(),
            },
        };
        let forged = ConflictingNotarize::new(real.clone(), forged);
        reporter.report(Activity::ConflictingNotarize(forged));
        reporter.report(Activity::Notarize(real));
        assert_eq!(reporter.reporter.0, 5);
        for activity in all {
            assert_eq!(faults.try_recv().ok(), evidence(&honest, &activity));
        }
        assert!(faults.try_recv().is_err(), "nothing else is proof");
    }
}
