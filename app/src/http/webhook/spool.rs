//! Where a body is while it comes. A small one is in memory; a large one is in a file that has no name, so that whatever
//! becomes of this process nothing of it stays behind. Only when its sender has proved who it is does it come into memory,
//! and only a few at a time do: what strangers send costs disk and little else.

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

/// What a body may use before it counts as large.
pub(super) const SMALL_BYTES: usize = 1 << 20;
/// What of a large body is collected before it is written.
const PIECE_BYTES: usize = 128 << 10;

/// A body of which some has come.
pub(super) struct Spool {
    folder: PathBuf,
    /// All of a small body; of a large one what is not written yet.
    memory: Vec<u8>,
    file: Option<File>,
    length: usize,
}

impl Spool {
    /// An empty one; a large body's file is made in `folder`.
    pub(super) fn new(folder: &Path, expected: usize) -> Self {
        // A declared length is a claim, not yet memory: only a little is reserved at once.
        Self { folder: folder.to_owned(), memory: Vec::with_capacity(expected.min(64 << 10)), file: None, length: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_large(&self) -> bool {
        self.length > SMALL_BYTES
    }

    /// Adds what came next.
    pub(super) async fn add(&mut self, data: &[u8]) -> io::Result<()> {
        self.length += data.len();
        self.memory.extend_from_slice(data);
        if self.is_large() && self.memory.len() >= PIECE_BYTES {
            self.write().await?;
        }
        Ok(())
    }

    async fn write(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(nameless(self.folder.clone()).await?),
        };
        file.write_all(&self.memory).await?;
        // The first piece was everything until now; its memory is given back.
        self.memory.clear();
        self.memory.shrink_to(PIECE_BYTES);
        Ok(())
    }

    /// All of it.
    pub(super) async fn into_bytes(mut self) -> io::Result<Vec<u8>> {
        if self.file.is_none() {
            return Ok(self.memory);
        }
        self.write().await?;
        let mut bytes = Vec::with_capacity(self.length);
        if let Some(mut file) = self.file {
            file.flush().await?;
            file.seek(SeekFrom::Start(0)).await?;
            file.read_to_end(&mut bytes).await?;
        }
        match bytes.len() == self.length {
            true => Ok(bytes),
            false => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file does not hold what was written")),
        }
    }
}

/// A file without a name in `folder`: the kernel takes it away with its last handle.
async fn nameless(folder: PathBuf) -> io::Result<File> {
    let made = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&folder)?;
        tempfile::tempfile_in(folder)
    });
    let mut file = File::from_std(made.await.map_err(io::Error::other)??);
    // Otherwise each file would keep up to two megabytes of its own.
    file.set_max_buf_size(PIECE_BYTES);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_added_comes_back_and_leaves_no_name() {
        let folder = tempfile::tempdir().unwrap();
        for length in [0, 1, SMALL_BYTES, SMALL_BYTES + 1, SMALL_BYTES + PIECE_BYTES, 5 * SMALL_BYTES + 17] {
            let body: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let mut spool = Spool::new(folder.path(), length);
            for piece in body.chunks(10_007) {
                spool.add(piece).await.unwrap();
                assert!(spool.memory.len() <= SMALL_BYTES + PIECE_BYTES);
            }
            assert_eq!(
                (spool.len(), spool.is_large(), spool.file.is_some()),
                (length, length > SMALL_BYTES, length > SMALL_BYTES)
            );
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
            assert_eq!(spool.into_bytes().await.unwrap(), body);
        }
    }

    #[tokio::test]
    async fn a_disk_that_takes_nothing_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "not a folder").unwrap();
        let mut spool = Spool::new(&file, 0);
        assert!(spool.add(&vec![0; 2 * SMALL_BYTES]).await.is_err());
    }
}
