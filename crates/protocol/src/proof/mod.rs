//! What participants sign, commit to and prove. Nothing here uses a state except `storage.rs`,
//! which asks it what a validator has to prove.

pub mod commitment;
pub mod evidence;
mod secret_key;
pub mod upload;
pub mod entry;
pub mod bundle;
pub mod corpus;
pub mod sketch;
pub mod storage;

pub use secret_key::SecretKey;
