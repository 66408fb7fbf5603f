//! `pointsd demo` as a process: what it shows, and what it must never touch.

use std::fs;

use crate::program::{Folder, pointsd, run};

#[test]
fn it_ends_with_three_mails_to_finance() {
    let folder = Folder::new();
    let config = folder.file("pointsd.yaml", "state_dir: .\nmail: {to: {arrears: [real@example.com]}}\n");
    let call = |arguments: &[&str], config: &str| {
        let mut command = pointsd(arguments);
        command.args(["--config", config]);
        run(command).expect(0)
    };
    let demo = call(&["demo", "--json"], &config).json();
    let names: Vec<_> = demo["reports"].as_array().unwrap().iter().map(|one| one["report"].as_str().unwrap()).collect();
    assert_eq!(names, ["expiry", "reconciliation", "arrears"]);
    let mails = demo["mails"].as_array().unwrap();
    assert_eq!(mails.len(), 3, "{mails:?}");
    for mail in mails {
        let text = fs::read_to_string(mail.as_str().unwrap()).unwrap();
        assert!(text.contains("finance@example.com") && !text.contains("real@example.com"), "{text}");
    }
    // What it says to call next works.
    let own = demo["config"].as_str().unwrap();
    let id = demo["reports"][1]["id"].to_string();
    let shown = call(&["reports", "show", &id], own).stdout;
    assert!(shown.contains(demo["reports"][1]["headline"].as_str().unwrap()), "{shown}");
    let listed = call(&["reports", "--json"], own).jsons();
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().all(|report| report["mails"][0]["state"] == "sent"), "{listed:?}");
}

#[test]
fn a_folder_that_no_demo_made_is_left_alone() {
    let folder = Folder::new();
    let demo = folder.path().join("demo");
    fs::create_dir(&demo).unwrap();
    fs::write(demo.join("precious"), "mine").unwrap();
    let mut command = pointsd(&["demo"]);
    command.args(["--config", &folder.file("pointsd.yaml", "state_dir: .\n")]);
    let said = run(command).expect(2).stderr;
    assert!(said.contains("was not made by a demo"), "{said}");
    assert_eq!(fs::read_to_string(demo.join("precious")).unwrap(), "mine");
    assert_eq!(fs::read_dir(&demo).unwrap().count(), 1);
}
