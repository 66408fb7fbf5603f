//! A file with all rows of a table that is too long for its document.

use std::path::{Path, PathBuf};

use tracing::warn;

use super::files::make_folder;
use crate::config::Config;
use crate::document::{Cell, Column};
use crate::errors;
use crate::render::{CsvFile, Error};

/// Writes rows as they come. A file that cannot be written is only warned of: the report is worth having without it.
pub(super) struct RowsFile {
    path: PathBuf,
    file: Option<CsvFile>,
}

impl RowsFile {
    /// Begins `name` in the folder. Without a folder, the rows go nowhere.
    pub fn begin(folder: Option<&Path>, name: &str, columns: &[Column], config: &Config) -> RowsFile {
        let mut rows = RowsFile { path: folder.map(|folder| folder.join(name)).unwrap_or_default(), file: None };
        if let Some(folder) = folder {
            let begun = make_folder(folder, &config.state_dir)
                .map_err(|source| Error::File { path: folder.to_owned(), source })
                .and_then(|folder| CsvFile::create(&folder, name, columns, config.time_zone));
            match begun {
                Ok(file) => rows.file = Some(file),
                Err(error) => rows.give_up(&error),
            }
        }
        rows
    }

    /// Writes a row.
    pub fn row(&mut self, cells: &[Cell]) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.row(cells)
        {
            self.give_up(&error);
        }
    }

    /// Ends the file. False if it is not there as a whole.
    pub fn finish(mut self) -> bool {
        let Some(file) = self.file.take() else { return false };
        file.finish().inspect_err(|error| self.give_up(error)).is_ok()
    }

    fn give_up(&mut self, error: &Error) {
        let (path, reason) = (self.path.display().to_string(), errors::chain(error).to_string());
        warn!(path, reason, "{path} with all rows cannot be written: {reason}");
        self.file = None;
    }
}
