//! Buckets: in which part of the ledger an account lies. Each key of an account's rows begins with its bucket.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use sha2::{Digest as _, Sha256};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};
use uuid::Uuid;

use crate::database::Cursor;

/// The buckets of a ledger: one on a plain server, more where its tables are spread over several.
///
/// A user's bucket is the first byte of the SHA-256 of the user, modulo the number of buckets, which is a power of two up to 256.
/// The schema computes the same (`pointsd.bucket_of`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets {
    count: i16,
    /// Whether they lie on several servers.
    spread: bool,
}

impl Buckets {
    /// Reads their number from the database, and whether they lie on several servers.
    ///
    /// # Errors
    /// If the database fails, or lacks the ledger's schema.
    pub async fn read(client: &Client) -> Result<Buckets, tokio_postgres::Error> {
        let rows = client.query_typed(include_str!("../../sql/ledger/bucket_count.sql"), &[]).await?;
        let Some(row) = rows.first() else { return Ok(Buckets::new(1)) };
        Ok(Buckets { count: row.try_get(0)?, spread: row.try_get(1)? })
    }

    /// So many, to tell in which of them a user's account lies.
    pub(crate) fn new(count: i16) -> Buckets {
        Buckets { count, spread: false }
    }

    /// Keeps a bucket where it lies until the transaction ends, by bucket_keep.sql. Only buckets on several servers move.
    pub(crate) async fn keep(self, client: &Client, statement: &Statement, bucket: i16) -> Result<(), Error> {
        if self.spread {
            client.execute(statement, &[&bucket]).await?;
        }
        Ok(())
    }

    /// Whether they lie on several servers.
    pub(crate) fn are_spread(self) -> bool {
        self.spread
    }

    /// Whether the sweep needs two statements: a node of a cluster runs none that inserts and updates. Several buckets on a plain server
    /// take the same way, so that the tests cover it.
    pub(crate) fn need_two_statements(self) -> bool {
        self.spread || self.count > 1
    }

    /// How many they are.
    pub fn count(self) -> i16 {
        self.count
    }

    /// Each of them.
    pub fn all(self) -> impl Iterator<Item = i16> {
        0..self.count
    }

    /// The bucket of a user's account.
    pub fn of(self, user: Uuid) -> i16 {
        if self.count <= 1 {
            return 0;
        }
        i16::from(part_of(user)) % self.count
    }

    /// The rows of a statement for each bucket, one bucket after the other. Its last parameter is the bucket.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn query_each(
        self,
        client: &Client,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        let statement = client.prepare(sql).await?;
        let mut rows = Vec::new();
        for bucket in self.all() {
            rows.extend(client.query(&statement, &with_bucket(parameters, &bucket)).await?);
        }
        Ok(rows)
    }

    /// Hands each row of a statement to `each`, `at_once` of them in memory. The statement is asked bucket by bucket, by its last parameter, and
    /// gives the rows of a bucket in the order of `key`. Together they come in this order as well.
    ///
    /// # Errors
    /// If the database fails, or `each` does: its error ends the read.
    pub async fn for_each_in_order<K: Ord, E: From<Error>>(
        self,
        snapshot: &Client,
        (name, sql): (&str, &str),
        parameters: &[&(dyn ToSql + Sync)],
        at_once: usize,
        key: impl Fn(&Row) -> Result<K, Error>,
        mut each: impl FnMut(&Row) -> Result<(), E>,
    ) -> Result<(), E> {
        Cursor::close_all(snapshot).await?;
        let at_once = (at_once / usize::from(self.count.unsigned_abs()).max(1)).max(20);
        let (mut parts, mut next) = (Vec::new(), BinaryHeap::new());
        for bucket in self.all() {
            let name = format!("{name}_{bucket}");
            let declare = format!("DECLARE {name} NO SCROLL CURSOR FOR\n{sql}");
            let cursor = Cursor::declare(snapshot, name, &declare, &with_bucket(parameters, &bucket), at_once).await?;
            let mut part = Part { cursor, rows: VecDeque::new() };
            if let Some(row) = part.peek(snapshot).await? {
                next.push(Reverse((key(row)?, parts.len())));
            }
            parts.push(part);
        }
        while let Some(Reverse((_, nth))) = next.pop() {
            let Some(part) = parts.get_mut(nth) else { break };
            if let Some(row) = part.rows.pop_front() {
                each(&row)?;
            }
            if let Some(row) = part.peek(snapshot).await? {
                next.push(Reverse((key(row)?, nth)));
            }
        }
        Ok(())
    }

    /// Parts what belongs to users by the bucket of each, in the order of the buckets. Within a bucket the order stays.
    pub fn part<T>(self, items: impl IntoIterator<Item = T>, user: impl Fn(&T) -> Uuid) -> BTreeMap<i16, Vec<T>> {
        let mut parts = BTreeMap::new();
        if self.count <= 1 {
            let items: Vec<T> = items.into_iter().collect();
            if !items.is_empty() {
                parts.insert(0, items);
            }
            return parts;
        }
        for item in items {
            parts.entry(self.of(user(&item))).or_insert_with(Vec::new).push(item);
        }
        parts
    }
}

/// The rows of one bucket, as they are read.
struct Part {
    cursor: Cursor,
    rows: VecDeque<Row>,
}

impl Part {
    /// Its next row, which stays.
    async fn peek(&mut self, client: &Client) -> Result<Option<&Row>, Error> {
        if self.rows.is_empty() {
            self.rows.extend(self.cursor.fetch(client).await?.unwrap_or_default());
        }
        Ok(self.rows.front())
    }
}

fn with_bucket<'a>(parameters: &[&'a (dyn ToSql + Sync)], bucket: &'a i16) -> Vec<&'a (dyn ToSql + Sync)> {
    parameters.iter().copied().chain([bucket as &(dyn ToSql + Sync)]).collect()
}

/// In which of 256 parts a user's account lies: a bucket is made of some of them.
pub(crate) fn part_of(user: Uuid) -> u8 {
    Sha256::digest(user).first().copied().unwrap_or_default()
}
