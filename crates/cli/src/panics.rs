//! How a panic is reported. Tasks of the consensus library panic when the disk fails or its files
//! are damaged; the error that follows names the cause and says what to do, so a stack of fifty
//! frames before it hides more than it tells.

use std::io::Write as _;
use std::panic::{PanicHookInfo, set_hook};

/// Reports every panic in one line, in the log if there is one. `RUST_BACKTRACE=full` leaves it to
/// the standard library, with its stack.
pub(crate) fn report_in_one_line() {
    if std::env::var_os("RUST_BACKTRACE").is_none_or(|value| value != "full") {
        set_hook(Box::new(report));
    }
}

fn report(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map_or_else(String::new, |location| format!(" at {location}"));
    if tracing::dispatcher::has_been_set() {
        tracing::error!("panicked{place}: {message}");
    } else {
        // There is nobody else to tell.
        let _ = writeln!(std::io::stderr(), "panicked{place}: {message}");
    }
}
