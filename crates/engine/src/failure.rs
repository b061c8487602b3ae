//! Why a node stopped. The consensus engine's contract is to panic when its disk fails; this turns
//! the first panic into our own error, and keeps the report of it off the terminal.

use std::{
    panic::{self, PanicHookInfo},
    sync::{Mutex, Once, PoisonError},
};

use crate::EngineError;

/// The first panic since somebody asked.
static FIRST: Mutex<Option<String>> = Mutex::new(None);

/// From now on the engine's panics are noted instead of printed. Others go where they went.
pub(crate) fn note_panics() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if is_the_engines(info) {
                note(info);
            } else {
                before(info);
            }
        }));
    });
}

/// Panics in the engine's sources, in ours around it, and what they bring about in others.
fn is_the_engines(info: &PanicHookInfo<'_>) -> bool {
    let file = info.location().map_or("", |location| location.file());
    file.contains("commonware-") || file.contains("engine/src/")
}

fn note(info: &PanicHookInfo<'_>) {
    let reason = text(info.payload());
    tracing::error!(reason, at = ?info.location(), "the engine cannot go on");
    let mut first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
    first.get_or_insert(reason);
}

/// What a panic said.
pub(crate) fn text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the engine failed without a word".into())
}

/// The error to report: the first panic is the cause, what was noticed after it is not.
pub(crate) fn explain(error: EngineError) -> EngineError {
    let EngineError::Stopped { reason } = error else {
        let full = disk(&error.to_string());
        return full.map_or(error, |reason| EngineError::Disk { reason });
    };
    let first = FIRST.lock().unwrap_or_else(PoisonError::into_inner).take();
    let reason = first.unwrap_or(reason);
    match disk(&reason) {
        Some(reason) => EngineError::Disk { reason },
        None => EngineError::Stopped { reason },
    }
}

/// What the operating system said of the disk, if it was the disk.
fn disk(reason: &str) -> Option<String> {
    const SIGNS: [&str; 5] = [
        "No space left on device",
        "File too large",
        "Disk quota exceeded",
        "Input/output error",
        "Read-only file system",
    ];
    let sign = SIGNS.iter().find(|sign| reason.contains(**sign))?;
    Some((*sign).to_owned())
}

#[cfg(test)]
mod tests {
    use super::explain;
    use crate::EngineError;

    #[test]
    fn a_full_disk_is_called_a_disk_in_the_words_of_the_operating_system() {
        let reason = r#"failed: Runtime(Io(Os { message: "No space left on device" }))"#.into();
        let told = explain(EngineError::Stopped { reason }).to_string();
        assert_eq!(
            told,
            "the disk takes no more: No space left on device; nothing that was final is lost"
        );
    }
}
