//! The inside of an evaluator's process: give everything up, then read a question, then answer it.
//!
//! It must run before anything else of the program: before threads (namespaces are per process), before settings, before
//! a runtime. What is lost cannot be had back, so nothing that the definition does can get at it.

use nix::sys::resource::{Resource, setrlimit};
use pipelines_spec::evaluate::{Request, Response};
use std::io::{Read as _, Write as _};
use std::process::ExitCode;

/// The hidden command that makes a `rivet` an evaluator.
pub const COMMAND: &str = "evaluate-definition";
/// Seconds of processor time one evaluation may take.
pub(super) const CPU_SECONDS: u64 = 2;
/// Most bytes of a question: definitions are at most 1 MiB together, an event at most as long as a delivery.
const QUESTION_LIMIT: u64 = 64 << 20;

/// Whether this process was started to be an evaluator. `main` asks first of all.
pub fn is_wanted() -> bool {
    std::env::args_os().nth(1).is_some_and(|a| a == COMMAND)
}

/// Confines this process, then answers the one question on standard input with `evaluate`.
pub fn main(evaluate: fn(&Request) -> Response) -> ExitCode {
    if let Err(what) = confine() {
        eprintln!("the evaluator could not be confined: {what}");
        return ExitCode::from(3);
    }
    match answer(evaluate) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the evaluator has no answer: {error}");
            ExitCode::from(4)
        }
    }
}

fn answer(evaluate: fn(&Request) -> Response) -> Result<(), Box<dyn std::error::Error>> {
    let mut question = Vec::new();
    std::io::stdin().lock().take(QUESTION_LIMIT).read_to_end(&mut question)?;
    let request: Request = serde_json::from_slice(&question)?;
    drop(question);
    let response = serde_json::to_vec(&evaluate(&request))?;
    std::io::stdout().lock().write_all(&response)?;
    Ok(())
}

/// Gives up everything that evaluating does not need. What is refused here stops the evaluation: a definition is not run
/// half confined. (`RLIMIT_NPROC` does not bind root; the system call filter does.)
fn confine() -> Result<(), String> {
    for (resource, limit) in [
        (Resource::RLIMIT_AS, 512 << 20),
        (Resource::RLIMIT_CPU, CPU_SECONDS),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_NOFILE, 8),
        #[cfg(any(target_os = "linux", target_os = "macos"))]
        (Resource::RLIMIT_NPROC, 0),
        (Resource::RLIMIT_CORE, 0),
    ] {
        setrlimit(resource, limit, limit).map_err(|e| format!("{resource:?}: {e}"))?;
    }
    confine_by_kernel()
}

#[cfg(target_os = "linux")]
fn confine_by_kernel() -> Result<(), String> {
    use nix::sys::prctl;
    prctl::set_no_new_privs().map_err(|e| format!("no_new_privs: {e}"))?;
    prctl::set_dumpable(false).map_err(|e| format!("dumpable: {e}"))?;
    let filtered = filter::program().and_then(|p| seccompiler::apply_filter(&p).map_err(|e| e.to_string()));
    match filtered {
        Ok(()) => Ok(()),
        // Some containers forbid filters of one's own. A network namespace of its own is the next best thing, and where
        // that is forbidden too there are still the limits and the sandbox.
        Err(why) => {
            use nix::sched::{CloneFlags, unshare};
            let apart = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET);
            if let Err(error) = apart {
                eprintln!("evaluating without a system call filter ({why}) and with this network ({error})");
            }
            Ok(())
        }
    }
}

/// Elsewhere the resource limits and the sandbox are all there is.
#[cfg(not(target_os = "linux"))]
fn confine_by_kernel() -> Result<(), String> {
    Ok(())
}

#[cfg(target_os = "linux")]
mod filter {
    use nix::libc;
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

    /// What computing, reading standard input, writing standard output and ending need. There is no opening, no
    /// connecting, no starting, no signalling of others among them.
    const ALLOWED: &[libc::c_long] = &[
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_getrandom,
        libc::SYS_gettid,
        libc::SYS_getpid,
        libc::SYS_sched_yield,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];

    /// Everything but [`ALLOWED`] fails with EPERM: a library that tries something new gets an error instead of a death
    /// that would look like an attack. `abort` needs to signal itself, so that alone may be done to this process.
    pub(super) fn program() -> Result<BpfProgram, String> {
        let mut rules: std::collections::BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
            ALLOWED.iter().map(|&call| (call, vec![])).collect();
        let own = seccompiler::SeccompCondition::new(
            0,
            seccompiler::SeccompCmpArgLen::Dword,
            seccompiler::SeccompCmpOp::Eq,
            u64::from(std::process::id()),
        );
        let own = own.and_then(|c| seccompiler::SeccompRule::new(vec![c])).map_err(|e| e.to_string())?;
        rules.insert(libc::SYS_tgkill, vec![own]);
        let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| e.to_string())?;
        let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let filter = SeccompFilter::new(rules, denied, SeccompAction::Allow, arch).map_err(|e| e.to_string())?;
        BpfProgram::try_from(filter).map_err(|e| e.to_string())
    }
}
