#![cfg(test)]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::ffi::OsString;

use super::*;
use crate::ledger::{Length, Period};
use crate::scheduler::{CatchUp, Overlap};

fn load(text: &str) -> Result<Config, ConfigError> {
    load_with(text, None)
}

fn load_with(text: &str, url: Option<&str>) -> Result<Config, ConfigError> {
    let source = Source::File("conf/pointsd.yaml".into());
    let database_url = url.map(|text| OutsideText { place: "--database-url".to_owned(), text: text.to_owned() });
    Config::from_text(source, text, Outside { database_url, smtp_password: None }, || Some("/state".into()))
}

#[test]
fn the_built_in_file_is_complete_and_valid() {
    let config = load("").unwrap();
    assert_eq!(config.state_dir, Path::new("/state"));
    assert!(config.database.url.is_none());
    assert_eq!(config.database.pool_size, 8);
    assert_eq!(config.database.connect_timeout, Duration::from_secs(10));
    assert_eq!(config.database.statement_timeout, Duration::from_secs(300));
    assert_eq!((config.time_zone, config.language), (Zone::UTC, Language::English));
    assert_eq!((config.expires, config.refund), (Term::days(180), Term::days(30)));
    assert_eq!(config.jobs.expiry.settings.schedule.describe(), "0 2 * * * (UTC)");
    assert_eq!(config.log, Log { level: tracing::Level::INFO, format: LogFormat::Auto });
    assert_eq!(config.prices_source, Source::BuiltIn);
    // The documented file, copied as it is, means the same as no file.
    let copied = Config { lines: config.lines.clone(), ..load(BUILT_IN).unwrap() };
    assert_eq!(format!("{copied:?}"), format!("{config:?}"));
}

#[test]
fn a_file_changes_only_what_it_names() {
    let config = load(
        "business: {time_zone: Asia/Shanghai, language: zh-CN}\n\
         database: {url: 'postgresql://me:secret@db1:5433,db2/points?target_session_attrs=read-write', ca_file: ca.pem}\n\
         ledger: {sources: {cash: }, expires: {months: 6}}\n\
         state_dir: ../data\njobs:\nlog: {format: json, level: debug}\n",
    )
    .unwrap();
    assert_eq!((config.time_zone, config.language), ("Asia/Shanghai".parse().unwrap(), Language::SimplifiedChinese));
    assert_eq!((config.expires, config.refund), (Term { length: Length::Months(6), end_of: None }, Term::days(30)));
    assert_eq!(config.sources.keys().collect::<Vec<_>>(), ["cash"]);
    assert_eq!(config.jobs.expiry.settings.schedule.describe(), "0 2 * * * (Asia/Shanghai)");
    assert_eq!(config.state_dir, Path::new("conf/../data"));
    assert_eq!(config.database.ca_file.as_deref(), Some(Path::new("conf/ca.pem")));
    assert_eq!(config.database.pool_size, 8);
    assert_eq!(config.log, Log { level: tracing::Level::DEBUG, format: LogFormat::Json });
    let url = config.database.url.clone().unwrap();
    assert_eq!(url.to_string(), "postgres://me@db1:5433,db2:5432/points");
    assert!(url.reveal().contains("secret"));
    assert!(!format!("{config:?}").contains("secret"));

    let other = load_with("database: {url: 'postgres://in-file/x'}", Some("postgres://given/y")).unwrap();
    assert_eq!(other.database.url.unwrap().to_string(), "postgres://given:5432/y");
}

