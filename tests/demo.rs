//! `pointsd demo` as a process: what it shows, and what it must never touch.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::program::{Done, Folder, pointsd, run, without_umask};

const MARKER: &str = "made-by-pointsd-demo";

fn call(arguments: &[&str], config: &str) -> Done {
    let mut command = pointsd(arguments);
    command.args(["--config", config]);
    run(command)
}

#[test]
fn it_shows_the_reports_and_writes_them_as_mails() {
    let folder = Folder::new();
    let config = folder.file("pointsd.yaml", "state_dir: .\nmail: {to: {arrears: [real@example.com]}}\n");
    // An earlier demo left something, and a link that must not be followed.
    let (demo, outside) = (folder.path().join("demo"), folder.path().join("outside"));
    for folder in [&demo.join("left"), &outside] {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("file"), "").unwrap();
    }
    fs::write(demo.join(MARKER), "").unwrap();
    symlink(&outside, demo.join("link")).unwrap();

    let shown = call(&["demo"], &config).expect(0).stdout;
    assert!(!demo.join("left").exists() && !demo.join("link").exists() && outside.join("file").exists());

    for told in ["the ledger's first night", "Deferred revenue, ", "CNY", "USD"] {
        assert!(shown.contains(told), "{told}: {shown}");
    }
    let own = demo.join("pointsd.yaml").display().to_string();
    let reports = call(&["reports", "--json"], &own).expect(0).jsons();
    let names: Vec<_> = reports.iter().rev().map(|one| one["report"].as_str().unwrap()).collect();
    assert_eq!(names, ["expiry", "reconciliation", "arrears"]);
    for report in &reports {
        assert_eq!(report["mails"][0]["state"], "sent", "{report}");
        let alone = call(&["reports", "show", &report["document"].to_string()], &own).expect(0).stdout;
        assert!(shown.contains(alone.trim()), "{shown}");
    }
    let mails: Vec<_> = shown.lines().map(str::trim).filter(|line| line.ends_with(".eml")).collect();
    assert_eq!(mails.len(), 3, "{shown}");
    for mail in mails {
        let text = fs::read_to_string(mail).unwrap();
        assert!(text.contains("finance@example.com") && !text.contains("real@example.com"), "{text}");
    }
    // The commands to try next work. Posting the whole year again would take as long as the demo.
    let commands: Vec<_> = shown.lines().filter_map(|line| line.strip_prefix("  pointsd ")).collect();
    assert_eq!(commands.len(), 8, "{shown}");
    for command in commands.iter().filter(|command| !command.starts_with("post ")) {
        call(&command.split(' ').collect::<Vec<_>>(), &own).expect(0);
    }
}

#[test]
fn json_names_the_reports_and_the_mails() {
    let folder = Folder::new();
    let config = folder.file("pointsd.yaml", "state_dir: .\n");
    let command = pointsd(&["demo", "--json", "--config", &config]);
    let answer = run(without_umask(&command)).expect(0).json();
    let (mut open, mut folders) = (Vec::new(), vec![folder.path().join("demo")]);
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(inner).unwrap().map(|entry| entry.unwrap()) {
            let found = entry.metadata().unwrap();
            // Others may pass, for the sake of root's server, and see nothing.
            if found.permissions().mode() & 0o066 != 0 && !found.is_symlink() {
                open.push(entry.path());
            }
            if found.is_dir() && entry.file_name() != "data" {
                folders.push(entry.path());
            }
        }
    }
    assert_eq!(open, Vec::<std::path::PathBuf>::new(), "others may read these");
    let reports: Vec<_> = answer["reports"].as_array().unwrap().iter().map(|one| &one["report"]).collect();
    assert_eq!(reports, ["expiry", "reconciliation", "arrears"]);
    assert!(answer["posted"].as_u64() > Some(0) && answer["posted"].as_u64() < answer["lines"].as_u64(), "{answer}");
    for mail in answer["mails"].as_array().unwrap() {
        assert!(fs::metadata(mail.as_str().unwrap()).unwrap().is_file());
    }
    assert_eq!(answer["mails"].as_array().unwrap().len(), 3);
}

#[test]
fn a_path_that_no_demo_made_is_left_alone() {
    let folder = Folder::new();
    let config = folder.file("pointsd.yaml", "state_dir: .\n");
    let demo = folder.path().join("demo");
    let refused = |reason: &str| {
        let said = call(&["demo"], &config).expect(2).stderr;
        assert!(said.contains(reason), "{said}");
    };
    fs::create_dir(&demo).unwrap();
    fs::write(demo.join("precious"), "mine").unwrap();
    refused("was not made by a demo and is not empty");
    fs::create_dir(demo.join(MARKER)).unwrap();
    refused("was not made by a demo");
    assert_eq!(fs::read_to_string(demo.join("precious")).unwrap(), "mine");
    fs::rename(&demo, folder.path().join("other")).unwrap();
    fs::write(&demo, "mine").unwrap();
    refused("is no folder");
    fs::remove_file(&demo).unwrap();
    symlink(folder.path().join("other"), &demo).unwrap();
    refused("is no folder");
    assert!(folder.path().join("other/precious").exists());
}
