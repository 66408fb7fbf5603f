//! `config check`: the settings in force.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json as object};

use super::jobs::full_proof;
use super::output::{counted, facts, table};
use super::{Outcome, Program};
use crate::books::Accounts;
use crate::config::{Config, Finance, Http, Job, Mail, MailWay, PointKind, Reports, Security, weekday_name};
use crate::ledger::{Length, Period, Term};
use crate::numbers::grouped;
use crate::pings::host_of;
use crate::scheduler::{CatchUp, Overlap};
use crate::time::{Zone, duration_text, time_text};

/// Checks the configuration.
#[derive(clap::Subcommand)]
pub enum ConfigCommand {
    /// Loads the configuration and the price list, and shows the settings in force
    Check,
}

impl ConfigCommand {
    /// Prints the settings. A configuration that does not load has failed earlier.
    pub fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let ConfigCommand::Check = self;
        program.config.check_files()?;
        let now = (program.clock)();
        let warnings = program.config.warnings(now);
        program
            .answer(config_object(&program.config, &warnings, now), || config_text(&program.config, &warnings, now))?;
        Ok(Outcome::Done)
    }
}

fn database_of(config: &Config) -> String {
    let private = || format!("a private PostgreSQL in {}", config.state_dir.display());
    config.database.url.as_ref().map_or_else(private, ToString::to_string)
}

/// The settings in force, for programs.
fn config_object(config: &Config, warnings: &[String], now: DateTime<Utc>) -> Value {
    let jobs = config.jobs.by_name().map(|(name, job)| (name.to_owned(), job_object(job, now)));
    object!({
        "config": config.source.to_string(), "prices": config.prices_source.to_string(),
        "database": database_of(config), "time_zone": config.time_zone.name(),
        "business": config.business, "language": config.language, "ledger": ledger_object(config),
        "services": config.prices.services().count(),
        "jobs": serde_json::Map::from_iter(jobs),
        "reports": {
            "full_proof_on": config.reports.full_proof_on.map(weekday_name),
            "templates": config.reports.templates.as_ref().map(|folder| folder.display().to_string()),
            "missing_after_hours": config.reports.missing_after.as_secs() / 3600,
            "arrears": {
                "attention_points": config.reports.arrears.attention_points,
                "attention_growth_percent": config.reports.arrears.attention_growth_percent,
            },
        },
        "mail": mail_object(&config.mail),
        "http": http_object(&config.http),
        "finance": finance_object(&config.finance),
        "warnings": warnings,
    })
}

/// The settings in force, for people.
fn config_text(config: &Config, warnings: &[String], now: DateTime<Utc>) -> String {
    let business = if config.business.is_empty() { "without a name" } else { &config.business };
    let mut text = vec![
        "The configuration is valid.".to_owned(),
        facts(&[
            ("configuration", config.source.to_string()),
            ("prices", format!("{}, {} services", config.prices_source, config.prices.services().count())),
            ("database", database_of(config)),
            ("business", business.to_owned()),
            ("language", config.language.tag().to_owned()),
            ("time zone", config.time_zone.name().to_owned()),
        ]),
    ];
    text.push(format!(
        "\nPoints expire {}; those of a refund {} at the earliest",
        term_text(config.expires),
        term_text(config.refund)
    ));
    text.push(sources_table(config));
    for (name, job) in config.jobs.by_name() {
        text.push(format!("\nJob {name}: {}", job.settings.schedule.in_words()));
        text.push(facts(&job_facts(name, job, now)));
    }
    text.extend(["\nReports".to_owned(), facts(&report_facts(&config.reports))]);
    text.extend(["\nMail".to_owned(), facts(&mail_facts(&config.mail))]);
    text.extend(["\nHTTP".to_owned(), facts(&http_facts(&config.http))]);
    text.extend(["\nAccounts of the accounting system".to_owned(), finance_table(&config.finance)]);
    if !warnings.is_empty() {
        text.push(format!("\n{}:", counted(warnings.len() as u64, "warning", "warnings")));
        text.extend(warnings.iter().map(|warning| format!("  {warning}")));
    }
    text.join("\n")
}