/// What is refused, and the error behind the file's name.
const REFUSALS: &[(&str, &str)] = &[
    ("database: {pool_sise: 3}", "1: database.pool_sise: unknown key; did you mean `pool_size`?"),
    ("databse: {}", "1: databse: unknown key; did you mean `database`?"),
    ("database:\n  pool_size: 0", "2: database.pool_size: 0 is out of bounds; write a whole number from 1 to 1000"),
    ("database:\n  pool_size: many", "2: database.pool_size: expected a whole number, found a text"),
    (
        "database: {connect_timeout_seconds: -1}",
        "1: database.connect_timeout_seconds: -1 is out of bounds; write a whole number from 1 to 3600",
    ),
    (
        "database: {statement_timeout_seconds: 86401}",
        "1: database.statement_timeout_seconds: 86401 is out of bounds; write a whole number from 1 to 86400",
    ),
    ("database: {ca_file: ''}", "1: database.ca_file: is empty; write a path, or null for the default"),
    ("database: {postgres_bin: ~/bin}", "1: database.postgres_bin: `~` is not expanded; write the whole path"),
    (
        "\nbusiness: {time_zone: Europe/Pariss}",
        "2: business.time_zone: \"Europe/Pariss\" is no time zone; did you mean Europe/Paris?",
    ),
    (
        "business: {time_zone: asia/shanghai}",
        "1: business.time_zone: \"asia/shanghai\" is no time zone; did you mean Asia/Shanghai?",
    ),
    (
        "business: {time_zone: new york}",
        "1: business.time_zone: \"new york\" is no time zone; did you mean America/New_York?",
    ),
    (
        "business: {time_zone: +02:00}",
        "1: business.time_zone: \"+02:00\" is no time zone; write an IANA name such as UTC, Europe/Paris or Asia/Shanghai",
    ),
    (
        "business: {time_zone: null}",
        "1: business.time_zone: expected a text, in quotes if it looks like a number, found null",
    ),
    ("business: {language: fr}", "1: business.language: unknown variant `fr`, expected `en` or `zh-CN`"),
    (
        "ledger: {sources: {}}",
        "1: ledger.sources: there is no source, so no recharge could be posted; write at least one, such as sources: {gift: }",
    ),
    ("ledger: {sources: [gift]}", "1: ledger.sources: expected a mapping (`key: value`), found a list"),
    (
        "ledger:\n  sources:\n    a:\n    a:",
        "4: ledger.sources.a: the key is written twice, first in line 3; keep one of the two",
    ),
    ("ledger: {sources: {'': }}", "1: ledger.sources.: a source of 0 characters; write 1 to 64 characters"),
    (
        "ledger:\n  sources:\n    b:\n    ' a':",
        "4: ledger.sources. a: \" a\" has spaces around it or control characters; write the plain name",
    ),
    (
        "ledger: {sources: {a: {kind: free}}}",
        "1: ledger.sources.a.kind: \"free\" is none of the words; write paid or promotional",
    ),
    ("ledger: {sources: {a: {lable: {en: A}}}}", "1: ledger.sources.a.lable: unknown key; did you mean `label`?"),
    ("ledger: {sources: {a: {label: {de: A}}}}", "1: ledger.sources.a.label.de: unknown key; expected `en` or `zh-CN`"),
    ("ledger: {sources: {a: {label: {en: ''}}}}", "1: ledger.sources.a.label.en: write 1 to 64 characters on one line"),
    (
        "ledger:\n  sources:\n    wxpay:\n      expires: {years: 2}\n    gift:\n      expires: {days: 0}",
        "6: ledger.sources.gift.expires.days: 0 is out of bounds; write a whole number from 1 to 36500",
    ),
    (
        "ledger: {expires: {days: 36501}}",
        "1: ledger.expires.days: 36501 is out of bounds; write a whole number from 1 to 36500",
    ),
    (
        "ledger: {expires: {hours: 876001}}",
        "1: ledger.expires.hours: 876001 is out of bounds; write a whole number from 1 to 876000",
    ),
    (
        "ledger: {expires: {months: 1201}}",
        "1: ledger.expires.months: 1201 is out of bounds; write a whole number from 1 to 1200",
    ),
    (
        "ledger: {expires: {years: 101}}",
        "1: ledger.expires.years: 101 is out of bounds; write a whole number from 1 to 100",
    ),
    (
        "ledger: {expires: {years: 99999999999999999999}}",
        "1: ledger.expires.years: expected a smaller number, found integer `99999999999999999999` as u128",
    ),
    (
        "ledger: {expires: {years: -1}}",
        "1: ledger.expires.years: -1 is out of bounds; write a whole number from 1 to 100",
    ),
    ("ledger: {expires: {days: 1.5}}", "1: ledger.expires.days: expected a whole number, found floating point `1.5`"),
    ("ledger: {expires: {days: null}}", "1: ledger.expires.days: expected a whole number, found null"),
    (
        "ledger: {expires: {weeks: 2}}",
        "1: ledger.expires.weeks: unknown key; expected one of `hours`, `days`, `months`, `years`, `end_of`, `never`",
    ),
    (
        "ledger: {expires: {end_of: month}}",
        "1: ledger.expires: the term has no length; write never, or one of hours, days, months and years, such as {days: 180} or {months: 6, end_of: month}",
    ),
    (
        "ledger: {refund: {days: 1, hours: 2}}",
        "1: ledger.refund: the term has two lengths; write never, or one of hours, days, months and years, such as {days: 180} or {months: 6, end_of: month}",
    ),
    (
        "ledger: {expires: {days: 1, end_of: week}}",
        "1: ledger.expires.end_of: \"week\" is none of the words; write day, month, quarter or year",
    ),
    (
        "ledger: {expires: {days: 1, end_of: 3}}",
        "1: ledger.expires.end_of: expected day, month, quarter or year, found integer `3`",
    ),
    ("ledger: {expires: {never: true, end_of: month}}", "1: ledger.expires: never stands alone; write expires: never"),
    (
        "ledger: {expires: Never}",
        "1: ledger.expires: \"Never\" is no term; write never, or one of hours, days, months and years, such as {days: 180} or {months: 6, end_of: month}",
    ),
    ("ledger: {expires: 180}", "1: ledger.expires: expected never, or a term such as {days: 180}, found integer `180`"),
    ("ledger: {refund: null}", "1: ledger.refund: expected never, or a term such as {days: 180}, found null"),
    // The keys of before, with the new spelling.
    (
        "ledger:\n  recharge_sources: [cash, gift]",
        "2: ledger.recharge_sources: the key is now ledger.sources; write sources: {cash: , gift: }",
    ),
    (
        "ledger:\n  expiry:\n    days: 30",
        "3: ledger.expiry.days: the key is now ledger.expires; write expires: {days: 30} for days of the calendar, expires: {hours: 720} for days of 24 hours",
    ),
    (
        "ledger:\n  expiry:\n    calendar_days: true",
        "3: ledger.expiry.calendar_days: the key is now ledger.expires; write expires: {days: 180} for days of the calendar, expires: {hours: 4320} for days of 24 hours",
    ),
    (
        "jobs: {expiry: {schedule: '0 0 30 2 *'}}",
        "1: jobs.expiry.schedule: \"0 0 30 2 *\" never comes due: no such day is in the calendar; write five fields in quotes, e.g. \"0 2 * * *\" for every day at 02:00",
    ),
    (
        "jobs: {expiry: {time_zone: Mars/Base}}",
        "1: jobs.expiry.time_zone: \"Mars/Base\" is no time zone; write an IANA name such as UTC, Europe/Paris or Asia/Shanghai",
    ),
    (
        "jobs:\n  expiry:\n    schedule: '0 25 * * *'",
        "3: jobs.expiry.schedule: \"0 25 * * *\" is no cron rule: \"25\" does not fit the hour (0 to 23; several as 1,3 or 1-5 or */5, all as *); write five fields in quotes, e.g. \"0 2 * * *\" for every day at 02:00",
    ),
    (
        "jobs: {expiry: {schedule: '*/90 * * * *'}}",
        "1: jobs.expiry.schedule: \"*/90 * * * *\" is no cron rule: \"*/90\" does not fit the minute (0 to 59; several as 1,3 or 1-5 or */5, all as *); write five fields in quotes, e.g. \"0 2 * * *\" for every day at 02:00",
    ),
    (
        "jobs: {prune: {schedule: daily}}",
        "1: jobs.prune.schedule: \"daily\" is no cron rule: it has 1 field, and a rule has 5, or 6 with the second in front; write five fields in quotes, e.g. \"0 2 * * *\" for every day at 02:00",
    ),
    (
        "jobs: {expiry: {schedule: 2}}",
        "1: jobs.expiry.schedule: expected a text, in quotes if it looks like a number, found integer `2`",
    ),
    (
        "jobs: {expiry: {schedule: ['0 2 * * *']}}",
        "1: jobs.expiry.schedule: expected a text, in quotes if it looks like a number, found a list",
    ),
    ("jobs: {expiry: {enabled: 'yes'}}", "1: jobs.expiry.enabled: expected true or false, found a text"),
    (
        "jobs: {expiry: {catch_up: yes}}",
        "1: jobs.expiry.catch_up: \"yes\" is none of the words; write none, latest or all",
    ),
    ("jobs: {expiry: {catch_up: true}}", "1: jobs.expiry.catch_up: expected none, latest or all, found boolean `true`"),
    ("jobs:\n  prune:\n    catch_up: null", "3: jobs.prune.catch_up: expected none, latest or all, found null"),
    ("jobs: {expiry: {catch_up: [latest]}}", "1: jobs.expiry.catch_up: expected none, latest or all, found a list"),
    ("jobs: {expiry: {catch_up: {all: 3}}}", "1: jobs.expiry.catch_up: expected none, latest or all, found a mapping"),
    ("jobs: {expiry: {catch_up: 3}}", "1: jobs.expiry.catch_up: expected none, latest or all, found integer `3`"),
    (
        "jobs: {expiry: {catch_up: All}}",
        "1: jobs.expiry.catch_up: \"All\" is none of the words; write none, latest or all",
    ),
    (
        "jobs:\n  expiry:\n    enabled: true\n    catch_up: all",
        "4: jobs.expiry.catch_up: all the slots of a long outage may be very many; write how many as catch_up_limit, 1 to 1000",
    ),
    (
        "jobs: {expiry: {catch_up_limit: 5}}",
        "1: jobs.expiry.catch_up_limit: there is nothing to limit where catch_up is latest; write null, or catch_up: all",
    ),
    (
        "jobs:\n  prune:\n    catch_up: none\n    catch_up_limit: 5",
        "4: jobs.prune.catch_up_limit: there is nothing to limit where catch_up is none; write null, or catch_up: all",
    ),
    (
        "jobs: {expiry: {catch_up: all, catch_up_limit: 0}}",
        "1: jobs.expiry.catch_up_limit: 0 is out of bounds; write a whole number from 1 to 1000",
    ),
    (
        "jobs: {expiry: {catch_up: all, catch_up_limit: 1001}}",
        "1: jobs.expiry.catch_up_limit: 1001 is out of bounds; write a whole number from 1 to 1000",
    ),
    ("jobs: {expiry: {lanes: 0}}", "1: jobs.expiry.lanes: 0 is out of bounds; write a whole number from 1 to 16"),
    ("jobs: {expiry: {lanes: 17}}", "1: jobs.expiry.lanes: 17 is out of bounds; write a whole number from 1 to 16"),
    (
        "jobs: {arrears: {lanes: 2}}",
        "1: jobs.arrears.lanes: only the expiry and the reconciliation have lanes; write it in one of them, or leave it out",
    ),
    (
        "jobs: {expiry: {catch_up: all, catch_up_limit: '5'}}",
        "1: jobs.expiry.catch_up_limit: expected a whole number, found a text",
    ),
    ("jobs: {expiry: {overlap: wait}}", "1: jobs.expiry.overlap: \"wait\" is none of the words; write skip or queue"),
    ("jobs: {expiry: {overlap: false}}", "1: jobs.expiry.overlap: expected skip or queue, found boolean `false`"),
    (
        "jobs: {expiry: {timeout_seconds: 0}}",
        "1: jobs.expiry.timeout_seconds: 0 is out of bounds; write a whole number from 1 to 604800",
    ),
    ("jobs: {expiry: {timeout_seconds: 4h}}", "1: jobs.expiry.timeout_seconds: expected a whole number, found a text"),
    ("jobs: {expiry: {retries: '3'}}", "1: jobs.expiry.retries: expected a whole number, found a text"),
    (
        "jobs:\n  expiry:\n    retries: 30",
        "3: jobs.expiry.retries: the pause starts at 10 s and doubles each time, so before the last of 30 it would be longer than a week; write at most 16, or a smaller retry_seconds",
    ),
    (
        "requests: {retries: 9, retry_seconds: 3600}",
        "1: requests.retries: the pause starts at 3600 s and doubles each time, so before the last of 9 it would be longer than a week; write at most 8, or a smaller retry_seconds",
    ),
    (
        "requests: {poll_seconds: 0}",
        "1: requests.poll_seconds: 0 is out of bounds; write a whole number from 1 to 3600",
    ),
    ("retention: {runs_days: 0}", "1: retention.runs_days: 0 is out of bounds; write a whole number from 1 to 36500"),
    (
        "jobs:\n  defaults:\n    retries: 30",
        "3: jobs.defaults.retries: the pause starts at 10 s and doubles each time, so before the last of 30 it would be longer than a week; write at most 16, or a smaller retry_seconds",
    ),
    (
        "jobs: {defaults: {schedule: '0 2 * * *'}}",
        "1: jobs.defaults.schedule: each job has a schedule of its own; write it there, such as in jobs.expiry",
    ),
    ("jobs: {defaults: {overlp: skip}}", "1: jobs.defaults.overlp: unknown key; did you mean `overlap`?"),
    ("jobs: {expiri: {}}", "1: jobs.expiri: unknown key; did you mean `expiry`?"),
    ("mail: {mode: post}", "1: mail.mode: \"post\" is none of the words; write smtp, directory or none"),
    (
        "mail:\n  mode: smtp\n  from: points@example.com",
        "1: mail.smtp.host: mails of mode smtp need a server; write its name, such as smtp.example.com",
    ),
    (
        "mail:\n  mode: smtp\n  from: points@example.com\n  smtp:\n    host: smtp.example.com:587",
        "5: mail.smtp.host: \"smtp.example.com:587\" is no name of a server; write the name alone, such as smtp.example.com; the port goes to mail.smtp.port",
    ),
    (
        "mail:\n  mode: directory",
        "1: mail.from: mails of mode directory need a sender; write an address, such as \"Points <points@example.com>\"",
    ),
    (
        "mail:\n  mode: smtp\n  smtp: {host: localhost}",
        "1: mail.from: mails of mode smtp need a sender; write an address, such as \"Points <points@example.com>\"",
    ),
    (
        "mail:\n  mode: smtp\n  from: p@example.com\n  smtp:\n    host: smtp.example.com\n    security: none",
        "6: mail.smtp.security: mails to smtp.example.com would travel in the clear; write starttls or tls; none is for localhost only",
    ),
    (
        "jobs: {expiry: {ping_url: 'http://checks.example.com/secret'}}",
        "1: jobs.expiry.ping_url: this address is a secret and would travel in the clear; write https://host/path, or null",
    ),
    (
        "database: {url: 'postgres://me:secret@db.example.com/d?sslmode=disable'}",
        "1: database.url: has a password, which sslmode=disable sends in the clear to another machine; write sslmode=require; disable is for a socket, localhost or a URL without a password",
    ),
    (
        "mail: {smtp: {security: ssl}}",
        "1: mail.smtp.security: \"ssl\" is none of the words; write starttls, tls or none",
    ),
    (
        "mail:\n  mode: smtp\n  from: p@example.com\n  smtp: {host: smtp.example.com, user: points}",
        "4: mail.smtp.user: there is no password for points; give POINTSD_SMTP_PASSWORD, the credential smtp-password or mail.smtp.password; or write null for no login",
    ),
    (
        "mail:\n  mode: smtp\n  from: p@example.com\n  smtp: {host: smtp.example.com, user: points, password: \"hunter\\r\\n2\"}",
        "4: mail.smtp.user: user and password must be on one line, and the user not empty; write them without line ends; or write null for no login",
    ),
    ("mail: {smtp: {port: 0}}", "1: mail.smtp.port: 0 is out of bounds; write a whole number from 1 to 65535"),
    (
        "mail: {smtp: {timeout_seconds: 601}}",
        "1: mail.smtp.timeout_seconds: 601 is out of bounds; write a whole number from 1 to 600",
    ),
    (
        "mail: {from: points}",
        "1: mail.from: \"points\" is no mail address; write one, such as finance@example.com or \"Finance <finance@example.com>\"",
    ),
    // Not the first one alone.
    (
        "mail: {to: {arrears: ['a@example.com, b@example.com']}}",
        "1: mail.to.arrears[0]: \"a@example.com, b@example.com\" is no mail address; write one, such as finance@example.com or \"Finance <finance@example.com>\"",
    ),
    (
        "mail: {to: {arrears: ['A <a@example.com>, B <b@example.com>']}}",
        "1: mail.to.arrears[0]: \"A <a@example.com>, B <b@example.com>\" is no mail address; write one, such as finance@example.com or \"Finance <finance@example.com>\"",
    ),
    (
        "mail: {to: {expiry: [\"A\\r\\nBcc: b@example.com <a@example.com>\"]}}",
        "1: mail.to.expiry[0]: \"A\\r\\nBcc: b@example.com <a@example.com>\" is no mail address; write one, such as finance@example.com or \"Finance <finance@example.com>\"",
    ),
    (
        "mail: {to: {expiry: ['ann@exämple.com']}}",
        "1: mail.to.expiry[0]: the domain exämple.com is not in ASCII, and many servers refuse it; write its ASCII form, which starts with xn--",
    ),
    (
        "mail: {to: {expiry: ['财务@example.com']}}",
        "1: mail.to.expiry[0]: \"财务@example.com\" is no mail address; write one, such as finance@example.com or \"Finance <finance@example.com>\"",
    ),
    (
        "mail:\n  to:\n    arrears:\n    - a@example.com\n    - B <b@example.com>\n    - A <A@Example.com>",
        "6: mail.to.arrears[2]: A@Example.com is listed twice; keep one of the two",
    ),
    ("mail: {to: {arears: []}}", "1: mail.to.arears: unknown key; did you mean `arrears`?"),
    ("mail: {give_up_hours: 0}", "1: mail.give_up_hours: 0 is out of bounds; write a whole number from 1 to 720"),
    ("log: {level: loud}", "1: log.level: \"loud\" is no level; write error, warn, info, debug or trace"),
];

