//! State as keys and values: what the rules read and write, whoever stores it. Nothing here knows
//! what a record means; that is `record/`.

mod draft;
mod key;
mod memory;
mod read;
mod record;

pub use draft::{Changes, Draft};
pub use key::Key;
pub use memory::MemoryState;
pub use read::StateRead;
pub use record::Record;
pub(crate) use record::load;
