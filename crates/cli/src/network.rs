//! The node, the key and the account that the global flags name.

use std::future::Future;
use std::io::{IsTerminal, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use soma_codes::Code;
use soma_compete::{Competitor, WeightsCache};
use soma_node::NodeFolder;
use soma_node::genesis::read_genesis;
use soma_protocol::{Address, Hash, SecretKey};
use soma_sdk::api::{Clock, Status};
use soma_sdk::client::Client;
use soma_sdk::corpus::Corpus;
use soma_sdk::keys::{KeyFolder, KeyPath, OpenKey};
use soma_sdk::mirrors::Mirrors;
use soma_sdk::obligation::Obligation;
use soma_sdk::patience::{Listener, QUIET};
use soma_sdk::sender::Sender;
use soma_sdk::spool::{Listing, Spool};
use soma_sdk::{SdkError, Trust, Verifier};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::global::Global;
use crate::home::Home;
use crate::output::Output;
use crate::signals;

/// The key that signs when none is named.
const DEFAULT_KEY: &str = "default";
/// The funded key of a local network that signs when there is no default one.
const LOCAL_KEY: &str = "account-1";

/// The shortest passphrase, in characters.
const PASSPHRASE_CHARS_MIN: usize = 8;
/// Size limit of a passphrase.
const PASSPHRASE_BYTES_MAX: usize = 4 << 10;
/// Time between two attempts to reach a node while something is due.
const RECONNECT: Duration = Duration::from_secs(1);
/// Time between two requests for a node's duties.
const POLL: Duration = Duration::from_millis(20);

/// Runs a future to completion on this process's threads.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Error::new(Code::NoThreads, error.to_string()))?;
    runtime.block_on(future)
}

/// Listens on an address; the second value is the URL that leads there. `hint` says how to choose
/// another one.
pub(crate) async fn listen(address: SocketAddr, hint: &str) -> Result<(TcpListener, String)> {
    let failed = |error: std::io::Error| {
        Error::new(Code::of_io(&error), format!("cannot listen on {address}: {error}")).hint(hint)
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let url = format!("http://{}", listener.local_addr().map_err(failed)?);
    Ok((listener, url))
}

/// A server that ended by itself.
pub(crate) fn not_served(error: &std::io::Error) -> Error {
    Error::new(Code::of_io(error), format!("cannot serve: {error}"))
}

/// The node of `--url`. Waits for it that last are told.
pub(crate) fn client(global: &Global, output: &Output) -> Result<Client> {
    client_at(&global.url, global, output)
}

/// The node at `url`, as [`client`].
pub(crate) fn client_at(url: &str, global: &Global, output: &Output) -> Result<Client> {
    let heard = output.clone();
    let listener = Listener::new(move |text: &str| heard.say(text));
    Ok(quiet_client_at(url, global)?.with_listener(listener))
}

/// The node at `url`; waits for it are not told.
pub(crate) fn quiet_client_at(url: &str, global: &Global) -> Result<Client> {
    let client = Client::trusting(url, &trust(global)?)?;
    Ok(if global.verify { client.verifying(Arc::new(verifier(global)?)) } else { client })
}

fn trust(global: &Global) -> Result<Trust> {
    Ok(match &global.ca {
        Some(file) => Trust::with_file(file)?,
        None => Trust::system(),
    })
}

/// The weights files of this home, fetched from the mirrors of `--mirror` or else from the node.
pub(crate) fn weights(global: &Global, home: &Home) -> Result<WeightsCache> {
    let mirrors = Mirrors::new(&global.mirrors, &trust(global)?)?;
    Ok(WeightsCache::new(home.weights()).with_mirrors(mirrors))
}

/// What checks the answers of nodes of the chain that the key signs for.
fn verifier(global: &Global) -> Result<Verifier> {
    let chain = known_chain(global)?
        .ok_or_else(|| Error::new(Code::ChainUnknown, "with --verify, the chain must be known"))?;
    Ok(Verifier::kept(chain, Home::find(global)?.committees(&chain))?)
}

/// The account of `--key` at the node of `--url`, on the chain that the key signs for. When a
/// signal stops the process, it says what is at stake.
pub(crate) async fn sender(global: &Global, output: &Output) -> Result<Sender> {
    let key = key(global)?;
    let chain = known_chain(global)?;
    connect(global, output, key, chain).await
}

async fn connect(
    global: &Global,
    output: &Output,
    key: SecretKey,
    chain: Option<Hash>,
) -> Result<Sender> {
    let client = client(global, output)?;
    let home = Home::find(global)?;
    let sender = if let Some(chain) = chain {
        Sender::new(client, key, chain).await?
    } else {
        let sender = Sender::on_any_chain(client, key).await?;
        let (known, chain) = (home.known_chain(), sender.chain());
        known.remember(&chain)?;
        let file = known.path().display();
        output.say(format_args!("from now on, keys sign for chain {chain} ({file})"));
        sender
    };
    let turns = home.turns(&sender.chain().to_string(), &sender.address().to_string());
    let sender = sender.with_turns(turns);
    signals::last_word(sender.at_stake().clone(), output.clone())?;
    Ok(match global.tip {
        Some(tip) => sender.with_tip(tip),
        None => sender,
    })
}

/// The chain that the key signs for: that of `--chain`, of the genesis beside the key's folder, as
/// in the folder of a node or of a local network, or the one that was signed for first. A node is
/// not asked: it could name another one.
pub(crate) fn known_chain(global: &Global) -> Result<Option<Hash>> {
    if global.chain.is_some() {
        return Ok(global.chain);
    }
    if let Some(genesis) = key_path(global)?.genesis_beside() {
        return Ok(Some(read_genesis(&genesis)?.chain_id()));
    }
    Ok(Home::find(global)?.known_chain().read()?)
}

/// The account of `--key` with its obligations on the node's chain. While something is due, a node
/// that does not answer is waited for.
pub(crate) async fn competitor<'a>(global: &Global, output: &'a Output) -> Result<Competitor<'a>> {
    let (key, chain) = (key(global)?, known_chain(global)?);
    let attempt = async || connect(global, output, key.clone(), chain).await;
    let sender = while_due(global, output, attempt).await?;
    let spool = Home::find(global)?.spool(&sender.chain().to_string());
    Ok(Competitor { sender, spool: Spool::open(spool)?, observer: output })
}