#[test]
fn refusals() {
    for (text, expected) in REFUSALS {
        match load(text) {
            Ok(config) => panic!("accepted: {config:?}\n{text}"),
            Err(error) => assert_eq!(error.to_string(), format!("conf/pointsd.yaml:{expected}"), "for:\n{text}"),
        }
    }
    for host in ["localhost", "me@127.0.0.1:8000", "[::1]", "[::1]:8000"] {
        load(&format!("jobs: {{expiry: {{ping_url: 'http://{host}/secret'}}}}")).unwrap();
    }
    let missing = load("\nprices: no-such.yaml").unwrap_err().to_string();
    assert!(missing.starts_with("conf/pointsd.yaml:2: prices: conf/no-such.yaml cannot be read: "), "{missing}");
}

#[test]
fn all_errors_are_told_at_once() {
    let text = "databse: {}\ndatabase:\n  pool_size: 0\n  connect_timeout_seconds: no\nprices: no-such.yaml\n\
                mail:\n  mode: smtp\n  to: {expiry: [a, b]}\n  smtp: {host: 'böse.example'}\n\
                jobs:\n  expiry: {catch_up: some, catch_up_limit: 4}\n  arrears: {schedule: never}\n\
                log: {level: loud, levels: debug}\n";
    let told = load(text).unwrap_err().to_string();
    let told: Vec<&str> = told.lines().map(|line| line.strip_prefix("conf/pointsd.yaml:").unwrap()).collect();
    let starts = [
        "1: databse: unknown key",
        "3: database.pool_size: 0 is out",
        "4: database.connect_timeout_seconds: expected a whole number",
        "5: prices: conf/no-such.yaml cannot",
        "6: mail.from: mails of mode smtp need a sender",
        "8: mail.to.expiry[0]: \"a\" is no mail address",
        "11: jobs.expiry.catch_up: \"some\" is none",
        "12: jobs.arrears.schedule:",
        "13: log.level: ",
        "13: log.levels: unknown key",
    ];
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    for (told, start) in told.iter().zip(starts) {
        assert!(told.starts_with(start), "{told} should start with {start}");
    }
    let host = load("mail: {mode: smtp, from: a@example.com, smtp: {host: 'böse.example'}}").unwrap_err().to_string();
    assert!(host.ends_with("write its ASCII form, which starts with xn--"), "{host}");
}

