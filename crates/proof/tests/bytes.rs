//! Whatever arrives from a node is refused or read, never a panic, and only whole.

use proptest::prelude::*;
use soma_proof::{
    BUCKET_RECORDS_MAX, Certificate, Committees, Handover, Header, PROOF_BYTES_MAX, RecordProof,
    TERM_BLOCKS, Voter,
};
use soma_protocol::{Address, ConsensusKey, Hash, Key};

fn voters(count: u8) -> Vec<Voter> {
    let voter = |number| Voter {
        consensus_key: ConsensusKey([number; 32]),
        validator: Address([number; 32]),
    };
    (0..count).map(voter).collect()
}

proptest! {
    #[test]
    fn bytes_of_a_node_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..2_000), key in any::<[u8; 32]>(),
    ) {
        let header = Header::decode(&bytes);
        let certificate = Certificate::decode(&bytes);
        if let (Some(header), Some(certificate)) = (&header, &certificate) {
            let committees = Committees::new(Hash([1; 32]), TERM_BLOCKS, &voters(4));
            prop_assert!(!committees.certify(header, certificate));
        }
        if let Some(handover) = Handover::decode(&bytes) {
            let mut committees = Committees::new(Hash([1; 32]), TERM_BLOCKS, &voters(4));
            prop_assert!(committees.follow(&handover).is_err());
        }
        if let Some(proof) = RecordProof::decode(&bytes) {
            prop_assert_eq!(proof.shows(&Key(key), &Hash([1; 32])), None);
        }
    }

    #[test]
    fn a_record_proof_of_any_form_is_decoded_only_within_its_bounds(
        value in prop::option::of(prop::collection::vec(any::<u8>(), 0..64)),
        mut bucket in prop::collection::vec((any::<[u8; 32]>(), any::<[u8; 32]>()), 0..12),
        siblings in prop::collection::vec(any::<[u8; 32]>(), 0..300),
        key in any::<[u8; 32]>(), sorted in any::<bool>(),
    ) {
        if sorted {
            bucket.sort_unstable();
        }
        let proof = RecordProof {
            value,
            bucket: bucket.iter().map(|(key, hash)| (Key(*key), Hash(*hash))).collect(),
            siblings: siblings.into_iter().map(Hash).collect(),
        };
        let is_sorted = proof.bucket.is_sorted_by(|(first, _), (second, _)| first < second);
        let fits = is_sorted
            && proof.bucket.len() <= BUCKET_RECORDS_MAX
            && proof.siblings.len() <= 256;
        let bytes = proof.encode();
        prop_assert!(!fits || bytes.len() <= PROOF_BYTES_MAX);
        let read = RecordProof::decode(&bytes);
        prop_assert_eq!(read.is_some(), fits);
        if let Some(read) = read {
            prop_assert_eq!(read.shows(&Key(key), &Hash([1; 32])), None);
        }
    }
}

#[test]
fn a_committee_without_valid_keys_certifies_nothing() {
    let committees = Committees::new(Hash([1; 32]), TERM_BLOCKS, &[]);
    let bytes = [&[0, 0, 0][..], &[7; 32], &[0; 8], &[0]].concat();
    let certificate = Certificate::decode(&bytes).expect("nobody has signed it");
    assert!(!certificate.is_signed_by(&committees.chain(), &[]));
    assert!(!certificate.is_signed_by(&committees.chain(), &voters(4)));
    assert_eq!(committees.at(3), &[]);
}
