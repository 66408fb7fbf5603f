//! The accounts of the accounting system: `finance` in the configuration.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::ledger::PointSource;
use crate::books::Accounts;
use crate::ledger::{MAX_NAME, REFUND_SOURCE};
use crate::yaml::{self, Lines};

/// The accounts of the accounting system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finance {
    accounts: Accounts,
    sources: BTreeMap<String, Accounts>,
}

impl Finance {
    /// The accounts of a source.
    pub fn accounts(&self, source: &str) -> &Accounts {
        self.sources.get(source).unwrap_or(&self.accounts)
    }

    /// The accounts of sources that have none of their own.
    pub fn common(&self) -> &Accounts {
        &self.accounts
    }

    /// The sources with accounts of their own.
    pub fn own(&self) -> impl Iterator<Item = (&str, &Accounts)> {
        self.sources.iter().map(|(source, accounts)| (source.as_str(), accounts))
    }
}

/// `finance` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileFinance {
    accounts: FileAccounts,
    sources: BTreeMap<String, OwnAccounts>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileAccounts {
    cash: Name,
    deferred: Name,
    revenue: Name,
    breakage: Name,
    returns: Name,
    corrections: Name,
}

/// The accounts in which a source differs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnAccounts {
    cash: Option<Name>,
    deferred: Option<Name>,
    revenue: Option<Name>,
    breakage: Option<Name>,
    returns: Option<Name>,
    corrections: Option<Name>,
}

impl OwnAccounts {
    fn over(self, accounts: &Accounts) -> Accounts {
        let or = |own: Option<Name>, account: &String| own.map_or_else(|| account.clone(), |Name(name)| name);
        Accounts {
            cash: or(self.cash, &accounts.cash),
            deferred: or(self.deferred, &accounts.deferred),
            revenue: or(self.revenue, &accounts.revenue),
            breakage: or(self.breakage, &accounts.breakage),
            returns: or(self.returns, &accounts.returns),
            corrections: or(self.corrections, &accounts.corrections),
        }
    }
}

/// The name or the number of an account.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        let remedy = format!("write 1 to {MAX_NAME} characters on one line, a number in quotes");
        let text = String::deserialize(deserializer).map_err(|_| D::Error::custom(&remedy))?;
        let wrong = text.trim().is_empty() || text.contains(char::is_control) || text.chars().count() > MAX_NAME;
        if wrong { Err(D::Error::custom(&remedy)) } else { Ok(Name(text)) }
    }
}

impl FileFinance {
    pub(super) fn check(self, known: &BTreeMap<String, PointSource>, lines: &Lines) -> Result<Finance, yaml::Error> {
        let of_file = self.accounts;
        let accounts = Accounts {
            cash: of_file.cash.0,
            deferred: of_file.deferred.0,
            revenue: of_file.revenue.0,
            breakage: of_file.breakage.0,
            returns: of_file.returns.0,
            corrections: of_file.corrections.0,
        };
        if let Some(unknown) = self.sources.keys().find(|name| !known.contains_key(*name) && *name != REFUND_SOURCE) {
            let path = format!("finance.sources.{unknown}");
            return Err(lines.error(&path, "there is no such source", "write one of ledger.sources"));
        }
        let sources = self.sources.into_iter().map(|(name, own)| (name, own.over(&accounts))).collect();
        Ok(Finance { accounts, sources })
    }
}
