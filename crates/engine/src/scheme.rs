//! The signatures of votes: those of the consensus library, made only with permission.
//!
//! Every signature of a vote is made here, so nothing else has to be trusted with the promise that
//! a node without permission signs nothing. It decides nothing about who has it.

use std::sync::Arc;

use commonware_consensus::Viewable as _;
use commonware_consensus::simplex::{scheme::ed25519::Scheme as Ed25519, types::Subject};
use commonware_cryptography::{
    Digest,
    certificate::{
        AssemblyError, Attestation, Membership, Scheme as SchemeTrait, Verification, Verifier,
        verify_then_assemble,
    },
    ed25519::{PrivateKey, PublicKey},
};
use commonware_parallel::Strategy;
use commonware_utils::{iter::NonEmpty, ordered::Set};
use rand_core::CryptoRng;

use crate::leases::holder::Permit;

/// Verifies votes and certificates of a committee; signs votes with a permit.
#[derive(Clone, Debug)]
pub(crate) struct Scheme {
    inner: Ed25519,
    permit: Option<Arc<Permit>>,
}

impl Scheme {
    /// A scheme of a key with a seat, which signs once it has a permit; `None` without a seat.
    pub(crate) fn signer(
        namespace: &[u8],
        participants: Set<PublicKey>,
        key: PrivateKey,
    ) -> Option<Self> {
        let inner = Ed25519::signer(namespace, participants, key)?;
        Some(Self { inner, permit: None })
    }

    /// A scheme that never signs.
    pub(crate) fn verifier(namespace: &[u8], participants: Set<PublicKey>) -> Self {
        Self { inner: Ed25519::verifier(namespace, participants), permit: None }
    }

    /// The same, which signs what the permit allows.
    pub(crate) fn permitted(self, permit: Permit) -> Self {
        Self { permit: Some(Arc::new(permit)), ..self }
    }
}

fn inner(attestation: Attestation<Scheme>) -> Attestation<Ed25519> {
    Attestation { signer: attestation.signer, signature: attestation.signature }
}

fn outer(attestation: Attestation<Ed25519>) -> Attestation<Scheme> {
    Attestation { signer: attestation.signer, signature: attestation.signature }
}

impl Verifier for Scheme {
    type Subject<'a, D: Digest> = Subject<'a, D>;
    type Faults = <Ed25519 as Verifier>::Faults;
    type PublicKey = PublicKey;
    type Certificate = <Ed25519 as Verifier>::Certificate;

    fn verify_certificate<R: CryptoRng, D: Digest>(
        &self,
        rng: &mut R,
        subject: Subject<'_, D>,
        certificate: &Self::Certificate,
        strategy: &impl Strategy,
    ) -> bool {
        self.inner.verify_certificate(rng, subject, certificate, strategy)
    }

    fn verify_certificates<'a, R, D, I>(
        &self,
        rng: &mut R,
        certificates: NonEmpty<I>,
        strategy: &impl Strategy,
    ) -> bool
    where
        R: CryptoRng,
        D: Digest,
        I: Iterator<Item = (Subject<'a, D>, &'a Self::Certificate)>,
    {
        self.inner.verify_certificates(rng, certificates, strategy)
    }

    fn is_batchable() -> bool {
        Ed25519::is_batchable()
    }

    fn max_certificate_size(participants: u32) -> usize {
        Ed25519::max_certificate_size(participants)
    }

    fn certificate_codec_config(&self) -> <Self::Certificate as commonware_codec::Read>::Cfg {
        self.inner.certificate_codec_config()
    }

    fn certificate_codec_config_unbounded() -> <Self::Certificate as commonware_codec::Read>::Cfg {
        Ed25519::certificate_codec_config_unbounded()
    }
}

impl SchemeTrait for Scheme {
    type Signature = <Ed25519 as SchemeTrait>::Signature;

    fn me(&self) -> Option<Membership> {
        self.inner.me()
    }

    fn participants(&self) -> &Set<PublicKey> {
        self.inner.participants()
    }

    fn sign<D: Digest>(&self, subject: Subject<'_, D>) -> Option<Attestation<Self>> {
        let (permit, view) = (self.permit.as_ref()?, subject.view().get());
        let is_allowed = match subject {
            Subject::Nullify { .. } => permit.allows_nullify(view),
            Subject::Notarize { .. } | Subject::Finalize { .. } => permit.allows_block(view),
        };
        if is_allowed { self.inner.sign(subject).map(outer) } else { None }
    }

    fn verify_attestation<R: CryptoRng, D: Digest>(
        &self,
        rng: &mut R,
        subject: Subject<'_, D>,
        attestation: &Attestation<Self>,
        strategy: &impl Strategy,
    ) -> bool {
        self.inner.verify_attestation(rng, subject, &inner(attestation.clone()), strategy)
    }

    fn verify_attestations<R, D, I>(
        &self,
        rng: &mut R,
        subject: Subject<'_, D>,
        attestations: I,
        strategy: &impl Strategy,
    ) -> Verification<Self>
    where
        R: CryptoRng,
        D: Digest,
        I: IntoIterator<Item = Attestation<Self>>,
        I::IntoIter: Send,
    {
        let attestations = attestations.into_iter().map(inner);
        let found = self.inner.verify_attestations(rng, subject, attestations, strategy);
        Verification::new(found.verified.into_iter().map(outer).collect(), found.invalid)
    }

    fn optimistic_assemble<'a, R, D, I, J>(
        &self,
        rng: &mut R,
        subject: Subject<'_, D>,
        pending: I,
        verified: J,
        strategy: &impl Strategy,
    ) -> Result<Self::Certificate, Verification<Self>>
    where
        R: CryptoRng,
        D: Digest,
        I: IntoIterator<Item = Attestation<Self>>,
        I::IntoIter: ExactSizeIterator + Send,
        J: IntoIterator<Item = &'a Attestation<Self>>,
        J::IntoIter: Send,
    {
        verify_then_assemble::<Self, _, D, _, _>(self, rng, subject, pending, verified, strategy)
    }

    fn assemble<I>(
        &self,
        attestations: NonEmpty<I>,
        strategy: &impl Strategy,
    ) -> Result<Self::Certificate, AssemblyError>
    where
        I: Iterator<Item = Attestation<Self>> + Send,
    {
        let (first, rest) = attestations.into_parts();
        self.inner.assemble(NonEmpty::new(inner(first), rest.map(inner)), strategy)
    }

    fn is_attributable() -> bool {
        Ed25519::is_attributable()
    }
}
