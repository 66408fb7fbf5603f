//! The fields of a posting as a line of a file and a row of the queue name them, before they are known to fit together.

use std::fmt;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::ledger::{Beyond, Kind, Money, Opening, Posting, Reference};
use crate::prices;
use crate::time::parse_time;

/// The fields of a posting, as a line or a row names them.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema), schema(as = Posting))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostingFields {
    /// What is to be done.
    pub op: Operation,
    /// The user of the account.
    #[serde(deserialize_with = "json_user")]
    pub user: Uuid,
    /// 1 to 1,000,000,000,000. A refund or a void without points takes all that is left; a release has none.
    pub points: Option<i64>,
    /// Of a recharge its source, of a void that of its recharge.
    pub source: Option<String>,
    /// The kind of service.
    pub source_type: Option<String>,
    /// The piece of work, such as a task.
    pub source_id: Option<String>,
    /// The order that paid for a recharge.
    pub order_id: Option<i64>,
    /// What the customer paid for a recharge, 0 to 1,000,000,000,000,000 minor units of `currency`.
    pub paid: Option<i64>,
    /// The currency of `paid` (ISO 4217), such as CNY.
    pub currency: Option<String>,
    /// The key of the consume, recharge or hold that is meant.
    pub of: Option<String>,
    /// Of a void: `used` (points that were used are taken too) or `remaining`.
    pub beyond: Option<String>,
    /// The idempotency key, unique within the account.
    pub key: Option<String>,
    /// Of a recharge: when its points expire (RFC 3339).
    #[serde(default, deserialize_with = "json_time")]
    #[cfg_attr(feature = "service", schema(value_type = Option<String>, format = DateTime))]
    pub expires_at: Option<DateTime<Utc>>,
    /// Of a hold: when it ends (RFC 3339).
    #[serde(default, deserialize_with = "json_time")]
    #[cfg_attr(feature = "service", schema(value_type = Option<String>, format = DateTime))]
    pub until: Option<DateTime<Utc>>,
    /// Of a consume: seconds of work.
    #[serde(default, deserialize_with = "json_duration")]
    #[cfg_attr(feature = "service", schema(value_type = Option<f64>))]
    pub duration: Option<Decimal>,
    /// For people. A hold and a release have none.
    pub description: Option<String>,
    /// When it happened (RFC 3339); by default now.
    #[serde(default, deserialize_with = "json_time")]
    #[cfg_attr(feature = "service", schema(value_type = Option<String>, format = DateTime))]
    pub at: Option<DateTime<Utc>>,
}

/// The columns that a CSV header may name: the fields above.
pub const COLUMNS: [&str; 17] = [
    "op",
    "user",
    "points",
    "source",
    "source_type",
    "source_id",
    "order_id",
    "paid",
    "currency",
    "of",
    "beyond",
    "key",
    "expires_at",
    "until",
    "duration",
    "description",
    "at",
];

#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    Recharge,
    Consume,
    Refund,
    Void,
    Hold,
    Release,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 6] = [
        Operation::Recharge,
        Operation::Consume,
        Operation::Refund,
        Operation::Void,
        Operation::Hold,
        Operation::Release,
    ];

    /// As files, rows and JSON write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Recharge => "recharge",
            Operation::Consume => "consume",
            Operation::Refund => "refund",
            Operation::Void => "void",
            Operation::Hold => "hold",
            Operation::Release => "release",
        }
    }

    /// Reads what [`Operation::as_str`] writes.
    pub fn parse(text: &str) -> Option<Operation> {
        Operation::ALL.into_iter().find(|op| op.as_str() == text)
    }

    /// The optional fields that it has, besides points, description and `at`, which all have.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Operation::Recharge => &["source", "order_id", "paid", "currency", "expires_at", "key"],
            Operation::Consume => &["source_type", "source_id", "duration", "key"],
            Operation::Refund => &["source_type", "source_id", "of", "key"],
            Operation::Void => &["source", "order_id", "of", "beyond", "key"],
            Operation::Hold => &["source_type", "source_id", "until", "key"],
            Operation::Release => &["source_type", "source_id", "of"],
        }
    }
}

