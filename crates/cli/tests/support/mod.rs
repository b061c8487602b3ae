//! Runs the binary as a user does and reads what it says.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation fails the test"
)]
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "every test file uses its own part of this, and one uses all of it"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What separates a test from the user's settings.
pub(crate) fn environment(home: &Path) -> [(&'static str, String); 7] {
    [
        ("SOMA_HOME", home.display().to_string()),
        ("TERM", "dumb".to_owned()),
        ("COLUMNS", "100".to_owned()),
        // Empty means unset.
        ("SOMA_PASSPHRASE_FILE", String::new()),
        ("NO_COLOR", String::new()),
        ("FORCE_COLOR", String::new()),
        ("CLICOLOR_FORCE", String::new()),
    ]
}

/// The binary, away from the user's own settings.
pub(crate) fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_soma"));
    for name in [
        "SOMA_URL",
        "SOMA_KEY",
        "SOMA_PASSPHRASE_FILE",
        "NO_COLOR",
        "FORCE_COLOR",
    ] {
        command.env_remove(name);
    }
    command
        .env("SOMA_HOME", home)
        .env("TERM", "dumb")
        .current_dir(root());
    command
}

/// Runs to the end.
pub(crate) fn soma(home: &Path, arguments: &[&str]) -> Output {
    command(home)
        .args(arguments)
        .output()
        .expect("the binary starts")
}

/// Runs to a good end and reads the last line of stdout as JSON.
pub(crate) fn json(home: &Path, arguments: &[&str]) -> Value {
    let output = soma(home, &[arguments, &["--json"]].concat());
    assert!(
        output.status.success(),
        "soma {arguments:?} failed:\n{}",
        stderr(&output)
    );
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
    assert!(
        output.stdout.is_empty(),
        "an error left something on stdout"
    );
    said
}
