//! The section `jobs`.

use std::time::Duration;

use serde::de::{self, Error as _};
use serde::{Deserialize, Deserializer};
use serde_yaml::Value;

use super::Job;
use super::values::{FileZone, Word, between, seconds};
use crate::pings::host_of;
use crate::schedule::Schedule;
use crate::scheduler::{CatchUp, JobSettings, Overlap};
use crate::time::Zone;
use crate::yaml::{self, Lines};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileJobs {
    #[serde(rename = "takeover_seconds", deserialize_with = "seconds::<3600, _>")]
    pub(super) takeover: Duration,
    pub(super) defaults: FileJob,
    pub(super) expiry: FileJob,
    pub(super) reconciliation: FileJob,
    pub(super) arrears: FileJob,
    pub(super) month_end: FileJob,
    pub(super) prune: FileJob,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileJob {
    /// Each job has one; `defaults` has none.
    pub(super) schedule: Option<String>,
    time_zone: Option<FileZone>,
    enabled: bool,
    #[serde(deserialize_with = "catch_up")]
    catch_up: FileCatchUp,
    #[serde(deserialize_with = "up_to::<1000, _>")]
    catch_up_limit: Option<usize>,
    #[serde(deserialize_with = "overlap")]
    overlap: Overlap,
    #[serde(rename = "timeout_seconds", deserialize_with = "seconds::<604_800, _>")]
    timeout: Duration,
    #[serde(deserialize_with = "between::<0, 100, _, _>")]
    retries: u32,
    #[serde(rename = "retry_seconds", deserialize_with = "seconds::<3600, _>")]
    retry_pause: Duration,
    #[serde(deserialize_with = "ping_url")]
    ping_url: Option<String>,
    /// Of the expiry and of the reconciliation alone.
    #[serde(default, deserialize_with = "up_to::<16, _>")]
    pub(super) lanes: Option<usize>,
}

/// Fills in what a job leaves out from `jobs.defaults`.
pub(super) fn inherit_job_defaults(file: &mut Value) {
    let Some(Value::Mapping(jobs)) = file.get_mut("jobs") else { return };
    let Some(defaults @ Value::Mapping(_)) = jobs.get("defaults").cloned() else { return };
    for (_, job) in jobs.iter_mut().filter(|(name, job)| *name != "defaults" && job.is_mapping()) {
        let own = std::mem::replace(job, defaults.clone());
        yaml::merge(job, own);
    }
}

#[derive(Clone, Copy)]
enum FileCatchUp {
    None,
    Latest,
    All,
}

/// The longest pause before a further attempt. Pauses double, so a hundred retries without a limit would never end.
const LONGEST_PAUSE: Duration = Duration::from_secs(604_800);

pub(super) fn job(name: &str, file: FileJob, time_zone: Zone, lines: &Lines) -> Result<Job, yaml::Error> {
    let path = |key: &str| {
        let (own, default) = (format!("jobs.{name}.{key}"), format!("jobs.defaults.{key}"));
        if !lines.has(&own) && lines.has(&default) { default } else { own }
    };
    let zone = file.time_zone.map_or(time_zone, |FileZone(zone)| zone);
    let schedule = Schedule::parse(&file.schedule.unwrap_or_default(), zone).map_err(|error| {
        let remedy = "write five fields in quotes, e.g. \"0 2 * * *\" for every day at 02:00";
        lines.error(&path("schedule"), error, remedy)
    })?;
    let catch_up = match (file.catch_up, file.catch_up_limit) {
        (FileCatchUp::None, None) => CatchUp::None,
        (FileCatchUp::Latest, None) => CatchUp::Latest,
        (FileCatchUp::All, Some(limit)) => CatchUp::All(limit),
        (FileCatchUp::All, None) => {
            let what = "all the slots of a long outage may be very many";
            return Err(lines.error(&path("catch_up"), what, "write how many as catch_up_limit, 1 to 1000"));
        }
        (other, Some(_)) => {
            let other = if let FileCatchUp::None = other { "none" } else { "latest" };
            let what = format_args!("there is nothing to limit where catch_up is {other}");
            return Err(lines.error(&path("catch_up_limit"), what, "write null, or catch_up: all"));
        }
    };
    retries(&path("retries"), file.retries, file.retry_pause, lines)?;
    if file.lanes.is_some() && !["expiry", "reconciliation"].contains(&name) {
        return Err(lines.error(
            &path("lanes"),
            "only the expiry and the reconciliation have lanes",
            "write it in one of them, or leave it out",
        ));
    }
    let settings = JobSettings {
        schedule,
        enabled: file.enabled,
        catch_up,
        overlap: file.overlap,
        timeout: file.timeout,
        retries: file.retries,
        retry_pause: file.retry_pause,
    };
    Ok(Job { settings, ping_url: file.ping_url })
}

/// Half the cores of this machine, for where the database runs on it: the other half is for postings. More than two were not measured.
pub(super) fn default_lanes() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 4))
}

/// A URL is kept as it is written; ones that could never be called are refused here.
fn ping_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(url) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let in_clear = url.strip_prefix("http://");
    let rest = url.strip_prefix("https://").or(in_clear);
    let fits = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && !url.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#' || c == '?');
    if fits && in_clear.is_some() && !is_here(host_of(&url)) {
        return Err(D::Error::custom(
            "this address is a secret and would travel in the clear; write https://host/path, or null",
        ));
    }
    if fits {
        return Ok(Some(url.trim_end_matches('/').to_owned()));
    }
    // It is a secret of a kind: not repeated.
    Err(D::Error::custom("this is no address to call; write https://host/path without ? and #, or null"))
}

/// Whether this host, with or without its port, is this machine.
fn is_here(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    crate::database::url::is_this_machine(name.trim_start_matches('[').trim_end_matches(']'))
}

/// Refuses retries with a last pause longer than a week.
pub(super) fn retries(path: &str, retries: u32, pause: Duration, lines: &Lines) -> Result<(), yaml::Error> {
    let fits = |count: &u32| {
        let doubled = 2_u32.checked_pow(count.saturating_sub(1)).and_then(|times| pause.checked_mul(times));
        doubled.is_some_and(|pause| pause <= LONGEST_PAUSE)
    };
    if fits(&retries) {
        return Ok(());
    }
    let most = (0..retries).rev().find(fits).unwrap_or(0);
    let what = format_args!(
        "the pause starts at {} s and doubles each time, so before the last of {retries} it would be longer than a week",
        pause.as_secs()
    );
    Err(lines.error(path, what, format_args!("write at most {most}, or a smaller retry_seconds")))
}

fn catch_up<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FileCatchUp, D::Error> {
    let words = [("none", FileCatchUp::None), ("latest", FileCatchUp::Latest), ("all", FileCatchUp::All)];
    deserializer.deserialize_any(Word { words: &words, remedy: "none, latest or all" })
}

fn overlap<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Overlap, D::Error> {
    let words = [("skip", Overlap::Skip), ("queue", Overlap::Queue)];
    deserializer.deserialize_any(Word { words: &words, remedy: "skip or queue" })
}

fn up_to<'de, const MOST: i64, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let Some(written) = Option::<i64>::deserialize(deserializer)? else { return Ok(None) };
    between::<1, MOST, _, _>(de::IntoDeserializer::into_deserializer(written)).map(Some)
}
