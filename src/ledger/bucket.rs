//! Buckets: in which part of the ledger an account lies. Each key of an account's rows begins with its bucket.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use tokio_postgres::Client;
use uuid::Uuid;

/// The buckets of a ledger: one on a plain server, more where its tables are spread over several.
///
/// A user's bucket is the first byte of the SHA-256 of the user, modulo the number of buckets, which is a power of two up to 256.
/// The schema computes the same (`pointsd.bucket_of`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets {
    count: i16,
}

impl Buckets {
    /// Reads their number from the database.
    ///
    /// # Errors
    /// If the database fails, or lacks the ledger's schema.
    pub async fn read(client: &Client) -> Result<Buckets, tokio_postgres::Error> {
        let rows = client.query_typed(include_str!("../../sql/ledger/bucket_count.sql"), &[]).await?;
        let count = rows.first().map(|row| row.try_get(0)).transpose()?;
        Ok(Buckets { count: count.unwrap_or(1) })
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
        let first = Sha256::digest(user).first().copied().unwrap_or_default();
        i16::from(first) % self.count
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
