//! Files and folders for their owner alone, each reached by the handle of its folder.
//!
//! Root may write into a folder of another user. That user can put a link in the place of anything in there. So no link in
//! such a folder is followed, and no existing file is written to: a new file replaces it. What root makes is handed
//! over by its handle to the owner of the folder.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use chrono::{DateTime, Utc};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, geteuid, unlinkat};

/// The mode of a folder for its owner alone.
pub const OWNER_ONLY: u32 = 0o700;

/// The end of the name of a file that is not whole yet: `.NAME.0123abcd.unfinished`.
const UNFINISHED: &str = ".unfinished";

/// Enough to pass through a folder that may not be listed.
#[cfg(target_os = "linux")]
const PASS: OFlag = OFlag::O_PATH;
#[cfg(not(target_os = "linux"))]
const PASS: OFlag = OFlag::O_RDONLY;
const FOLDER: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// A pipe in the place of a file must not make us wait for its other end.
const PLAIN: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);
/// Links and new folders on the way to a folder; more are a loop.
const MOST_DETOURS: u32 = 100;
/// Folders within one another that are removed. A private server has seven.
const MOST_DEPTH: u32 = 16;

/// The user and the group of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

/// A folder, held open.
#[derive(Debug)]
pub struct Folder {
    handle: File,
    path: PathBuf,
    owner: Owner,
}

impl Folder {
    /// Opens the folder at this path.
    ///
    /// # Errors
    /// As the system says; under root also for a link on the way that another user could change.
    pub fn open(path: &Path) -> io::Result<Folder> {
        walk(path, None)
    }

