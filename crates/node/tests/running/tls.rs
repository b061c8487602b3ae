//! The API speaks TLS with the certificate of its files, and takes new ones while it runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use soma_codes::{Code, Coded as _};
use soma_node::localnet::{Localnet, Plan};
use soma_node::settings::TlsFiles;
use soma_node::{Node, NodeConfig};
use soma_protocol::{Action, Amount, action};
use soma_sdk::api::cursor::Cursor;
use soma_sdk::api::routes;
use soma_sdk::{Client, Sender, Trust};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::issuer::{Issued, Issuer};
use crate::network::{Network, wait_until};

/// A node whose API has a certificate.
struct Server {
    node: Option<Node>,
    local: Localnet,
    dir: TempDir,
}

impl Server {
    fn config(dir: &Path, issued: &Issued) -> (Localnet, NodeConfig) {
        let local = Localnet::create(&dir.join("state"), &Plan::manual([9; 32])).unwrap();
        let mut config = Network::config(&local);
        config.settings.tls =
            Some(TlsFiles { certificate: dir.join("chain.pem"), key: dir.join("key.pem") });
        std::fs::write(dir.join("chain.pem"), &issued.chain).unwrap();
        std::fs::write(dir.join("key.pem"), &issued.key).unwrap();
        (local, config)
    }

    fn start(issued: &Issued) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (local, config) = Self::config(dir.path(), issued);
        Self { node: Some(soma_node::start(config).unwrap()), local, dir }
    }

    fn api(&self) -> SocketAddr {
        self.node.as_ref().unwrap().api()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A client that trusts this issuer.
    fn client(&self, issuer: &Issuer) -> Client {
        std::fs::write(self.path("ca.pem"), issuer.pem()).unwrap();
        let trust = Trust::with_file(&self.path("ca.pem")).unwrap();
        let url = format!("https://localhost:{}", self.api().port());
        Client::trusting(&url, &trust).unwrap().without_retries()
    }

    async fn sender(&self, client: &Client) -> Sender {
        let key = self.local.key("account-1").unwrap();
        Sender::on_any_chain(client.clone(), key).await.unwrap()
    }
}

/// Whether the node tells this trouble.
async fn troubled(client: &Client, said: &str) -> bool {
    let troubles = client.status().await.unwrap().troubles;
    let of_tls = |trouble: &&soma_sdk::api::Trouble| *trouble.code == Code::BadTlsFiles;
    let found = troubles.iter().find(of_tls);
    found.is_some_and(|trouble| trouble.message.contains(said) && !trouble.message.contains('/'))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_certificate_speaks_tls_and_tells_who_does_not() {
    let issuer = Issuer::new();
    let server = Server::start(&issuer.issue("localhost"));
    assert!(server.node.as_ref().unwrap().url().starts_with("https://127.0.0.1:"));
    let client = server.client(&issuer);
    let sender = server.sender(&client).await;
    let transfer = action::Transfer { to: sender.address(), amount: Amount(1) };
    sender.run(Action::Transfer(transfer)).await.unwrap();
    // The node asks itself.
    let path = routes::path(routes::ACCOUNT_WHY, sender.address());
    let anybody = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
    let why = anybody.get(format!("https://{}{path}", server.api())).send().await.unwrap();
    assert_eq!(why.status().as_u16(), 200);

    let mut stream = TcpStream::connect(server.api()).await.unwrap();
    let request = "GET / HTTP/1.1\r\nhost: node\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\"tls_failed\""), "{answer}");
    let plain = Client::new(&format!("http://{}", server.api())).unwrap();
    let error = plain.status().await.unwrap_err();
    assert_eq!(error.code(), Code::TlsFailed);
    assert!(error.hint().contains("https://"), "{}", error.hint());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_while_a_client_streams_and_a_bad_one_is_not() {
    let [old, new] = [Issuer::new(), Issuer::new()];
    let server = Server::start(&old.issue("localhost"));
    let client = server.client(&old);
    let mut events = client.events(Some(Cursor::default()));
    events.connect().await.unwrap();
    let [before, after] = [client.clone(), server.client(&new)];
    let others = old.issue("localhost");

    // A key of another certificate.
    std::fs::write(server.path("key.pem"), &others.key).unwrap();
    wait_until("the trouble", async || troubled(&before, "not that of the certificate").await)
        .await;
    // No certificate at all.
    std::fs::write(server.path("chain.pem"), "nonsense").unwrap();
    wait_until("the trouble", async || troubled(&before, "no certificate").await).await;
    std::fs::remove_file(server.path("chain.pem")).unwrap();
    wait_until("the trouble", async || troubled(&before, "No such file").await).await;
    // New connections still get the old one.
    server.client(&old).status().await.unwrap();

    let issued = new.issue("localhost");
    std::fs::write(server.path("chain.pem"), &issued.chain).unwrap();
    std::fs::write(server.path("key.pem"), &issued.key).unwrap();
    wait_until("the new certificate", async || after.status().await.is_ok()).await;
    assert!(!troubled(&after, "").await);
    let unknown = server.client(&old).status().await.unwrap_err();
    assert_eq!(unknown.code(), Code::CertificateUnknownIssuer);

    // The stream of before continues on its connection: a new one would not be trusted.
    let sender = server.sender(&after).await;
    let transfer = action::Transfer { to: sender.address(), amount: Amount(1) };
    sender.run(Action::Transfer(transfer)).await.unwrap();
    let streamed = async { while events.next().await.unwrap().event != "transferred" {} };
    tokio::time::timeout(Duration::from_secs(30), streamed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_told_and_one_that_cannot_be_used_stops_the_start() {
    let issuer = Issuer::new();
    let expired = Server::start(&issuer.issue_for_years("localhost", 2019..2020));
    // Whoever is on the machine can ask whatever the certificate: `soma doctor` does.
    let (local, config) = (&expired.local, expired.path("node"));
    let folder = soma_node::NodeFolder::create(
        &config,
        local.genesis(),
        &soma_node::Settings {
            tls: Some(TlsFiles { certificate: "../chain.pem".into(), key: "../key.pem".into() }),
            ..soma_node::Settings::new(expired.api(), (Ipv4Addr::LOCALHOST, 1).into(), Vec::new())
        },
        &soma_node::NodeKeys {
            account: local.key("account-1").unwrap(),
            consensus: local.key("account-2").unwrap(),
            has_never_voted: true,
        },
        soma_sdk::keys::Protection::Local,
    )
    .unwrap();
    folder.check_tls().unwrap();
    assert!(troubled(&folder.own_api().unwrap(), "has expired").await);

    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (issuer.issue("localhost"), issuer.issue("localhost"));
    let (_local, config) = Server::config(dir.path(), &Issued { key: other.key, ..one });
    let error = soma_node::start(config).unwrap_err();
    assert_eq!(error.code(), Code::BadTlsFiles);
    assert!(error.to_string().contains("key.pem"), "{error}");
}
