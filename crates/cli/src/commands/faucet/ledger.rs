//! Who was paid when. Accounts are remembered on disk, so that a restart forgets nobody; clients in
//! memory only, because their addresses are not to be kept.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use soma_codes::Code;
use soma_os::clock::now_ms;
use soma_os::net::masked;
use soma_protocol::Address;

use crate::error::{Error, Result};

/// Accounts and clients that are remembered at most: more are not paid before some are forgotten.
const REMEMBERED_MAX: usize = 100_000;

/// How often somebody is paid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long an account waits until it is paid again.
    pub(super) pause: Duration,
    /// How many accounts are paid in that time for one client.
    pub(super) per_client: u32,
}

impl Limits {
    fn pause_ms(self) -> u64 {
        u64::try_from(self.pause.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Entry {
    account: Address,
    at_ms: u64,
}

/// Who was paid when.
#[derive(Debug)]
pub(super) struct Ledger {
    limits: Limits,
    inner: Mutex<Inner>,
    /// Held as long as it is open: another process would not know whom this one has paid.
    _lock: File,
}

#[derive(Debug)]
struct Inner {
    file: File,
    accounts: HashMap<Address, u64>,
    clients: HashMap<IpAddr, Vec<u64>>,
}

impl Ledger {
    /// Opens the file, and forgets in it whoever may be paid again. A line that is malformed, such
    /// as the last one after a loss of power, is left out.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub(super) fn open(path: &Path, limits: Limits) -> Result<Self> {
        let failed = |error: std::io::Error| Error::file(path, "use", &error);
        let mut accounts = HashMap::new();
        let since_ms = now_ms().saturating_sub(limits.pause_ms());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let lock = soma_os::file::open_own(&path.with_extension("lock")).map_err(failed)?;
        lock.try_lock().map_err(|_| {
            Error::new(Code::StateInUse, "another faucet gives money of the same account")
                .hint("stop it, or use a key of its own")
        })?;
        if path.exists() {
            for line in BufReader::new(File::open(path).map_err(failed)?).split(b'\n') {
                let entry = serde_json::from_slice(&line.map_err(failed)?);
                // A later line counts more: the last payment may have been taken back.
                match entry {
                    Ok(Entry { account, at_ms }) if at_ms > since_ms => {
                        accounts.insert(account, at_ms);
                    }
                    Ok(Entry { account, .. }) => {
                        accounts.remove(&account);
                    }
                    Err(_) => {}
                }
            }
        }
        let lines = accounts.iter().map(|(account, at_ms)| line(*account, *at_ms));
        soma_os::file::write(path, lines.collect::<String>().as_bytes()).map_err(failed)?;
        let file = OpenOptions::new().append(true).open(path).map_err(failed)?;
        let inner = Inner { file, accounts, clients: HashMap::new() };
        Ok(Self { limits, inner: Mutex::new(inner), _lock: lock })
    }

    /// Notes that an account is paid now, for a client. Returns when that is.
    ///
    /// # Errors
    /// [`Code::FaucetWait`] if it, or others for the same client, were paid a short time ago;
    /// [`Code::Busy`] if nobody else can be remembered; that the file cannot be written.
    pub(super) fn note(&self, account: Address, client: IpAddr) -> Result<u64> {
        let (now_ms, pause_ms) = (now_ms(), self.limits.pause_ms());
        let since_ms = now_ms.saturating_sub(pause_ms);
        let client = surroundings(client);
        let mut inner = self.inner.lock();
        let Inner { file, accounts, clients } = &mut *inner;
        if accounts.len() >= REMEMBERED_MAX || clients.len() >= REMEMBERED_MAX {
            accounts.retain(|_, at_ms| *at_ms > since_ms);
            clients.retain(|_, paid| paid.iter().any(|at_ms| *at_ms > since_ms));
        }
        if let Some(at_ms) = accounts.get(&account).filter(|at_ms| **at_ms > since_ms) {
            return Err(wait("this account was paid", at_ms.saturating_add(pause_ms), now_ms));
        }
        let paid = clients.get(&client).map_or(&[][..], Vec::as_slice);
        let recent: Vec<u64> = paid.iter().copied().filter(|at_ms| *at_ms > since_ms).collect();
        if recent.len() >= self.limits.per_client as usize
            && let Some(first_ms) = recent.first()
        {
            let what = "other accounts were paid for the same internet address";
            return Err(wait(what, first_ms.saturating_add(pause_ms), now_ms));
        }
        if accounts.len() >= REMEMBERED_MAX || clients.len() >= REMEMBERED_MAX {
            return Err(Error::new(Code::Busy, "too many were paid in a short time"));
        }
        let written = file.write_all(line(account, now_ms).as_bytes());
        written.and_then(|()| file.sync_data()).map_err(|error| {
            Error::new(Code::of_io(&error), format!("the faucet cannot take notes: {error}"))
        })?;
        accounts.insert(account, now_ms);
        clients.insert(client, recent.into_iter().chain([now_ms]).collect());
        Ok(now_ms)
    }

    /// Takes a note back: the account was not paid after all.
    pub(super) fn forget(&self, account: Address, client: IpAddr, noted_ms: u64) {
        let mut inner = self.inner.lock();
        inner.accounts.remove(&account);
        if let Some(paid) = inner.clients.get_mut(&surroundings(client))
            && let Some(at) = paid.iter().position(|at_ms| *at_ms == noted_ms)
        {
            paid.remove(at);
        }
        // A time that is past: the account may be paid again after a restart, too.
        let line = line(account, 0);
        let _kept_waiting = inner.file.write_all(line.as_bytes());
    }
}

/// A line, which begins by ending the one before: that may be half of one, if the disk was full.
fn line(account: Address, at_ms: u64) -> String {
    format!("\n{}", serde_json::to_string(&Entry { account, at_ms }).unwrap_or_default())
}

fn wait(what: &str, until_ms: u64, now_ms: u64) -> Error {
    let left = Duration::from_secs(until_ms.saturating_sub(now_ms).div_ceil(1_000));
    let left = humantime::format_duration(left);
    Error::new(Code::FaucetWait, format!("{what} a short time ago; try again in {left}"))
}

/// A client: an IPv4 address, or a /48 of IPv6, of which one owner can have many addresses.
fn surroundings(address: IpAddr) -> IpAddr {
    masked(address, 32, 3)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use soma_codes::Code;
    use soma_protocol::Address;

    use super::{Ledger, Limits, line};

    const LIMITS: Limits = Limits { pause: Duration::from_hours(1), per_client: 2 };

    fn note(ledger: &Ledger, account: u8, client: &str) -> Option<Code> {
        let noted = ledger.note(Address([account; 32]), client.parse().unwrap());
        noted.err().map(|error| error.code)
    }

    #[test]
    fn an_account_and_a_client_wait_and_a_restart_forgets_no_account() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chain").join("faucet.jsonl");
        let ledger = Ledger::open(&path, LIMITS).unwrap();
        assert_eq!(note(&ledger, 1, "203.0.113.1"), None);
        assert_eq!(note(&ledger, 1, "203.0.113.2"), Some(Code::FaucetWait), "the same account");
        assert_eq!(note(&ledger, 2, "::ffff:203.0.113.1"), None);
        assert_eq!(note(&ledger, 3, "203.0.113.1"), Some(Code::FaucetWait), "the same client");
        assert_eq!(note(&ledger, 4, "2001:db8:1:2::3"), None);
        assert_eq!(note(&ledger, 5, "2001:db8:1:ffff::4"), None);
        assert_eq!(note(&ledger, 6, "2001:db8:1:9::5"), Some(Code::FaucetWait), "the same /48");
        let of_fifth = ledger.inner.lock().accounts[&Address([5; 32])];
        ledger.forget(Address([5; 32]), "2001:db8:1::".parse().unwrap(), of_fifth);
        assert_eq!(note(&ledger, 6, "2001:db8:1:9::5"), None, "that one was not paid");
        let second = Ledger::open(&path, LIMITS).err().map(|error| error.code);
        assert_eq!(second, Some(Code::StateInUse), "it would not know whom this one has paid");

        drop(ledger);
        // What a full disk has left, and a damaged sector.
        let mut half = std::fs::read(&path).unwrap();
        half.extend(b"\n{\"acc\n\xff\xfe");
        half.extend(line(Address([9; 32]), soma_os::clock::now_ms()).as_bytes());
        std::fs::write(&path, half).unwrap();
        let ledger = Ledger::open(&path, LIMITS).unwrap();
        assert_eq!(note(&ledger, 9, "203.0.113.9"), Some(Code::FaucetWait), "noted after that");
        assert_eq!(note(&ledger, 2, "203.0.113.9"), Some(Code::FaucetWait));
        assert_eq!(note(&ledger, 5, "203.0.113.9"), None);
        drop(ledger);
        let short = Limits { pause: Duration::ZERO, ..LIMITS };
        let ledger = Ledger::open(&path, short).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "", "whoever may be paid again");
        assert_eq!(note(&ledger, 2, "203.0.113.9"), None);
    }
}
