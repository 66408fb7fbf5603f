//! A mail server that misbehaves on request.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A place in a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Greeting,
    Hello,
    Mail,
    Rcpt,
    Data,
    /// After the first line of the mail.
    Middle,
    /// After the last line of the mail.
    End,
}

/// A fault at such a place.
pub enum Fault {
    Say(&'static str),
    /// Closes the connection.
    Drop,
    /// Sends an answer that never ends, slowly.
    Drip,
    /// Does this first, then behaves correctly.
    First(Box<dyn FnOnce() + Send>),
}

pub struct Faulty {
    pub port: u16,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    mails: Vec<Vec<u8>>,
    commands: Vec<String>,
}

impl Faulty {
    /// Asks for each connection (0, 1, …), place and line (the command, or nothing) whether something is to go wrong.
    pub fn new(fault: impl Fn(usize, At, &str) -> Option<Fault> + Send + Sync + 'static) -> Faulty {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (of_thread, fault) = (Arc::clone(&seen), Arc::new(fault));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, fault) = (Arc::clone(&of_thread), Arc::clone(&fault));
                std::thread::spawn(move || {
                    let nth = {
                        let mut seen = seen.lock().unwrap();
                        seen.connections += 1;
                        seen.connections - 1
                    };
                    // The client may close the connection at any time.
                    talk(stream.unwrap(), &seen, &|at, line| fault(nth, at, line)).ok();
                });
            }
        });
        Faulty { port, seen }
    }

    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// The mails that were received completely, whatever the answer.
    pub fn mails(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap().mails.clone()
    }

    /// Every line that was received, except those of mails.
    pub fn commands(&self) -> Vec<String> {
        self.seen.lock().unwrap().commands.clone()
    }
}

/// Ends the talk on purpose.
fn over() -> std::io::Error {
    std::io::Error::other("over")
}

fn talk(stream: TcpStream, seen: &Mutex<Seen>, fault: &dyn Fn(At, &str) -> Option<Fault>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    let mut answer = |at: At, line: &str, right: &str| -> std::io::Result<()> {
        match fault(at, line) {
            None => out.write_all(right.as_bytes()),
            Some(Fault::Say(wrong)) => out.write_all(format!("{wrong}\r\n").as_bytes()),
            Some(Fault::Drop) => Err(over()),
            Some(Fault::Drip) => loop {
                out.write_all(b"250-patience\r\n")?;
                std::thread::sleep(Duration::from_millis(20));
            },
            Some(Fault::First(work)) => {
                work();
                out.write_all(right.as_bytes())
            }
        }
    };
    answer(At::Greeting, "", "220 faulty\r\n")?;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        seen.lock().unwrap().commands.push(line.to_owned());
        match line.split(' ').next().unwrap() {
            "EHLO" => answer(At::Hello, line, "250-faulty\r\n250 AUTH PLAIN LOGIN\r\n")?,
            "MAIL" => answer(At::Mail, line, "250 OK\r\n")?,
            "RCPT" => answer(At::Rcpt, line, "250 OK\r\n")?,
            "DATA" => {
                answer(At::Data, line, "354 go on\r\n")?;
                let mut mail = Vec::new();
                loop {
                    let begin = mail.len();
                    if lines.read_until(b'\n', &mut mail)? == 0 {
                        return Ok(());
                    }
                    if begin == 0 {
                        answer(At::Middle, "", "")?;
                    }
                    if &mail[begin..] == b".\r\n" {
                        mail.truncate(begin);
                        break;
                    }
                }
                seen.lock().unwrap().mails.push(mail);
                answer(At::End, "", "250 2.0.0 taken\r\n")?;
            }
            "QUIT" => {
                answer(At::Hello, line, "221 bye\r\n")?;
                return Ok(());
            }
            _ => answer(At::Hello, line, "502 what?\r\n")?,
        }
    }
}
