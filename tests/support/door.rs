//! A way to a PostgreSQL server's socket that a test can cut, shut, or hold up.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

const SOCKET: &str = ".s.PGSQL.5432";

/// Stands between pointsd and its server: a socket in a folder of the test's.
pub struct Door {
    folder: PathBuf,
    way: Arc<Way>,
}

#[derive(Default)]
struct Way {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    held: bool,
    /// Both ends of every connection.
    streams: Vec<UnixStream>,
    passed: u64,
}

impl Door {
    /// Opens a door in `folder` to the server with its socket in `server`.
    pub fn new(folder: &Path, server: &Path) -> Door {
        let listener = UnixListener::bind(folder.join(SOCKET)).unwrap();
        let door = Door { folder: folder.to_owned(), way: Arc::default() };
        let (way, server) = (Arc::clone(&door.way), server.join(SOCKET));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                // A caller of a server that is away gets no answer at all.
                let Ok(server) = UnixStream::connect(&server) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let way = Arc::clone(&way);
                    std::thread::spawn(move || way.pass_on(from, to));
                }
                way.state.lock().unwrap().streams.extend([client, server]);
            }
        });
        door
    }

    /// Breaks every connection.
    pub fn cut(&self) {
        for stream in self.way.state.lock().unwrap().streams.drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    /// Takes no more connections, and breaks those that there are.
    pub fn shut(&self) {
        std::fs::rename(self.folder.join(SOCKET), self.folder.join("shut")).unwrap();
        self.cut();
    }

    /// Takes connections again.
    pub fn open(&self) {
        std::fs::rename(self.folder.join("shut"), self.folder.join(SOCKET)).unwrap();
    }

    /// Holds up all bytes without breaking a connection; they arrive after the release.
    pub fn hold(&self) {
        self.way.state.lock().unwrap().held = true;
    }

    /// Lets everything pass again, the held bytes first.
    pub fn let_go(&self) {
        self.way.state.lock().unwrap().held = false;
        self.way.changed.notify_all();
    }

    /// How many bytes have passed so far, both ways.
    pub fn passed(&self) -> u64 {
        self.way.state.lock().unwrap().passed
    }
}

impl Way {
    fn pass_on(&self, mut from: UnixStream, mut to: UnixStream) {
        let mut buffer = [0; 1 << 16];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let mut state = self.state.lock().unwrap();
            while state.held {
                state = self.changed.wait(state).unwrap();
            }
            state.passed += read as u64;
            drop(state);
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        from.shutdown(Shutdown::Both).ok();
        to.shutdown(Shutdown::Both).ok();
    }
}
