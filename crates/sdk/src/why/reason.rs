//! The reasons, as data and as sentences.

use std::fmt::{self, Display};

use serde::Serialize;
use soma_protocol::Amount;

use crate::figures::{nats, relative_distance};

/// What became of something in an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// The epoch.
    pub epoch: u32,
    /// The target, if it is about one.
    pub target: Option<u32>,
    /// The model, if it is about one.
    pub model: Option<u32>,
    /// Why.
    pub reason: Reason,
}

impl Serialize for Fate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            epoch: u32,
            target: Option<u32>,
            model: Option<u32>,
            #[serde(flatten)]
            reason: &'a Reason,
            text: String,
            hint: Option<&'a str>,
        }
        let Self { epoch, target, model, reason } = self;
        let (text, hint) = (reason.to_string(), reason.hint());
        Shown { epoch: *epoch, target: *target, model: *model, reason, text, hint }
            .serialize(serializer)
    }
}

/// Why something was won or not. Amounts are in SOMA in sentences and in base units, as decimal
/// strings, in JSON; distances are squared, losses and gains in 2^-32 nat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "code", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// A submission won.
    Won {
        /// The submitter's half.
        paid: Amount,
    },
    /// A submission is still in the race.
    Pending {
        /// Its rank among the candidates, from 0.
        rank: u32,
    },
    /// Closer submissions took all places.
    Displaced {
        /// The submission's distance.
        distance: Distance,
        /// The closest candidate's distance.
        closest: Distance,
    },
    /// Somebody closer published.
    CloserPublished {
        /// The submission's distance.
        distance: Distance,
        /// The distance of the one that published.
        closest: Distance,
    },
    /// The data was not published when it was its turn.
    NotPublished {
        /// The bond that was burned.
        bond: Amount,
    },
    /// Validators found the claim invalid.
    FoundInvalid {
        /// The bond that was burned.
        bond: Amount,
    },
    /// Validators reached no verdict; the bond was returned.
    Undecided {
        /// The reward that went back to the reserve.
        reward: Amount,
    },
    /// The rules rejected a transaction.
    Refused {
        /// The transaction's action.
        action: String,
        /// Code of the rejection.
        #[serde(rename = "rejection")]
        code: String,
        /// What was wrong.
        message: String,
        /// What to do about it.
        help: String,
        /// The phase in which it arrived.
        phase: String,
        /// How long that phase had run by then.
        phase_age_ms: u64,
    },
    /// The model won a target.
    ModelWon {
        /// The model's half.
        paid: Amount,
    },
    /// Another routed model predicted the winning data better.
    PredictedWorse {
        /// The model that won.
        winner: u32,
        /// Its loss on the data, if the node still knows it.
        loss_q32: Option<Q32>,
    },
    /// Nobody published data for the target.
    Unclaimed,
    /// The data published for the target was found invalid.
    ClaimInvalid,
    /// The target is not decided yet.
    Undetermined,
    /// The model has no public weights.
    NoWeights,
    /// The file was not held by enough stake when the epoch began.
    NotHeld {
        /// What was returned.
        returned: Amount,
    },
    /// The weights were not revealed in time.
    NotRevealed {
        /// The rent that was burned.
        burned: Amount,
    },
    /// The model had not revealed what it had committed to for the epoch, so it was not routed.
    Bound,
    /// The network switched to another architecture.
    OldArchitecture,
    /// The weights were not refreshed in time.
    WeightsDue {
        /// The epoch in which the model became inactive.
        since: u32,
    },
    /// The weights were revealed after the targets of the epoch had been drawn.
    RevealedLater {
        /// The epoch in which they were revealed.
        revealed: u32,
    },
    /// The file is not what was revealed.
    Broken,
    /// The owner has retired the model.
    Retired,
    /// The stake is below the minimum.
    StakeTooLow {
        /// The stake.
        stake: Amount,
        /// The minimum.
        minimum: Amount,
    },
    /// Other models were nearer to every target, weighted by stake.
    NotRouted {
        /// Targets of the epoch.
        targets: u32,
        /// How many of them were compared, the first ones.
        compared: u32,
        /// The one of these to which least was missing.
        nearest: u32,
        /// The models that were routed to it.
        routed: Vec<u32>,
        /// The model's stake.
        stake: Amount,
        /// The stake that was missing, if any stake would have done.
        missing: Option<Amount>,
    },
    /// Other models were nearer, but the vectors that say by how much are no longer kept.
    NotRoutedThen {
        /// Targets of the epoch.
        targets: u32,
    },
    /// Targets of the epoch are not drawn yet.
    NotDrawn,
}

/// A squared distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distance(pub u64);

impl Serialize for Distance {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4}", relative_distance(self.0))
    }
}

/// A number of 2^-32 nat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Q32(pub i64);

impl Serialize for Q32 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Display for Q32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4}", nats(self.0))
    }
}

