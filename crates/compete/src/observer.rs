//! How a caller follows long-running work: the progress of tasks, and notices worth a line.
//!
//! Nothing here may decide what a terminal shows; that is up to the caller.

use std::fmt::Display;

/// Called with the total number of bytes done so far in a task; dropped when the task ends.
pub type Advance = Box<dyn FnMut(u64) + Send>;

/// Follows long-running work.
pub trait Observer: Send + Sync {
    /// A task begins: `scoring`, `waiting for targets`. `bytes` is its length; `None` if unknown.
    fn start(&self, task: &str, bytes: Option<u64>) -> Advance;

    /// Something worth a line happened.
    fn notice(&self, level: Level, message: &dyn Display);
}

/// How much a notice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Good to know.
    Info,
    /// Something was completed.
    Success,
    /// Something to know or to act on.
    Warning,
}

/// Says nothing.
#[cfg(test)]
pub(crate) struct Silent;

#[cfg(test)]
impl Observer for Silent {
    fn start(&self, _: &str, _: Option<u64>) -> Advance {
        Box::new(|_| ())
    }

    fn notice(&self, _: Level, _: &dyn std::fmt::Display) {}
}