/// How long points live, for programs: as the configuration writes it.
fn ledger_object(config: &Config) -> Value {
    let sources = config.sources.iter().map(|(name, source)| {
        let expires = source.expires.map(term_object);
        (name.clone(), object!({ "expires": expires, "kind": source.kind, "label": source.label }))
    });
    let valuation = config
        .valuation
        .map(|valuation| object!({ "currency": valuation.currency, "per_point": valuation.per_point.to_string() }));
    object!({
        "expires": term_object(config.expires), "refund": term_object(config.refund),
        "sources": serde_json::Map::from_iter(sources), "valuation": valuation,
    })
}

fn term_object(term: Term) -> Value {
    let (unit, count) = match term.length {
        Length::Never => return object!("never"),
        Length::Hours(hours) => ("hours", hours),
        Length::Days(days) => ("days", days),
        Length::Months(months) => ("months", months),
        Length::Years(years) => ("years", years),
    };
    match term.end_of {
        None => object!({ unit: count }),
        Some(period) => object!({ unit: count, "end_of": period_text(period) }),
    }
}

fn period_text(period: Period) -> &'static str {
    match period {
        Period::Day => "day",
        Period::Month => "month",
        Period::Quarter => "quarter",
        Period::Year => "year",
    }
}

/// `after 6 months, at the end of the quarter`
fn term_text(term: Term) -> String {
    let length = match term.length {
        Length::Never => return "never".to_owned(),
        Length::Hours(hours) => counted(hours, "hour", "hours"),
        Length::Days(days) => counted(days, "day", "days"),
        Length::Months(months) => counted(months, "month", "months"),
        Length::Years(years) => counted(years, "year", "years"),
    };
    match term.end_of {
        None => format!("after {length}"),
        Some(period) => format!("after {length}, at the end of the {}", period_text(period)),
    }
}

/// The sources of points, for people.
fn sources_table(config: &Config) -> String {
    let rows = config.sources.iter().map(|(name, source)| {
        let label = [&source.label.en, &source.label.zh_cn].into_iter().flatten().cloned().collect::<Vec<_>>();
        vec![
            name.clone(),
            label.join(", "),
            source.kind.map_or("", PointKind::as_str).to_owned(),
            term_text(source.expires.unwrap_or(config.expires)),
        ]
    });
    table(&["source", "label", "kind", "points expire"], &rows.collect::<Vec<_>>())
}

/// The slot that a job comes due at next, if it has slots.
fn next_slot(job: &Job, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    job.settings.schedule.next_after(now).filter(|_| job.settings.enabled)
}

/// A slot on the clocks of the job's zone.
fn local(job: &Job, slot: DateTime<Utc>) -> String {
    slot.with_timezone(&job.settings.schedule.zone()).to_rfc3339_opts(SecondsFormat::Secs, false)
}

/// A job's schedule and policies, for programs.
fn job_object(job: &Job, now: DateTime<Utc>) -> Value {
    let (settings, schedule, next) = (&job.settings, &job.settings.schedule, next_slot(job, now));
    let (catch_up, limit) = match settings.catch_up {
        CatchUp::None => ("none", None),
        CatchUp::Latest => ("latest", None),
        CatchUp::All(limit) => ("all", Some(limit)),
    };
    object!({
        "schedule": schedule.describe(), "rule": schedule.rule(), "time_zone": schedule.zone().name(),
        "in_words": schedule.in_words(), "enabled": settings.enabled,
        "next_slot": next, "next_slot_local": next.map(|slot| local(job, slot)),
        "catch_up": catch_up, "catch_up_limit": limit, "overlap": settings.overlap.to_string(),
        "timeout_seconds": settings.timeout.as_secs(), "retries": settings.retries,
        "retry_seconds": settings.retry_pause.as_secs(), "pings": job.ping_url.as_deref().map(host_of),
    })
}

