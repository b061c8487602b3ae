//! The node, the key and the account that the global flags name.

use std::future::Future;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use soma_codes::Code;
use soma_compete::Competitor;
use soma_node::folder::read_genesis;
use soma_protocol::{Hash, SecretKey};
use soma_sdk::SdkError;
use soma_sdk::api::{Clock, Status};
use soma_sdk::client::Client;
use soma_sdk::corpus::Corpus;
use soma_sdk::keys::KeyFolder;
use soma_sdk::sender::Sender;
use soma_sdk::spool::Spool;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::global::Global;
use crate::home::Home;
use crate::output::Output;

/// The key that signs when none is named.
const DEFAULT_KEY: &str = "default";
/// The funded key of a local network that signs when there is no default one.
const LOCAL_KEY: &str = "account-1";

/// Size limit of a passphrase.
const PASSPHRASE_BYTES_MAX: usize = 4 << 10;
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

/// The node of `--url`.
pub(crate) fn client(global: &Global) -> Result<Client> {
    Ok(Client::new(&global.url)?)
}

/// The account of `--key` at the node of `--url`, on the chain that the key signs for.
pub(crate) async fn sender(global: &Global, output: &Output) -> Result<Sender> {
    let (key, client) = (key(global)?, client(global)?);
    let sender = if let Some(chain) = known_chain(global)? {
        Sender::new(client, key, chain).await?
    } else {
        let sender = Sender::on_any_chain(client, key).await?;
        let (known, chain) = (Home::find(global)?.known_chain(), sender.chain());
        known.remember(&chain)?;
        let file = known.path().display();
        output.say(format_args!("from now on, keys sign for chain {chain} ({file})"));
        sender
    };
    Ok(match global.tip {
        Some(tip) => sender.with_tip(tip),
        None => sender,
    })
}

/// The chain that the key signs for: that of `--chain`, of the genesis beside the key's folder, as
/// in the folder of a node or of a local network, or the one that was signed for first. A node is
/// not asked: it could name another one.
fn known_chain(global: &Global) -> Result<Option<Hash>> {
    if global.chain.is_some() {
        return Ok(global.chain);
    }
    let folder = place(global)?.folder;
    if let Some(genesis) = folder.genesis_beside() {
        return Ok(Some(read_genesis(&genesis)?.chain_id()));
    }
    Ok(Home::find(global)?.known_chain().read()?)
}

/// The account of `--key` with its obligations on the node's chain.
pub(crate) async fn competitor<'a>(global: &Global, output: &'a Output) -> Result<Competitor<'a>> {
    let sender = sender(global, output).await?;
    let spool = Home::find(global)?.spool(&sender.chain().to_string());
    Ok(Competitor { sender, spool: Spool::open(spool)?, observer: output })
}

/// The documents that the competitor's account may submit.
pub(crate) fn corpus(global: &Global, competitor: &Competitor<'_>) -> Result<Corpus> {
    let (chain, account) = (competitor.sender.chain(), competitor.sender.address());
    let path = Home::find(global)?.corpus(&chain.to_string(), &account.to_string());
    Ok(Corpus::open(path)?)
}

/// Where a key is: its folder and its name there.
pub(crate) struct Place {
    pub(crate) folder: KeyFolder,
    pub(crate) name: String,
}

/// Finds the key of `--key`: a file, a key of this home, or one of the local network's.
pub(crate) fn place(global: &Global) -> Result<Place> {
    let home = Home::find(global)?;
    if let Some(path) = global.key.as_deref().filter(|key| key.contains(['/', '.'])).map(Path::new)
    {
        let folder = path.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(Place { folder: KeyFolder::new(folder), name });
    }
    let user = home.keys();
    let local = KeyFolder::of(&home.localnet());
    let names = match &global.key {
        Some(name) => vec![(user, name.as_str()), (local, name.as_str())],
        None => vec![(user, DEFAULT_KEY), (local, LOCAL_KEY)],
    };
    let found = names.iter().find(|(folder, name)| folder.path_of(name).is_file());
    let (folder, name) = found.unwrap_or(&names[0]);
    Ok(Place { folder: folder.clone(), name: (*name).to_owned() })
}

/// Opens the key of `--key`, asking for its passphrase if it has one.
pub(crate) fn key(global: &Global) -> Result<SecretKey> {
    let Place { folder, name } = place(global)?;
    match folder.load(&name, None) {
        Err(SdkError::PassphraseNeeded { .. }) => {
            let passphrase = passphrase(global, &format!("Passphrase of {name}: "))?;
            Ok(folder.load(&name, Some(&passphrase))?)
        }
        Err(error @ SdkError::KeyMissing { .. }) => Err(Error::from(error).hint(
            "create one with `soma keys new`, or start `soma localnet`, which has funded keys",
        )),
        loaded => Ok(loaded?),
    }
}

/// A passphrase from `--passphrase-file`, or asked for at the terminal. It is wiped from memory
/// when it is dropped.
pub(crate) fn passphrase(global: &Global, question: &str) -> Result<Zeroizing<String>> {
    let read = |path: &Path, error: std::io::Error| Error::file(path, "read", &error);
    let text = match &global.passphrase_file {
        Some(path) if path == Path::new("-") => first_bytes(std::io::stdin(), path)?,
        Some(path) => {
            let file = std::fs::File::open(path).map_err(|error| read(path, error))?;
            first_bytes(file, path)?
        }
        None if std::io::stdin().is_terminal() => rpassword::prompt_password(question)
            .map(Zeroizing::new)
            .map_err(|error| read(Path::new("the terminal"), error))?,
        None => {
            let message = "a passphrase is needed, but there is no terminal to ask for it";
            return Err(Error::new(Code::PassphraseNeeded, message)
                .hint("pass a file with --passphrase-file FILE, or - for standard input"));
        }
    };
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// All of a short text. Its buffer never grows, because that would leave a copy behind.
fn first_bytes(source: impl Read, path: &Path) -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(PASSPHRASE_BYTES_MAX + 1));
    let length = source
        .take(PASSPHRASE_BYTES_MAX as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| Error::file(path, "read", &error))?;
    if length > PASSPHRASE_BYTES_MAX {
        let message = format!("{} is too long for a passphrase", path.display());
        return Err(Error::usage(message));
    }
    Ok(text)
}

/// Ends the current phase of a local network, once the operator's node and those of `other_nodes`
/// that answer have no duties left in it.
pub(crate) async fn end_phase(operator: &Sender, other_nodes: &[Client]) -> Result<Status> {
    let phase = loop {
        let status = operator.client().status().await?;
        if status.duties == 0 {
            break status.clock;
        }
        tokio::time::sleep(POLL).await;
    };
    for node in other_nodes {
        // A node that does not answer is down: the network continues without it.
        while let Ok(status) = node.status().await
            && (status.duties > 0 || !has_reached(&status.clock, &phase))
        {
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(operator.end_phase().await?)
}

/// Whether a node has reached this phase: before it, its duties there are not known yet.
fn has_reached(clock: &Clock, phase: &Clock) -> bool {
    (clock.epoch, clock.phase.0) >= (phase.epoch, phase.phase.0)
}