#[test]
fn a_source_has_its_own_term_and_keeps_its_label() {
    let config = load(
        "ledger:\n  expires: {hours: 48}\n  refund: never\n  sources:\n\
         \x20   wxpay: {expires: {years: 2}, kind: promotional, label: {en: WeChat}}\n\
         \x20   gift: {expires: {days: 30, end_of: month}}\n    card: {expires: never}\n    compensation:\n    cash: {}\n",
    )
    .unwrap();
    let rules = crate::ledger::Rules::from(&config);
    let term = |length, end_of| Some(Term { length, end_of });
    let found: Vec<_> = rules.sources.iter().map(|(name, term)| (name.as_str(), *term)).collect();
    let expected = [
        ("card", term(Length::Never, None)),
        ("cash", None),
        ("compensation", None),
        ("gift", term(Length::Days(30), Some(Period::Month))),
        ("wxpay", term(Length::Years(2), None)),
    ];
    assert_eq!(found, expected);
    assert_eq!((rules.term.length, rules.refund.length), (Length::Hours(48), Length::Never));
    let label =
        |source| [Language::English, Language::SimplifiedChinese].map(|of| config.source_label(source, of).to_owned());
    for (source, expected) in [
        ("wxpay", ["WeChat", "微信支付"]),
        ("gift", ["Gift", "赠送"]),
        ("compensation", ["Compensation", "补偿"]),
        ("cash", ["cash", "cash"]),
        ("refund", ["Refund", "退还"]),
        ("gone", ["gone", "gone"]),
    ] {
        assert_eq!(label(source), expected, "{source}");
    }
    assert_eq!(config.valuation, None);
    let valued =
        |currency, price| load(&format!("ledger: {{valuation: {{currency: {currency}, per_point: {price}}}}}"));
    let value =
        |config: crate::config::Config| [0, 1, 333, i64::MAX].map(|points| config.valuation.unwrap().of(points));
    assert_eq!(
        value(valued("CNY", "'0.005'").unwrap()),
        [Some(0), Some(1), Some(167), Some(4_611_686_018_427_387_904)]
    );
    assert_eq!(value(valued("JPY", "'2'").unwrap()), [Some(0), Some(2), Some(666), None]);
    for (currency, price, says) in [
        ("CNY", "0.01", "ledger.valuation.per_point: "),
        ("CNY", "'0'", "\"0\" is no price; write one in quotes, such as \"0.01\""),
        ("yuan", "'1'", "ledger.valuation.currency: `yuan` is no currency of ISO 4217"),
    ] {
        let told = valued(currency, price).unwrap_err().to_string();
        assert!(told.contains(says), "{told}");
    }
    let kinds: Vec<_> = config.sources.values().map(|source| source.kind).collect();
    let (paid, promotional) = (Some(PointKind::Paid), Some(PointKind::Promotional));
    assert_eq!(kinds, [paid, None, promotional, promotional, promotional]);

    let built_in: Vec<_> = load("").unwrap().sources.into_iter().collect();
    let names: Vec<_> = built_in.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["alipay", "card", "compensation", "gift", "invite", "wxpay"]);
    for (name, source) in built_in {
        assert!(source.expires.is_none() && source.kind.is_some(), "{name}: {source:?}");
        assert!(source.label.en.is_some() && source.label.zh_cn.is_some(), "{name}: {source:?}");
    }
}

