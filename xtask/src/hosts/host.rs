//! One host: a network namespace with an address, a link that can be cut or slowed, and a disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::sandbox::{BRIDGE, WORLD};
use super::words;

/// A host.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    /// Each host has a network of its own, so that it is a client of its own to the API's limits.
    pub(crate) address: String,
    /// Its disk.
    pub(crate) dir: PathBuf,
}

/// How a link is slowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shaper {
    /// `sch_netem`: delay and loss.
    Netem,
    /// `sch_tbf`: little bandwidth and a short queue, and so delay and loss as well.
    Tbf,
}

impl Shaper {
    /// The best that the kernel has.
    pub(crate) fn find() -> Result<Self, String> {
        let has = |words: &str| {
            let added = super::words(&format!("tc qdisc add dev lo root {words}"));
            added.is_ok() && super::words("tc qdisc del dev lo root").is_ok()
        };
        if has("netem delay 1ms") {
            Ok(Self::Netem)
        } else if has("tbf rate 1mbit burst 16kb latency 100ms") {
            Ok(Self::Tbf)
        } else {
            Err("the kernel has neither sch_netem nor sch_tbf, which slow links\nhint: modprobe \
                 sch_netem"
                .to_owned())
        }
    }

    /// Arguments of `tc qdisc` for a link that delays by `delay_ms`, loses `loss_percent`, or lets
    /// through `rate_kbit`.
    fn arguments(self, slow: Slow) -> String {
        let Slow { delay_ms, loss_percent, rate_kbit } = slow;
        match self {
            Self::Netem => {
                format!("netem delay {delay_ms}ms {}ms loss {loss_percent}%", delay_ms / 4)
            }
            Self::Tbf => format!("tbf rate {rate_kbit}kbit burst 8kb latency {delay_ms}ms"),
        }
    }
}

/// What is wrong with a slow link, in each direction. `Tbf` has no loss of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slow {
    pub(crate) delay_ms: u64,
    pub(crate) loss_percent: u64,
    pub(crate) rate_kbit: u64,
}

impl Host {
    /// The `number`th host, from 1, with a disk of `disk_mib`.
    pub(crate) fn create(name: &str, number: u8, disk_mib: u32) -> Result<Self, String> {
        let dir = Path::new(WORLD).join(name);
        let address = format!("10.77.{number}.2");
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        words(&format!("mount -t tmpfs -o size={disk_mib}m {name} {}", dir.display()))?;
        words(&format!("ip netns add {name}"))?;
        words(&format!("ip link add to-{name} type veth peer name eth0 netns {name}"))?;
        words(&format!("ip link set to-{name} master {BRIDGE} up"))?;
        words(&format!("ip -n {name} address add {address}/16 dev eth0"))?;
        words(&format!("ip -n {name} link set eth0 up"))?;
        words(&format!("ip -n {name} link set lo up"))?;
        Ok(Self { name: name.to_owned(), address, dir })
    }

    /// A program that runs on this host.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program).current_dir(&self.dir);
        command
    }

    /// Pulls the cable, or plugs it in.
    pub(crate) fn plug(&self, is_in: bool) -> Result<(), String> {
        let to = if is_in { "up" } else { "down" };
        words(&format!("ip link set to-{} {to}", self.name)).map(drop)
    }

    /// Slows both directions of its link.
    pub(crate) fn slow(&self, shaper: Shaper, slow: Slow) -> Result<(), String> {
        let arguments = shaper.arguments(slow);
        words(&format!("tc qdisc add dev to-{} root {arguments}", self.name))?;
        words(&format!("tc -n {} qdisc add dev eth0 root {arguments}", self.name)).map(drop)
    }

    /// Its link is as fast as before.
    pub(crate) fn quicken(&self) -> Result<(), String> {
        words(&format!("tc qdisc del dev to-{} root", self.name))?;
        words(&format!("tc -n {} qdisc del dev eth0 root", self.name)).map(drop)
    }
}
