//! Replies as JSON.

use serde::Serialize;
use uuid::Uuid;

use crate::ledger::{Hold, Posted, Reply};

/// A reply as JSON, for one posting or for a line of a file.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema), schema(as = Reply))]
#[derive(Serialize)]
pub struct ReplyJson<'a> {
    /// The number of its line, or its place in an array, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// `posted`, `held`, `released`, `replayed` or `rejected`.
    status: &'static str,
    #[serde(flatten)]
    outcome: OutcomeJson<'a>,
    /// The key that was made for the posting, because it had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'a str>,
}

/// What was posted, now or before; a hold; or why the posting was rejected.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema), schema(as = Outcome))]
#[derive(Serialize)]
#[serde(untagged)]
enum OutcomeJson<'a> {
    Posted(&'a Posted),
    Hold(&'a Hold),
    Rejected(RefusalJson),
}

/// Why a posting was rejected.
#[cfg_attr(feature = "service", derive(utoipa::ToSchema), schema(as = Refusal))]
#[derive(Serialize)]
struct RefusalJson {
    /// The account, if the posting could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Uuid>,
    /// The reason in one word, for programs.
    code: &'static str,
    /// The reason for people.
    message: String,
}

impl<'a> ReplyJson<'a> {
    /// The JSON of a reply; `line` for a line of a file, `user` if it is known.
    pub fn new(line: Option<u64>, user: Option<Uuid>, reply: &'a Reply) -> ReplyJson<'a> {
        let outcome = match reply {
            Reply::Posted(posted) | Reply::Replayed(posted) => OutcomeJson::Posted(posted),
            Reply::Held(hold) | Reply::HeldBefore(hold) | Reply::Released(hold) | Reply::ReleasedBefore(hold) => {
                OutcomeJson::Hold(hold)
            }
            Reply::Rejected(refusal) => {
                OutcomeJson::Rejected(RefusalJson { user, code: refusal.code(), message: refusal.to_string() })
            }
        };
        ReplyJson { line, status: reply.status(), outcome, key: None }
    }
}