    /// Opens the folder at this path, and makes what is missing on the way with this mode.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn make(path: &Path, mode: u32) -> io::Result<Folder> {
        walk(path, Some(mode))
    }

    fn of(handle: OwnedFd, path: PathBuf) -> io::Result<Folder> {
        let handle = File::from(handle);
        let found = handle.metadata()?;
        Ok(Folder { handle, path, owner: Owner { uid: found.uid(), gid: found.gid() } })
    }

    /// Its path, for messages and for other programs.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its owner.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// The folder of this name in here. It belongs to the owner of this folder, to the caller, or to `expected`.
    ///
    /// # Errors
    /// If there is none, a link, or another user's.
    pub fn enter(&self, name: impl AsRef<OsStr>, expected: Option<Owner>) -> io::Result<Folder> {
        let name = name.as_ref();
        let handle = openat(&self.handle, name, FOLDER | OFlag::O_RDONLY, Mode::empty()).map_err(plainly)?;
        let folder = Folder::of(handle, self.path.join(name))?;
        let expected = [Some(self.owner.uid), Some(geteuid().as_raw()), expected.map(|owner| owner.uid)];
        match expected.contains(&Some(folder.owner.uid)) {
            true => Ok(folder),
            false => Err(io::Error::other(format!("it belongs to the user {}; move it away", folder.owner.uid))),
        }
    }

    /// The folder of this name in here, made where it is missing, with this mode in any case. A new one belongs to `owner`, or
    /// to the owner of this folder.
    ///
    /// # Errors
    /// As [`Folder::enter`].
    pub fn subfolder(&self, name: impl AsRef<OsStr>, mode: u32, owner: Option<Owner>) -> io::Result<Folder> {
        let name = name.as_ref();
        let is_new = match mkdirat(&self.handle, name, mode_of(mode)) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(error) => return Err(error.into()),
        };
        let mut folder = self.enter(name, owner)?;
        // An earlier program may have made it, with the mode that the umask left.
        if folder.handle.metadata()?.mode() & 0o777 != mode {
            fchmod(&folder.handle, mode_of(mode))?;
        }
        if is_new {
            folder.owner = hand_over(&folder.handle, folder.owner, owner.unwrap_or(self.owner))?;
        }
        Ok(folder)
    }

    /// Begins a file that will have this name. It belongs to `owner`, or to the owner of this folder.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn begin(&self, name: impl AsRef<OsStr>, owner: Option<Owner>) -> io::Result<NewFile> {
        let name = name.as_ref().to_owned();
        // A random name: an earlier writer may still be at work, or have been killed.
        let mut unfinished = OsString::from(".");
        unfinished.push(&name);
        unfinished.push(format!(".{:08x}{UNFINISHED}", fastrand::u32(..)));
        let folder = Folder { handle: self.handle.try_clone()?, path: self.path.clone(), owner: self.owner };
        let file = self.create(&unfinished, owner)?;
        Ok(NewFile { file, folder, name, unfinished })
    }

    /// Makes an empty file that was not there.
    fn create(&self, name: &OsStr, owner: Option<Owner>) -> io::Result<File> {
        let new = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR;
        let file = File::from(openat(&self.handle, name, PLAIN | new, mode_of(0o600))?);
        // The umask may have removed a bit.
        fchmod(&file, mode_of(0o600))?;
        let ours = Owner { uid: geteuid().as_raw(), gid: self.owner.gid };
        hand_over(&file, ours, owner.unwrap_or(self.owner))?;
        Ok(file)
    }

    /// Writes a whole file. It replaces whatever has its name.
    ///
    /// # Errors
    /// If it cannot be written; what has the name then stays.
    pub fn write(&self, name: impl AsRef<OsStr>, content: &[u8], owner: Option<Owner>) -> io::Result<()> {
        let mut file = self.begin(name, owner)?;
        file.write_all(content)?;
        file.finish()
    }

    /// Opens a file to lock it, and makes it where it is missing. The second value says whether it is new: another one must
    /// not be written to.
    ///
    /// # Errors
    /// If it is no file, or has a second name.
    pub fn lock_file(&self, name: impl AsRef<OsStr>) -> io::Result<(File, bool)> {
        let name = name.as_ref();
        match self.create(name, None) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return Ok((made?, true)),
        }
        Ok((self.open_file(name, OFlag::O_RDWR)?, false))
    }

    /// Reads a file, at most its first megabyte.
    ///
    /// # Errors
    /// If there is none, or if it is no file.
    pub fn read(&self, name: impl AsRef<OsStr>) -> io::Result<String> {
        let mut content = Vec::new();
        self.open_file(name.as_ref(), OFlag::O_RDONLY)?.take(1 << 20).read_to_end(&mut content)?;
        Ok(String::from_utf8_lossy(&content).into_owned())
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// As [`Folder::read`].
    pub fn open_to_read(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        self.open_file(name.as_ref(), OFlag::O_RDONLY)
    }

    fn open_file(&self, name: &OsStr, how: OFlag) -> io::Result<File> {
        let file = File::from(openat(&self.handle, name, PLAIN | how, Mode::empty()).map_err(plainly)?);
        let found = file.metadata()?;
        match found.is_file() && found.nlink() == 1 {
            true => Ok(file),
            false => Err(io::Error::other("it is no plain file with a single name; move it away")),
        }
    }

    /// Whether there is anything of this name, be it a link that leads nowhere.
    pub fn has(&self, name: impl AsRef<OsStr>) -> bool {
        stat(&self.handle, name.as_ref()).is_ok()
    }

    /// The owner of what has this name, be it a link.
    ///
    /// # Errors
    /// If there is nothing of this name.
    pub fn owner_of(&self, name: impl AsRef<OsStr>) -> io::Result<Owner> {
        Ok(owner_of(&stat(&self.handle, name.as_ref())?))
    }

    /// The names of everything in here.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let again = openat(&self.handle, ".", FOLDER | OFlag::O_RDONLY, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::from_fd(again)?.iter() {
            let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Gives something in here another name.
    ///
    /// # Errors
    /// As the system says.
    pub fn rename(&self, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(renameat(&self.handle, from.as_ref(), &self.handle, to.as_ref())?)
    }

    /// Removes a file, a link, or a folder with everything in it.
    ///
    /// # Errors
    /// As the system says, with the path of what stays; also if there is none.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        self.remove_within(name.as_ref(), MOST_DEPTH)
    }

    fn remove_within(&self, name: &OsStr, depth: u32) -> io::Result<()> {
        let path = self.path.join(name);
        let failed = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        match unlinkat(&self.handle, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => return Ok(()),
            // Linux says the first about a folder, POSIX the second.
            Err(Errno::EISDIR) => {}
            Err(Errno::EPERM) if stat(&self.handle, name).is_ok_and(|found| kind_of(&found) == SFlag::S_IFDIR) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let Some(depth) = depth.checked_sub(1) else {
            return Err(failed(io::Error::other("it lies too deep; remove it yourself")));
        };
        let folder = openat(&self.handle, name, FOLDER | OFlag::O_RDONLY, Mode::empty());
        let folder =
            folder.map_err(io::Error::from).and_then(|folder| Folder::of(folder, path.clone())).map_err(failed)?;
        for inner in folder.names().map_err(failed)? {
            match folder.remove_within(&inner, depth) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.remove_empty(name).map_err(failed)
    }

    /// Removes what killed writers left in here before this time, and in the folders up to `depth` below. A folder that cannot be
    /// entered is left alone.
    ///
    /// # Errors
    /// As the system says.
    pub fn remove_unfinished(&self, before: DateTime<Utc>, depth: u32) -> io::Result<()> {
        for name in self.names()? {
            let Ok(found) = stat(&self.handle, &name) else { continue };
            let (kind, is_old) = (kind_of(&found), found.st_mtime < before.timestamp());
            if kind == SFlag::S_IFREG && is_old && is_unfinished(&name) {
                unlinkat(&self.handle, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
            } else if kind == SFlag::S_IFDIR
                && depth > 0
                && let Ok(folder) = self.enter(&name, None)
            {
                folder.remove_unfinished(before, depth - 1)?;
            }
        }
        Ok(())
    }

    /// Removes a folder with nothing in it.
    ///
    /// # Errors
    /// As the system says, also if it is not empty.
    pub fn remove_empty(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(unlinkat(&self.handle, name.as_ref(), UnlinkatFlags::RemoveDir)?)
    }

    /// Makes new names in here outlast a power cut.
    ///
    /// # Errors
    /// As the disk says.
    pub fn sync(&self) -> io::Result<()> {
        match self.handle.sync_all() {
            // A folder that may not be listed is open for passing through only.
            Err(error) if error.raw_os_error() == Some(Errno::EBADF as i32) => Ok(()),
            synced => synced,
        }
    }
}

/// Writes a file of this path for its owner alone. It replaces an older file.
///
/// # Errors
/// If it cannot be written, and in the place of a link, a device or a pipe.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = Folder::open(parent)?;
    match stat(&folder.handle, name) {
        Ok(found) if kind_of(&found) != SFlag::S_IFREG => {
            Err(io::Error::other("it is no plain file; name another, or print to standard output"))
        }
        _ => folder.write(name, content, None),
    }
}

/// A file that has its name only once it is whole. Dropped before, it leaves nothing.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    folder: Folder,
    name: OsString,
    unfinished: OsString,
}

