//! `pointsd demo` as a process: what it must never touch.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;

#[test]
fn a_folder_that_no_demo_made_is_left_alone() {
    let state = std::env::temp_dir().join(format!("pointsd-demo-{}", std::process::id()));
    let precious = state.join("demo/precious");
    fs::create_dir_all(state.join("demo")).unwrap();
    fs::write(&precious, "mine").unwrap();
    let config = state.join("pointsd.yaml");
    fs::write(&config, "state_dir: .\n").unwrap();

    let mut command = Command::new(env!("CARGO_BIN_EXE_pointsd"));
    command.env_remove("POINTSD_DATABASE_URL").arg("--config").arg(&config).arg("demo");
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let kept = fs::read_to_string(&precious).unwrap();
    let names: Vec<_> = fs::read_dir(state.join("demo")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    fs::remove_dir_all(&state).unwrap();

    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("was not made by a demo"), "{said}");
    assert_eq!((kept.as_str(), names.len()), ("mine", 1));
}