/// Does what a command of a competitor does, and again while the network fails and something of the
/// account is due: then only a final answer ends a command. It must be safe to repeat.
pub(crate) async fn while_due<T>(
    global: &Global,
    output: &Output,
    attempt: impl AsyncFn() -> Result<T>,
) -> Result<T> {
    let (home, account) = (Home::find(global)?, key(global)?.address());
    let mut told = false;
    loop {
        let failure = match attempt().await {
            Err(failure) if failure.is_of_network() => failure,
            done => return done,
        };
        // An attempt may be the first to learn which chain it is.
        let is_due = known_chain(global)?.is_some_and(|chain| may_owe(&home, &chain, &account));
        if !is_due {
            return Err(failure);
        }
        if !std::mem::replace(&mut told, true) {
            output.warn(format!("{}; something is due: trying again", failure.message));
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Whether something of an account may be due on a chain: it is, or something in the spool cannot
/// be read now, so that nobody knows.
fn may_owe(home: &Home, chain: &Hash, account: &Address) -> bool {
    let is_theirs = |due: &Obligation| due.sender() == *account;
    spooled(home, chain).map_or(true, |listing| {
        !listing.damaged.is_empty() || listing.obligations.iter().any(is_theirs)
    })
}

/// The obligations on a chain that this home knows. What cannot be read is told.
pub(crate) fn obligations(home: &Home, chain: &Hash, output: &Output) -> Vec<Obligation> {
    match spooled(home, chain) {
        Ok(listing) => {
            for error in listing.damaged {
                output.warn(format_args!("something may be due: {error}"));
            }
            listing.obligations
        }
        Err(error) => {
            output.warn(format_args!("it is not known what is due: {error}"));
            Vec::new()
        }
    }
}

/// What the spool of a chain has; nothing if there is none.
fn spooled(home: &Home, chain: &Hash) -> std::result::Result<Listing, SdkError> {
    let path = home.spool(&chain.to_string());
    let found = path.symlink_metadata();
    if found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(Listing::default());
    }
    Spool::open(path)?.list()
}

/// The documents that the competitor's account may submit.
pub(crate) fn corpus(global: &Global, competitor: &Competitor<'_>) -> Result<Corpus> {
    let (chain, account) = (competitor.sender.chain(), competitor.sender.address());
    let path = Home::find(global)?.corpus(&chain.to_string(), &account.to_string());
    Ok(Corpus::open(path)?)
}

/// The key of `--key`: a file, a key of this home, or one of the local network's.
pub(crate) fn key_path(global: &Global) -> Result<KeyPath> {
    let home = Home::find(global)?;
    if let Some(path) = global.key.as_deref().filter(|key| key.contains(['/', '.'])) {
        return Ok(KeyPath::file(Path::new(path)));
    }
    let user = home.keys();
    let local = KeyFolder::of(&home.localnet());
    let names = match &global.key {
        Some(name) => vec![(user, name.as_str()), (local, name.as_str())],
        None => vec![(user, DEFAULT_KEY), (local, LOCAL_KEY)],
    };
    let found = names.iter().find(|(folder, name)| folder.path_of(name).is_file());
    let (folder, name) = found.unwrap_or(&names[0]);
    Ok(folder.key(name)?)
}

/// The account that is named, or that of `--key`, whose passphrase is not needed for that.
pub(crate) fn account(global: &Global, named: Option<Address>) -> Result<Address> {
    match named {
        Some(address) => Ok(address),
        None => Ok(key_path(global)?.info()?.address),
    }
}

/// Opens the key of `--key`, asking for its passphrase if it has one.
pub(crate) fn key(global: &Global) -> Result<SecretKey> {
    Ok(unlock(global, &key_path(global)?)?.key())
}

/// Opens a key, asking for its passphrase if it has one.
pub(crate) fn unlock(global: &Global, key: &KeyPath) -> Result<OpenKey> {
    match key.open(None) {
        Err(SdkError::PassphraseNeeded { .. }) => {
            let passphrase = passphrase(global, &format!("Passphrase of {}: ", key.name()))?;
            Ok(key.open(Some(&passphrase))?)
        }
        Err(error @ SdkError::KeyMissing { .. }) => Err(Error::from(error).hint(
            "create one with `soma keys new`, or start `soma localnet`, which has funded keys",
        )),
        done => Ok(done?),
    }
}

/// A passphrase from `--passphrase-file`, or asked for at the terminal. It is wiped from memory
/// when it is dropped.
pub(crate) fn passphrase(global: &Global, question: &str) -> Result<Zeroizing<String>> {
    a_passphrase("--passphrase-file").get(global.passphrase_file.as_deref(), question)
}

/// A secret text that a person types or keeps in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SecretText {
    /// What it is called.
    what: &'static str,
    /// The code of the error when it is neither given nor can be asked for.
    needed: Code,
    /// The flag that names a file with it.
    flag: &'static str,
}

/// A passphrase, in a file that `flag` names.
pub(crate) const fn a_passphrase(flag: &'static str) -> SecretText {
    SecretText { what: "passphrase", needed: Code::PassphraseNeeded, flag }
}

/// The words of a key.
pub(crate) const WORDS: SecretText =
    SecretText { what: "words", needed: Code::WordsNeeded, flag: "--words" };

impl SecretText {
    /// Reads it from `file`, or asks for it at the terminal. It is wiped from memory when it is
    /// dropped.
    pub(crate) fn get(self, file: Option<&Path>, question: &str) -> Result<Zeroizing<String>> {
        let text = match file {
            Some(path) if path == Path::new("-") => self.first_bytes(std::io::stdin())?,
            Some(path) => {
                let file = std::fs::File::open(path).map_err(|error| self.unread(&error))?;
                self.first_bytes(file)?
            }
            None if std::io::stdin().is_terminal() => rpassword::prompt_password(question)
                .map(Zeroizing::new)
                .map_err(|error| Error::file(Path::new("the terminal"), "read", &error))?,
            None => {
                let Self { needed, flag, .. } = self;
                let message = match needed {
                    Code::WordsNeeded => {
                        "the words of a key are needed, but there is no terminal to ask for them"
                    }
                    _ => "a passphrase is needed, but there is no terminal to ask for it",
                };
                return Err(Error::new(needed, message)
                    .hint(format!("pass a file with {flag} FILE, or - for standard input")));
            }
        };
        Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// All of a short text, as its writer sees it. Its buffer never grows, because that would leave
    /// a copy behind.
    fn first_bytes(self, source: impl Read) -> Result<Zeroizing<String>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(PASSPHRASE_BYTES_MAX + 1));
        let length = source
            .take(PASSPHRASE_BYTES_MAX as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| self.unread(&error))?;
        if length > PASSPHRASE_BYTES_MAX {
            let what = self.what;
            return Err(Error::usage(format!("the {what} file is too long")));
        }
        soma_os::data::text(&bytes).map(Zeroizing::new).map_err(|error| self.unread(&error))
    }

    /// The file cannot be read. What was named is not shown: it may be the secret itself.
    fn unread(self, error: &std::io::Error) -> Error {
        let Self { what, flag, .. } = self;
        Error::new(Code::of_io(error), format!("cannot read the {what} file: {error}"))
            .hint(format!("name a file that holds the {what}: {flag} FILE"))
    }
}

