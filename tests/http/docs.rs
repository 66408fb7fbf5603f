//! The examples of docs/api.md, each run as it stands.

use std::process::{Command, Stdio};

use super::Site;
use crate::program::call;
use crate::program::python::python;

/// The user of all examples.
const USER: &str = "6a0f9a56-2f0c-4c57-9d2f-0d6a5e6f1c11";

#[test]
fn each_example_works() {
    let site = Site::start();
    let text = include_str!("../../docs/api.md");
    let mut told = Vec::new();
    for (nth, block) in text.split("\n```").skip(1).step_by(2).enumerate() {
        let (language, code) = block.split_once('\n').unwrap();
        let file = |name: &str| site.folder.file(name, code);
        let mut command = match language {
            "sh" => program("sh", &["-eu", &file("example.sh")]),
            "python" => program(python("httpx"), &[&file("example.py")]),
            "go" => program("go", &["run", &file("example.go")]),
            "javascript" => program("node", &[&file("example.mjs")]),
            _ => panic!("example {nth} is in {language:?}, which this test does not run"),
        };
        command.env("POINTSD", format!("http://{}", site.address)).env("TOKEN", &site.token);
        // Go keeps what it compiled.
        command.env("GOCACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/go")).env("GOFLAGS", "-buildvcs=false");
        let done =
            command.current_dir(site.folder.path()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        assert!(done.status.success(), "{language}: {}", String::from_utf8_lossy(&done.stderr));
        told.push(String::from_utf8(done.stdout).unwrap());
    }
    let [recharge, python, go, node, stream, read] = told.as_slice() else { panic!("{told:?}") };
    assert!(recharge.contains("\"balance_after\":500"), "{recharge}");
    assert_eq!(python, "posted 460\n");
    assert!(go.starts_with("200 {\"status\":\"posted\"") && go.contains("\"balance_after\":475"), "{go}");
    assert_eq!(node, "200 held 60\n");
    assert_eq!(stream.lines().filter(|line| line.contains("\"posted\"")).count(), 2, "{stream}");
    assert!(read.contains("\"source_type\":\"tts\"") && read.ends_with("\"next\":null}"), "{read}");
    let balance = call(&site.url, &["balance", USER, "--json"]).expect(0).json();
    assert_eq!((balance["balance"].as_i64(), balance["held"].as_i64()), (Some(505), Some(60)));
}

fn program(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null());
    command
}
