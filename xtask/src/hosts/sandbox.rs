//! Runs this program again in namespaces of its own: processes, mounts and networks. Nothing of
//! what happens inside is visible outside or outlives it: when its first process ends, the kernel
//! kills the others, and links, mounts and disks are gone.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use super::words;

/// Set for the process inside.
const INSIDE: &str = "SOMA_XTASK_SANDBOX";

/// Exit status if this machine lacks rights or tools.
const LACKS: u8 = 3;

/// Exit status after Ctrl-C, as shells have it.
const INTERRUPTED: i32 = 130;

/// Every disk lies below; gone with the sandbox.
pub(crate) const WORLD: &str = "/run/soma";

/// The bridge that all hosts are plugged into.
pub(crate) const BRIDGE: &str = "world";

/// The address of the sandbox itself, from which all hosts are observed.
const OBSERVER: &str = "10.77.0.1/16";

/// A program that is needed, how it says that it is there, and the Debian package that has it.
pub(crate) type Tool = (&'static str, &'static str, &'static str);

pub(crate) const IP: Tool = ("ip", "-V", "iproute2");
pub(crate) const TC: Tool = ("tc", "-V", "iproute2");
pub(crate) const BASH: Tool = ("bash", "--version", "bash");
pub(crate) const CC: Tool = ("cc", "--version", "gcc");
const UNSHARE: Tool = ("unshare", "--version", "util-linux");
const MOUNT: Tool = ("mount", "--version", "mount");

/// Runs `work` in the sandbox, in a process of its own with the arguments of this one.
pub(crate) fn run(tools: &[Tool], work: impl FnOnce() -> Result<bool, String>) -> ExitCode {
    if std::env::var_os(INSIDE).is_some() && std::process::id() == 1 {
        return inside(work);
    }
    match outside(tools) {
        Ok(status) => ExitCode::from(status.code().map_or(LACKS, |code| code.to_le_bytes()[0])),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(LACKS)
        }
    }
}

fn outside(tools: &[Tool]) -> Result<ExitStatus, String> {
    if !cfg!(target_os = "linux") {
        return Err("this needs network namespaces, which only Linux has".to_owned());
    }
    for (name, flag, package) in [UNSHARE, MOUNT].iter().chain(tools) {
        if Command::new(name).arg(flag).env("PATH", path()).output().is_err() {
            return Err(format!(
                "there is no program `{name}` here\nhint: install it: apt install {package}"
            ));
        }
    }
    let allowed = unshare()?.args(["--", "true"]).output().map_err(|error| error.to_string())?;
    if !allowed.status.success() {
        return Err(format!(
            "this needs the right to make namespaces: {}\nhint: run it as root (`sudo \
             target/debug/xtask` in place of `cargo xtask`), or allow user namespaces (sysctl \
             kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)",
            String::from_utf8_lossy(&allowed.stderr).trim_end()
        ));
    }
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    // The process inside ends when its standard input does: with this process, whatever ends it.
    let mut child = unshare()?
        .arg("--")
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let held = child.stdin.take();
    let status = child.wait().map_err(|error| error.to_string());
    drop(held);
    status
}

/// Where programs are looked for: users who are not root often lack the folders of `ip` and `tc`.
fn path() -> String {
    std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin"
}

/// `unshare` with the namespaces of the sandbox; who is not root becomes it inside.
fn unshare() -> Result<Command, String> {
    let mut unshare = Command::new("unshare");
    unshare.env("PATH", path());
    let user = fs::metadata("/proc/self").map_err(|error| error.to_string())?.uid();
    if user != 0 {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    Ok(unshare)
}

fn inside(work: impl FnOnce() -> Result<bool, String>) -> ExitCode {
    std::thread::spawn(ends_with_input);
    match prepare().and_then(|()| work()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::exit, reason = "nothing is left to clean: the kernel removes the sandbox")]
fn ends_with_input() {
    // Its end or an error: either way the process outside is gone.
    let _end = std::io::stdin().read(&mut [0]);
    eprintln!("interrupted; hosts and processes are removed");
    std::process::exit(INTERRUPTED);
}

/// The bridge, and a place for disks.
fn prepare() -> Result<(), String> {
    words("mount -t tmpfs world /run")?;
    fs::create_dir_all(WORLD).map_err(|error| format!("{WORLD}: {error}"))?;
    words("ip link set lo up")?;
    words(&format!("ip link add {BRIDGE} type bridge"))?;
    words(&format!("ip address add {OBSERVER} dev {BRIDGE}"))?;
    words(&format!("ip link set {BRIDGE} up"))?;
    Ok(())
}

/// The program that is tested, wherever it runs.
pub(crate) fn program(soma: &Path) -> Result<PathBuf, String> {
    soma.canonicalize().map_err(|error| {
        format!("{}: {error}\nhint: cargo build --release, or --soma PATH", soma.display())
    })
}

/// Gives names to addresses, for all hosts.
pub(crate) fn name(addresses: &[(String, &str)]) -> Result<(), String> {
    let lines = addresses.iter().map(|(address, name)| format!("{address} {name}\n"));
    let file = Path::new(WORLD).join("names");
    let text = format!("127.0.0.1 localhost\n{}", lines.collect::<String>());
    fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    words(&format!("mount --bind {} /etc/hosts", file.display())).map(drop)
}
