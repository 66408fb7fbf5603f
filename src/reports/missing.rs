//! Finds reports that are overdue, or whose mails were not all sent.

use std::fmt::{self, Display};

use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::{Client, Row};

use super::Error;
use crate::config::Config;
use crate::scheduler::{JobSettings, PAUSED_BY};
use crate::time::time_text;

/// A younger run or mail counts as under way, not as missing: after an outage, for example, runs catch up.
const ON_ITS_WAY: TimeDelta = TimeDelta::minutes(10);

/// The state of a report that is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Slots after this instant count; None if no daemon ever registered the job.
    pub since: Option<DateTime<Utc>>,
    /// Whether the job is paused, or was when the slot came due.
    pub paused: bool,
    /// The begin of the run for the slot, if one is under way.
    pub running_since: Option<DateTime<Utc>>,
    /// The number of its document.
    pub document: Option<i64>,
    /// Mails that are still tried.
    pub waiting: i64,
    /// When the oldest of them was written.
    pub waiting_since: Option<DateTime<Utc>>,
    /// Mails that are not tried any more.
    pub parked: i64,
    /// The last reason why a mail was not sent.
    pub answer: Option<String>,
}

/// What is missing of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The report was not made.
    Report,
    /// The report was made, but not delivered to every recipient.
    Mails {
        /// The document's number.
        document: i64,
        /// Mails that are still tried.
        waiting: i64,
        /// Mails that are not.
        parked: i64,
        /// The last reason.
        answer: Option<String>,
    },
}

/// A report that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The job that makes it.
    pub report: &'static str,
    /// The slot that it is for.
    pub slot: DateTime<Utc>,
    /// What is missing.
    pub lack: Lack,
}

impl Missing {
    /// Whether this was logged before: one mail more or less is no news.
    pub fn is_same(&self, other: &Missing) -> bool {
        let kind = |lack: &Lack| std::mem::discriminant(lack);
        (self.report, self.slot, kind(&self.lack)) == (other.report, other.slot, kind(&other.lack))
    }
}

/// The missing report or mails, and the next step.
impl Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Missing { report, slot, lack } = self;
        let slot = time_text(*slot);
        match lack {
            Lack::Report => write!(
                f,
                "the report {report} for {slot} was not made: `pointsd runs --job {report}` shows why, and \
                 `pointsd run {report} --at {slot}` makes it"
            ),
            Lack::Mails { document, waiting, parked, answer } => {
                write!(f, "the report {report} for {slot} was not delivered to every recipient: ")?;
                let counts = [("waiting", *waiting), ("parked", *parked)];
                let counts = counts.iter().filter(|(_, mails)| *mails > 0);
                f.write_str(
                    &counts.map(|(state, mails)| format!("{state} mails: {mails}")).collect::<Vec<_>>().join(", "),
                )?;
                if let Some(answer) = answer {
                    write!(f, " ({answer})")?;
                }
                // A waiting mail must not be sent again: it would arrive twice.
                if *waiting > 0 {
                    write!(f, "; waiting mails are sent once the cause is fixed")?;
                }
                if *parked > 0 {
                    write!(f, "; `pointsd reports resend {document} --to ADDRESS` sends it again")?;
                }
                write!(f, "; see `pointsd reports`")
            }
        }
    }
}

/// The last slot whose report is due by now; None if the job has no slots.
pub fn due_slot(job: &JobSettings, missing_after: TimeDelta, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    job.schedule.previous_or_at(now - missing_after).filter(|_| job.enabled)
}