/// A new passphrase from the file that `flag` names, or asked for twice.
pub(crate) fn new_passphrase(flag: &'static str, file: Option<&Path>) -> Result<Zeroizing<String>> {
    let ask = |question| a_passphrase(flag).get(file, question);
    let passphrase = ask("New passphrase: ")?;
    if passphrase.chars().count() < PASSPHRASE_CHARS_MIN {
        let message = format!("a passphrase needs at least {PASSPHRASE_CHARS_MIN} characters");
        return Err(Error::new(Code::PassphraseTooShort, message));
    }
    if file.is_none() && ask("Repeat it: ")? != passphrase {
        let message = "the two passphrases differ; nothing was written";
        return Err(Error::new(Code::PassphraseMismatch, message));
    }
    Ok(passphrase)
}

/// The passphrase of the keys of the node in `dir`, if they are encrypted.
pub(crate) fn node_passphrase(dir: &Path, global: &Global) -> Result<Option<Zeroizing<String>>> {
    if !NodeFolder::needs_passphrase(dir) {
        return Ok(None);
    }
    passphrase(global, &format!("Passphrase of {}: ", dir.join("keys").display())).map(Some)
}

/// The same, or a new one for keys that are not there yet, if they are to be encrypted.
pub(crate) fn new_node_passphrase(
    dir: &Path,
    encrypt: bool,
    global: &Global,
) -> Result<Option<Zeroizing<String>>> {
    match node_passphrase(dir, global)? {
        None if encrypt => {
            new_passphrase("--passphrase-file", global.passphrase_file.as_deref()).map(Some)
        }
        known => Ok(known),
    }
}

