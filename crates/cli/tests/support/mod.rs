//! Runs the binary as a user does and reads what it prints.

#![expect(clippy::expect_used, clippy::panic, reason = "a failed expectation fails the test")]
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "every test file uses its own part of this, and one uses all of it"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use serde_json::Value;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Variables that a user may have set.
const SETTINGS: [&str; 19] = [
    "SOMA_VERIFY",
    "SOMA_URL",
    "SOMA_CA",
    "SOMA_MIRROR",
    "SOMA_KEY",
    "SOMA_CHAIN",
    "SOMA_PASSPHRASE_FILE",
    "NO_COLOR",
    "FORCE_COLOR",
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "all_proxy",
    "ALL_PROXY",
];

/// The binary, separated from the user's settings.
pub(crate) fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_soma"));
    for name in SETTINGS {
        command.env_remove(name);
    }
    command.env("SOMA_HOME", home).env("TERM", "dumb").current_dir(root());
    command
}

/// A process that runs until the test is over.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs until it exits.
pub(crate) fn soma(home: &Path, arguments: &[&str]) -> Output {
    command(home).args(arguments).output().expect("the binary starts")
}

/// Runs until it succeeds, and reads the last line of stdout as JSON.
pub(crate) fn json(home: &Path, arguments: &[&str]) -> Value {
    let output = soma(home, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "soma {arguments:?} failed:\n{}", stderr(&output));
    last_line(&output)
}

/// The last line of stdout as JSON.
pub(crate) fn last_line(output: &Output) -> Value {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let line = stdout.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

/// stderr as text.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails with `exit`, one line `error[code]`, and no panic.
pub(crate) fn fails(output: &Output, exit: i32, code: &str) -> String {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(exit), "{said}");
    assert!(said.contains(&format!("error[{code}]: ")), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(output.stdout.is_empty(), "an error printed to stdout");
    said
}
