//! The directories of a job: made for it alone, and gone after it.

use anyhow::{Context as _, bail};
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The directories of one job.
#[derive(Debug, Clone)]
pub struct Directories {
    root: PathBuf,
}

impl Directories {
    /// Makes them under `jobs`, which holds one directory for each claim.
    pub fn create(jobs: &Path, job: &str, epoch: i64) -> anyhow::Result<Self> {
        let root = jobs.join(format!("{}-{epoch}", safe_name(job)?));
        // The same claim cannot be held twice, so what is there is left over from a runner that was killed.
        remove(&root)?;
        let directories = Self { root };
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700).recursive(true);
        for directory in [directories.workspace(), directories.home(), directories.temporary()] {
            builder.create(&directory).with_context(|| format!("could not make {}", directory.display()))?;
        }
        Ok(directories)
    }

    /// Where the commit is checked out.
    pub fn workspace(&self) -> PathBuf {
        self.root.join("workspace")
    }

    /// The home directory of its commands.
    pub fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// The temporary directory of its commands.
    pub fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Where its log waits for the server.
    pub fn spool(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Removes all of them.
    pub fn remove(&self) -> anyhow::Result<()> {
        remove(&self.root)
    }
}

/// Removes what earlier runners left in `jobs`; answers how many directories there were.
pub fn remove_leftovers(jobs: &Path) -> anyhow::Result<usize> {
    let entries = match fs::read_dir(jobs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error).with_context(|| format!("could not read {}", jobs.display())),
    };
    let mut removed = 0;
    for entry in entries {
        remove(&entry?.path())?;
        removed += 1;
    }
    Ok(removed)
}

/// Removes a tree, whatever permissions its directories have. Links are removed, never followed.
fn remove(root: &Path) -> anyhow::Result<()> {
    for open_up in [false, true] {
        if open_up {
            make_writable(root);
        }
        match fs::remove_dir_all(root) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !root.exists() => return Ok(()),
            Err(error) if open_up => {
                return Err(error).with_context(|| format!("could not remove {}", root.display()));
            }
            Err(_) => {}
        }
    }
    Ok(())
}

fn make_writable(directory: &Path) {
    // What cannot be opened up is reported by the removal that follows.
    let _ = fs::set_permissions(directory, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}

fn safe_name(id: &str) -> anyhow::Result<&str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if id.is_empty() || id.len() > 64 || !id.bytes().all(plain) {
        bail!("the server sent a job id that is no name: {id:?}");
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_even_of_directories_nobody_may_write() -> anyhow::Result<()> {
        let data = tempfile::tempdir()?;
        let outside = data.path().join("outside");
        fs::create_dir(&outside)?;
        fs::write(outside.join("kept"), "")?;
        let directories = Directories::create(&data.path().join("jobs"), "job1", 7)?;
        let inner = directories.workspace().join("a/b");
        fs::create_dir_all(&inner)?;
        fs::write(inner.join("file"), "")?;
        std::os::unix::fs::symlink(&outside, inner.join("link"))?;
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o500))?;
        directories.remove()?;
        assert!(!data.path().join("jobs/job1-7").exists());
        assert!(outside.join("kept").exists());
        directories.remove()?;
        Ok(())
    }

    #[test]
    fn leftovers_are_removed() -> anyhow::Result<()> {
        let data = tempfile::tempdir()?;
        assert_eq!(remove_leftovers(&data.path().join("jobs"))?, 0);
        Directories::create(&data.path().join("jobs"), "job1", 1)?;
        Directories::create(&data.path().join("jobs"), "job2", 1)?;
        assert_eq!(remove_leftovers(&data.path().join("jobs"))?, 2);
        Ok(())
    }

    #[test]
    fn a_job_id_cannot_name_another_directory() {
        let data = Path::new("/nonexistent");
        for id in ["", "../x", "a/b", ".", "a b", &"x".repeat(65)] {
            assert!(Directories::create(data, id, 1).is_err(), "{id:?}");
        }
    }
}
