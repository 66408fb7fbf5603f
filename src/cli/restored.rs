//! `db restored`: makes a database safe for a daemon that was restored from a backup.
//!
//! A daemon takes the time since the backup for an outage. It would catch up with slots, continue runs and send mails that were
//! done before the restore, and finance would get them twice.

use std::collections::BTreeMap;

use anyhow::Context as _;
use chrono::{DateTime, SubsecRound as _, Utc};
use deadpool_postgres::Transaction;
use serde::Serialize;

use super::output::{counted, facts};
use super::{Outcome, Program, caller_name};
use crate::database::Database;
use crate::jobs::REGISTRY;
use crate::scheduler::{JobRow, Store};
use crate::time::{span_text, time_text};

/// Slots that are counted for each job at most.
const MOST_SLOTS: usize = 100_000;

/// What the restore cost, and what was done about it.
#[derive(Serialize)]
struct Restored {
    database: String,
    /// The last write that the database knows; None if it is empty.
    ends_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
    /// The slots of each job that are not caught up with.
    slots: BTreeMap<&'static str, usize>,
    /// Runs that were under way in the backup.
    cancelled: Vec<OpenRun>,
    /// The documents of the mails that waited in the backup.
    parked: Vec<i64>,
}

#[derive(Serialize)]
struct OpenRun {
    run: i64,
    job: String,
    slot: DateTime<Utc>,
}

/// Settles what was under way in the backup, and tells which time is gone.
pub(super) async fn run(program: &Program) -> anyhow::Result<Outcome> {
    program.with_ledger(async |database: &Database| settle(database, program).await).await
}

async fn settle(database: &Database, program: &Program) -> anyhow::Result<Outcome> {
    let names: Vec<&str> = REGISTRY.iter().map(|job| job.name).collect();
    let jobs = Store::new(database, program.config.jobs.takeover).jobs(&names).await?;
    let mut client = database.connection().await?;
    let transaction = client.transaction().await?;
    // A daemon that starts from now on waits: it begins by writing to the jobs.
    transaction.batch_execute("LOCK TABLE pointsd.jobs, pointsd.runs IN SHARE ROW EXCLUSIVE MODE").await?;
    let others: i64 =
        transaction.query_one(include_str!("../../sql/restore/session_other.sql"), &[]).await?.try_get(0)?;
    if others > 0 {
        anyhow::bail!(
            "pointsd is already at work on this database, with {}: stop the daemons and commands, then call again",
            counted(u64::try_from(others).unwrap_or(0), "session", "sessions")
        );
    }
    let row = transaction.query_one(include_str!("../../sql/restore/sign_last.sql"), &[]).await?;
    let (now, ends_at): (DateTime<Utc>, _) = (row.try_get(0)?, row.try_get(1)?);
    let why = format!(
        "the database was restored from a backup, says {} at {}",
        caller_name(),
        time_text(now.trunc_subsecs(0))
    );
    let restored = Restored {
        database: database.describe(),
        ends_at,
        slots: lost_slots(program, &jobs, ends_at, now),
        ..change(&transaction, now, &why).await?
    };
    transaction.commit().await.context("nothing was changed")?;
    program.answer(&restored, || text(&restored))?;
    Ok(Outcome::Done)
}

/// The number of slots of each job between the last one that the database knows and now.
fn lost_slots(
    program: &Program,
    jobs: &[JobRow],
    ends_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> BTreeMap<&'static str, usize> {
    let lost = REGISTRY.iter().filter_map(|job| {
        let row = jobs.iter().find(|row| row.job == job.name)?;
        let settings = (job.settings)(&program.config);
        let after = row.last_slot.or(ends_at).filter(|_| settings.enabled)?;
        let lost = settings.schedule.between(after, now).take(MOST_SLOTS).count();
        (lost > 0).then_some((job.name, lost))
    });
    lost.collect()
}

async fn change(transaction: &Transaction<'_>, now: DateTime<Utc>, why: &str) -> anyhow::Result<Restored> {
    let cancelled = transaction.query(include_str!("../../sql/restore/run_cancel_open.sql"), &[&why]).await?;
    let cancelled =
        cancelled.iter().map(|row| Ok(OpenRun { run: row.try_get(0)?, job: row.try_get(1)?, slot: row.try_get(2)? }));
    let cancelled = cancelled.collect::<Result<_, tokio_postgres::Error>>()?;
    let parked = transaction.query(include_str!("../../sql/restore/mail_park.sql"), &[&why]).await?;
    let parked = parked.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    transaction.execute(include_str!("../../sql/restore/job_restart.sql"), &[&now]).await?;
    transaction.execute(include_str!("../../sql/restore/daemon_forget.sql"), &[]).await?;
    Ok(Restored { database: String::new(), ends_at: None, now, slots: BTreeMap::new(), cancelled, parked })
}

fn text(restored: &Restored) -> String {
    let Restored { database, ends_at, now, slots, cancelled, parked } = restored;
    let none = || "none".to_owned();
    let gone = ends_at.map_or_else(none, |ends_at| {
        let to_second = |time: DateTime<Utc>| time_text(time.trunc_subsecs(0));
        format!("{} to {}, {}", to_second(ends_at), to_second(*now), span_text(*now - ends_at))
    });
    let joined = |parts: Vec<String>| if parts.is_empty() { none() } else { parts.join(", ") };
    let slots = slots.iter().map(|(job, count)| format!("{job} {count}")).collect();
    let run = |open: &OpenRun| format!("run {} of {} for {}", open.run, open.job, time_text(open.slot));
    let runs = cancelled.iter().map(run).collect();
    let mut documents = parked.clone();
    documents.sort_unstable();
    documents.dedup();
    let mails = match parked.len() {
        0 => none(),
        count => {
            let reports = joined(documents.iter().map(ToString::to_string).collect());
            format!("{} of the reports {reports}", counted(count as u64, "mail", "mails"))
        }
    };
    let table = facts(&[
        ("time that is gone", gone),
        ("slots not caught up with", joined(slots)),
        ("runs cancelled", joined(runs)),
        ("mails parked", mails),
    ]);
    format!(
        "{database} is ready for a daemon: nothing that was done before the restore is done again.\n{table}\n\
         Post what was recorded in that time again; postings that the ledger has replay. If finance lacks a report of that \
         time, `pointsd run JOB --at SLOT` makes it. If it lacks a parked one, `pointsd reports resend ID` mails it."
    )
}
