//! Why something won or did not, and what models make of data, in the JSON of the API.

use serde::{Deserialize, Serialize};

use crate::MapPoint;
use crate::text::{I64, U64};

/// Why submissions of an account, or a model, won or did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Why {
    /// Height of the last block that it takes into account.
    pub height: U64,
    /// How many epochs it looks back, the running one included.
    pub epochs: u32,
    /// What became of each thing, oldest first.
    pub fates: Vec<Told>,
}

/// What became of something in an epoch, as it is told. What the sentence says is beside these
/// fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Told {
    /// The epoch.
    pub epoch: u32,
    /// The target, if it is about one.
    pub target: Option<u32>,
    /// The model, if it is about one.
    pub model: Option<u32>,
    /// The kind of reason, a stable word.
    pub code: String,
    /// The reason, as a sentence without a full stop.
    pub text: String,
    /// What would have changed it.
    pub hint: Option<String>,
    /// What the sentence says, in the conventions of this API.
    #[serde(flatten)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// What the active models of a local network make of data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Trial {
    /// The epoch whose targets it is compared with.
    pub epoch: u32,
    /// Bytes of the data.
    pub size_bytes: u32,
    /// What predicting it from the counts in its chunks costs, in 2^-32 nat.
    pub counting_q32: I64,
    /// The gain from which on a model understands data, in 2^-32 nat.
    pub gain_min_q32: U64,
    /// Models that tried it, the best first: the first one wins, among nearly equal ones with the
    /// oldest weights.
    pub models: Vec<Tried>,
    /// Active models that could not try it, or whose turn did not come in time.
    pub untried: Vec<u32>,
    /// The targets of the epoch that it lies closest to, closest first, at most 12.
    pub targets: Vec<Near>,
}

/// What a model makes of data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Tried {
    /// The model.
    pub model: u32,
    /// Its cross-entropy, in which models compete, in 2^-32 nat for each byte.
    pub cross_entropy_q32: I64,
    /// How much better it predicts the data than counting does, in 2^-32 nat.
    pub gain_q32: I64,
    /// What each byte costs it, in thousandths of a nat; null for bytes that begin a chunk, which
    /// nothing predicts.
    pub byte_losses: Vec<Option<u32>>,
    /// Where the data lies on the epoch's map, seen from this model; null if it has no direction,
    /// or the epoch no map.
    pub place: Option<MapPoint>,
}

/// A target that data lies near to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Near {
    /// The target.
    pub target: u32,
    /// Which of the models routed to it predicts the data best.
    pub model: u32,
    /// Squared distance of the data from it, seen from that model.
    pub distance: U64,
    /// The distance of the closest submission so far.
    pub closest: Option<U64>,
}
