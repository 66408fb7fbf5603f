//! Where the tests keep databases and files: in memory where there is room, else in the folder for temporary files.
//!
//! Each test makes and drops a database of some hundred files. In memory that takes an eighth of the processor's time.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, Pid, access};

/// Linux keeps what is in here in memory.
const MEMORY: &str = "/dev/shm";
/// Twice what a whole run has there at a time, and less than a machine with 8 GB has.
const ROOM: u64 = 5 << 29;
/// What programs have beside it.
const SPARE: u64 = 2 << 30;

/// The folder for folders of tests, with their name and process in their names, as `pointsd-test-PID-NUMBER`.
pub fn scratch() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(given) = std::env::var_os("POINTSD_TEST_FOLDER") {
            return PathBuf::from(given);
        }
        let memory = Path::new(MEMORY);
        remove_leftovers(memory);
        if has_room(memory) { memory.to_owned() } else { std::env::temp_dir() }
    })
}

/// A container has 64 MB there, and a small machine half of its memory. A run that filled it would fail half way.
#[allow(clippy::useless_conversion, reason = "other systems have other numbers")]
fn has_room(memory: &Path) -> bool {
    let Ok(found) = statvfs(memory) else { return false };
    let room = u64::from(found.blocks_available()).saturating_mul(u64::from(found.fragment_size()));
    let writable = access(memory, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
    writable && room >= ROOM && available_memory().is_some_and(|available| available >= ROOM + SPARE)
}

/// What the machine could give to programs, in bytes; `None` without /proc.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Removes folders of processes that were killed. On a disk they wait for the system's own tidying up.
fn remove_leftovers(memory: &Path) {
    for entry in std::fs::read_dir(memory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let numbers = name.to_str().and_then(|name| name.strip_prefix("pointsd-test-"));
        let pid = numbers.and_then(|numbers| numbers.split_once('-')?.0.parse().ok());
        if pid.is_some_and(|pid| kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)) {
            // Several processes may find the same one, and a server in it may still be at work.
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}
