//! Commands and nodes where TLS, proxies and names with passwords lie between them.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[path = "../../sdk/tests/answers/mod.rs"]
mod answers;
#[path = "../../sdk/tests/issuer/mod.rs"]
mod issuer;
mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use issuer::{Issuer, listen, ok, proxy};
use serde_json::json;
use soma_node::localnet::{Localnet, Plan};
use support::{command, fails, last_line, stderr};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What must never be printed: the passwords of nodes and of proxies.
const SECRET: &str = "secretword";

/// The answer of a node to every question of `soma status`.
fn status() -> String {
    ok(&answers::status(json!({})).to_string())
}

fn home_with(issuer: &Issuer) -> (TempDir, String) {
    let home = tempfile::tempdir().unwrap();
    let ca = home.path().join("ca.pem");
    std::fs::write(&ca, issuer.pem()).unwrap();
    let ca = ca.to_str().unwrap().to_owned();
    (home, ca)
}

/// Runs a command, which never prints a password.
fn run(home: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let output = command(home).envs(variables.iter().copied()).args(arguments).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(!printed.contains(SECRET), "{arguments:?}: {printed}");
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_right_ends_a_command_with_code_hint_and_status() {
    let issuer = Issuer::new();
    let (home, ca) = home_with(&issuer);
    let cases = [
        (issuer.issue("localhost"), None, "certificate_unknown_issuer", "--ca"),
        (issuer.issue("node.example"), Some(&ca), "certificate_other_name", "node.example"),
        (
            issuer.issue_for_years("localhost", 2019..2020),
            Some(&ca),
            "certificate_not_valid_now",
            "clock",
        ),
    ];
    for (issued, ca, code, said) in cases {
        let (port, heads) = issued.serve(status()).await;
        let url = format!("https://bob:{SECRET}@localhost:{port}/soma");
        let variables = ca.map(|ca| ("SOMA_CA", ca.as_str()));
        let output = run(home.path(), variables.as_slice(), &["status", "--url", &url]);
        let text = fails(&output, 7, code);
        assert!(text.contains(said) && text.contains("hint: "), "{text}");
        assert!(text.contains(&format!("https://localhost:{port}/soma")), "{text}");
        let output = run(home.path(), variables.as_slice(), &["status", "--json", "--url", &url]);
        assert!(stderr(&output).contains(&format!("\"code\":\"{code}\"")), "{}", stderr(&output));
        assert!(heads.lock().unwrap().is_empty(), "the request was sent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_below_a_path_is_used_with_the_issuer_of_the_flag_or_of_the_variable() {
    let issuer = Issuer::new();
    let (home, ca) = home_with(&issuer);
    let (port, heads) = issuer.issue("localhost").serve(status()).await;
    let url = format!("https://bob:{SECRET}@localhost:{port}/soma/");
    for (variables, arguments) in [
        (&[][..], &["status", "--json", "--ca", &ca][..]),
        (&[("SOMA_CA", ca.as_str())], &["status", "--json"]),
        (&[("SSL_CERT_FILE", ca.as_str())], &["status", "--json"]),
    ] {
        let output = run(home.path(), variables, &[arguments, &["--url", &url]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(last_line(&output)["url"], format!("https://localhost:{port}/soma"));
        let head = heads.lock().unwrap().pop().unwrap();
        assert!(head.starts_with("GET /soma/v1/status "), "{head}");
        assert!(head.contains("authorization: Basic "), "{head}");
    }
    let nothing = home.path().join("nothing.pem").to_str().unwrap().to_owned();
    fails(&run(home.path(), &[], &["status", "--ca", &nothing]), 4, "file_not_found");
    std::fs::write(&nothing, "nothing").unwrap();
    let text = fails(&run(home.path(), &[], &["status", "--ca", &nothing]), 3, "bad_ca_file");
    assert!(text.contains("nothing.pem") && text.contains("hint: "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_used_for_other_machines_only_and_sees_neither_request_nor_password() {
    let issuer = Issuer::new();
    let (home, ca) = home_with(&issuer);
    let (port, heads) = issuer.issue("node.example").serve(status()).await;
    let (proxy_port, connects) = proxy(([127, 0, 0, 1], port).into()).await;
    let through = format!("http://eve:proxy-{SECRET}@127.0.0.1:{proxy_port}");
    let url = format!("https://bob:{SECRET}@node.example/soma");
    let asked = ["status", "--json", "--ca", &ca, "--url", &url];
    for variable in ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        let output = run(home.path(), &[(variable, &through)], &asked);
        assert!(output.status.success(), "{variable}: {}", stderr(&output));
        let connect = connects.lock().unwrap().pop().unwrap();
        assert!(connect.starts_with("CONNECT node.example:443 HTTP/1.1\r\n"), "{connect}");
        assert!(connect.to_lowercase().contains("\r\nproxy-authorization: basic "), "{connect}");
        assert!(!connect.contains("\r\nauthorization"), "{connect}");
        assert!(heads.lock().unwrap().pop().unwrap().starts_with("GET /soma/v1/status "));
    }
    // Not for a host that no_proxy names, for plain HTTP, or for this machine.
    let unused: [(&[(&str, &str)], &str); 3] = [
        (&[("https_proxy", &through), ("no_proxy", "node.example")], &url),
        (&[("https_proxy", &through)], "http://node.example"),
        (&[("https_proxy", &through)], "https://localhost:1"),
    ];
    for (variables, url) in unused {
        let output = run(home.path(), variables, &["status", "--ca", &ca, "--url", url]);
        fails(&output, 6, "network");
        assert!(connects.lock().unwrap().is_empty(), "{variables:?} {url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_is_told_as_one() {
    let (home, ca) = home_with(&Issuer::new());
    let (port, _) = listen(|mut client, _| async move {
        let _head = client.read(&mut [0; 4096]).await;
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
        let _gone = client.write_all(refusal.as_bytes()).await;
    })
    .await;
    let through = format!("http://eve:{SECRET}@127.0.0.1:{port}");
    let url = format!("https://bob:{SECRET}@node.example");
    let output =
        run(home.path(), &[("https_proxy", &through)], &["status", "--ca", &ca, "--url", &url]);
    assert!(fails(&output, 6, "network").contains("https_proxy"), "{}", stderr(&output));
}

#[test]
fn arguments_that_are_refused_are_shown_without_passwords() {
    let home = tempfile::tempdir().unwrap();
    let peer = format!("ab@host:1=https://bob:{SECRET}@host");
    for json in [&[][..], &["--json"]] {
        let arguments = ["node", "init", "--dir", "x", "--genesis", "y", "--peer", &peer];
        let output = run(home.path(), &[], &[&arguments, json].concat());
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("https://host"), "{}", stderr(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_the_log_of_a_node_nor_an_error_in_its_settings_shows_the_password_of_a_peer() {
    let issuer = Issuer::new();
    let (home, ca) = home_with(&issuer);
    let (port, heads) = issuer.issue("localhost").serve(ok("<html>")).await;
    let plan = Plan { validators: 2, ..Plan::manual([4; 32]) };
    let local = Localnet::create(&home.path().join("state"), &plan).unwrap();
    let mut folder = local.folders(0, 20).unwrap().remove(0);
    let mut settings = folder.settings().clone();
    settings.peers[0].url = Some(format!("https://bob:{SECRET}@localhost:{port}/soma"));
    settings.ca = Some(ca.clone().into());
    folder.write(settings).unwrap();
    let dir = folder.dir().to_str().unwrap().to_owned();
    let log = home.path().join("log");
    let mut node = command(home.path())
        .args(["node", "run", "--until-stdin-ends", "--log", "debug", "--dir", &dir])
        .stdin(Stdio::piped())
        .stdout(std::fs::File::create(home.path().join("out")).unwrap())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let asked = async {
        while heads.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), asked).await.unwrap();
    let doctor = run(home.path(), &[], &["doctor", "--dir", &dir]);
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("https://localhost:"));
    drop(node.stdin.take());
    node.wait().unwrap();
    let head = heads.lock().unwrap().remove(0);
    assert!(head.starts_with("GET /soma/v1/contacts ") && head.contains("Basic "), "{head}");
    for file in ["log", "out"] {
        let text = std::fs::read_to_string(home.path().join(file)).unwrap();
        assert!(!text.contains(SECRET), "{file}: {text}");
    }

    let config = Path::new(&dir).join("config.toml");
    let mut text = std::fs::OpenOptions::new().append(true).open(&config).unwrap();
    writeln!(text, "url = \"https://bob:{SECRET}@host").unwrap();
    fails(&run(home.path(), &[], &["node", "run", "--dir", &dir]), 3, "bad_settings");
}