#[test]
fn policies_that_make_sense_load() {
    let config = load(
        "jobs:\n  expiry: {catch_up: all, catch_up_limit: 1000, lanes: 16, overlap: queue, retries: 0, retry_seconds: 3600, timeout_seconds: 1}\n\
         \x20 defaults: {retries: 3, timeout_seconds: 60}\n\
         \x20 reconciliation: {lanes: 2}\n\
         \x20 prune: {schedule: '10,30 2,3 * * *', enabled: false, catch_up: none, retries: 16}\n\
         requests: {retries: 8, retry_seconds: 3600}\n",
    )
    .unwrap();
    let Jobs { expiry, prune, .. } = &config.jobs;
    assert_eq!((expiry.settings.catch_up, expiry.settings.overlap), (CatchUp::All(1000), Overlap::Queue));
    assert_eq!((config.jobs.expiry_lanes, config.jobs.reconciliation_lanes), (16, 2));
    assert_eq!(prune.settings.catch_up, CatchUp::None);
    // From `defaults`, unless the job has its own.
    let reconciliation = &config.jobs.reconciliation.settings;
    assert_eq!((reconciliation.retries, reconciliation.timeout), (3, Duration::from_secs(60)));
    assert_eq!((prune.settings.retries, prune.settings.timeout), (16, Duration::from_secs(3600)));
    assert_eq!(config.requests.retries, 8);
}

