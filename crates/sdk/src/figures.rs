//! Integers of the API, and times, as people read them. Nothing may be computed from these.

use soma_architecture::embedding::UNIT;

/// A number of 2^-32 nat in nats.
#[expect(clippy::cast_precision_loss, reason = "it is read, not used")]
pub fn nats(q32: i64) -> f64 {
    q32 as f64 / (1_u64 << 32) as f64
}

/// A squared distance as a fraction of the one at right angles: 0 is a hit.
#[expect(clippy::cast_precision_loss, reason = "it is read, not used")]
pub fn relative_distance(distance: u64) -> f64 {
    distance as f64 / (2 * UNIT * UNIT) as f64
}

/// A time in its largest unit.
pub fn span(ms: u64) -> String {
    match ms / 1_000 {
        0..1 => format!("{ms} ms"),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
