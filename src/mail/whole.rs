//! The complete list of a table that is cut in its document: the file of the report's folder, compressed.

use std::ffi::OsStr;
use std::io::{self, Cursor, Read as _, Seek, SeekFrom, Write};
use std::path::{Component, Path};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::outbox::StoredDocument;
use crate::config::Config;
use crate::private_files::Folder;
use crate::scheduler::host_name;

/// Compresses a file of a report's folder. None if its report was made on another machine, if the file is gone, or if it takes
/// more than `limit` bytes.
pub(super) fn compressed(file: &str, stored: &StoredDocument, config: &Config, limit: u64) -> Option<Vec<u8>> {
    if file.is_empty() || stored.host != host_name() {
        return None;
    }
    compress(file, Path::new(&stored.folder), &config.state_dir, limit).ok()
}

fn compress(file: &str, folder: &Path, state_dir: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // A row of the database must not name a file elsewhere.
    let below = folder.strip_prefix(state_dir).map_err(io::Error::other)?;
    let names: Vec<&OsStr> =
        [below, Path::new(file)].into_iter().flat_map(Path::components).filter_map(plain).collect();
    let [reports, day, report, name] = names[..] else { return Err(io::ErrorKind::InvalidInput.into()) };
    if reports != "reports" {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let folder = Folder::open(state_dir)?.enter(reports, None)?.enter(day, None)?.enter(report, None)?;
    let mut source = folder.open_to_read(name)?;
    let mut zip = ZipWriter::new(Limited { content: Cursor::new(Vec::new()), limit });
    zip.start_file(file, SimpleFileOptions::default())?;
    let mut chunk = vec![0; 1 << 16];
    loop {
        let length = source.read(&mut chunk)?;
        if length == 0 {
            return Ok(zip.finish()?.content.into_inner());
        }
        zip.write_all(chunk.get(..length).unwrap_or_default())?;
    }
}

fn plain(component: Component<'_>) -> Option<&OsStr> {
    match component {
        Component::Normal(name) => Some(name),
        _ => None,
    }
}

/// Takes no more bytes than its limit, so that memory is bounded.
struct Limited {
    content: Cursor<Vec<u8>>,
    limit: u64,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.content.position() + bytes.len() as u64 > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.content.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Limited {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.content.seek(to)
    }
}
