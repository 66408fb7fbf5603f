//! The table `pointsd.findings`: records findings and resolves them.
//!
//! A finding **stands** from the run that records it ([`record_findings`]) to the first run that does not find it again
//! ([`resolve_findings`]). It is **new** until a report has listed it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use super::checks::{Finding, finding_from};
use crate::numbers::count;

/// A row of `pointsd.findings`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordedFinding {
    /// The finding, with the values that were seen last.
    #[serde(flatten)]
    pub finding: Finding,
    /// When it was first found.
    pub since: DateTime<Utc>,
    /// The run that found it first.
    pub since_run: i64,
    /// When it was resolved; none while it stands.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Whether it stands and no report has listed it yet.
    pub new: bool,
}

/// The number of findings at the end of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FindingCounts {
    /// Findings that stand.
    pub open: u64,
    /// Of those, the ones that no earlier report has listed.
    pub new: u64,
    /// Findings resolved since the last report.
    pub resolved: u64,
}

/// Records what a run found, in the transaction under way: new findings are inserted, open ones get the values found
/// now. Recording the same findings again changes nothing.
///
/// # Errors
/// If the database fails.
pub async fn record_findings(client: &Client, run: i64, at: DateTime<Utc>, findings: &[Finding]) -> Result<(), Error> {
    record(client, run, at, None, findings).await
}

/// The same of what was found in a bucket.
///
/// # Errors
/// If the database fails.
pub async fn record_findings_of_bucket(
    client: &Client,
    run: i64,
    at: DateTime<Utc>,
    bucket: i16,
    findings: &[Finding],
) -> Result<(), Error> {
    record(client, run, at, Some(bucket), findings).await
}

async fn record(
    client: &Client,
    run: i64,
    at: DateTime<Utc>,
    bucket: Option<i16>,
    findings: &[Finding],
) -> Result<(), Error> {
    // A statement cannot write the same row twice.
    let once: BTreeMap<_, &Finding> = findings.iter().map(|f| ((&f.rule, f.user, f.batch, f.seq), f)).collect();
    if once.is_empty() {
        return Ok(());
    }
    let texts = |text: fn(&Finding) -> &str| once.values().map(|finding| text(finding)).collect::<Vec<&str>>();
    let (rules, expected, found) = (texts(|f| &f.rule), texts(|f| &f.expected), texts(|f| &f.found));
    let users: Vec<Option<Uuid>> = once.values().map(|finding| finding.user).collect();
    let batches: Vec<Option<i32>> = once.values().map(|finding| finding.batch).collect();
    let seqs: Vec<Option<i64>> = once.values().map(|finding| finding.seq).collect();
    let points: Vec<Option<i64>> = once.values().map(|finding| finding.points).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 10] = [
        (&run, Type::INT8),
        (&at, Type::TIMESTAMPTZ),
        (&rules, Type::TEXT_ARRAY),
        (&users, Type::UUID_ARRAY),
        (&batches, Type::INT4_ARRAY),
        (&seqs, Type::INT8_ARRAY),
        (&expected, Type::TEXT_ARRAY),
        (&found, Type::TEXT_ARRAY),
        (&points, Type::INT8_ARRAY),
        (&bucket, Type::INT2),
    ];
    client.query_typed(include_str!("../../sql/proof/finding_record.sql"), &parameters).await?;
    Ok(())
}

/// Records what a tie-out found about the ledger as a whole, and resolves the open findings of that kind that it did not
/// find again. The end of the proof does not do this, because a run may be retried after that end.
///
/// # Errors
/// If the database fails.
pub async fn record_whole_ledger_findings(
    client: &Client,
    run: i64,
    at: DateTime<Utc>,
    findings: &[Finding],
) -> Result<(), Error> {
    record_findings(client, run, at, findings).await?;
    let rules: Vec<&str> = findings.iter().map(|finding| finding.rule.as_str()).collect();
    let resolve = include_str!("../../sql/proof/finding_resolve_whole_ledger.sql");
    client.execute(resolve, &[&run, &at, &rules]).await.map(drop)
}

/// Resolves every open finding that this run did not record again; returns their number. The run must have examined all
/// accounts with findings before.
///
/// # Errors
/// If the database fails.
pub async fn resolve_findings(client: &Client, run: i64, at: DateTime<Utc>) -> Result<u64, Error> {
    client.execute(include_str!("../../sql/proof/finding_resolve.sql"), &[&run, &at]).await
}

/// Counts open findings, and those that are new or resolved since the last report before this run's.
///
/// # Errors
/// If the database fails.
pub async fn count_findings(client: &Client, run: i64) -> Result<FindingCounts, Error> {
    let row = client.query_one(include_str!("../../sql/proof/finding_count.sql"), &[&run]).await?;
    Ok(FindingCounts { open: count(row.try_get(0)?), new: count(row.try_get(1)?), resolved: count(row.try_get(2)?) })
}

/// Counts the open findings about the ledger as a whole.
///
/// # Errors
/// If the database fails.
pub async fn count_whole_ledger_findings(client: &Client) -> Result<u64, Error> {
    let row = client.query_one(include_str!("../../sql/proof/finding_count_whole_ledger.sql"), &[]).await?;
    Ok(count(row.try_get(0)?))
}

/// Streams every open finding, new ones first: memory does not grow with their number.
///
/// # Errors
/// If the database fails.
pub async fn load_open_findings(
    client: &Client,
    run: i64,
) -> Result<impl Stream<Item = Result<RecordedFinding, Error>> + use<>, Error> {
    let rows = client.query_raw(include_str!("../../sql/proof/finding_open.sql"), [run]).await?;
    Ok(rows.map(|row| recorded_finding_from(&row?)))
}

/// Streams every finding that was resolved since the last report before this run's.
///
/// # Errors
/// If the database fails.
pub async fn load_resolved_findings(
    client: &Client,
    run: i64,
) -> Result<impl Stream<Item = Result<RecordedFinding, Error>> + use<>, Error> {
    let rows = client.query_raw(include_str!("../../sql/proof/finding_resolved.sql"), [run]).await?;
    Ok(rows.map(|row| recorded_finding_from(&row?)))
}

/// Loads the users with open findings, in order.
///
/// # Errors
/// If the database fails.
pub async fn load_users_with_findings(client: &Client) -> Result<Vec<Uuid>, Error> {
    let rows = client.query(include_str!("../../sql/proof/finding_users.sql"), &[]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Deletes findings that were resolved before `before`, `limit` at most; returns their number.
///
/// # Errors
/// If the database fails.
pub async fn prune_findings(client: &Client, before: DateTime<Utc>, limit: i64) -> Result<u64, Error> {
    client.execute(include_str!("../../sql/proof/finding_prune.sql"), &[&before, &limit]).await
}

fn recorded_finding_from(row: &Row) -> Result<RecordedFinding, Error> {
    Ok(RecordedFinding {
        finding: finding_from(row.try_get("rule")?, row)?,
        since: row.try_get("since")?,
        since_run: row.try_get("since_run")?,
        resolved_at: row.try_get("resolved_at")?,
        new: row.try_get("new")?,
    })
}
