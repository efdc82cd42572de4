//! Runs the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A place to run `rivet` in: its own home, its own folder, no settings.
pub struct Place {
    folder: tempfile::TempDir,
    server: Option<String>,
}

/// What a command did.
pub struct Did {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("tmp")).expect("a folder for temporary files");
        std::fs::create_dir(folder.path().join("work")).expect("a folder to work in");
        Self { folder, server: None }
    }

    /// A place whose commands talk to `server`, with a token.
    pub fn with_server(server: &str) -> Self {
        Self { server: Some(server.to_owned()), ..Self::new() }
    }

    pub fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    pub fn temporary(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.work().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("its folder");
        std::fs::write(path, text).expect("a file");
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.work().join(path)).expect("a file")
    }

    /// Makes the place a git repository with everything in it committed.
    pub fn commit(&self) {
        for line in [
            "init -q -b main",
            "add -A",
            "-c user.name=Ada -c user.email=ada@example.org commit -q --allow-empty -m first",
            "remote add origin https://github.com/acme/web.git",
        ] {
            git(&self.work(), line);
        }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rivet"));
        command
            .args(args)
            .current_dir(self.work())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("TMPDIR", self.temporary())
            .env("XDG_CONFIG_HOME", self.config())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null());
        if let Some(server) = &self.server {
            command.env("RIVET_URL", server).env("RIVET_TOKEN", "rvt_test").env("RIVET_REPO", "acme/web");
        }
        command
    }

    pub fn rivet(&self, args: &[&str]) -> Did {
        did(self.command(args).output().expect("rivet runs"))
    }

    pub fn rivet_with_input(&self, args: &[&str], input: &str) -> Did {
        use std::io::Write as _;
        let mut command = self.command(args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("rivet runs");
        child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("input is read");
        did(child.wait_with_output().expect("rivet ends"))
    }
}

pub fn git(folder: &Path, line: &str) {
    let done = Command::new("git").arg("-C").arg(folder).args(line.split(' ')).output().expect("git runs");
    assert!(done.status.success(), "git {line}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Sends a signal to a running command.
pub fn kill(child: &std::process::Child, signal: &str) {
    let done = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
    assert!(done.expect("kill runs").success());
}

pub fn did(output: Output) -> Did {
    Did {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

impl Did {
    /// Exit code and both streams, for a snapshot.
    pub fn all(&self) -> String {
        let stream = |name: &str, text: &str| {
            if text.is_empty() { String::new() } else { format!("--- {name}\n{}\n", text.trim_end()) }
        };
        format!("exit {}\n{}{}", self.code, stream("stdout", &self.out), stream("stderr", &self.err))
    }
}
