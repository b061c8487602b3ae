//! How much memory a process may still take.

/// Memory that this process can take without forcing anything out, in bytes: what the machine has,
/// or less in a container or a process with a limit. `None` where the system does not tell.
pub fn available_bytes() -> Option<u64> {
    let machine = kib(&read("/proc/meminfo")?, "MemAvailable:")?;
    Some([group_bytes(), process_bytes()].into_iter().flatten().fold(machine, u64::min))
}

/// What the limit of the process's addresses (`ulimit -v`) leaves; `None` without a limit.
fn process_bytes() -> Option<u64> {
    let limit = field(&read("/proc/self/limits")?, "Max address space")?;
    Some(limit.saturating_sub(kib(&read("/proc/self/status")?, "VmSize:")?))
}

/// What the process's control group (version 2) has left; `None` without a limit.
fn group_bytes() -> Option<u64> {
    let groups = read("/proc/self/cgroup")?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let file = |name: &str| read(&format!("/sys/fs/cgroup{group}/{name}"));
    let number = |name: &str| file(name)?.trim().parse::<u64>().ok();
    let used = number("memory.current")?;
    // Cached files that the system gives up on demand.
    let cached = field(&file("memory.stat")?, "inactive_file")?;
    Some(number("memory.max")?.saturating_sub(used.saturating_sub(cached)))
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn kib(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.checked_mul(1024)
}

/// The number after `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{available_bytes, field, kib};

    #[test]
    fn the_numbers_of_the_system_are_read() {
        let text = "MemTotal:       24689764 kB\nMemAvailable:   21000000 kB\n";
        assert_eq!(kib(text, "MemAvailable:"), Some(21_000_000 << 10));
        assert_eq!(field("active_file 7\ninactive_file 9\n", "inactive_file"), Some(9));
        assert_eq!(kib(text, "SwapFree:"), None);
        if cfg!(target_os = "linux") {
            assert!(available_bytes().unwrap() > 1 << 20);
        }
    }
}
