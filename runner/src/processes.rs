//! Finding and ending every process of a job, also those that left its process group.
//!
//! A command may fork twice and call `setsid`; neither its process group nor its session finds such a child again. Two
//! things do: the job process is a *subreaper*, so orphans below it become its children, and every command carries a mark
//! in its environment that its descendants inherit. Zombies are left to init, which inherits them with the job's end.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// The environment variable that marks every process of a command.
pub const MARK: &str = "RIVET_PROCESS";

/// How often a tree is walked again before it counts as unkillable (a process in an uninterruptible wait).
const ROUNDS: u32 = 200;

/// Which processes are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Family {
    /// Everything below this process, itself left out.
    Below(i32),
    /// One command: its process, what is below it or in its group, and everything that carries exactly its mark.
    Command {
        /// The process that was started, a group leader.
        pid: i32,
        /// Its mark.
        mark: String,
    },
    /// Everything whose mark belongs to this job, and everything in this session.
    Job {
        /// The job's mark, without a command's number.
        mark: String,
        /// The job process, leader of its session.
        session: i32,
    },
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    pid: i32,
    parent: i32,
    group: i32,
    session: i32,
    zombie: bool,
}

/// Makes this process the parent of every orphan below it, and keeps others from reading its memory.
pub fn become_subreaper() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        nix::sys::prctl::set_child_subreaper(true)?;
        nix::sys::prctl::set_dumpable(false)?;
    }
    Ok(())
}

/// Sends `signal` to every living process of `family`; answers how many there were.
pub fn signal(family: &Family, signal: Signal) -> usize {
    let members = members(family);
    for pid in &members {
        // It may have ended between the look and the signal, which is what is wanted.
        let _ = kill(Pid::from_raw(*pid), signal);
    }
    if let Family::Command { pid, .. } = family
        && members.is_empty()
        && !Path::new("/proc/self/stat").exists()
    {
        // Without /proc the group is all that can be found.
        let _ = nix::sys::signal::killpg(Pid::from_raw(*pid), signal);
    }
    members.len()
}

/// Kills every process of `family` and does not return before they are gone. `false`: some would not die.
pub fn kill_all(family: &Family) -> bool {
    for _ in 0..ROUNDS {
        if signal(family, Signal::SIGKILL) == 0 {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// The living processes of `family`.
pub fn members(family: &Family) -> Vec<i32> {
    let table = table();
    let own = std::process::id().cast_signed();
    let alive = table.iter().filter(|entry| !entry.zombie && entry.pid != own && entry.pid > 1);
    match family {
        Family::Below(root) => {
            let below = below(&table, *root);
            alive.filter(|entry| below.contains(&entry.pid)).map(|entry| entry.pid).collect()
        }
        Family::Command { pid, mark } => {
            let below = below(&table, *pid);
            alive
                .filter(|entry| {
                    entry.pid == *pid
                        || entry.group == *pid
                        || below.contains(&entry.pid)
                        || mark_of(entry.pid).as_deref() == Some(mark)
                })
                .map(|entry| entry.pid)
                .collect()
        }
        Family::Job { mark, session } => alive
            .filter(|entry| {
                entry.session == *session
                    || mark_of(entry.pid).is_some_and(|found| {
                        found.strip_prefix(mark.as_str()).is_some_and(|rest| rest.starts_with('.'))
                    })
            })
            .map(|entry| entry.pid)
            .collect(),
    }
}

fn below(table: &[Entry], root: i32) -> BTreeSet<i32> {
    let mut found = BTreeSet::from([root]);
    loop {
        let before = found.len();
        for entry in table {
            if found.contains(&entry.parent) {
                found.insert(entry.pid);
            }
        }
        if found.len() == before {
            found.remove(&root);
            return found;
        }
    }
}

fn table() -> Vec<Entry> {
    let Ok(directory) = std::fs::read_dir("/proc") else { return Vec::new() };
    directory.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok()).filter_map(read_stat).collect()
}

fn read_stat(pid: i32) -> Option<Entry> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, also parentheses.
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    let mut number = || fields.next()?.parse::<i32>().ok();
    Some(Entry { pid, parent: number()?, group: number()?, session: number()?, zombie: matches!(state, "Z" | "X") })
}

fn mark_of(pid: i32) -> Option<String> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    environment.split(|byte| *byte == 0).find_map(|line| {
        let value = line.strip_prefix(MARK.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    })
}
