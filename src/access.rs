//! Tokens of the HTTP API, and the record of what was ordered with them.
//!
//! A token is `pointsd_NUMBER_SECRET`. The number finds its row; of the secret, 256 random bits, the database has only the SHA-256.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use rustls::crypto::ring;
use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;
use tokio_postgres::{Client, Row};

use crate::database::{self, Database};

/// How long the valid tokens are remembered: a revoked token works no longer than that.
const REMEMBERED: Duration = Duration::from_secs(1);

/// The same for a number that is not among them: a new token is let in after so long at most, and guesses read no more often.
const REMEMBERED_UNKNOWN: Duration = Duration::from_millis(100);

/// How exact the time of the last use is.
const LAST_USE_EVERY: Duration = Duration::from_secs(60);

/// What the text of each token begins with, so that tools find one that was published by mistake.
const PREFIX: &str = "pointsd_";

/// The longest name of a token, in characters.
pub const MAX_NAME: usize = 64;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Post postings.
    Post,
    /// Read accounts, prices, requests, jobs and reports.
    Read,
    /// Pause, resume and run jobs; put requests back; send reports again.
    Operate,
}

impl Scope {
    /// All of them.
    pub const ALL: [Scope; 3] = [Scope::Post, Scope::Read, Scope::Operate];

    /// As the database and JSON write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Post => "post",
            Scope::Read => "read",
            Scope::Operate => "operate",
        }
    }

    /// Reads what [`Scope::as_str`] writes.
    pub fn parse(text: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A token as it is listed, without its secret.
#[derive(Clone, Debug, Serialize)]
pub struct Token {
    /// Its number.
    pub number: i32,
    /// Its name.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// The user that made it.
    pub created_by: String,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// The holder of a token that was accepted.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The token's number.
    pub token: i32,
    /// The token's name.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
}

/// Why tokens could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error(transparent)]
    Database(#[from] database::Error),
    /// A statement failed.
    #[error("the tokens cannot be read or written")]
    Statement(#[from] tokio_postgres::Error),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes for a token's secret")]
    Random,
    /// A name that no token can have, or that is taken.
    #[error("{0}")]
    Name(String),
}

impl Error {
    /// Whether trying again can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Database(error) => error.is_transient(),
            Error::Statement(error) => database::is_transient(error),
            Error::Random | Error::Name(_) => false,
        }
    }
}