impl PostingFields {
    /// The fields of a posting. An opening has no operation here: only an import posts it.
    pub fn of(posting: &Posting) -> PostingFields {
        let mut fields = PostingFields {
            op: Operation::Recharge,
            user: posting.user,
            points: posting.points,
            source: None,
            source_type: None,
            source_id: None,
            order_id: None,
            paid: None,
            currency: None,
            of: None,
            beyond: None,
            key: posting.key.clone(),
            expires_at: None,
            until: None,
            duration: None,
            description: posting.description.clone(),
            at: Some(posting.at),
        };
        match &posting.kind {
            Kind::Recharge { source, order_id, expires_at, paid } => {
                (fields.source, fields.order_id) = (Some(source.clone()), *order_id);
                fields.expires_at = *expires_at;
                (fields.paid, fields.currency) = paid.map(|paid| (paid.amount, paid.currency.to_string())).unzip();
            }
            Kind::Consume { source_type, source_id, duration } => {
                fields.op = Operation::Consume;
                (fields.source_type, fields.source_id) = (Some(source_type.clone()), Some(source_id.clone()));
                fields.duration = *duration;
            }
            Kind::Refund { .. } => fields.op = Operation::Refund,
            Kind::Void { beyond, .. } => {
                fields.op = Operation::Void;
                fields.beyond = (*beyond == Beyond::Remaining).then(|| "remaining".to_owned());
            }
            Kind::Hold { source_type, source_id, until } => {
                fields.op = Operation::Hold;
                (fields.source_type, fields.source_id) = (Some(source_type.clone()), Some(source_id.clone()));
                fields.until = Some(*until);
            }
            Kind::Release { .. } => fields.op = Operation::Release,
            Kind::Opening(_) => {}
        }
        match posting.reference().cloned() {
            None => {}
            Some(Reference::Key(key)) => fields.of = Some(key),
            Some(Reference::Work { source_type, source_id }) => {
                (fields.source_type, fields.source_id) = (Some(source_type), Some(source_id));
            }
            Some(Reference::Order { source, order_id }) => {
                (fields.source, fields.order_id) = (Some(source), Some(order_id));
            }
        }
        fields
    }

    /// The posting that the fields describe, or why they describe none. `clock` tells the time where `at` is absent.
    pub fn into_posting(self, clock: fn() -> DateTime<Utc>) -> Result<Posting, String> {
        self.check_fields()?;
        let op = self.op.as_str();
        let needed = |field: &str, value: Option<String>| value.ok_or_else(|| missing(field, op));
        let kind = match self.op {
            Operation::Recharge => Kind::Recharge {
                source: needed("source", self.source)?,
                order_id: self.order_id,
                expires_at: self.expires_at,
                paid: price(self.paid, self.currency.as_deref())?,
            },
            Operation::Consume => Kind::Consume {
                source_type: needed("source_type", self.source_type)?,
                source_id: needed("source_id", self.source_id)?,
                duration: self.duration,
            },
            Operation::Refund => Kind::Refund { consume: work(self.of, self.source_type, self.source_id, "refund")? },
            Operation::Void => Kind::Void {
                recharge: order(self.of, self.source, self.order_id)?,
                beyond: match self.beyond.as_deref() {
                    None | Some("used") => Beyond::Used,
                    Some("remaining") => Beyond::Remaining,
                    Some(_) => return Err("beyond is neither used nor remaining".to_owned()),
                },
            },
            Operation::Hold => Kind::Hold {
                source_type: needed("source_type", self.source_type)?,
                source_id: needed("source_id", self.source_id)?,
                until: self.until.ok_or_else(|| missing("until", op))?,
            },
            Operation::Release => Kind::Release { hold: work(self.of, self.source_type, self.source_id, "release")? },
        };
        let at = self.at.unwrap_or_else(clock);
        let posting =
            Posting { user: self.user, points: self.points, kind, key: self.key, description: self.description, at };
        match posting.malformed() {
            Some(why) => Err(why),
            None => Ok(posting),
        }
    }

    /// Refuses a field that the operation does not have: it may stand for another operation.
    fn check_fields(&self) -> Result<(), String> {
        let given = [
            ("source", self.source.is_some()),
            ("source_type", self.source_type.is_some()),
            ("source_id", self.source_id.is_some()),
            ("order_id", self.order_id.is_some()),
            ("paid", self.paid.is_some()),
            ("currency", self.currency.is_some()),
            ("of", self.of.is_some()),
            ("beyond", self.beyond.is_some()),
            ("key", self.key.is_some()),
            ("expires_at", self.expires_at.is_some()),
            ("until", self.until.is_some()),
            ("duration", self.duration.is_some()),
        ];
        let unfit = given.into_iter().find(|(field, given)| *given && !self.op.fields().contains(field));
        let Some((field, _)) = unfit else { return Ok(()) };
        let instead = match (self.op, field) {
            (Operation::Recharge | Operation::Void, "source_type") => "; it has a source",
            (Operation::Recharge | Operation::Void, "source_id") => "; it has an order_id",
            (Operation::Recharge | Operation::Void, _) => "",
            (_, "source") => "; it has a source_type",
            (_, "order_id") => "; it has a source_id",
            (Operation::Release, "key") => "; it has the hold's key in of",
            _ => "",
        };
        Err(format!("{field} does not belong to a {}{instead}", self.op.as_str()))
    }
}

/// What was paid for a recharge, in its currency.
pub fn price(paid: Option<i64>, currency: Option<&str>) -> Result<Option<Money>, String> {
    match (paid, currency) {
        (None, None) => Ok(None),
        (Some(amount), Some(code)) => {
            let currency = code.parse().map_err(|why| format!("currency: {why}"))?;
            Ok(Some(Money { amount, currency }))
        }
        (Some(_), None) => Err("currency is missing: paid needs it".to_owned()),
        (None, Some(_)) => Err("paid is missing: without it a currency says nothing".to_owned()),
    }
}

