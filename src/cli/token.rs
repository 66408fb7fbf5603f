//! `token`: the right to call over HTTP.

use chrono::{DateTime, Utc};
use serde_json::json as object;

use super::output::table;
use super::{Outcome, Program, Time, WrongCall, caller_name};
use crate::access::{self, Scope};
use crate::database::Database;
use crate::time::time_text;

/// Makes, lists and revokes the tokens that calls over HTTP need.
#[derive(clap::Subcommand)]
pub enum Token {
    /// Makes a token and prints it, once: only its hash is kept
    Create(Create),
    /// Lists the tokens, with their last use
    List,
    /// Revokes a token at once
    Revoke {
        /// Its name
        name: String,
    },
}

/// The new token.
#[derive(clap::Args)]
pub struct Create {
    /// A name that tells what uses it, such as billing
    name: String,
    /// What it allows, separated by commas: post (postings), read (accounts, jobs, reports), operate (jobs, requests, reports)
    #[arg(long, required = true, value_delimiter = ',', value_parser = scope, value_name = "SCOPES")]
    scope: Vec<Scope>,
    /// When it ends by itself (RFC 3339); by default never
    #[arg(long, value_name = "TIME")]
    expires: Option<Time>,
}

fn scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text).ok_or_else(|| "write post, read or operate".to_owned())
}

impl Token {
    /// Does what the subcommand says.
    pub async fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        program
            .with_ledger(async |database: &Database| match self {
                Token::Create(create) => create.run(database, program).await,
                Token::List => list(database, program).await,
                Token::Revoke { name } => revoke(&name, database, program).await,
            })
            .await
    }
}

impl Create {
    async fn run(self, database: &Database, program: &Program) -> anyhow::Result<Outcome> {
        let expires: Option<DateTime<Utc>> = self.expires.map(Time::into);
        if let Some(past) = expires.filter(|end| *end <= (program.clock)()) {
            return Err(
                WrongCall(format!("--expires {} is past: the token would never be valid", time_text(past))).into()
            );
        }
        let client = database.connection().await?;
        let created = access::create(&client, &self.name, &self.scope, expires, &caller_name()).await;
        let (token, text) = created.map_err(|error| match error {
            access::Error::Name(why) => WrongCall(why).into(),
            error => anyhow::Error::new(error),
        })?;
        let value =
            object!({ "token": text, "name": token.name, "scopes": token.scopes, "expires_at": token.expires_at });
        program.answer(value, || text.clone())?;
        Ok(Outcome::Done)
    }
}

async fn list(database: &Database, program: &Program) -> anyhow::Result<Outcome> {
    let tokens = access::list(&*database.connection().await?).await?;
    let now = (program.clock)();
    program.list(&tokens, || {
        if tokens.is_empty() {
            return "No token yet.".to_owned();
        }
        let time = |at: Option<DateTime<Utc>>| at.map_or_else(String::new, time_text);
        let rows = tokens.iter().map(|token| {
            let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
            let state = match (token.revoked_at, token.expires_at) {
                (Some(at), _) => format!("revoked {}", time_text(at)),
                (None, Some(end)) if end <= now => format!("ended {}", time_text(end)),
                (None, Some(end)) => format!("valid until {}", time_text(end)),
                (None, None) => "valid".to_owned(),
            };
            let last_use = if token.last_used_at.is_some() { time(token.last_used_at) } else { "never".to_owned() };
            vec![
                token.name.clone(),
                scopes.join(","),
                state,
                last_use,
                time_text(token.created_at),
                token.created_by.clone(),
            ]
        });
        table(&["token", "scopes", "state", "last use", "created", "by"], &rows.collect::<Vec<_>>())
    })?;
    Ok(Outcome::Done)
}

async fn revoke(name: &str, database: &Database, program: &Program) -> anyhow::Result<Outcome> {
    if !access::revoke(&*database.connection().await?, name, &caller_name()).await? {
        return Err(WrongCall(format!("there is no valid token {name}; see `pointsd token list`")).into());
    }
    program.answer(object!({ "revoked": name }), || format!("The token {name} is revoked."))?;
    Ok(Outcome::Done)
}
