//! A dead man's switch: an HTTP server that keeps the pings that it receives.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use super::PATIENCE;

/// A switch under way. It ends with the test.
pub struct Switch {
    url: String,
    heard: Receiver<Heard>,
}

/// A ping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// `POST /secret/start HTTP/1.1`
    pub request: String,
    pub body: String,
}

impl Switch {
    /// One that answers 200.
    pub fn new() -> Switch {
        Switch::answering(|_| Some(200))
    }

    /// A switch that gives this status in its nth answer, from 0 on. With `None` it never answers.
    pub fn answering(status: impl Fn(usize) -> Option<u16> + Send + 'static) -> Switch {
        Switch::saying(move |nth| Some(format!("{} Said", status(nth)?)))
    }

    /// A switch that sends each caller to another address.
    pub fn moved_to(url: &str) -> Switch {
        let url = url.to_owned();
        Switch::saying(move |_| Some(format!("307 Moved\r\nLocation: {url}")))
    }

    /// With a line of status, and headers if need be.
    fn saying(status: impl Fn(usize) -> Option<String> + Send + 'static) -> Switch {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/secret", listener.local_addr().unwrap());
        let (sender, heard) = channel();
        std::thread::spawn(move || {
            let mut unanswered = Vec::new();
            for (nth, stream) in listener.incoming().enumerate() {
                let mut stream = BufReader::new(stream.unwrap());
                // A client that gives up half way has sent nothing.
                let Ok(said) = read_request(&mut stream) else { continue };
                if sender.send(said).is_err() {
                    return;
                }
                match status(nth) {
                    Some(status) => {
                        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                        stream.get_mut().write_all(answer.as_bytes()).ok();
                    }
                    None => unanswered.push(stream),
                }
            }
        });
        Switch { url, heard }
    }

    /// Its address, with a secret in it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The next ping that the switch receives.
    #[track_caller]
    pub fn next(&self) -> Heard {
        self.heard.recv_timeout(PATIENCE).expect("the switch gets a ping")
    }

    /// The further pings so far.
    pub fn heard_more(&self) -> Vec<Heard> {
        self.heard.try_iter().collect()
    }
}

fn read_request(stream: &mut BufReader<TcpStream>) -> io::Result<Heard> {
    let (mut request, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if request.is_empty() {
            line.clone_into(&mut request);
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Heard { request, body: String::from_utf8(body).unwrap() })
}