/// What an account brings along from elsewhere, as a line of an import names it.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpeningFields {
    /// The user of the account.
    #[serde(deserialize_with = "json_user")]
    pub user: Uuid,
    /// The points that are left of a batch; below zero a debt.
    pub points: i64,
    /// Where the points came from.
    pub source: Option<String>,
    /// When the batch was opened (RFC 3339), by default now; when the debt began.
    #[serde(default, deserialize_with = "json_time")]
    pub opened_at: Option<DateTime<Utc>>,
    /// When the points expire (RFC 3339); by default after the term of the source, counted from `opened_at`.
    #[serde(default, deserialize_with = "json_time")]
    pub expires_at: Option<DateTime<Utc>>,
    /// What the batch was called elsewhere.
    pub id: Option<String>,
    /// The part of the price that is not released yet, in minor units of `currency`.
    pub paid: Option<i64>,
    /// The currency of `paid` (ISO 4217).
    pub currency: Option<String>,
    /// For people.
    pub description: Option<String>,
}

/// The columns that the CSV header of an import may name: the fields above.
pub const OPENING_COLUMNS: [&str; 9] =
    ["user", "points", "source", "opened_at", "expires_at", "id", "paid", "currency", "description"];

impl OpeningFields {
    /// The posting that the fields describe, or why they describe none.
    pub fn into_posting(self, clock: fn() -> DateTime<Utc>) -> Result<Posting, String> {
        let (at, opening) = if self.points < 0 { self.debt()? } else { self.batch(clock)? };
        let posting = Posting::opening(self.user, self.points.saturating_abs(), opening, at);
        let posting = Posting { description: self.description, ..posting };
        match posting.malformed() {
            Some(why) => Err(why),
            None => Ok(posting),
        }
    }

    fn batch(&self, clock: fn() -> DateTime<Utc>) -> Result<(DateTime<Utc>, Opening), String> {
        let id = self.id.clone().ok_or(
            "id is missing: give each batch of the account one of its own, or importing the file again would bring its points twice",
        )?;
        let source = self.source.clone().ok_or("source is missing: name where the points came from")?;
        let paid = price(self.paid, self.currency.as_deref())?;
        let points = Opening::Points { id, source, expires_at: self.expires_at, paid };
        Ok((self.opened_at.unwrap_or_else(clock), points))
    }

    fn debt(&self) -> Result<(DateTime<Utc>, Opening), String> {
        let given = [
            ("source", self.source.is_some()),
            ("expires_at", self.expires_at.is_some()),
            ("id", self.id.is_some()),
            ("paid", self.paid.is_some()),
            ("currency", self.currency.is_some()),
        ];
        if let Some((field, _)) = given.into_iter().find(|(_, given)| *given) {
            return Err(format!("{field} does not belong to a debt, which is points below zero: leave it empty"));
        }
        let at = self.opened_at.ok_or("opened_at is missing: a debt needs the time when it began, for its age")?;
        Ok((at, Opening::Debt))
    }
}

fn missing(field: &str, op: &str) -> String {
    format!("{field} is missing, a {op} needs it")
}

/// The consume or hold that a refund or release names.
fn work(
    of: Option<String>,
    source_type: Option<String>,
    source_id: Option<String>,
    op: &str,
) -> Result<Reference, String> {
    match (of, source_type, source_id) {
        (Some(key), None, None) => Ok(Reference::Key(key)),
        (None, Some(source_type), Some(source_id)) => Ok(Reference::Work { source_type, source_id }),
        (Some(_), _, _) => Err(format!("a {op} has either of, or source_type and source_id")),
        (None, None, _) => Err(missing("source_type", op)),
        (None, Some(_), None) => Err(missing("source_id", op)),
    }
}

/// The recharge that a void names.
fn order(of: Option<String>, source: Option<String>, order_id: Option<i64>) -> Result<Reference, String> {
    match (of, source, order_id) {
        (Some(key), None, None) => Ok(Reference::Key(key)),
        (None, Some(source), Some(order_id)) => Ok(Reference::Order { source, order_id }),
        (Some(_), _, _) => Err("a void has either of, or source and order_id".to_owned()),
        (None, None, _) => Err(missing("source", "void")),
        (None, Some(_), None) => Err("order_id is missing; a void of a recharge without an order has of".to_owned()),
    }
}

/// Reads the user of an account.
///
/// # Errors
/// What it is instead.
pub fn parse_user(text: &str) -> Result<Uuid, String> {
    Uuid::parse_str(text).map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        let more = if shown.len() < text.len() { "…" } else { "" };
        format!("`{shown}{more}` is no UUID, such as 6a0f9a56-2f0c-4c57-9d2f-0d6a5e6f1c11")
    })
}

fn json_user<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
    struct User;
    impl Visitor<'_> for User {
        type Value = Uuid;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a UUID")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Uuid, E> {
            parse_user(text).map_err(E::custom)
        }
    }
    deserializer.deserialize_str(User)
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
