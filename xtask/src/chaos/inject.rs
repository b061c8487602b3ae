//! Makes a fault happen on a host, and heals it.

use std::fs;
use std::path::{Path, PathBuf};

use super::fault::Fault;
use super::network::{DISK_MIB, set_clock};
use crate::hosts::host::Shaper;
use crate::hosts::node::Node;
use crate::hosts::sandbox::WORLD;
use crate::hosts::words;

/// What fills a disk.
const BALLAST: &str = "ballast";

/// Makes `fault` happen; returns what did: without an older copy, none is restored, but one is made
/// for the next time.
pub(crate) fn inject(node: &mut Node, fault: Fault, shaper: Shaper) -> Result<Fault, String> {
    match fault {
        Fault::Cut => node.host.plug(false)?,
        Fault::Slow(slow) => node.host.slow(shaper, slow)?,
        Fault::Pause => node.signal("STOP")?,
        Fault::Clock { offset_ms } => set_clock(node, offset_ms)?,
        Fault::FullDisk => fill(&node.host.dir)?,
        Fault::Restore { keeps_votes } if copy_of(node).is_dir() => {
            node.kill()?;
            restore(node, keeps_votes)?;
            return Ok(fault);
        }
        Fault::Kill | Fault::Restore { .. } => {
            node.kill()?;
            copy(node)?;
            return Ok(Fault::Kill);
        }
    }
    Ok(fault)
}

/// Ends `fault`. A node that does not run anymore is started, as its operator would.
pub(crate) fn heal(node: &mut Node, fault: Fault) -> Result<(), String> {
    match fault {
        Fault::Cut => node.host.plug(true)?,
        Fault::Slow(_) => node.host.quicken()?,
        Fault::Pause => node.signal("CONT")?,
        Fault::Clock { .. } => set_clock(node, 0)?,
        Fault::FullDisk => {
            let ballast = node.host.dir.join(BALLAST);
            fs::remove_file(&ballast).map_err(|error| format!("{}: {error}", ballast.display()))?;
        }
        Fault::Kill | Fault::Restore { .. } => {}
    }
    if node.is_running() { Ok(()) } else { node.start() }
}

/// Writes until the disk accepts no more.
fn fill(disk: &Path) -> Result<(), String> {
    let path = disk.join(BALLAST);
    let mut file =
        fs::File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    // Small pieces at last, so that not one page is left.
    for piece in [vec![0; 1 << 20], vec![0; 4096]] {
        let most = u64::from(DISK_MIB) * (1 << 20) / piece.len() as u64;
        for _ in 0..=most {
            if std::io::Write::write_all(&mut file, &piece).is_err() {
                break;
            }
        }
    }
    Ok(())
}

fn copy_of(node: &Node) -> PathBuf {
    Path::new(WORLD).join("copies").join(&node.host.name)
}

/// Copies the folder of a node that does not run, in place of the copy before.
fn copy(node: &Node) -> Result<(), String> {
    let copy = copy_of(node);
    words(&format!("rm -rf {}", copy.display()))?;
    words(&format!("mkdir -p {}", copy.display()))?;
    words(&format!("cp -a {}/. {}", node.dir.display(), copy.display())).map(drop)
}

/// Replaces the folder of a node that does not run by its copy.
fn restore(node: &Node, keeps_votes: bool) -> Result<(), String> {
    let (dir, votes) = (&node.dir, node.host.dir.join("votes"));
    if keeps_votes {
        words(&format!("cp -a {}/votes {}", dir.display(), votes.display()))?;
    }
    words(&format!("rm -rf {}", dir.display()))?;
    words(&format!("cp -a {} {}", copy_of(node).display(), dir.display()))?;
    if keeps_votes {
        words(&format!("mv {} {}/votes", votes.display(), dir.display()))?;
    }
    Ok(())
}
