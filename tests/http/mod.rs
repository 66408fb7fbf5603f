//! The HTTP server of a real daemon, called over real sockets.

pub mod browser;
mod docs;
mod listen;
mod metrics;
mod pages;
mod postings;
mod reads;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::program::{Done, Folder, Running, call, on, wait};
use crate::support::{TestDatabase, connect};

/// A daemon that listens, on a database of its own.
pub struct Site {
    pub database: TestDatabase,
    pub url: String,
    pub folder: Folder,
    pub address: String,
    /// Of all scopes.
    pub token: String,
    running: Option<Running>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON, {error}: {self:?}"))
    }

    /// The status, and the value of a header.
    #[track_caller]
    pub fn with(&self, header: &str) -> (u16, &str) {
        (self.status, self.headers[header].to_str().unwrap())
    }

    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        self.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Checks that it is a problem with this status and code, and returns it.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        let problem = self.json();
        assert_eq!((self.status, problem["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{self:?}");
        problem
    }
}

impl Site {
    pub fn start() -> Site {
        Site::with("http: {listen: '127.0.0.1:0'}\n")
    }

    /// With this configuration, in which `FOLDER` stands for a folder of the test.
    pub fn with(config: &str) -> Site {
        let database = wait(TestDatabase::new());
        let url = database.url();
        let folder = Folder::new();
        let token = call(&url, &["token", "create", "test", "--scope", "post,read,operate"]).expect(0);
        let token = token.stdout.trim().to_owned();
        let mut site = Site { database, url, folder, address: String::new(), token, running: None };
        let config = config.replace("FOLDER", &site.folder.path().display().to_string());
        site.folder.file("pointsd.yaml", config);
        site.serve();
        site
    }

    /// Starts the daemon, and waits until it is ready.
    pub fn serve(&mut self) {
        self.serve_as(self.command(&["serve"]));
    }

    /// The same, as this command.
    pub fn serve_as(&mut self, command: Command) {
        let mut running = Running::start(command);
        running.hear_json("ready", |line| {
            assert_ne!(line["level"], "ERROR", "{line}");
            if line["message"].as_str().is_some_and(|message| message.starts_with("listening for HTTP on ")) {
                self.address = line["address"].as_str().unwrap().to_owned();
            }
            line["message"] == "ready"
        });
        self.running = Some(running);
    }

    /// A call of the program with the daemon's configuration and database.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = on(&self.url, args);
        command.env("POINTSD_CONFIG", self.folder.path().join("pointsd.yaml"));
        command.env("STATE_DIRECTORY", self.folder.path());
        command
    }

    /// The most memory that the daemon has had so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.running.as_ref().unwrap().peak_memory()
    }

    pub fn signal(&self, signal: Signal) {
        self.running.as_ref().unwrap().signal(signal);
    }

    /// Waits for the end of the daemon, which was told to stop.
    pub fn stopped(&mut self) -> Done {
        self.running.take().unwrap().finish().expect(0)
    }

    /// Waits for the end of the daemon, which was killed.
    pub fn killed(&mut self) {
        self.running.take().unwrap().finish().expect_signal(Signal::SIGKILL);
    }

    /// Waits until it logs this, and returns the line.
    #[track_caller]
    pub fn logs(&mut self, begin: &str) -> Value {
        self.running.as_mut().unwrap().hear_message(begin)
    }

    pub fn database_name(&self) -> String {
        self.database.config().get_dbname().unwrap().to_owned()
    }

    /// Runs a statement in another database of the server.
    pub fn admin(&self, sql: &str) {
        let mut config = self.database.config();
        config.dbname("postgres");
        wait(async { connect(&config).await.batch_execute(sql).await.unwrap() });
    }

    pub fn get(&self, path: &str) -> Answer {
        let call = agent().get(format!("http://{}{path}", self.address));
        answer(call.header("authorization", format!("Bearer {}", self.token)).call())
    }

    pub fn post(&self, content_type: &str, body: impl AsRef<[u8]>) -> Answer {
        self.post_to("/v1/postings", &[("content-type", content_type)], body)
    }

    pub fn post_to(&self, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        let mut call = agent().post(format!("http://{}{path}", self.address));
        call = call.header("authorization", format!("Bearer {}", self.token));
        for (name, value) in headers {
            call = call.header(*name, *value);
        }
        answer(call.send(body.as_ref()))
    }

    /// A connection for what no client library does.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(crate::program::PATIENCE)).unwrap();
        stream
    }

    /// The head of a call, up to its last header.
    pub fn head(&self, method: &str, path: &str) -> String {
        format!("{method} {path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\n", self.token)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(running) = self.running.take().filter(|_| !std::thread::panicking()) {
            running.signal(Signal::SIGTERM);
            running.finish().expect(0);
        }
    }
}

/// Sends bytes and returns all that comes back until the server closes.
pub fn exchange(mut stream: TcpStream, bytes: &[u8]) -> String {
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

pub fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
    config.timeout_global(Some(crate::program::PATIENCE)).build().into()
}

#[track_caller]
pub fn answer(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let answer = answer.expect("an answer");
    let (head, mut body) = answer.into_parts();
    let body = body.with_config().limit(1 << 30).read_to_string().unwrap();
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}