/// What is missing of the report for `slot` at `now`.
pub fn lack(known: &Known, slot: DateTime<Utc>, now: DateTime<Utc>) -> Option<Lack> {
    // A paused slot, or one before the job was registered, has no report.
    if known.paused || known.since.is_none_or(|since| slot <= since) {
        return None;
    }
    let on_its_way = |since: Option<DateTime<Utc>>| since.is_some_and(|since| now - since < ON_ITS_WAY);
    let Some(document) = known.document else {
        return (!on_its_way(known.running_since)).then_some(Lack::Report);
    };
    let waiting = if on_its_way(known.waiting_since) { 0 } else { known.waiting };
    let Known { parked, answer, .. } = known;
    (waiting + parked > 0).then(|| Lack::Mails { document, waiting, parked: *parked, answer: answer.clone() })
}

/// The reports that are due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueReports {
    /// Those that are missing or were not delivered.
    pub missing: Vec<Missing>,
    /// Those that were delivered, each with its slot.
    pub delivered: Vec<(&'static str, DateTime<Utc>)>,
}

/// Checks the latest due slot of every report. `now` is the database's time.
///
/// # Errors
/// If the database fails.
pub async fn find_missing(client: &Client, config: &Config, now: DateTime<Utc>) -> Result<DueReports, Error> {
    let after = TimeDelta::from_std(config.reports.missing_after).unwrap_or(TimeDelta::MAX);
    let jobs = config.jobs.by_name().into_iter().filter(|(name, _)| super::ALL.contains(name));
    let (reports, slots): (Vec<&'static str>, Vec<DateTime<Utc>>) =
        jobs.filter_map(|(name, job)| Some((name, due_slot(&job.settings, after, now)?))).unzip();
    let mut due = DueReports::default();
    if reports.is_empty() {
        return Ok(due);
    }
    let rows =
        client.query(include_str!("../../sql/reports/document_due.sql"), &[&reports, &slots, &PAUSED_BY]).await?;
    for row in &rows {
        let (name, slot): (&str, DateTime<Utc>) = (row.try_get("report")?, row.try_get("slot")?);
        let Some(report) = reports.iter().copied().find(|report| *report == name) else { continue };
        match lack(&known_from(row)?, slot, now) {
            Some(lack) => due.missing.push(Missing { report, slot, lack }),
            None => due.delivered.push((report, slot)),
        }
    }
    Ok(due)
}

fn known_from(row: &Row) -> Result<Known, tokio_postgres::Error> {
    Ok(Known {
        since: row.try_get("since")?,
        paused: row.try_get("paused")?,
        running_since: row.try_get("running_since")?,
        document: row.try_get("document")?,
        waiting: row.try_get("waiting")?,
        waiting_since: row.try_get("waiting_since")?,
        parked: row.try_get("parked")?,
        answer: row.try_get("answer")?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::time::Duration;

    use super::*;
    use crate::schedule::Schedule;
    use crate::scheduler::{CatchUp, Overlap};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    const SLOT: &str = "2026-11-22T02:45:00Z";
    const NOW: &str = "2026-11-22T09:00:00Z";

    fn known() -> Known {
        Known { since: Some(at("2026-11-01T00:00:00Z")), ..Known::default() }
    }

    fn made() -> Known {
        Known { document: Some(7), ..known() }
    }

    fn told(known: &Known) -> Option<Lack> {
        lack(known, at(SLOT), at(NOW))
    }

    #[test]
    fn the_slot_that_is_due_is_the_last_one_that_had_its_time() {
        let job = |rule: &str| JobSettings {
            schedule: Schedule::parse(rule, "Europe/Paris".parse().unwrap()).unwrap(),
            enabled: true,
            catch_up: CatchUp::Latest,
            overlap: Overlap::Skip,
            timeout: Duration::from_secs(60),
            retries: 0,
            retry_pause: Duration::from_secs(1),
        };
        let due = |job: &JobSettings, now| due_slot(job, TimeDelta::hours(6), at(now)).unwrap();
        let daily = job("45 2 * * *");
        // 02:45 in Paris is 01:45 UTC in winter.
        assert_eq!(due(&daily, "2026-11-22T07:44:59Z"), at("2026-11-21T01:45:00Z"));
        assert_eq!(due(&daily, "2026-11-22T07:45:00Z"), at("2026-11-22T01:45:00Z"));
        assert_eq!(due_slot(&JobSettings { enabled: false, ..daily }, TimeDelta::hours(6), at(NOW)), None);
    }

    #[test]
    fn a_report_that_was_not_made_is_missing() {
        assert_eq!(told(&known()), Some(Lack::Report));
        // The slot was paused, or came before the job.
        assert_eq!(told(&Known { paused: true, ..known() }), None);
        assert_eq!(told(&Known { since: None, ..known() }), None);
        assert_eq!(told(&Known { since: Some(at(SLOT)), ..known() }), None);
        assert_eq!(told(&Known { since: Some(at(SLOT) - TimeDelta::seconds(1)), ..known() }), Some(Lack::Report));
        // A run is making it; a run that takes too long is no excuse.
        assert_eq!(told(&Known { running_since: Some(at("2026-11-22T08:50:01Z")), ..known() }), None);
        assert_eq!(told(&Known { running_since: Some(at("2026-11-22T08:50:00Z")), ..known() }), Some(Lack::Report));
    }

    #[test]
    fn a_report_that_did_not_arrive_is_missing() {
        assert_eq!(told(&made()), None, "it has no recipients, or all have it");
        let mails = |waiting, parked, answer: Option<&str>| {
            Some(Lack::Mails { document: 7, waiting, parked, answer: answer.map(str::to_owned) })
        };
        let waiting = |since| Known { waiting: 2, waiting_since: Some(at(since)), ..made() };
        assert_eq!(told(&waiting("2026-11-22T02:45:10Z")), mails(2, 0, None));
        assert_eq!(told(&waiting("2026-11-22T08:50:01Z")), None, "written just now");
        let answer = Some("550 no such user".to_owned());
        assert_eq!(told(&Known { parked: 1, answer: answer.clone(), ..made() }), mails(0, 1, answer.as_deref()));
        let both = Known { parked: 1, ..waiting("2026-11-22T02:45:10Z") };
        assert_eq!(told(&both), mails(2, 1, None));
        assert_eq!(told(&Known { paused: true, ..both }), None);
    }

    #[test]
    fn it_says_what_is_missing_and_what_to_do() {
        let missing = |lack| Missing { report: "arrears", slot: at(SLOT), lack };
        assert_eq!(
            missing(Lack::Report).to_string(),
            "the report arrears for 2026-11-22T02:45:00Z was not made: `pointsd runs --job arrears` shows why, and \
             `pointsd run arrears --at 2026-11-22T02:45:00Z` makes it"
        );
        let answer = Some("550 no such user".to_owned());
        let mails = |waiting, parked| Lack::Mails { document: 7, waiting, parked, answer: answer.clone() };
        let told = |lack| {
            let told = missing(lack).to_string();
            let begin = "the report arrears for 2026-11-22T02:45:00Z was not delivered to every recipient: ";
            told.strip_prefix(begin).unwrap().to_owned()
        };
        // A waiting mail that is sent again would arrive twice.
        assert_eq!(
            told(mails(2, 0)),
            "waiting mails: 2 (550 no such user); waiting mails are sent once the cause is fixed; see `pointsd reports`"
        );
        assert_eq!(
            told(mails(0, 1)),
            "parked mails: 1 (550 no such user); `pointsd reports resend 7 --to ADDRESS` sends it again; see \
             `pointsd reports`"
        );
        assert_eq!(
            told(mails(2, 1)),
            "waiting mails: 2, parked mails: 1 (550 no such user); waiting mails are sent once the cause is fixed; \
             `pointsd reports resend 7 --to ADDRESS` sends it again; see `pointsd reports`"
        );
        let mails = missing(mails(2, 1));
        assert!(mails.is_same(&missing(Lack::Mails { document: 7, waiting: 0, parked: 1, answer })));
        assert!(!mails.is_same(&missing(Lack::Report)));
    }
}