/// A job's schedule and policies, for people.
fn job_facts(name: &str, job: &Job, now: DateTime<Utc>) -> [(&'static str, String); 7] {
    let next = match next_slot(job, now) {
        Some(slot) if job.settings.schedule.zone() == Zone::UTC => time_text(slot),
        Some(slot) => format!("{}, which is {}", local(job, slot), time_text(slot)),
        None => format!("none, it is not enabled; `pointsd run {name}` still runs it"),
    };
    let after_downtime = match job.settings.catch_up {
        CatchUp::None => "none of the missed slots is run".to_owned(),
        CatchUp::Latest => "the latest of the missed slots is run".to_owned(),
        CatchUp::All(1) => "the latest of the missed slots is run (all, up to 1)".to_owned(),
        CatchUp::All(limit) => format!("all of the missed slots are run, up to the latest {limit}"),
    };
    let overlap = match job.settings.overlap {
        Overlap::Skip => "a slot is skipped while an earlier one runs",
        Overlap::Queue => "a slot waits while an earlier one runs",
    };
    let pause = duration_text(job.settings.retry_pause);
    let retries = match job.settings.retries {
        0 => "none".to_owned(),
        1 => format!("1, after {pause} and a random part of up to the same length"),
        count => format!("{count}, after {pause}, doubling each time, and a random part of up to the same length"),
    };
    [
        ("rule", job.settings.schedule.describe()),
        ("next slot", next),
        ("after downtime", after_downtime),
        ("overlap", overlap.to_owned()),
        ("time-out", format!("an attempt fails after {}", duration_text(job.settings.timeout))),
        ("retries", retries),
        ("pings", job.ping_url.as_deref().map_or("none", host_of).to_owned()),
    ]
}

/// How mails leave, for programs. The password is left out.
fn mail_object(mail: &Mail) -> Value {
    let to: serde_json::Map<_, _> = mail
        .to
        .iter()
        .map(|(report, to)| (report.clone(), to.iter().map(ToString::to_string).collect::<Vec<_>>().into()))
        .collect();
    let way = match &mail.way {
        MailWay::None => object!({ "mode": "none" }),
        MailWay::Directory { folder, from } => {
            object!({ "mode": "directory", "from": from.to_string(), "directory": folder.display().to_string() })
        }
        MailWay::Smtp { smtp, from } => object!({
            "mode": "smtp", "from": from.to_string(), "host": smtp.host, "port": smtp.port,
            "security": smtp.security.to_string(), "user": smtp.login.as_ref().map(|(user, _)| user),
            "ca_file": smtp.ca_file.as_ref().map(|file| file.display().to_string()),
            "timeout_seconds": smtp.timeout.as_secs(),
        }),
    };
    object!({
        "way": way, "to": to, "retry_seconds": mail.retry_pause.as_secs(),
        "give_up_hours": mail.give_up_after.as_secs() / 3600,
        "attachments_megabytes": mail.attachments_limit / 1_000_000,
    })
}

/// The extent of proofs, and the look of reports, for people.
fn report_facts(reports: &Reports) -> [(&'static str, String); 4] {
    let limits = reports.arrears;
    let templates = reports
        .templates
        .as_ref()
        .map_or_else(|| "the built-in ones".to_owned(), |folder| folder.display().to_string());
    [
        ("proved", full_proof(reports.full_proof_on)),
        ("templates", templates),
        (
            "missing",
            format!("a report not made or not delivered {} after its slot", duration_text(reports.missing_after)),
        ),
        (
            "attention",
            format!(
                "arrears above {} points, or more than {}% above those of the last report",
                grouped(limits.attention_points),
                limits.attention_growth_percent
            ),
        ),
    ]
}

/// How mails leave, for people.
fn mail_facts(mail: &Mail) -> Vec<(&'static str, String)> {
    let (way, from) = match &mail.way {
        MailWay::None => return vec![("mails", "not sent, because mail.mode is none".to_owned())],
        MailWay::Directory { folder, from } => (format!("become files in {}", folder.display()), from),
        MailWay::Smtp { smtp, from } => {
            let how = match smtp.security {
                Security::StartTls => "encrypted by STARTTLS",
                Security::Tls => "encrypted by TLS",
                Security::None => "in the clear",
            };
            let login = match &smtp.login {
                Some((user, _)) => format!("logged in as {user}"),
                None => "without a login".to_owned(),
            };
            (format!("leave by {}:{}, {how}, {login}", smtp.host, smtp.port), from)
        }
    };
    let mut facts = vec![("mails", way), ("from", from.to_string())];
    for (report, label) in [
        ("expiry", "expiry to"),
        ("reconciliation", "reconciliation to"),
        ("arrears", "arrears to"),
        ("month_end", "month_end to"),
        ("adoption", "adoption to"),
    ] {
        let to: Vec<String> = mail.to.get(report).into_iter().flatten().map(ToString::to_string).collect();
        facts.push((label, if to.is_empty() { "no recipient".to_owned() } else { to.join(", ") }));
    }
    let tries = format!(
        "after {}, then twice as long each time, up to 4 hours; given up after {}",
        duration_text(mail.retry_pause),
        duration_text(mail.give_up_after)
    );
    facts.push(("retries", tries));
    facts
}

/// Where calls arrive, for programs.
fn http_object(http: &Http) -> Value {
    object!({
        "listen": http.listen.as_ref().map(ToString::to_string),
        "tls": http.tls.as_ref().map(|tls| object!({ "certificate": tls.certificate, "key": tls.key })),
        "public_url": http.public_url,
    })
}

/// Where calls arrive, for people.
fn http_facts(http: &Http) -> Vec<(&'static str, String)> {
    let listen = http.listen.as_ref().map_or_else(|| "nowhere".to_owned(), ToString::to_string);
    let mut facts = vec![("listens on", listen)];
    if let Some(tls) = &http.tls {
        facts.push(("certificate", tls.certificate.display().to_string()));
    }
    facts.push(("in mails", http.public_url.clone().unwrap_or_else(|| "no link to the status page".to_owned())));
    facts
}

/// The accounts of journal lines, for programs.
fn finance_object(finance: &Finance) -> Value {
    let names = |accounts: &Accounts| {
        serde_json::Map::from_iter(named(accounts).map(|(key, name)| (key.to_owned(), name.into())))
    };
    let sources = finance.own().map(|(source, accounts)| (source.to_owned(), names(accounts).into()));
    object!({ "accounts": names(finance.common()), "sources": serde_json::Map::from_iter(sources) })
}

/// The accounts of journal lines, for people.
fn finance_table(finance: &Finance) -> String {
    let row = |source: &str, accounts: &Accounts| {
        [source.to_owned()].into_iter().chain(named(accounts).map(|(_, name)| name.to_owned())).collect()
    };
    let others = if finance.own().next().is_none() { "all sources" } else { "other sources" };
    let common = [row(others, finance.common())];
    let rows: Vec<Vec<String>> = finance.own().map(|(source, own)| row(source, own)).chain(common).collect();
    let keys = named(finance.common()).map(|(key, _)| key);
    table(&[&["source"][..], &keys].concat(), &rows)
}

/// Accounts under their keys in the configuration.
fn named(accounts: &Accounts) -> [(&'static str, &str); 6] {
    [
        ("cash", &accounts.cash),
        ("deferred", &accounts.deferred),
        ("revenue", &accounts.revenue),
        ("breakage", &accounts.breakage),
        ("returns", &accounts.returns),
        ("corrections", &accounts.corrections),
    ]
}
