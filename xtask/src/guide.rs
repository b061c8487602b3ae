//! Follows docs/guides/start-a-network.md on hosts of their own: three operators make a network and
//! compete until the first target is paid, a fourth joins, and moves to another host. The commands
//! are those of the guide; names are resolved, addresses differ, and nothing is shared but files
//! that somebody sends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::hosts::host::Host;
use crate::hosts::sandbox;
use crate::hosts::{http, words};
use crate::json::Json;

/// The guide.
const GUIDE: &str = "docs/guides/start-a-network.md";

/// The hosts: their operators' names, and their names on the network.
const HOSTS: [(&str, &str); 5] = [
    ("alice", "alice.example.org"),
    ("bob", "bob.example.org"),
    ("carol", "carol.example.org"),
    ("dora", "dora.example.org"),
    ("dora-new", "dora.example.net"),
];

const OPERATORS: usize = 3;

/// Size of a host's disk.
const DISK_MIB: u32 = 8_192;

/// What the operators agree on: short epochs, so that nobody waits for a day, and models with
/// random weights may compete.
const PARAMETERS: &str = "[params]\nepoch_ms = 45000\ngain_min_q32 = 0\n";

/// How long after the plan is written the network begins.
const START_IN: &str = "20";

/// How long a step may take, from key to key on a machine that does other work as well.
const STEP_MAX: Duration = Duration::from_secs(400);

/// Lines of a log that a failure shows.
const SAID_LINES: usize = 20;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    soma: PathBuf,
}

impl Arguments {
    pub(crate) fn parse(
        root: &Path,
        mut words: impl Iterator<Item = String>,
    ) -> Result<Self, String> {
        let mut arguments = Self { soma: root.join("target/release/soma") };
        while let Some(flag) = words.next() {
            match (flag.as_str(), words.next()) {
                ("--soma", Some(path)) => arguments.soma = PathBuf::from(path),
                _ => return Err(format!("unknown argument `{flag}`, or it needs a value")),
            }
        }
        Ok(arguments)
    }
}

/// Follows the guide; the exit status is 1 if a step fails.
pub(crate) fn guide(root: &Path, arguments: &Arguments) -> ExitCode {
    sandbox::run(&[sandbox::IP, sandbox::BASH], || {
        let mut world = World::create(root, &arguments.soma)?;
        world.begins()?;
        world.competes()?;
        world.joins_and_moves()?;
        Ok(true)
    })
}

/// All hosts, and what runs on them.
struct World {
    root: PathBuf,
    soma: PathBuf,
    guide: String,
    hosts: Vec<Host>,
    /// The node of each host.
    nodes: Vec<Option<Child>>,
    /// Other commands that run in the background, each with its host.
    commands: Vec<(usize, Child)>,
    begun: Instant,
}

impl World {
    fn create(root: &Path, soma: &Path) -> Result<Self, String> {
        let soma = sandbox::program(soma)?;
        let guide = fs::read_to_string(root.join(GUIDE)).map_err(|error| error.to_string())?;
        let mut hosts = Vec::new();
        for (number, (name, _)) in HOSTS.iter().enumerate() {
            hosts.push(Host::create(name, u8::try_from(number + 1).unwrap_or(0), DISK_MIB)?);
        }
        let addresses = hosts.iter().map(|host| host.address.clone());
        let names: Vec<_> = addresses.zip(HOSTS.map(|(_, name)| name)).collect();
        sandbox::name(&names)?;
        let nodes = hosts.iter().map(|_| None).collect();
        let begun = Instant::now();
        Ok(Self { root: root.to_owned(), soma, guide, hosts, nodes, commands: Vec::new(), begun })
    }

    #[expect(clippy::print_stdout, reason = "the steps are the result of the command")]
    fn tell(&self, what: &str) {
        println!("{:7.1} s  {what}", self.begun.elapsed().as_secs_f64());
    }

    /// The commands of the guide for `who`, which must be so many blocks.
    fn blocks<const N: usize>(&self, who: &str) -> Result<[String; N], String> {
        let fault = |found: Vec<String>| {
            format!("{GUIDE} has {} blocks for \"{who}\", not {N}", found.len())
        };
        blocks(&self.guide, who).try_into().map_err(fault)
    }

    /// A shell on a host, in which `soma` is the program.
    fn shell(&self, host: usize, script: &str) -> Command {
        let mut shell = self.hosts[host].command("bash");
        let folder = self.soma.parent().unwrap_or(Path::new("/"));
        let path = std::env::var("PATH").unwrap_or_default();
        shell.args(["-euc", script]).env("PATH", format!("{}:{path}", folder.display()));
        shell.env("SOMA_HOME", self.hosts[host].dir.join("home"));
        shell.env("NAME", HOSTS[host].0);
        shell
    }

    /// Runs commands on a host; returns what they print.
    fn run(&self, host: usize, script: &str) -> Result<String, String> {
        let said = crate::output(&mut self.shell(host, script));
        said.map_err(|error| format!("{}: {script}\n{error}", HOSTS[host].0))
    }