impl Display for Reason {
    #[expect(clippy::too_many_lines, reason = "one sentence for each reason")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Won { paid } => write!(f, "won {paid} SOMA, and the bond is back"),
            Self::Pending { rank: 0 } => f.write_str("not decided yet: it is the closest"),
            Self::Pending { rank } => {
                write!(f, "not decided yet: {rank} closer, if they publish")
            }
            Self::Displaced { distance, closest } => write!(
                f,
                "closer documents took all places: its distance was {distance}, the closest one's \
                 {closest}; the bond is back"
            ),
            Self::CloserPublished { distance, closest } => write!(
                f,
                "a closer document was published: its distance was {distance}, the other one's \
                 {closest}; the bond is back"
            ),
            Self::NotPublished { bond } => {
                write!(f, "its data was not published in time: the bond of {bond} SOMA is lost")
            }
            Self::FoundInvalid { bond } => write!(
                f,
                "validators found the claim invalid when they computed it again: the bond of \
                 {bond} SOMA is lost"
            ),
            Self::Undecided { reward } => write!(
                f,
                "too few validators agreed on a verdict: the bond is back, and the reward of \
                 {reward} SOMA is in the reserve"
            ),
            Self::Refused { action, message, phase, phase_age_ms, .. } => {
                let age = Duration(*phase_age_ms);
                write!(f, "the rules rejected {action}: {message}; it came {age} after the ")?;
                write!(f, "{phase} phase had begun")
            }
            Self::ModelWon { paid } => write!(f, "won {paid} SOMA"),
            Self::PredictedWorse { winner, loss_q32 } => {
                write!(f, "model {winner} predicted the winning data better")?;
                loss_q32.map_or(Ok(()), |loss| write!(f, ", with a loss of {loss} nats"))
            }
            Self::Unclaimed => f.write_str("nobody published data for it"),
            Self::ClaimInvalid => f.write_str("the data published for it was found invalid"),
            Self::Undetermined => f.write_str("not decided yet"),
            Self::NoWeights => f.write_str("not routed: it has no public weights"),
            Self::NotHeld { returned } => write!(
                f,
                "its file was held by at most a third of the stake when the epoch began, so it \
                 could not be revealed; {returned} SOMA of rent were returned"
            ),
            Self::NotRevealed { burned } => {
                write!(f, "its weights were not revealed in time: {burned} SOMA of rent are lost")
            }
            Self::Bound => {
                f.write_str("not routed: it had not revealed the weights that it had committed to")
            }
            Self::OldArchitecture => {
                f.write_str("its weights were for an architecture that another has replaced")
            }
            Self::WeightsDue { since } => write!(
                f,
                "not routed: its weights were not refreshed, so it is inactive since epoch {since}"
            ),
            Self::RevealedLater { revealed } => {
                write!(f, "not routed: its weights were revealed in epoch {revealed}")
            }
            Self::Broken => {
                f.write_str("its file is not what was revealed, so it was slashed and is inactive")
            }
            Self::Retired => f.write_str("not routed: its owner has retired it"),
            Self::StakeTooLow { stake, minimum } => write!(
                f,
                "not routed: its stake of {stake} SOMA is below the minimum of {minimum} SOMA"
            ),
            Self::NotRouted { targets, compared, nearest, routed, stake, missing } => {
                write!(f, "routed to none of {targets} targets: other models were nearer, ")?;
                f.write_str("weighted by stake. ")?;
                if compared < targets {
                    write!(f, "Of the first {compared}, least was missing at ")?;
                } else {
                    f.write_str("Least was missing at ")?;
                }
                write!(f, "target {nearest}, which went to {}", Models(routed))?;
                match missing {
                    Some(missing) => {
                        write!(f, ": {missing} SOMA of stake, beside the {stake} SOMA that it has")
                    }
                    None => f.write_str(", out of reach for any stake"),
                }
            }
            Self::NotRoutedThen { targets } => {
                write!(f, "routed to none of {targets} targets: other models were nearer, ")?;
                f.write_str("weighted by stake")
            }
            Self::NotDrawn => f.write_str("its targets are not drawn yet"),
        }
    }
}

impl Reason {
    /// What would have changed it, or would change it the next time.
    pub fn hint(&self) -> Option<&str> {
        Some(match self {
            Self::Refused { help, .. } => help,
            Self::Displaced { .. } | Self::CloserPublished { .. } => {
                "more documents of this kind make a close one likelier"
            }
            Self::NotPublished { .. } => {
                "keep `soma submit --watch` running until its targets are decided, on the machine \
                 that submitted"
            }
            Self::FoundInvalid { .. } => {
                "a claim of this software is exact: check that weights and data did not change, \
                 and that `soma score` gives the same on another machine"
            }
            Self::PredictedWorse { .. } => {
                "train on data like the winner's: `soma target show` names it"
            }
            Self::NoWeights | Self::WeightsDue { .. } => {
                "publish weights with `soma model publish`, and leave it running until they are \
                 revealed"
            }
            Self::NotHeld { .. } => {
                "publish earlier in the epoch, so that validators can download the file; `soma \
                 model show` tells who holds it"
            }
            Self::NotRevealed { .. } | Self::Bound => {
                "leave `soma model publish` running, or run `soma model reveal`, before the phase \
                 ends"
            }
            Self::OldArchitecture => "train for the architecture that `soma vote list` shows",
            Self::RevealedLater { .. } => {
                "weights compete for the targets drawn after their reveal"
            }
            Self::Broken => "publish again with `soma model publish`, which encrypts the file",
            Self::StakeTooLow { .. } => "add stake with `soma stake add`",
            Self::NotRouted { .. } | Self::NotRoutedThen { .. } => {
                "a specialization that few models share is near to more targets; stake counts by \
                 its logarithm"
            }
            _ => return None,
        })
    }
}

/// A length of time in a sentence.
struct Duration(u64);

impl Display for Duration {
    #[expect(clippy::cast_precision_loss, reason = "it is read, not used")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms < 120_000 => write!(f, "{:.1} s", ms as f64 / 1e3),
            ms => write!(f, "{} min", ms / 60_000),
        }
    }
}

/// Models in a sentence.
struct Models<'a>(&'a [u32]);

impl Display for Models<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(u32::to_string).collect();
        match names.as_slice() {
            [] => f.write_str("no model"),
            [one] => write!(f, "model {one}"),
            [first @ .., last] => write!(f, "models {} and {last}", first.join(", ")),
        }
    }
}
