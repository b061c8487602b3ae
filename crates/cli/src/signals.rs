//! The signals that stop a long-running command: SIGINT and SIGTERM.

use crate::error::{Error, Result};
use soma_codes::Code;

/// Returns when the process receives a signal to stop.
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