    /// A command's result.
    fn json(&self, host: usize, command: &str) -> Result<Json, String> {
        Json::parse(&self.run(host, &format!("{command} --json"))?)
    }

    /// Runs a block of the guide as an operator who types it, but a node's command in the
    /// background; `variables` are what the operator has set before.
    fn follow(&mut self, host: usize, block: &str, variables: &str) -> Result<(), String> {
        let (run, rest): (Vec<&str>, Vec<&str>) =
            block.lines().partition(|line| line.starts_with("soma node run"));
        self.run(host, &format!("{variables}\n{}", rest.join("\n")))?;
        let Some(run) = run.first() else { return Ok(()) };
        let set = rest.iter().filter(|line| line.starts_with("P2P=") || line.starts_with("API="));
        let set = set.copied().collect::<Vec<_>>().join("\n");
        let log = fs::File::create(self.hosts[host].dir.join("log"));
        let log = log.map_err(|error| error.to_string())?;
        let mut shell = self.shell(host, &format!("{set}\nexec {run}"));
        let child = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.nodes[host] = Some(child.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Sends a file from one host to another, into a folder.
    fn send(&self, from: usize, to: usize, file: &str, folder: &str) -> Result<(), String> {
        let folder = self.hosts[to].dir.join(folder);
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let copied = fs::copy(self.hosts[from].dir.join(file), folder.join(file));
        copied.map(drop).map_err(|error| format!("{file}: {error}"))
    }

    /// Waits until a question has an answer.
    fn until<T>(
        &mut self,
        what: &str,
        mut question: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, String> {
        let begun = Instant::now();
        loop {
            if let Some(answer) = question(self) {
                self.tell(what);
                return Ok(answer);
            }
            let (host, why) = match self.ended() {
                Some(ended) => ended,
                None if begun.elapsed() > STEP_MAX => (0, "it takes too long".to_owned()),
                None => {
                    std::thread::sleep(Duration::from_millis(500));
                    continue;
                }
            };
            let said = |name: &str| {
                let log = fs::read_to_string(self.hosts[host].dir.join(name)).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                lines[lines.len().saturating_sub(SAID_LINES)..].join("\n")
            };
            let (name, log, said) = (HOSTS[host].0, said("log"), said("said"));
            return Err(format!("in vain: {what}: {name}: {why}\n{log}\n{said}"));
        }
    }

    /// The first host whose node ended, or whose command failed.
    fn ended(&mut self) -> Option<(usize, String)> {
        let mut nodes = self.nodes.iter_mut().enumerate();
        let node = nodes.find_map(|(host, node)| Some((host, node.as_mut()?.try_wait().ok()??)));
        let mut commands = self.commands.iter_mut();
        let command = commands.find_map(|(host, command)| {
            let status = command.try_wait().ok()??;
            (!status.success()).then_some((*host, status))
        });
        let (host, status) = node.or(command)?;
        Some((host, format!("its node or command ended ({status})")))
    }

    fn height(&self, host: usize) -> Option<u64> {
        http::get(&self.hosts[host].address, "/v1/status").ok()?.get("height").integer()
    }

    /// Sections 1 to 4: from keys to a network that finalizes blocks.
    fn begins(&mut self) -> Result<(), String> {
        let [plan] = &self.blocks("the coordinator")?;
        let [sign, assemble, begin] = &self.blocks("each operator")?;
        let start = words(&format!("date -u -d +{START_IN}seconds +%FT%TZ"))?;
        self.follow(0, &plan.replace("2030-01-31T12:00:00Z", start.trim()), "")?;
        let path = self.hosts[0].dir.join("plan.toml");
        let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
        fs::write(&path, text.replace("[params]\n", PARAMETERS))
            .map_err(|error| error.to_string())?;
        for (host, (name, _)) in HOSTS.iter().enumerate().take(OPERATORS) {
            if host > 0 {
                self.send(0, host, "plan.toml", "")?;
            }
            self.follow(host, &sign.replace("alice", name), "")?;
        }
        self.tell("three operators have signed entries for one plan");
        for (from, (name, _)) in HOSTS.iter().enumerate().take(OPERATORS) {
            for to in 0..OPERATORS {
                self.send(from, to, &format!("{name}.json"), "entries")?;
            }
        }
        let mut chains = Vec::new();
        for host in 0..OPERATORS {
            self.follow(host, assemble, "")?;
            let shown = self.json(host, "soma genesis show genesis.json")?;
            chains.push(shown.get("chain_id").text().to_owned());
        }
        if chains.iter().any(|chain| *chain != chains[0]) {
            return Err(format!("the operators have different networks: {chains:?}"));
        }
        self.tell(&format!("all have the same network: {}", chains[0]));
        for host in 0..OPERATORS {
            self.follow(host, begin, "")?;
        }
        self.until("all three finalize blocks", |world| {
            (0..OPERATORS)
                .all(|host| world.height(host).is_some_and(|height| height >= 3))
                .then_some(())
        })
    }

    /// From a model to the first target that is paid: one operator publishes it, another submits.
    fn competes(&mut self) -> Result<(), String> {
        let data = self.root.join("docs/guides");
        let (data, key) = (data.display(), "--key $NAME/keys/account.json");
        self.run(1, "soma model init --arch nano --seed 1 -o owl.safetensors")?;
        self.run(1, &format!("soma model register owl {key}"))?;
        let publish = format!("soma model publish owl.safetensors --domain {data} {key}");
        let submit = format!("soma submit {data} {key} --url http://carol.example.org:8645");
        for (host, script) in [(1, publish), (2, submit)] {
            let mut shell = self.shell(host, &script);
            shell.stdin(Stdio::null()).stdout(Stdio::null());
            let log = fs::File::create(self.hosts[host].dir.join("said"));
            let child = shell.stderr(log.map_err(|error| error.to_string())?).spawn();
            self.commands.push((host, child.map_err(|error| error.to_string())?));
        }
        self.tell("a model is registered, and data is submitted");
        let address = self.hosts[0].address.clone();
        let paid = self.until("a target is paid", |_| {
            let targets = http::get(&address, "/v1/targets?limit=500").ok()?;
            let is_paid = |target: &&Json| target.get("payment") != &Json::Null;
            targets.get("items").list().iter().find(is_paid).cloned()
        })?;
        self.tell(&format!(
            "it is target {} of epoch {}",
            paid.get("id").text(),
            paid.get("epoch").text()
        ));
        for (_, mut command) in self.commands.drain(..) {
            // The submitter would continue to the end of the epoch after.
            let _ended = command.kill().and_then(|()| command.wait());
        }
        Ok(())
    }

    /// Sections 5 and 7: a fourth joins, and moves to another host.
    fn joins_and_moves(&mut self) -> Result<(), String> {
        let [init, register] = &self.blocks("a newcomer")?;
        let [balance, pays] = &self.blocks("the first operator")?;
        let [leaves] = &self.blocks("who moves away")?;
        let [moves] = &self.blocks("who moves")?;
        let (dora, new) = (3, 4);
        self.send(0, dora, "genesis.json", "")?;
        self.follow(dora, init, "")?;
        let shown = self.json(dora, "soma node show --dir dora")?;
        let address = shown.get("address").text().to_owned();
        self.follow(0, balance, "")?;
        self.follow(0, pays, &format!("NEWCOMER={address}"))?;
        self.follow(dora, register, "")?;
        self.follows(dora, "the newcomer follows")?;
        self.is_at(&address, HOSTS[dora].1, "the chain says where the newcomer is")?;

        if let Some(mut node) = self.nodes[dora].take() {
            words(&format!("kill -s TERM {}", node.id()))?;
            node.wait().map_err(|error| error.to_string())?;
        }
        self.follow(dora, leaves, "")?;
        self.send(dora, new, "dora.move", "")?;
        self.follow(new, moves, "")?;
        self.follows(new, "it follows on its new host")?;
        self.is_at(&address, HOSTS[new].1, "the chain says where it is now")
    }

    fn follows(&mut self, host: usize, what: &str) -> Result<(), String> {
        let height = self.height(0).unwrap_or(0);
        self.until(what, |world| {
            world.height(host).is_some_and(|reached| reached > height + 2).then_some(())
        })
    }

    /// Waits until the chain says that a validator is at `name`.
    fn is_at(&mut self, address: &str, name: &str, what: &str) -> Result<(), String> {
        let place = (format!("{name}:8646"), format!("http://{name}:8645"));
        self.until(what, |world| {
            let list = http::get(&world.hosts[1].address, "/v1/validators").ok()?;
            let mut list = list.list().iter();
            let found = list.find(|validator| validator.get("address").text() == address)?;
            let said = (found.get("p2p").text(), found.get("url").text());
            (said == (&place.0, &place.1)).then_some(())
        })
    }
}

/// The commands of a guide that begin with `# WHO`, block by block, without that line.
fn blocks(guide: &str, who: &str) -> Vec<String> {
    let title = format!("sh\n# {who}\n");
    let fences = guide.split("```").skip(1).step_by(2);
    fences.filter_map(|block| block.strip_prefix(title.as_str())).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{GUIDE, blocks};

    #[test]
    fn the_guide_has_commands_for_everyone_whom_the_replay_plays() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let guide = std::fs::read_to_string(root.join(GUIDE)).unwrap();
        let expected = [
            ("the coordinator", 1),
            ("each operator", 3),
            ("the first operator", 2),
            ("a newcomer", 2),
            ("who moves away", 1),
            ("who moves", 1),
        ];
        for (who, count) in expected {
            assert_eq!(blocks(&guide, who).len(), count, "{who}");
        }
        assert!(blocks(&guide, "nobody").is_empty());
    }
}