impl NewFile {
    /// Syncs the file to disk and gives it its name.
    ///
    /// # Errors
    /// As the disk says.
    pub fn finish(self) -> io::Result<()> {
        self.file.sync_all()?;
        self.folder.rename(&self.unfinished, &self.name)?;
        self.folder.sync()
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // After `finish` there is no such file.
        let _ = unlinkat(&self.folder.handle, self.unfinished.as_os_str(), UnlinkatFlags::NoRemoveDir);
    }
}

/// Goes to a folder step by step. Without a mode, what is missing is not made.
fn walk(path: &Path, mode: Option<u32>) -> io::Result<Folder> {
    let absolute = std::path::absolute(path)?;
    let top = || nix::fcntl::open("/", PASS | FOLDER, Mode::empty());
    let (mut here, mut so_far) = (top()?, PathBuf::from("/"));
    let (mut steps, mut detours) = (steps_of(&absolute), 0);
    while let Some(step) = steps.pop_front() {
        detours += 1;
        match openat(&here, step.as_os_str(), PASS | FOLDER, Mode::empty()) {
            Ok(next) => {
                (here, detours) = (next, detours - 1);
                so_far.push(&step);
            }
            _ if detours > MOST_DETOURS => return Err(Errno::ELOOP.into()),
            Err(Errno::ENOENT) if mode.is_some() => {
                make_step(&here, &step, mode_of(mode.unwrap_or(OWNER_ONLY)))?;
                steps.push_front(step);
            }
            Err(Errno::ENOTDIR | Errno::ELOOP) if is_link(&here, &step) => {
                let target = follow(&here, &step, &so_far.join(&step))?;
                if target.is_absolute() {
                    (here, so_far) = (top()?, PathBuf::from("/"));
                }
                for step in steps_of(&target).into_iter().rev() {
                    steps.push_front(step);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    let handle = match openat(&here, ".", FOLDER | OFlag::O_RDONLY, Mode::empty()) {
        // A folder that may not be listed may still take files.
        Err(Errno::EACCES) => here,
        opened => opened?,
    };
    Folder::of(handle, so_far)
}

fn steps_of(path: &Path) -> VecDeque<OsString> {
    let step = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    };
    path.components().filter_map(step).collect()
}

/// Makes a folder on the way, for the owner of the folder above it.
fn make_step(above: &OwnedFd, name: &OsStr, mode: Mode) -> io::Result<()> {
    match mkdirat(above, name, mode) {
        Ok(()) => {}
        Err(Errno::EEXIST) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let new = openat(above, name, FOLDER | OFlag::O_RDONLY, Mode::empty())?;
    fchmod(&new, mode)?;
    let (found, above) = (nix::sys::stat::fstat(&new)?, nix::sys::stat::fstat(above)?);
    hand_over(&new, owner_of(&found), owner_of(&above))?;
    Ok(())
}

fn is_unfinished(name: &OsStr) -> bool {
    let name = name.as_bytes().strip_prefix(b".").and_then(|name| name.strip_suffix(UNFINISHED.as_bytes()));
    let Some((name, random)) = name.and_then(|name| name.split_last_chunk::<9>()) else { return false };
    !name.is_empty() && random.starts_with(b".") && random.iter().skip(1).all(u8::is_ascii_hexdigit)
}

fn is_link(folder: &OwnedFd, name: &OsStr) -> bool {
    stat(folder, name).is_ok_and(|found| kind_of(&found) == SFlag::S_IFLNK)
}

fn kind_of(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT
}

/// Where a link leads. Root follows only a link that no other user could have made.
fn follow(folder: &OwnedFd, name: &OsStr, path: &Path) -> io::Result<PathBuf> {
    let (link, above) = (stat(folder, name)?, nix::sys::stat::fstat(folder)?);
    if geteuid().is_root() && (link.st_uid != 0 || above.st_uid != 0) {
        let problem = "is a link that another user can change, and root does not follow it: name the folder itself";
        return Err(io::Error::other(format!("{} {problem}", path.display())));
    }
    Ok(readlinkat(folder, name)?.into())
}

fn stat(folder: impl std::os::fd::AsFd, name: &OsStr) -> nix::Result<FileStat> {
    fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

fn owner_of(found: &FileStat) -> Owner {
    Owner { uid: found.st_uid, gid: found.st_gid }
}

/// Gives what root has just made to another user. Returns the owner that it has then.
fn hand_over(handle: impl std::os::fd::AsFd, from: Owner, to: Owner) -> io::Result<Owner> {
    if !geteuid().is_root() || to.uid == 0 || from == to {
        return Ok(from);
    }
    fchown(handle, Some(Uid::from_raw(to.uid)), Some(Gid::from_raw(to.gid)))?;
    Ok(to)
}

fn mode_of(mode: u32) -> Mode {
    // The type differs from system to system.
    Mode::from_bits_truncate(mode as nix::libc::mode_t)
}

/// The system's words for a link in the place of a file or folder are riddles.
fn plainly(error: Errno) -> io::Error {
    match error {
        Errno::ELOOP => io::Error::other("it is a link; move it away"),
        Errno::ENOTDIR => io::Error::new(io::ErrorKind::NotADirectory, "it is no folder; move it away"),
        Errno::ENXIO => io::Error::other("it is no file; move it away"),
        error => error.into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    /// A folder of another user's if the test runs as root, beside a file and a folder that must stay as they are.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let scratch = Scratch(std::env::temp_dir().join(format!("pointsd-private-{name}-{}", std::process::id())));
            fs::create_dir_all(scratch.0.join("state")).unwrap();
            fs::create_dir_all(scratch.0.join("precious")).unwrap();
            fs::write(scratch.0.join("precious/file"), "precious").unwrap();
            let other = geteuid().is_root().then_some(12_345);
            chown(scratch.0.join("state"), other, other).unwrap();
            scratch
        }

        fn state(&self) -> PathBuf {
            self.0.join("state")
        }

        fn assert_nothing_was_touched(&self) {
            assert_eq!(fs::read_dir(self.0.join("precious")).unwrap().count(), 1);
            let file = self.0.join("precious/file");
            assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
            for (path, mode) in [(file, 0o644), (self.0.join("precious"), 0o755)] {
                let found = fs::metadata(path).unwrap();
                assert_eq!((found.uid(), found.mode() & 0o777 | 0o020), (geteuid().as_raw(), mode | 0o020));
            }
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn a_folder_that_is_replaced_by_a_link_is_written_to_where_it_is() {
        let scratch = Scratch::new("replaced");
        let held = Folder::open(&scratch.state()).unwrap().subfolder("reports", OWNER_ONLY, None).unwrap();
        fs::rename(scratch.state().join("reports"), scratch.state().join("moved")).unwrap();
        symlink(scratch.0.join("precious"), scratch.state().join("reports")).unwrap();
        let mut begun = held.begin("begun", None).unwrap();
        begun.write_all(b"whole").unwrap();
        begun.finish().unwrap();
        held.write("file", b"new", None).unwrap();
        held.subfolder("folder", OWNER_ONLY, None).unwrap();
        drop(held.begin("dropped", None).unwrap());
        let mut names = held.names().unwrap();
        names.sort();
        assert_eq!(names, ["begun", "file", "folder"]);
        assert_eq!(fs::read_dir(scratch.state().join("moved")).unwrap().count(), 3);
        held.remove("file").unwrap();
        scratch.assert_nothing_was_touched();
        let refused = Folder::open(&scratch.state()).unwrap().subfolder("reports", OWNER_ONLY, None).unwrap_err();
        assert_eq!(refused.to_string(), "it is no folder; move it away");
    }

    #[test]
    fn links_and_pipes_in_the_place_of_a_file_are_replaced_or_refused() {
        let scratch = Scratch::new("links");
        let folder = Folder::open(&scratch.state()).unwrap();
        let precious = scratch.0.join("precious/file");
        let in_place = |nth: usize| {
            let place = scratch.state().join("file");
            fs::remove_file(&place).ok();
            match nth {
                0 => symlink(&precious, &place).unwrap(),
                1 => fs::hard_link(&precious, &place).unwrap(),
                _ => nix::unistd::mkfifo(&place, Mode::S_IRWXU).unwrap(),
            }
            place
        };
        for nth in 0..3 {
            let place = in_place(nth);
            assert!(folder.read("file").is_err(), "{nth}");
            assert!(folder.lock_file("file").is_err(), "{nth}");
            // The path of a plan may be a mistake, such as /dev/null.
            assert_eq!(write(&place, b"new").is_err(), nth != 1, "{nth}");
            in_place(nth);
            folder.write("file", b"new", None).unwrap();
            assert_eq!(folder.read("file").unwrap(), "new");
            let found = fs::symlink_metadata(&place).unwrap();
            assert_eq!((found.mode() & 0o777, found.uid()), (0o600, folder.owner().uid));
            scratch.assert_nothing_was_touched();
        }
        // A folder is removed with its links, not with what they lead to.
        let inner = folder.subfolder("inner", OWNER_ONLY, None).unwrap();
        symlink(scratch.0.join("precious"), inner.path().join("link")).unwrap();
        folder.remove("inner").unwrap();
        scratch.assert_nothing_was_touched();
    }

    #[test]
    fn what_killed_writers_left_a_day_ago_is_removed() {
        let scratch = Scratch::new("unfinished");
        let folder = Folder::open(&scratch.state()).unwrap();
        let inner = folder.subfolder("a", OWNER_ONLY, None).unwrap().subfolder("b", OWNER_ONLY, None).unwrap();
        std::mem::forget(inner.begin("left", None).unwrap());
        std::mem::forget(folder.begin("left", None).unwrap());
        for name in ["..0123abcd.unfinished", ".notes.unfinished", ".x.0123abcz.unfinished", "x.0123abcd.unfinished"] {
            fs::write(scratch.state().join(name), "").unwrap();
        }
        symlink("x", scratch.state().join(".x.0123abcd.unfinished")).unwrap();
        let count = |path: &Path| fs::read_dir(path).unwrap().count();
        let remove = |days, depth| {
            folder.remove_unfinished(Utc::now() + chrono::TimeDelta::days(days), depth).unwrap();
            (count(folder.path()), count(inner.path()))
        };
        assert_eq!(remove(-1, 2), (7, 1), "a young one may have a writer");
        assert_eq!(remove(1, 1), (6, 1));
        assert_eq!(remove(1, 2), (6, 0));
    }

    #[test]
    fn what_cannot_be_removed_is_told() {
        // There are no files to remove in /proc: the system refuses root by EPERM, and other users by EACCES.
        let refused = Folder::open(Path::new("/proc/self")).unwrap().remove("status").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{refused}");
        let scratch = Scratch::new("deep");
        let folder = Folder::open(&scratch.state()).unwrap();
        let deep = |folders: usize| scratch.state().join("d/".repeat(folders));
        fs::create_dir_all(deep(16)).unwrap();
        folder.remove("d").unwrap();
        fs::create_dir_all(deep(17)).unwrap();
        let refused = folder.remove("d").unwrap_err().to_string();
        let path = deep(17).display().to_string();
        assert_eq!(refused, format!("{}: it lies too deep; remove it yourself", path.trim_end_matches('/')));
    }

    #[test]
    fn root_follows_no_link_of_another_user_on_the_way() {
        let scratch = Scratch::new("way");
        let link = scratch.state().join("link");
        symlink(scratch.0.join("precious"), &link).unwrap();
        let opened = Folder::make(&link.join("new"), OWNER_ONLY);
        if geteuid().is_root() {
            let refused = opened.unwrap_err().to_string();
            assert!(refused.contains("state/link is a link that another user can change"), "{refused}");
            scratch.assert_nothing_was_touched();
        } else {
            opened.unwrap();
        }
        // A link of root's own is followed: systemd makes one for a dynamic user.
        let own = scratch.0.join("own");
        symlink("state", &own).unwrap();
        let made = Folder::make(&own.join("a/../b"), OWNER_ONLY).unwrap();
        assert_eq!(made.owner(), Folder::open(&scratch.state()).unwrap().owner());
        let mode = fs::metadata(scratch.state().join("b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, OWNER_ONLY);
        symlink("loop", scratch.0.join("loop")).unwrap();
        assert!(Folder::open(&scratch.0.join("loop")).is_err());
    }
}
