//! What was found, kept in `pointsd.findings`: a finding stands from the run that finds it first to the run that no
//! longer finds it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use super::checks::Finding;

/// A finding as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptFinding {
    /// What was found, as it was seen last.
    #[serde(flatten)]
    pub finding: Finding,
    /// When it was found first.
    pub since: DateTime<Utc>,
    /// By which run.
    pub since_run: i64,
    /// When it was found gone; none while it stands.
    pub cured: Option<DateTime<Utc>>,
    /// Whether it stands and no report has told it yet.
    pub new: bool,
}

/// How many findings there are, as a run leaves them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FindingCounts {
    /// That stand.
    pub standing: u64,
    /// Of those, the ones that no report before the run's has told.
    pub new: u64,
    /// That are gone since that report.
    pub cured: u64,
}

/// Writes down what a run found, in the transaction that is open: new ones are inserted, standing ones are marked as
/// seen and told as they are now. Doing it again changes nothing.
///
/// # Errors
/// Where the database fails.
pub async fn write_findings(client: &Client, run: i64, at: DateTime<Utc>, findings: &[Finding]) -> Result<(), Error> {
    // One row cannot be written twice by one statement.
    let once: BTreeMap<_, &Finding> = findings.iter().map(|f| ((&f.rule, f.user, f.batch, f.seq), f)).collect();
    if once.is_empty() {
        return Ok(());
    }
    let of = |text: fn(&Finding) -> &str| once.values().map(|finding| text(finding)).collect::<Vec<&str>>();
    let (rules, expected, found) = (of(|f| &f.rule), of(|f| &f.expected), of(|f| &f.found));
    let users: Vec<Option<Uuid>> = once.values().map(|finding| finding.user).collect();
    let batches: Vec<Option<i32>> = once.values().map(|finding| finding.batch).collect();
    let seqs: Vec<Option<i64>> = once.values().map(|finding| finding.seq).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 8] = [
        (&run, Type::INT8),
        (&at, Type::TIMESTAMPTZ),
        (&rules, Type::TEXT_ARRAY),
        (&users, Type::UUID_ARRAY),
        (&batches, Type::INT4_ARRAY),
        (&seqs, Type::INT8_ARRAY),
        (&expected, Type::TEXT_ARRAY),
        (&found, Type::TEXT_ARRAY),
    ];
    client.query_typed(include_str!("../../sql/proof/finding_write.sql"), &parameters).await?;
    Ok(())
}

/// Marks as cured what stands and was not seen by this run, which must have looked at all that stood; returns how many.
///
/// # Errors
/// Where the database fails.
pub async fn cure_findings(client: &Client, run: i64, at: DateTime<Utc>) -> Result<u64, Error> {
    client.execute(include_str!("../../sql/proof/finding_cure.sql"), &[&run, &at]).await
}

/// How many findings stand, and how many are new and gone since the last report before this run's.
///
/// # Errors
/// Where the database fails.
pub async fn count_findings(client: &Client, run: i64) -> Result<FindingCounts, Error> {
    let row = client.query_one(include_str!("../../sql/proof/finding_count.sql"), &[&run]).await?;
    let count = |place: usize| Ok::<_, Error>(u64::try_from(row.try_get::<_, i64>(place)?).unwrap_or(0));
    Ok(FindingCounts { standing: count(0)?, new: count(1)?, cured: count(2)? })
}

/// How many findings about the ledger as a whole stand.
///
/// # Errors
/// If the database fails.
pub async fn count_whole_ledger_findings(client: &Client) -> Result<u64, Error> {
    let row = client.query_one(include_str!("../../sql/proof/finding_count_whole.sql"), &[]).await?;
    Ok(u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0))
}

/// Every finding that stands, those first that no report before this run's has told, as they come from the server: memory does not grow with them.
///
/// # Errors
/// Where the database fails.
pub async fn standing_findings(
    client: &Client,
    run: i64,
) -> Result<impl Stream<Item = Result<KeptFinding, Error>> + use<>, Error> {
    let rows = client.query_raw(include_str!("../../sql/proof/finding_standing.sql"), [run]).await?;
    Ok(rows.map(|row| kept(&row?)))
}

/// Every finding that is gone since the last report before this run's, as they come from the server.
///
/// # Errors
/// Where the database fails.
pub async fn cured_findings(
    client: &Client,
    run: i64,
) -> Result<impl Stream<Item = Result<KeptFinding, Error>> + use<>, Error> {
    let rows = client.query_raw(include_str!("../../sql/proof/finding_cured.sql"), [run]).await?;
    Ok(rows.map(|row| kept(&row?)))
}

/// The accounts with findings that stand, in order.
///
/// # Errors
/// Where the database fails.
pub async fn found_users(client: &Client) -> Result<Vec<Uuid>, Error> {
    let rows = client.query(include_str!("../../sql/proof/finding_users.sql"), &[]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

fn kept(row: &Row) -> Result<KeptFinding, Error> {
    Ok(KeptFinding {
        finding: Finding {
            rule: row.try_get(0)?,
            user: row.try_get(1)?,
            batch: row.try_get(2)?,
            seq: row.try_get(3)?,
            expected: row.try_get(4)?,
            found: row.try_get(5)?,
        },
        since: row.try_get(6)?,
        since_run: row.try_get(7)?,
        cured: row.try_get(8)?,
        new: row.try_get(9)?,
    })
}