/// Ends the current phase of a local network, once the operator's node and those of `other_nodes`
/// that answer have no duties left in it.
pub(crate) async fn end_phase(
    operator: &Sender,
    other_nodes: &[Client],
    output: &Output,
) -> Result<Status> {
    let mut wait = Wait::begin(output);
    let phase = loop {
        let status = operator.client().status().await?;
        if status.duties == 0 {
            break status.clock;
        }
        wait.pause(operator.client(), &status).await;
    };
    for node in other_nodes {
        // A node that does not answer is down: the network continues without it.
        while let Ok(status) = node.status().await
            && (status.duties > 0 || !has_reached(&status.clock, &phase))
        {
            wait.pause(node, &status).await;
        }
    }
    Ok(operator.end_phase().await?)
}

/// A wait for duties, which is told once it takes long.
struct Wait<'a> {
    output: &'a Output,
    next: Instant,
}

impl<'a> Wait<'a> {
    fn begin(output: &'a Output) -> Self {
        Self { output, next: Instant::now() + QUIET }
    }

    async fn pause(&mut self, node: &Client, status: &Status) {
        if Instant::now() >= self.next {
            self.next = Instant::now() + QUIET * 15;
            let audits = match (status.audits.waiting, *status.audits.put_off) {
                (0, _) => String::new(),
                (waiting, 0) => format!(", {waiting} audits among them"),
                (waiting, failed) => format!(
                    ", {waiting} audits among them, which failed {failed} times: its log says why"
                ),
            };
            self.output.say(match status.duties {
                0 => format!("waiting for {} to reach the phase", node.url()),
                1 => format!("waiting for 1 duty of {}{audits}", node.url()),
                duties => format!("waiting for {duties} duties of {}{audits}", node.url()),
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether a node has reached this phase: before it, its duties there are not known yet.
fn has_reached(clock: &Clock, phase: &Clock) -> bool {
    (clock.epoch, clock.phase.0) >= (phase.epoch, phase.phase.0)
}
