//! git, asked about a bare repository: no work tree, no settings but ours, names never where an option could stand.

use crate::forge::ForgeError;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// The longest one question may take.
const LIMIT: Duration = Duration::from_secs(30);

/// One bare repository.
pub(super) struct Git {
    folder: PathBuf,
}

/// What git said.
pub(super) struct Output {
    pub(super) ok: bool,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

impl Git {
    pub(super) fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Runs git, whatever it answers.
    pub(super) async fn ask(&self, args: &[&str], input: &[u8]) -> Result<Output, ForgeError> {
        let mut command = Command::new("git");
        command
            .arg("--git-dir")
            .arg(&self.folder)
            .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "protocol.allow=never"])
            .arg("-c")
            .arg(format!("safe.directory={}", self.folder.display()))
            .args(args);
        confine(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|e| ForgeError::Unavailable(format!("git cannot be started: {e}")))?;
        let mut stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin.take() {
                // git may end without reading everything; what it then says is what matters.
                let _ = stdin.write_all(input).await;
            }
        };
        let both = async { tokio::join!(feed, child.wait_with_output()).1 };
        let output = tokio::time::timeout(LIMIT, both)
            .await
            .map_err(|_| ForgeError::Unavailable(format!("git {} took too long", args.first().unwrap_or(&""))))?
            .map_err(|e| ForgeError::Unavailable(format!("git: {e}")))?;
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Ok(Output { ok: output.status.success(), stdout: output.stdout, stderr })
    }

    /// Runs git, which must succeed.
    pub(super) async fn run(&self, args: &[&str], input: &[u8]) -> Result<Vec<u8>, ForgeError> {
        let output = self.ask(args, input).await?;
        if output.ok {
            return Ok(output.stdout);
        }
        Err(ForgeError::Refused(format!("git {}: {}", args.first().unwrap_or(&""), output.stderr)))
    }

    /// Runs git, which must succeed, and answers its output as one line of text.
    pub(super) async fn line(&self, args: &[&str]) -> Result<String, ForgeError> {
        Ok(String::from_utf8_lossy(&self.run(args, b"").await?).trim().to_owned())
    }

    /// The commit `name` stands for, if there is one.
    pub(super) async fn commit(&self, name: &str) -> Result<Option<String>, ForgeError> {
        let peeled = format!("{name}^{{commit}}");
        let output = self.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &peeled], b"").await?;
        Ok(output.ok.then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned()))
    }
}

/// Makes a new bare repository.
pub(super) async fn init(folder: &Path, branch: &str) -> Result<(), ForgeError> {
    let mut command = Command::new("git");
    command.args(["init", "--bare", "--quiet", "--template="]).arg(format!("--initial-branch={branch}")).arg(folder);
    confine(&mut command);
    let output = command.output().await.map_err(|e| ForgeError::Unavailable(format!("git cannot be started: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(ForgeError::Refused(format!("git init: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// Nothing of the surroundings reaches git but where programs are.
fn confine(command: &mut Command) {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    command
        .env_clear()
        .env("PATH", path)
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_OPTIONAL_LOCKS", "0");
}
