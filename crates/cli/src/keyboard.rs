//! Keys that are pressed while a page is shown. The terminal is as before once this is dropped.

use tokio::sync::mpsc;

/// A terminal that hands over every key at once, if standard input is one.
#[derive(Debug)]
pub(crate) struct Keyboard {
    keys: mpsc::UnboundedReceiver<u8>,
    #[cfg(unix)]
    before: Option<rustix::termios::Termios>,
}

impl Keyboard {
    /// Listens from now on.
    pub(crate) fn open() -> Self {
        let (sender, keys) = mpsc::unbounded_channel();
        #[cfg(unix)]
        {
            let before = unix::each_key();
            if before.is_some() {
                // It ends with the process: nothing interrupts a read from a terminal.
                let read = move || unix::read_all(&sender);
                let _without_keys = std::thread::Builder::new().name("keys".into()).spawn(read);
            }
            Self { keys, before }
        }
        #[cfg(not(unix))]
        {
            drop(sender);
            Self { keys }
        }
    }

    /// Whether keys are handed over.
    pub(crate) fn is_open(&self) -> bool {
        !self.keys.is_closed()
    }

    /// The next key that is pressed.
    pub(crate) async fn next(&mut self) -> u8 {
        match self.keys.recv().await {
            Some(pressed) => pressed,
            None => std::future::pending().await,
        }
    }
}

#[cfg(unix)]
impl Drop for Keyboard {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A closed terminal needs no restoring.
            let _gone = unix::set(before);
        }
    }
}

#[cfg(unix)]
mod unix {
    use std::io::Read as _;

    use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
    use tokio::sync::mpsc::UnboundedSender;

    /// Makes the terminal hand over each key, without showing it; returns how it was. Signals stay.
    pub(super) fn each_key() -> Option<Termios> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut modes = before.clone();
        modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        set(&modes).ok()?;
        Some(before)
    }

    pub(super) fn set(modes: &Termios) -> rustix::io::Result<()> {
        tcsetattr(std::io::stdin(), OptionalActions::Now, modes)
    }

    pub(super) fn read_all(keys: &UnboundedSender<u8>) {
        for key in std::io::stdin().lock().bytes().map_while(Result::ok) {
            if keys.send(key).is_err() {
                return;
            }
        }
    }
}
