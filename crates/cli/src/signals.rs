//! How a process that runs until it is told to stop is told: by a signal.

use crate::error::{Error, Result};
use soma_codes::Code;

/// Ends when the process is asked to stop.
pub(crate) async fn stopped() -> Result {
    let failed = |error: std::io::Error| Error::new(Code::Signals, error.to_string());
    #[cfg(unix)]
    {
        let kind = tokio::signal::unix::SignalKind::terminate();
        let mut terminate = tokio::signal::unix::signal(kind).map_err(failed)?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            interrupted = tokio::signal::ctrl_c() => interrupted.map_err(failed),
        }
    }
    #[cfg(not(unix))]
    {
        tokio::signal::ctrl_c().await.map_err(failed)
    }
}
