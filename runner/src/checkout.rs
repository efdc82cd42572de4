//! The commit in the workspace: fetched by its exact name, verified, with everything in git switched off that a hostile
//! repository could use to run code on the way (security.md, A40–A42).

use crate::executor::host::Host;
use crate::executor::{Command, ExecError, Exit, Job, Status};
use crate::stop::StopReason;
use base64::Engine as _;
use pipelines_spec::protocol::Checkout;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// How long one git command may take.
const LIMIT: Duration = Duration::from_secs(600);
/// Tried so often, because networks fail.
const TRIES: u32 = 3;

/// Which addresses a checkout may have, beside `https`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Policy {
    /// Whether repositories may be read from this machine's files: only where the server runs on it, too.
    pub files: bool,
    /// The host that may be asked without encryption, beside this machine: the server's own, where it has none either.
    pub plain_host: Option<String>,
}

/// Why there is no checkout.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// The server asked for something no runner does.
    #[error("checkout refused: {0}")]
    Refused(String),
    /// git failed.
    #[error("git {step} failed: {detail}")]
    Git {
        /// What was tried.
        step: &'static str,
        /// What git said last.
        detail: String,
    },
    /// The job had to stop.
    #[error("stopped during the checkout")]
    Stopped(StopReason),
    /// git could not be run.
    #[error("git could not be run: {0}")]
    Exec(#[from] ExecError),
}

/// Where git runs.
pub struct Place {
    /// The workspace, empty and existing.
    pub workspace: PathBuf,
    /// A home directory without settings.
    pub home: PathBuf,
    /// The job's mark.
    pub mark: String,
    /// How long git may take to obey SIGTERM.
    pub grace: Duration,
}

struct Git<'a> {
    host: Host,
    job: &'a Job,
    scheme: &'static str,
}

/// Brings the workspace to the commit.
pub async fn checkout(what: &Checkout, policy: &Policy, place: Place, job: &Job) -> Result<(), CheckoutError> {
    let url = allowed(&what.url, policy)?;
    if !is_commit(&what.sha) {
        return Err(CheckoutError::Refused("the commit is not 40 or 64 lower-case hex digits".into()));
    }
    let environment = environment(&place, &url, what.token.as_deref());
    let git = Git { host: Host::new(place.workspace, environment, place.mark, place.grace), job, scheme: scheme(&url) };

    let format = if what.sha.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
    git.run("init", &["init", "--quiet", "--template=", "--initial-branch=rivet", format, "."]).await?;
    git.run("remote", &["remote", "add", "--", "origin", url.as_str()]).await?;
    fetch(&git, &what.sha).await?;
    git.run("checkout", &["checkout", "--quiet", "--force", "--detach", &what.sha, "--"]).await?;
    let head = git.run("rev-parse", &["rev-parse", "--verify", "HEAD"]).await?;
    let head = String::from_utf8_lossy(&head.stdout).trim().to_owned();
    if head != what.sha {
        return Err(CheckoutError::Git { step: "checkout", detail: format!("HEAD is {head}, not {}", what.sha) });
    }
    Ok(())
}

async fn fetch(git: &Git<'_>, sha: &str) -> Result<(), CheckoutError> {
    let mut attempt = 1;
    loop {
        let error = match git.run("fetch", &[FETCH, &["--depth=1", "--end-of-options", "origin", sha]].concat()).await {
            Ok(_) => return Ok(()),
            Err(error @ CheckoutError::Git { .. }) => error,
            Err(error) => return Err(error),
        };
        // Some servers name their branches but refuse a commit by its own name.
        if error.to_string().contains("not allow request for unadvertised") {
            git.run("fetch", &[FETCH, ALL_REFS].concat()).await?;
            return Ok(());
        }
        if attempt == TRIES {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(500) * attempt).await;
        attempt += 1;
    }
}

const FETCH: &[&str] = &["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance"];
const ALL_REFS: &[&str] = &[
    "--end-of-options",
    "origin",
    "+refs/heads/*:refs/remotes/origin/*",
    "+refs/tags/*:refs/tags/*",
    "+refs/pull/*:refs/remotes/pull/*",
];

