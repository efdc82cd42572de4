//! The clone the demo pushes from: a folder people may go on working in.

use super::Failure;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is committed first.
const FILES: &[(&str, &str)] = &[
    (".rivet/ci.lua", include_str!("ci.lua")),
    ("build.sh", include_str!("build.sh")),
    ("test.sh", include_str!("test.sh")),
    ("README.md", "# hello\n\nThe repository of `rivet demo`. Its pipeline is `.rivet/ci.lua`.\n"),
];

/// A clone of a bare repository.
pub(super) struct Clone {
    pub(super) bare: PathBuf,
    pub(super) folder: PathBuf,
}

impl Clone {
    /// The clone in `folder`; made, with the example in it, where there is none.
    pub(super) fn of(bare: &Path, folder: &Path) -> Result<Self, Failure> {
        let clone = Self { bare: bare.to_owned(), folder: folder.to_owned() };
        if folder.join(".git").exists() {
            return Ok(clone);
        }
        std::fs::create_dir_all(folder).map_err(|e| Failure::failed(format!("{}: {e}", folder.display())))?;
        clone.git(&["init", "--quiet", "--initial-branch=main"])?;
        clone.git(&["remote", "add", "origin", &bare.display().to_string()])?;
        // For people who have not told git who they are: in this clone alone.
        clone.git(&["config", "user.name", "Rivet Demo"])?;
        clone.git(&["config", "user.email", "demo@rivet.invalid"])?;
        clone.git(&["config", "commit.gpgsign", "false"])?;
        clone.git(&["config", "push.autoSetupRemote", "true"])?;
        for (name, text) in FILES {
            let path = folder.join(name);
            let written =
                path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
            written.map_err(|e| Failure::failed(format!("{}: {e}", path.display())))?;
        }
        Ok(clone)
    }

    /// Commits everything (or nothing anew) and pushes it.
    pub(super) fn commit_and_push(&self) -> Result<(), Failure> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--allow-empty", "-m", "Say hello to Rivet"])?;
        let said = self.git(&["push", "origin", "HEAD"])?;
        for line in said.lines().filter(|line| line.starts_with("remote:")) {
            super::output::note(line.trim_end());
        }
        Ok(())
    }

    /// The commit the clone is at.
    pub(super) fn head(&self) -> Result<String, Failure> {
        Ok(self.git(&["rev-parse", "HEAD"])?.trim().to_owned())
    }

    /// Runs git in the clone and answers what it said, on either stream.
    fn git(&self, args: &[&str]) -> Result<String, Failure> {
        let output = Command::new("git").arg("-C").arg(&self.folder).args(args).output();
        let output = output.map_err(|e| Failure::failed(format!("git cannot be started ({e}); the demo needs it")))?;
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        if output.status.success() {
            return Ok(said);
        }
        Err(Failure::failed(format!("git {} failed:\n{}", args.join(" "), said.trim())))
    }
}
