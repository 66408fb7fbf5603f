//! The fields of a posting as a line of a file and a row of the queue name them, before they are known to fit together.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::ledger::{Kind, Posting};
use crate::prices;
use crate::time::parse_time;

/// The fields of a posting, as a line or a row names them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostingFields {
    pub op: Operation,
    pub user: Uuid,
    pub points: i64,
    pub source: Option<String>,
    pub source_type: Option<String>,
    pub source_id: Option<String>,
    pub order_id: Option<i64>,
    pub key: Option<String>,
    #[serde(default, deserialize_with = "json_time")]
    pub expires_at: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "json_duration")]
    pub duration: Option<Decimal>,
    pub description: Option<String>,
    #[serde(default, deserialize_with = "json_time")]
    pub at: Option<DateTime<Utc>>,
}

/// The columns that a CSV header may name: the fields above.
pub const COLUMNS: [&str; 12] = [
    "op",
    "user",
    "points",
    "source",
    "source_type",
    "source_id",
    "order_id",
    "key",
    "expires_at",
    "duration",
    "description",
    "at",
];

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    Recharge,
    Consume,
}

impl PostingFields {
    /// The posting that the fields describe, or why they describe none. `clock` tells the time where `at` is absent.
    pub fn into_posting(self, clock: fn() -> DateTime<Utc>) -> Result<Posting, String> {
        let unfit = |field: &str, op: &str, set: bool| {
            if set { Err(format!("{field} does not belong to a {op}")) } else { Ok(()) }
        };
        let missing = |field: &str, op: &str| format!("{field} is missing, a {op} needs it");
        let kind = match self.op {
            Operation::Recharge => {
                unfit("source_type", "recharge; it has a source", self.source_type.is_some())?;
                unfit("source_id", "recharge; it has an order_id", self.source_id.is_some())?;
                unfit("duration", "recharge", self.duration.is_some())?;
                let source = self.source.ok_or_else(|| missing("source", "recharge"))?;
                Kind::Recharge { source, order_id: self.order_id, expires_at: self.expires_at }
            }
            Operation::Consume => {
                unfit("source", "consume; it has a source_type", self.source.is_some())?;
                unfit("order_id", "consume; it has a source_id", self.order_id.is_some())?;
                unfit("expires_at", "consume", self.expires_at.is_some())?;
                let source_type = self.source_type.ok_or_else(|| missing("source_type", "consume"))?;
                let source_id = self.source_id.ok_or_else(|| missing("source_id", "consume"))?;
                Kind::Consume { source_type, source_id, duration: self.duration }
            }
        };
        let at = self.at.unwrap_or_else(clock);
        let posting =
            Posting { user: self.user, points: self.points, kind, key: self.key, description: self.description, at };
        match posting.malformed() {
            Some(why) => Err(why),
            None => Ok(posting),
        }
    }
}

fn json_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse_time(&text)).transpose().map_err(serde::de::Error::custom)
}

/// Reads the digits of a JSON number as they are written: a float in between could change them.
fn json_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Decimal>, D::Error> {
    let number = Option::<Box<RawValue>>::deserialize(deserializer)?;
    let seconds = number.map(|number| prices::parse_seconds(number.get().trim_matches('"')));
    seconds.transpose().map_err(serde::de::Error::custom)
}