#[test]
fn a_mail_server_that_makes_sense_loads() {
    let smtp = |text: &str| {
        let text = format!("mail:\n  mode: smtp\n  from: p@example.com\n  smtp: {{{text}}}");
        match load(&text).unwrap().mail.way {
            MailWay::Smtp { smtp, .. } => smtp,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(smtp("host: mail.example.com").port, 587);
    assert_eq!(smtp("host: mail.example.com, security: tls").port, 465);
    assert_eq!(smtp("host: '::1', security: none").port, 25);
    assert_eq!(smtp("host: mail.example.com, port: 2525").port, 2525);
    // A password that was set up for all kinds of configurations is no mistake.
    assert!(smtp("host: mail.example.com, password: x").login.is_none());
    assert_eq!(smtp("host: mail.example.com, ca_file: ca.pem").ca_file.as_deref(), Some(Path::new("conf/ca.pem")));
    let config = load("mail: {mode: directory, from: p@example.com, to: {arrears: ['\"Bob, Finance\" <b@example.com>', a@example.com]}}").unwrap();
    let MailWay::Directory { folder, .. } = config.mail.way else { panic!("{:?}", config.mail) };
    assert_eq!(folder, Path::new("/state/mail"));
    let to: Vec<_> =
        config.mail.to.get("arrears").unwrap().iter().map(|to| (to.name.as_deref(), to.email.as_ref())).collect();
    assert_eq!(to, [(Some("Bob, Finance"), "b@example.com"), (None, "a@example.com")]);
    assert_eq!(config.mail.give_up_after, Duration::from_secs(96 * 3600));
}

#[test]
fn the_mails_password_is_never_shown_and_the_given_one_comes_first() {
    let text = "mail:\n  mode: smtp\n  from: p@example.com\n  smtp: {host: localhost, user: points, password: hunter2}";
    for (given, expected) in [(None, "hunter2"), (Some("hunter3"), "hunter3")] {
        let outside = Outside { database_url: None, smtp_password: given.map(str::to_owned) };
        let config = Config::from_text(Source::BuiltIn, text, outside, || Some("/state".into())).unwrap();
        let MailWay::Smtp { smtp, .. } = &config.mail.way else { panic!("{:?}", config.mail) };
        let (user, password) = smtp.login.as_ref().unwrap();
        assert_eq!((user.as_str(), password.reveal()), ("points", expected));
        assert!(!format!("{config:?}").contains("hunter"), "{config:?}");
    }
    for wrong in ["[hunter2]", "{hunter2: 1}", "\"hunter2\\r\\nx\""] {
        let error = load(&text.replace("hunter2", wrong)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
    }
}

#[test]
fn the_public_address_is_that_of_a_page() {
    let check = |url: &str| load(&format!("http: {{public_url: '{url}'}}"));
    let good = check("https://points.example.com:8443/books/").unwrap();
    assert_eq!(good.http.public_url.as_deref(), Some("https://points.example.com:8443/books"));
    for wrong in [
        "points.example.com",
        "ftp://points.example.com",
        "https://",
        "https:///books",
        "https://a b",
        "https://a?b",
        "",
    ] {
        let told = check(wrong).unwrap_err().to_string();
        assert!(told.contains("http.public_url") && told.contains("is no address of a page"), "{wrong}: {told}");
    }
}

#[test]
fn files_that_mails_and_reports_need_are_looked_for() {
    let folder = std::env::temp_dir().join(format!("pointsd-mail-files-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("empty.pem"), "no certificate").unwrap();
    let check = |text: &str| load(text).unwrap().check_files().map_err(|error| error.to_string());
    let smtp = |file: &str| {
        let file = folder.join(file).display().to_string();
        format!("mail:\n  mode: smtp\n  from: p@example.com\n  smtp:\n    host: localhost\n    ca_file: {file}")
    };
    let (missing, empty) = (check(&smtp("no-such.pem")), check(&smtp("empty.pem")));
    let templates = check(&format!("reports: {{templates: {}}}", folder.join("no-such").display()));
    let there = check(&format!("reports: {{templates: {}}}", folder.display()));
    std::fs::remove_dir_all(&folder).unwrap();
    let shown = folder.display();
    let remedy = "name a PEM file, relative to this one, or write null for the system's certificates";
    assert!(
        missing
            .unwrap_err()
            .starts_with(&format!("conf/pointsd.yaml:6: mail.smtp.ca_file: {shown}/no-such.pem cannot be read: "))
    );
    let expected = format!("conf/pointsd.yaml:6: mail.smtp.ca_file: {shown}/empty.pem holds no certificate; {remedy}");
    assert_eq!(empty.unwrap_err(), expected);
    let expected = format!("conf/pointsd.yaml:1: reports.templates: {shown}/no-such cannot be read: ");
    assert!(templates.unwrap_err().starts_with(&expected));
    assert_eq!(there, Ok(()));
}

#[test]
fn a_clock_change_is_warned_of() {
    let now = "2026-11-22T12:00:00Z".parse().unwrap();
    let remedy =
        "if that will not do, write another time of day, or a time_zone whose clocks never change, such as UTC";
    let config = load("business: {time_zone: Europe/Paris}\njobs:\n  expiry:\n    schedule: '30 2 * * *'\n").unwrap();
    let expected = [
        "02:30 does not exist on 2027-03-28, when the clocks in Europe/Paris go forward from 02:00 to 03:00: the slot comes due at 03:00 that day",
        "02:30 comes twice on 2027-10-31, when the clocks in Europe/Paris go back from 03:00 to 02:00: the slot comes due the first time only, at 00:30 UTC",
    ]
    .map(|what| format!("conf/pointsd.yaml:4: jobs.expiry.schedule: {what}; {remedy}"));
    assert_eq!(config.warnings(now), expected);
    for quiet in [
        "",
        "jobs: {expiry: {schedule: '30 2 * * *'}}",
        "business: {time_zone: Europe/Paris}\njobs: {expiry: {schedule: '30 2 * * *', enabled: false}}",
        "business: {time_zone: Europe/Paris}\njobs: {expiry: {schedule: '30 2 * * MON'}}",
        "business: {time_zone: Europe/Paris}\njobs: {expiry: {schedule: '30 4 * * *'}}",
    ] {
        assert_eq!(load(quiet).unwrap().warnings(now), Vec::<String>::new(), "{quiet}");
    }
}

#[test]
fn a_month_end_before_the_month_is_over_is_warned_of() {
    let now = "2026-11-22T12:00:00Z".parse().unwrap();
    let of = |zone: &str| format!("business: {{time_zone: {zone}}}\njobs:\n  month_end:\n    time_zone: UTC\n");
    let expected = "conf/pointsd.yaml:3: jobs.month_end.schedule: the month that the job reports at 2026-12-01T05:00:00Z is not over \
                    then in America/Los_Angeles; write a later time, or the time_zone of the business";
    // The clocks of the nightly runs are warned of, too.
    let told = load(&of("America/Los_Angeles")).unwrap().warnings(now);
    assert!(told.contains(&expected.to_owned()), "{told:?}");
    assert_eq!(load(&of("Asia/Shanghai")).unwrap().warnings(now), Vec::<String>::new());
}

#[test]
fn a_wrong_database_url_is_refused_and_never_repeated() {
    for (url, expected) in [
        ("", "is empty"),
        ("mysql://me:secret@host/db", "is no PostgreSQL URL"),
        ("host=db password=secret", "is no PostgreSQL URL"),
        ("postgres:///points?password=secret", "names no host"),
        ("postgres://me:secret@host:port/db", "cannot be read"),
        ("postgres://me:secret@host/db?secret=1", "cannot be read"),
        ("postgres://me:secret@host/db?sslmode=verify-full", "write sslmode=require"),
        ("postgres://me:secret@host/db?sslrootcert=/x", "database.ca_file"),
    ] {
        let in_file = load(&format!("database: {{url: '{url}'}}")).unwrap_err();
        let given = load_with("", Some(url)).unwrap_err();
        assert!(matches!(given, ConfigError::DatabaseUrl { .. }));
        for message in [in_file.to_string(), given.to_string(), format!("{in_file:?} {given:?}")] {
            assert!(!message.contains("secret"), "{message}");
        }
        assert!(in_file.to_string().contains(expected), "{in_file}");
        assert!(given.to_string().contains(expected), "{given}");
    }
    let misplaced = load("database: 'postgres://me:secret@host/db'").unwrap_err();
    assert!(!misplaced.to_string().contains("secret"), "{misplaced}");
}

#[test]
fn a_credential_is_taken_without_its_line_end_and_never_shown() {
    let folder = std::env::temp_dir().join(format!("pointsd-credentials-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let found = |content: Option<&[u8]>| {
        let file = folder.join("database-url");
        match content {
            Some(content) => std::fs::write(&file, content).unwrap(),
            None => std::fs::remove_file(&file).unwrap_or_default(),
        }
        credential(Some(folder.clone().into()), "database-url")
    };
    let nothing: [Option<&[u8]>; 4] = [None, Some(b""), Some(b"\n"), Some(b"\r\n")];
    for content in nothing {
        assert!(found(content).unwrap().is_none(), "{content:?}");
    }
    assert!(credential(None, "database-url").unwrap().is_none());
    for content in ["postgres://me:secret@host/db", "postgres://me:secret@host/db\n"] {
        let config = Config::from_text(
            Source::BuiltIn,
            "database: {url: 'postgres://other/db'}",
            Outside { database_url: found(Some(content.as_bytes())).unwrap(), smtp_password: None },
            || Some("/state".into()),
        );
        let url = config.unwrap().database.url.unwrap();
        assert_eq!(url.reveal(), "postgres://me:secret@host/db");
    }
    let given = found(Some(b"mysql://me:secret@host/db\n")).unwrap();
    let given = Outside { database_url: given, smtp_password: None };
    let wrong = Config::from_text(Source::BuiltIn, "", given, || Some("/state".into())).unwrap_err();
    let no_text = found(Some(b"secret\xff")).err().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let place = format!("the credential database-url ({}/database-url): is no PostgreSQL URL", folder.display());
    assert!(wrong.to_string().starts_with(&place), "{wrong}");
    assert!(matches!(no_text, ConfigError::Unreadable { .. }), "{no_text}");
    for message in [format!("{wrong} {wrong:?}"), format!("{no_text} {no_text:?}")] {
        assert!(!message.contains("secret"), "{message}");
    }
}

#[test]
fn root_reads_no_credential_from_a_folder_of_another_user() {
    if !nix::unistd::geteuid().is_root() {
        return; // only root can make such a folder
    }
    let folder = std::env::temp_dir().join(format!("pointsd-foreign-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let found = || credential(Some(folder.clone().into()), "database-url");
    std::fs::write(folder.join("database-url"), "postgres://me:secret@host/db").unwrap();
    assert!(found().unwrap().is_some());
    std::os::unix::fs::chown(&folder, Some(12_345), None).unwrap();
    let refused = found().err().unwrap().to_string();
    assert!(refused.contains("its folder belongs to user 12345"), "{refused}");
    std::fs::remove_file(folder.join("database-url")).unwrap();
    assert!(found().unwrap().is_none(), "it has no credential of ours");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn files_are_found_and_paths_start_at_their_folder() {
    let folder = std::env::temp_dir().join(format!("pointsd-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("pointsd.yaml");
    std::fs::write(&file, "state_dir: data\nprices: prices.yaml\n").unwrap();
    std::fs::write(folder.join("prices.yaml"), "fixed_costs: {scan: 3}\n").unwrap();
    let config = Config::load(Some(&file), None);
    std::fs::write(folder.join("prices.yaml"), "fixed_costs: {scan: -3}\n").unwrap();
    let wrong_prices = Config::load(Some(&file), None);
    std::fs::remove_dir_all(&folder).unwrap();

    let config = config.unwrap();
    assert_eq!(config.source, Source::File(file.clone()));
    assert_eq!(config.prices_source, Source::File(folder.join("prices.yaml")));
    assert_eq!(config.prices.cost("scan", None), Ok(3));
    assert_eq!(config.state_dir, folder.join("data"));
    let message = wrong_prices.unwrap_err().to_string();
    assert!(
        message.ends_with("prices.yaml:1: fixed_costs.scan: must not be negative; write whole points, e.g. 5"),
        "{message}"
    );
    assert!(matches!(Config::load(Some(&file), None), Err(ConfigError::Unreadable { .. })));
}

#[test]
fn the_state_folder_follows_the_environment() {
    type Variables = &'static [(&'static str, &'static str)];
    let cases: &[(Variables, bool, Option<&str>)] = &[
        (&[("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"), ("HOME", "/h")], true, Some("/var/lib/a")),
        (&[("STATE_DIRECTORY", ""), ("HOME", "/h")], false, Some("/h/.local/state/pointsd")),
        (&[("HOME", "/root")], true, Some("/var/lib/pointsd")),
        (&[("XDG_STATE_HOME", "/x"), ("HOME", "/h")], false, Some("/x/pointsd")),
        (&[("XDG_STATE_HOME", "relative"), ("HOME", "/h")], false, Some("/h/.local/state/pointsd")),
        (&[], false, None),
    ];
    for (variables, is_root, expected) in cases {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        assert_eq!(default_state_dir(variable, *is_root), expected.map(PathBuf::from), "{variables:?}");
    }
    let nowhere = Config::from_text(Source::BuiltIn, "", Outside::default(), || None);
    assert!(matches!(nowhere, Err(ConfigError::NoStateDir)));
}

#[test]
fn an_error_hides_only_the_errors_that_may_follow_from_it() {
    for (one, other, related) in [
        ("log.level", "log", true),
        ("log.level", "log.levels", false),
        ("mail.to.expiry[1]", "mail.to.expiry", true),
        ("mail.to.expiry[1]", "mail.to.expiry[10]", false),
        ("jobs.prune.catch_up", "jobs.prune.catch_up_limit", true),
    ] {
        assert_eq!((are_related(one, other), are_related(other, one)), (related, related), "{one}, {other}");
    }
}
