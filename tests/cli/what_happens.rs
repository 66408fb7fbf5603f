//! The cases of docs/what-happens-when.md: their commands, run one after the other, print what the page shows.

use super::database;
use crate::program::call;

const PAGE: &str = include_str!("../../docs/what-happens-when.md");
const USER: &str = "11111111-1111-4111-8111-111111111111";

/// A command of the page and its output.
struct Shown {
    command: String,
    output: Vec<String>,
}

/// The commands of each case.
fn cases() -> Vec<(&'static str, Vec<Shown>)> {
    let cases = PAGE.split("\n## ").skip(1).map(|case| {
        let mut shown: Vec<Shown> = Vec::new();
        for line in case.lines().filter_map(|line| line.strip_prefix("    ")) {
            let last = shown.last_mut();
            match (line.strip_prefix("$ pointsd "), last) {
                (Some(command), _) => shown.push(Shown { command: command.to_owned(), output: Vec::new() }),
                (None, Some(last)) if last.command.ends_with('\\') => {
                    last.command.truncate(last.command.len() - 1);
                    last.command.push_str(line.trim_start());
                }
                (None, Some(last)) => last.output.push(line.to_owned()),
                (None, None) => panic!("output before a command: {line}"),
            }
        }
        (case.lines().next().unwrap(), shown)
    });
    cases.collect()
}

/// Whether a line was printed as shown, where `…` stands for anything.
fn matches(shown: &str, printed: &str) -> bool {
    match shown.split_once('…') {
        Some((start, end)) => {
            printed.strip_prefix(start).is_some_and(|rest| rest.ends_with(end) && rest.len() > end.len())
        }
        None => shown == printed,
    }
}

#[test]
fn each_case_prints_what_the_page_shows() {
    let cases = cases();
    assert!(cases.len() >= 15, "only {} cases", cases.len());
    for (case, commands) in cases {
        let (_database, url) = database();
        assert!(!commands.is_empty(), "{case}: no command");
        for Shown { command, output } in commands {
            let command = command.replace("$user", USER);
            let done = call(&url, &command.split_whitespace().collect::<Vec<_>>());
            let status = match output.first().map_or("", |line| line.as_str()) {
                line if line.starts_with("Rejected") || line.starts_with("Insufficient") => 3,
                line if line.starts_with("pointsd: ") => 2,
                _ => 0,
            };
            let done = done.expect(status);
            let printed = format!("{}{}", done.stdout, done.stderr).replace(USER, "$user");
            // The page does not show the byte order mark of CSV.
            let printed: Vec<&str> = printed.trim_start_matches('\u{feff}').lines().map(str::trim_end).collect();
            let as_shown = printed.len() == output.len()
                && output.iter().zip(&printed).all(|(shown, printed)| matches(shown, printed));
            assert!(as_shown, "{case}\n{command}\nprinted:\n{}\nshown:\n{}", printed.join("\n"), output.join("\n"));
        }
    }
}