/// 256 random bits as text.
///
/// # Errors
/// Where the system gives none.
pub fn random_text() -> Result<String, Error> {
    let mut bytes = [0_u8; 32];
    ring::default_provider().secure_random.fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Makes a token, and returns it with its text, which is kept nowhere.
///
/// # Errors
/// A name that is taken, empty or too long; or where the database fails.
pub async fn create(
    client: &Client,
    name: &str,
    scopes: &[Scope],
    expires_at: Option<DateTime<Utc>>,
    by: &str,
) -> Result<(Token, String), Error> {
    if name.is_empty() || name.chars().count() > MAX_NAME || name.contains(char::is_control) {
        return Err(Error::Name(format!("a token's name has 1 to {MAX_NAME} characters on one line")));
    }
    let secret = random_text()?;
    let hash = Sha256::digest(secret.as_bytes()).to_vec();
    let scopes: Vec<&str> = Scope::ALL.into_iter().filter(|scope| scopes.contains(scope)).map(Scope::as_str).collect();
    let statement = include_str!("../sql/access/token_insert.sql");
    let row = client.query_opt(statement, &[&name, &scopes, &hash, &by, &expires_at]).await?;
    let row = row.ok_or_else(|| {
        Error::Name(format!(
            "there is a token {name} already: revoke it with `pointsd token revoke`, or choose another name"
        ))
    })?;
    let token = token_from(&row)?;
    let text = format!("{PREFIX}{}_{secret}", token.number);
    Ok((token, text))
}

/// All tokens, the oldest first.
///
/// # Errors
/// Where the database fails.
pub async fn list(client: &Client) -> Result<Vec<Token>, Error> {
    let rows = client.query(include_str!("../sql/access/token_list.sql"), &[]).await?;
    Ok(rows.iter().map(token_from).collect::<Result<_, _>>()?)
}

/// Revokes a token. False if there is none of this name.
///
/// # Errors
/// Where the database fails.
pub async fn revoke(client: &Client, name: &str, by: &str) -> Result<bool, Error> {
    Ok(client.execute(include_str!("../sql/access/token_revoke.sql"), &[&name, &by]).await? > 0)
}

fn token_from(row: &Row) -> Result<Token, tokio_postgres::Error> {
    Ok(Token {
        number: row.try_get("token")?,
        name: row.try_get("name")?,
        scopes: scopes_from(row)?,
        created_at: row.try_get("created_at")?,
        created_by: row.try_get("created_by")?,
        expires_at: row.try_get("expires_at")?,
        last_used_at: row.try_get("last_used_at")?,
        revoked_at: row.try_get("revoked_at")?,
    })
}

fn scopes_from(row: &Row) -> Result<Vec<Scope>, tokio_postgres::Error> {
    let scopes: Vec<&str> = row.try_get("scopes")?;
    Ok(scopes.into_iter().filter_map(Scope::parse).collect())
}

/// An order that came over HTTP.
#[derive(Clone, Debug, Serialize)]
pub struct Order {
    /// Its number; a later one has a higher one.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// The name of the token.
    pub by: String,
    /// What was ordered, such as `pause`.
    pub action: String,
    /// For what, such as a job's name.
    pub subject: String,
    /// What became of it; `not known` where the daemon or the database failed meanwhile.
    pub outcome: String,
}

/// Writes down an order that is about to be carried out, and returns its number. Its outcome is not known yet.
///
/// # Errors
/// Where the database fails.
pub async fn record(client: &Client, holder: &Holder, action: &str, subject: &str) -> Result<i64, Error> {
    let statement = include_str!("../sql/access/audit_insert.sql");
    let row = client.query_one(statement, &[&holder.token, &holder.name, &action, &subject]).await?;
    Ok(row.try_get(0)?)
}

/// Writes down what became of an order.
///
/// # Errors
/// Where the database fails.
pub async fn record_outcome(client: &Client, order: i64, outcome: &str) -> Result<(), Error> {
    client.execute(include_str!("../sql/access/audit_outcome.sql"), &[&order, &outcome]).await?;
    Ok(())
}

/// The orders before the one of number `before`, or the latest ones; the newest first.
///
/// # Errors
/// Where the database fails.
pub async fn orders(client: &Client, before: Option<i64>, limit: i64) -> Result<Vec<Order>, Error> {
    let rows = client.query(include_str!("../sql/access/audit_list.sql"), &[&before, &limit]).await?;
    let order = |row: &Row| {
        Ok(Order {
            id: row.try_get("id")?,
            at: row.try_get("at")?,
            by: row.try_get("by")?,
            action: row.try_get("action")?,
            subject: row.try_get("subject")?,
            outcome: row.try_get("outcome")?,
        })
    };
    Ok(rows.iter().map(order).collect::<Result<_, tokio_postgres::Error>>()?)
}

/// Deletes at most `limit` orders from before this instant, and returns how many.
///
/// # Errors
/// Where the database fails.
pub async fn prune(client: &Client, before: DateTime<Utc>, limit: i64) -> Result<u64, Error> {
    Ok(client.execute(include_str!("../sql/access/audit_prune.sql"), &[&before, &limit]).await?)
}

/// Checks tokens. It remembers the valid ones for a second, so that a posting costs no statement more.
pub struct Tokens {
    database: Database,
    known: Mutex<Known>,
    /// Held while they are read, so that callers that come at once read them once.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    read: Option<Instant>,
    tokens: HashMap<i32, ValidToken>,
}

struct ValidToken {
    holder: Holder,
    hash: Vec<u8>,
    expires_at: Option<DateTime<Utc>>,
    /// When its use was last written down by this process.
    written: Option<Instant>,
}

impl Tokens {
    /// Of this database.
    pub fn new(database: &Database) -> Tokens {
        Tokens { database: database.clone(), known: Mutex::default(), reading: tokio::sync::Mutex::default() }
    }

    /// The holder of the token with this text; None if it is not valid at `now`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn check(&self, text: &str, now: DateTime<Utc>) -> Result<Option<Holder>, Error> {
        let Some((number, secret)) = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')) else {
            return Ok(None);
        };
        let Ok(number) = number.parse::<i32>() else { return Ok(None) };
        self.refresh(REMEMBERED).await?;
        if !self.known().tokens.contains_key(&number) {
            // It may be new.
            let read = self.known().read;
            if let Some(read) = read {
                tokio::time::sleep_until(read + REMEMBERED_UNKNOWN).await;
            }
            self.refresh(REMEMBERED_UNKNOWN).await?;
        }
        let hash = Sha256::digest(secret.as_bytes());
        let (holder, to_write) = {
            let mut known = self.known();
            let Some(token) = known.tokens.get_mut(&number) else { return Ok(None) };
            let is_right = bool::from(token.hash.as_slice().ct_eq(hash.as_slice()));
            if !is_right || token.expires_at.is_some_and(|end| end <= now) {
                return Ok(None);
            }
            let to_write = token.written.is_none_or(|written| written.elapsed() >= LAST_USE_EVERY);
            if to_write {
                token.written = Some(Instant::now());
            }
            (token.holder.clone(), to_write)
        };
        if to_write {
            self.write_last_use(number);
        }
        Ok(Some(holder))
    }

    /// Checks again that a token is still valid: for a session in a browser, which holds no token.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn holder(&self, number: i32, now: DateTime<Utc>) -> Result<Option<Holder>, Error> {
        self.refresh(REMEMBERED).await?;
        let known = self.known();
        let token = known.tokens.get(&number).filter(|token| token.expires_at.is_none_or(|end| end > now));
        Ok(token.map(|token| token.holder.clone()))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the tokens, unless they were read within this time.
    async fn refresh(&self, within: Duration) -> Result<(), Error> {
        let is_fresh = || self.known().read.is_some_and(|read| read.elapsed() < within);
        if is_fresh() {
            return Ok(());
        }
        let _reading = self.reading.lock().await;
        if is_fresh() {
            return Ok(());
        }
        let asked = Instant::now();
        let client = self.database.connection().await?;
        let statement = client.prepare_cached(include_str!("../sql/access/token_valid.sql")).await?;
        let rows = client.query(&statement, &[]).await?;
        let mut known = self.known();
        let mut tokens = HashMap::with_capacity(rows.len());
        for row in &rows {
            let token: i32 = row.try_get("token")?;
            let written = known.tokens.get(&token).and_then(|before| before.written);
            let holder = Holder { token, name: row.try_get("name")?, scopes: scopes_from(row)? };
            let (hash, expires_at) = (row.try_get("hash")?, row.try_get("expires_at")?);
            tokens.insert(token, ValidToken { holder, hash, expires_at, written });
        }
        *known = Known { read: Some(asked), tokens };
        Ok(())
    }

    /// Writes down the last use beside the call: no caller waits for it, and a failure is no reason to refuse.
    fn write_last_use(&self, token: i32) {
        let database = self.database.clone();
        tokio::spawn(async move {
            let write = async {
                let client = database.connection().await?;
                client.execute(include_str!("../sql/access/token_used.sql"), &[&token]).await?;
                Ok::<(), Error>(())
            };
            if let Err(error) = write.await {
                tracing::debug!(%error, token, "the last use of a token was not written down");
            }
        });
    }
}
