//! The reports as files: a folder for each report below the state folder.
//!
//! A document in the database is what counts. Files that cannot be written, or not in time, are only warned of.

use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Error;
use super::store::find_by_slot;
use crate::config::Config;
use crate::document::{Chart, Document, Section};
use crate::errors;
use crate::private_files::{Folder, OWNER_ONLY};
use crate::render::{self, Renderer};
use crate::time::{time_of_day_for_names, time_text};

/// How long a run waits for its files. Writing takes far less; a disk that hangs delays a mail by no more than this.
const FILES_WITHIN: Duration = Duration::from_secs(60);

/// Writes the files of a document, before the transaction that keeps it: no row lock and no open session waits for a slow
/// disk. A slot that has a document already keeps its files.
///
/// # Errors
/// If the database fails.
pub async fn write_files(client: &Client, document: &Document, config: &Config) -> Result<(), Error> {
    if find_by_slot(client, &document.report, document.slot).await?.is_none() {
        let folder = folder_of(config, &document.report, document.slot);
        write_within(FILES_WITHIN, document, &folder, config).await;
    }
    Ok(())
}

/// The folder of a report's files: `reports/2026-11-22/arrears-024500` in the state folder, by the local date and time of
/// the slot. A table that is too long for a document is written there in full.
pub fn folder_of(config: &Config, report: &str, slot: DateTime<Utc>) -> PathBuf {
    let day = slot.with_timezone(&config.time_zone).format("%Y-%m-%d").to_string();
    let time = time_of_day_for_names(slot, config.time_zone);
    config.state_dir.join("reports").join(day).join(format!("{report}-{time}"))
}

/// A document as one HTML page that contains its pictures.
pub fn page(document: &Document, templates: Option<&Path>) -> String {
    let picture = |chart: &Chart| match render::png(chart, document) {
        Ok(png) => format!("data:image/png;base64,{}", BASE64.encode(png)),
        Err(error) => {
            warn_of_file(document, &format!("{}.png", chart.name), &error);
            String::new()
        }
    };
    Renderer::page(templates).html(document, &picture)
}

/// A document as plain text.
pub fn text(document: &Document, templates: Option<&Path>) -> String {
    Renderer::page(templates).text(document)
}

/// Writes in a blocking task, because rendering keeps a core busy and a disk may hang.
async fn write_within(limit: Duration, document: &Document, folder: &Path, config: &Config) {
    // Once the caller stops waiting, the task writes nothing more: another attempt may write to the same folder.
    let given_up = CancellationToken::new();
    let _on_return = given_up.clone().drop_guard();
    let (owned, place) = (document.clone(), folder.to_owned());
    let (templates, state_dir) = (config.reports.templates.clone(), config.state_dir.clone());
    let task = tokio::task::spawn_blocking(move || {
        write_all(&owned, &make_folder(&place, &state_dir)?, templates.as_deref(), &given_up)
    });
    let error = match tokio::time::timeout(limit, task).await {
        Ok(Ok(Ok(()))) => return,
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(panic)) => panic.to_string(),
        Err(_) => format!("the disk did not take them within {} s", limit.as_secs()),
    };
    let (report, slot, folder) = (&document.report, time_text(document.slot), folder.display().to_string());
    warn!(
        report,
        slot,
        folder,
        error,
        "the files of the report {report} cannot be written to {folder}: {error}; the report itself is in the database, see \
         `pointsd reports`"
    );
}

fn write_all(
    document: &Document,
    folder: &Folder,
    templates: Option<&Path>,
    given_up: &CancellationToken,
) -> io::Result<()> {
    let write = |name: &str, content: &[u8]| write_whole(folder, name, content, given_up);
    write("report.html", page(document, templates).as_bytes())?;
    write("report.txt", text(document, templates).as_bytes())?;
    let rendered = |name: String, content: Result<Vec<u8>, render::Error>| match content {
        Ok(content) => write(&name, &content),
        Err(error) => {
            warn_of_file(document, &name, &error);
            Ok(())
        }
    };
    rendered("report.xlsx".to_owned(), render::xlsx(document))?;
    for section in &document.sections {
        match section {
            Section::Text { .. } => {}
            // The report wrote all rows of a longer table to a file of its own. This part could be taken for all of it.
            Section::Table(table) if !table.is_whole() => {}
            Section::Table(table) => rendered(format!("{}.csv", table.name), render::csv(table, document))?,
            Section::Chart(chart) => rendered(format!("{}.png", chart.name), render::png(chart, document))?,
        }
    }
    Ok(())
}

