//! State as keys and values: what the rules read and write, independent of how it is stored. The
//! meaning of the values is defined in `record/`.

mod key;
mod read;
mod record;
mod draft;
mod memory;

pub use draft::{Changes, Draft};
pub use key::Key;
pub use memory::MemoryState;
pub use read::StateRead;
pub(crate) use record::{FIXED_BYTES_MAX, load};
pub use record::{Record, VALUE_BYTES_MAX};
