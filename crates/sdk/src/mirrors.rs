//! Mirrors: servers that have encrypted weights files under their hashes, such as the public bucket
//! of a validator's cold store. Nothing that one serves is believed: a file is kept only if its
//! hash is right, and a mirror that serves something else, or serves slowly, is not asked again.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::client::Client;
use crate::error::SdkError;
use crate::transfer::{Progress, Remote};
use crate::trust::Trust;

/// The mirrors that a client asks before its node.
#[derive(Debug, Default)]
pub struct Mirrors(Vec<Mirror>);

#[derive(Debug)]
struct Mirror {
    client: Client,
    is_dropped: AtomicBool,
}

impl Mirrors {
    /// Those at these URLs, below which a file lies under its hash.
    ///
    /// # Errors
    /// [`SdkError::Url`] if one is not valid.
    pub fn new(urls: &[String], trust: &Trust) -> Result<Self, SdkError> {
        let mirror = |url: &String| {
            let client = Client::trusting(url, trust)?.without_retries();
            Ok(Mirror { client, is_dropped: AtomicBool::default() })
        };
        urls.iter().map(mirror).collect::<Result<_, _>>().map(Self)
    }

    /// Downloads an encrypted file to `to` from the first mirror that has it; false if none does.
    /// What one has sent of it is continued by the next. `tell` is called with the name of each
    /// mirror that is dropped, and why.
    pub async fn download(
        &self,
        file: &Remote,
        to: &Path,
        progress: Progress<'_>,
        tell: &(dyn Fn(&str) + Sync),
    ) -> bool {
        let remote = Remote { path: format!("/{}", file.hash), ..file.clone() };
        for mirror in &self.0 {
            if mirror.is_dropped.load(Ordering::Relaxed) {
                continue;
            }
            let why = match mirror.client.download_at_pace(&remote, to, 0, progress).await {
                Some(Ok(())) => return true,
                Some(Err(error)) if is_absent(&error) => continue,
                // This machine's disk; whoever asks next tells what is wrong with it.
                Some(Err(SdkError::Io { .. })) => return false,
                Some(Err(error)) => error.to_string(),
                None => "it is too slow".to_owned(),
            };
            mirror.is_dropped.store(true, Ordering::Relaxed);
            tell(&format!("the mirror {} is not asked anymore: {why}", mirror.client.url()));
        }
        false
    }
}

/// Whether a mirror says that it does not have a file. One that may not be listed says 403.
pub fn is_absent(error: &SdkError) -> bool {
    matches!(error, SdkError::Api { status: 403 | 404 | 410, .. })
}