/// Makes the folder of a report, and those above it. All of them are the state folder's owner's alone: that is the service,
/// which writes the next report of the day beside those that root wrote, and deletes all of them later.
pub(super) fn make_folder(folder: &Path, state_dir: &Path) -> io::Result<Folder> {
    let below = folder.strip_prefix(state_dir).map_err(io::Error::other)?;
    let state = Folder::make(state_dir, OWNER_ONLY)?;
    below.iter().try_fold(state, |above, name| above.subfolder(name, OWNER_ONLY, None))
}

/// A reader finds the whole file or none, and a given-up attempt leaves none.
fn write_whole(folder: &Folder, name: &str, content: &[u8], given_up: &CancellationToken) -> io::Result<()> {
    let mut file = folder.begin(name, None)?;
    file.write_all(content)?;
    if given_up.is_cancelled() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    file.finish()
}

fn warn_of_file(document: &Document, file: &str, error: &render::Error) {
    let (report, slot, error) = (&document.report, time_text(document.slot), errors::chain(error));
    warn!(report, slot, file, error, "{file} of the report {report} cannot be made: {error}");
}

/// Whether a folder is one that [`folder_of`] names, so that a wrong row cannot have another folder deleted.
pub(super) fn is_report_folder(folder: &Path, config: &Config) -> bool {
    let Ok(below) = folder.strip_prefix(config.state_dir.join("reports")) else { return false };
    let parts: Vec<_> = below.components().collect();
    parts.len() == 2 && parts.iter().all(|part| matches!(part, Component::Normal(_)))
}

/// Removes the folders of deleted reports, and the folder of a day with its last one. Warns of a folder that cannot be
/// removed.
pub fn remove_files(folders: &[PathBuf], state_dir: &Path) {
    for folder in folders {
        if let Err(error) = remove_folder(folder, state_dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            let folder = folder.display().to_string();
            warn!(folder, %error, "the files of an old report stay, remove them yourself: {folder}: {error}");
        }
    }
}

fn remove_folder(folder: &Path, state_dir: &Path) -> io::Result<()> {
    let below = folder.strip_prefix(state_dir).map_err(io::Error::other)?;
    let parts: Vec<_> = below.iter().collect();
    let [reports, day, name] = parts[..] else { return Err(io::ErrorKind::InvalidInput.into()) };
    let reports = Folder::open(state_dir)?.enter(reports, None)?;
    let removed = reports.enter(day, None)?.remove(name);
    // Fails while the day has another report.
    let _ = reports.remove_empty(day);
    removed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::fs;

    use super::*;
    use crate::document::Tone;
    use crate::language::Language;

    /// A folder that is removed with its test.
    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn a_disk_that_stands_still_is_given_up_and_gets_nothing_more() {
        let slot: DateTime<Utc> = "2026-11-22T04:45:00Z".parse().unwrap();
        let document = Document {
            report: "arrears".to_owned(),
            language: Language::English,
            business: String::new(),
            title: "Arrears".to_owned(),
            slot,
            run: 1,
            as_of: slot,
            period: None,
            time_zone: "UTC".to_owned(),
            tone: Tone::Good,
            tone_rule: String::new(),
            headline: "No account is in arrears".to_owned(),
            facts: Vec::new(),
            sections: Vec::new(),
        };
        let scratch = Scratch(std::env::temp_dir().join(format!("pointsd-still-{}", std::process::id())));
        let mut config = Config::load(None, None).unwrap();
        config.state_dir.clone_from(&scratch.0);
        let folder = folder_of(&config, &document.report, slot);
        // The reader of a pipe waits for a writer.
        let pipe = scratch.0.join("report.html.jinja");
        fs::create_dir_all(&scratch.0).unwrap();
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        config.reports.templates = Some(scratch.0.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(write_within(Duration::from_millis(50), &document, &folder, &config));
        // The disk works again, after the write was given up.
        fs::write(&pipe, "{{ headline }}").unwrap();
        // Waits for the task.
        drop(runtime);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
}