impl Git<'_> {
    async fn run(&self, step: &'static str, arguments: &[&str]) -> Result<Exit, CheckoutError> {
        let mut argv = vec!["git".to_owned()];
        let allow = format!("protocol.{}.allow=always", self.scheme);
        let settings = [
            "protocol.allow=never",
            &allow,
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "core.autocrlf=false",
            "safe.bareRepository=explicit",
            "submodule.recurse=false",
            "transfer.fsckObjects=true",
            "http.followRedirects=false",
            "credential.helper=",
            "advice.detachedHead=false",
        ];
        argv.extend(settings.iter().flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]));
        argv.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let command = Command { argv, timeout: Some(LIMIT), capture: true, ..Command::default() };
        // What git says is for the log only where it fails, and then as the error's text.
        let job = Job { log: self.job.log.silent(), stop: self.job.stop.clone() };
        let exit = self.host.run(&command, &job).await?;
        match exit.status {
            Status::Code(0) => Ok(exit),
            Status::Stopped(reason) => Err(CheckoutError::Stopped(reason)),
            Status::Code(_) | Status::Signal(_) | Status::TimedOut => {
                Err(CheckoutError::Git { step, detail: exit.tail.unwrap_or_else(|| format!("{:?}", exit.status)) })
            }
        }
    }
}

/// What git sees: none of this machine's settings, and the token where neither a file nor a process list shows it.
fn environment(place: &Place, url: &Url, token: Option<&str>) -> BTreeMap<String, String> {
    let mut environment: BTreeMap<String, String> = [
        ("PATH", std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".into())),
        ("HOME", place.home.display().to_string()),
        ("LC_ALL", "C".into()),
        ("GIT_CONFIG_NOSYSTEM", "1".into()),
        ("GIT_CONFIG_GLOBAL", "/dev/null".into()),
        ("GIT_ATTR_NOSYSTEM", "1".into()),
        ("GIT_TERMINAL_PROMPT", "0".into()),
        ("GIT_LFS_SKIP_SMUDGE", "1".into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if let Some(token) = token {
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{token}"));
        environment.insert("GIT_CONFIG_COUNT".into(), "1".into());
        environment
            .insert("GIT_CONFIG_KEY_0".into(), format!("http.{}.extraHeader", url.origin().ascii_serialization()));
        environment.insert("GIT_CONFIG_VALUE_0".into(), format!("Authorization: Basic {basic}"));
    }
    environment
}

fn allowed(text: &str, policy: &Policy) -> Result<Url, CheckoutError> {
    let refused = |why: &str| CheckoutError::Refused(why.to_owned());
    let url = Url::parse(text).map_err(|_| refused("the repository's address is no URL"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("the repository's address has a user name in it"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) || (url.host_str().is_some() && url.host_str() == policy.plain_host.as_deref()) => {
            Ok(url)
        }
        "http" => Err(refused("http is only for this machine; use https")),
        "file" if policy.files => Ok(url),
        "file" => Err(refused("the server is on another machine, so it may not name files of this one")),
        other => Err(refused(&format!("{other} addresses are not fetched from"))),
    }
}

fn scheme(url: &Url) -> &'static str {
    match url.scheme() {
        "file" => "file",
        "http" => "http",
        _ => "https",
    }
}

/// Whether an address means this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn is_commit(sha: &str) -> bool {
    matches!(sha.len(), 40 | 64) && sha.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_cannot_run_or_leak_anything_are_fetched_from() {
        let local = Policy { files: true, plain_host: Some("ci.internal".into()) };
        let remote = Policy::default();
        for (url, here, elsewhere) in [
            ("https://github.com/a/b.git", true, true),
            ("http://127.0.0.1:8080/a/b.git", true, true),
            ("http://ci.internal:8080/a/b.git", true, false),
            ("http://github.com/a/b.git", false, false),
            ("file:///srv/repo.git", true, false),
            ("ssh://git@github.com/a/b", false, false),
            ("ext::sh -c id", false, false),
            ("--upload-pack=id", false, false),
            ("/srv/repo.git", false, false),
            ("https://user:pw@github.com/a/b", false, false),
        ] {
            assert_eq!(allowed(url, &local).is_ok(), here, "{url} here");
            assert_eq!(allowed(url, &remote).is_ok(), elsewhere, "{url} elsewhere");
        }
    }

    #[test]
    fn only_whole_hex_names_are_commits() {
        assert!(is_commit(&"a1".repeat(20)) && is_commit(&"0f".repeat(32)));
        for bad in ["", "main", "--upload-pack=id", &"A1".repeat(20), &"a1".repeat(19)] {
            assert!(!is_commit(bad), "{bad}");
        }
    }
}
