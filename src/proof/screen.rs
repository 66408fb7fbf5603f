//! The screens: one statement over many accounts that moves the checkpoints of sound accounts and returns the suspects.

use chrono::{DateTime, Utc};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use crate::numbers::count;

/// The outcome of a screen.
#[derive(Debug, Default)]
pub(super) struct Screened {
    pub(super) size: Size,
    /// The users with accounts that may not be sound.
    pub(super) suspects: Vec<Uuid>,
    /// Of a whole range, the fingerprint of its entries recorded before the end of the last closed business day.
    pub(super) closed: Option<i64>,
}

/// The number of rows that were read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    pub(super) accounts: u64,
    pub(super) batches: u64,
    pub(super) entries: u64,
}

/// The outcome of comparing a range with its checkpoints.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) size: Size,
    /// The digest groups with sums that differ from the checkpoints; group 0 stands for all without digest groups.
    pub(super) differing: Vec<i32>,
    /// The users with entries after their checkpoint, or without a checkpoint.
    pub(super) moved_on: Vec<Uuid>,
    /// As [`Screened::closed`].
    pub(super) closed: Option<i64>,
}

/// The users of a bucket from `first` up to `end`, without it; to the last one if there is no end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) bucket: i16,
    pub(super) first: Uuid,
    pub(super) end: Option<Uuid>,
}

/// Compares a range with its checkpoints, as a whole or by digest group.
pub(super) async fn compare_range(
    client: &Client,
    Range { bucket, first, end }: Range,
    by_digest_group: bool,
    closed_until: Option<DateTime<Utc>>,
) -> Result<Compared, Error> {
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (&first, Type::UUID),
        (&end, Type::UUID),
        (&by_digest_group, Type::BOOL),
        (&closed_until, Type::TIMESTAMPTZ),
        (&bucket, Type::INT2),
    ];
    let rows = client.query_typed(include_str!("../../sql/proof/range_compare.sql"), &parameters).await?;
    let Some(row) = rows.first() else { return Ok(Compared::default()) };
    Ok(Compared {
        size: size_from(row)?,
        differing: row.try_get("differing")?,
        moved_on: row.try_get("moved_on")?,
        closed: row.try_get("closed")?,
    })
}

/// Screens a range, or only its users in these digest groups. `first_proof`: nothing was proved before.
pub(super) async fn screen_range(
    client: &Client,
    Range { bucket, first, end }: Range,
    first_proof: bool,
    digest_groups: Option<&[i32]>,
    closed_until: Option<DateTime<Utc>>,
) -> Result<Screened, Error> {
    let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
        (&first, Type::UUID),
        (&end, Type::UUID),
        (&first_proof, Type::BOOL),
        (&digest_groups, Type::INT4_ARRAY),
        (&closed_until, Type::TIMESTAMPTZ),
        (&bucket, Type::INT2),
    ];
    screened_from(&client.query_typed(include_str!("../../sql/proof/screen_range.sql"), &parameters).await?)
}

/// Screens these users of a bucket. Those `with_findings` are suspects in any case.
pub(super) async fn screen_users(
    client: &Client,
    bucket: i16,
    users: &[Uuid],
    with_findings: &[Uuid],
) -> Result<Screened, Error> {
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&users, Type::UUID_ARRAY), (&with_findings, Type::UUID_ARRAY), (&bucket, Type::INT2)];
    screened_from(&client.query_typed(include_str!("../../sql/proof/screen_users.sql"), &parameters).await?)
}

fn screened_from(rows: &[Row]) -> Result<Screened, Error> {
    let Some(row) = rows.first() else { return Ok(Screened::default()) };
    Ok(Screened { size: size_from(row)?, suspects: row.try_get("suspects")?, closed: row.try_get("closed")? })
}

fn size_from(row: &Row) -> Result<Size, Error> {
    let count = |column: &str| row.try_get(column).map(count);
    Ok(Size { accounts: count("accounts")?, batches: count("batches")?, entries: count("entries")? })
}
