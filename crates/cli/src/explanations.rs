//! What every error code means: the protocol's own, and those of the programs around it.

use soma_protocol::Rejection;

/// Codes of the client, the node and this binary.
const PROGRAMS: &[(&str, &str)] = &[(
    "usage",
    "The command line makes no sense in a way that its help cannot show. See --help of the command.",
)];

/// All codes with their explanations, sorted.
pub(crate) fn all() -> Vec<(&'static str, &'static str)> {
    let rules = Rejection::all()
        .iter()
        .map(|rejection| (rejection.code, rejection.help));
    let mut all: Vec<_> = rules.chain(PROGRAMS.iter().copied()).collect();
    all.sort_unstable();
    all.dedup_by_key(|(code, _)| *code);
    all
}
