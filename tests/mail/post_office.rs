//! A real mail server (aiosmtpd) in its own process, and its certificates.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use mail_parser::{Message, MessageParser};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::program::Folder;
use crate::program::python::python;

/// A server that stores the mails it receives. Its process ends when this is dropped.
pub struct PostOffice {
    pub port: u16,
    kept: Folder,
    process: Child,
}

impl PostOffice {
    pub fn new(options: &[&str]) -> PostOffice {
        let kept = Folder::new();
        let server = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mail/server.py");
        static PYTHON: OnceLock<&str> = OnceLock::new();
        let mut command = Command::new(PYTHON.get_or_init(|| python("aiosmtpd.smtp")));
        command.arg(server).arg(kept.path()).args(options);
        // Some tests log in without TLS, and the server would warn of that.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut first = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let port = first.trim().parse().unwrap_or_else(|_| panic!("no port: {first:?} of {command:?}"));
        PostOffice { port, kept, process }
    }

    /// The mails it received, in order, byte for byte.
    pub fn raw(&self) -> Vec<Vec<u8>> {
        files(self.kept.path(), "eml")
    }
}

impl Drop for PostOffice {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The files of a folder with this extension, sorted by name.
pub fn files(folder: &Path, ending: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == ending));
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

pub fn parse(raw: &[u8]) -> Message<'_> {
    MessageParser::default().parse(raw).expect("a mail")
}

/// The certificate of an authority, and the certificate and key of a server, as files.
pub struct Certificates {
    pub authority: String,
    pub certificate: String,
    pub key: String,
}

/// Makes certificates for a host of this name.
pub fn certificates(folder: &Folder, host: &str) -> Certificates {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    // Two authorities need two names, or one would be taken for the other.
    authority.distinguished_name.push(DnType::CommonName, format!("Authority of {host}"));
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([host.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    Certificates {
        authority: folder.file(&format!("{host}.authority.pem"), pem),
        certificate: folder.file(&format!("{host}.pem"), certificate.pem()),
        key: folder.file(&format!("{host}.key"), key.serialize_pem()),
    }
}
