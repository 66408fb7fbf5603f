//! Faults: which request makes a group fail, and whether the fault is its own or one of all.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::read::{Request, Selection};
use super::{Connection, Lane};
use crate::{database, errors, ledger};

/// The longest error message that a request keeps, in characters.
const LONGEST_MESSAGE: usize = 1_000;

/// Why a group was not posted.
pub(super) enum Failure {
    /// The database or a node of it is away or cannot work, which is no request's fault.
    Outage(ledger::Error),
    /// One of its requests makes it fail.
    Group(Fault),
}

/// Why posting failed.
pub(super) enum Fault {
    Error(ledger::Error),
    Panic,
}

/// A request that could not be posted alone.
pub(super) struct Failed {
    pub(super) id: i64,
    pub(super) user: Uuid,
    pub(super) fault: Fault,
}

/// The accounts whose requests failed since one was posted, by the kind of fault. It is shared by all lanes.
///
/// When requests of two accounts fail the same way and none succeeds, the fault is not theirs. The queue then stops, and none of
/// them uses up its tries.
#[derive(Default)]
pub struct Suspicion {
    accounts: Mutex<HashMap<String, HashSet<Uuid>>>,
    /// Groups in which a request was posted.
    successes: AtomicU64,
}

impl Suspicion {
    pub(super) fn succeeded(&self) {
        self.successes.fetch_add(1, Ordering::Relaxed);
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn successes(&self) -> u64 {
        self.successes.load(Ordering::Relaxed)
    }

    /// Remembers the accounts of these requests. Tells of each request whether others fail as it does.
    fn are_shared(&self, failed: &[Failed]) -> Vec<bool> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let kinds: Vec<Option<String>> = failed.iter().map(|failed| failed.fault.kind()).collect();
        for (kind, failed) in kinds.iter().zip(failed) {
            if let Some(kind) = kind {
                accounts.entry(kind.clone()).or_default().insert(failed.user);
            }
        }
        let several = |kind: &String| accounts.get(kind).is_some_and(|accounts| accounts.len() > 1);
        kinds.iter().map(|kind| kind.as_ref().is_some_and(several)).collect()
    }
}

impl Lane {
    /// Halves a group until each failing request is alone. Posts the others in the order of their ids within each account; an
    /// account stops at its failing request.
    pub(super) async fn isolate(
        &mut self,
        connection: &mut Option<Connection>,
        requests: Vec<Request>,
        fault: Fault,
    ) -> Result<(), ledger::Error> {
        let before = self.suspicion.successes();
        let mut held_up = HashSet::new();
        let mut alone = Vec::new();
        let mut parts = Vec::new();
        let mut failed = Some((requests, fault));
        loop {
            if let Some((mut requests, fault)) = failed.take() {
                if let [request] = requests.as_slice() {
                    held_up.insert(request.user);
                    alone.push(Failed { id: request.id, user: request.user, fault });
                } else {
                    let middle = middle(&mut requests);
                    let second = requests.split_off(middle);
                    parts.extend([second, requests]);
                }
            }
            // Only at the end it is known whether any request could be posted.
            let Some(mut part) = parts.pop() else { return self.record_failures(connection, alone, before).await };
            part.retain(|request| !held_up.contains(&request.user));
            if part.is_empty() {
                continue;
            }
            if self.stop.is_cancelled() {
                return Ok(());
            }
            let mut ids: Vec<i64> = part.iter().map(|request| request.id).collect();
            ids.sort_unstable();
            let (taken, posted) = self.post(connection, &Selection::Ids(ids), &[]).await;
            if taken.elsewhere {
                // Another daemon has taken over the lane, and with it the rest.
                return Ok(());
            }
            if let Err(failure) = posted {
                failed = Some((part, failure.into_group()?));
            }
        }
    }

    /// Records a failed try of each request, unless their fault is one of all: that is returned. `before`: how many groups had
    /// been posted before the first of them failed.
    pub(super) async fn record_failures(
        &mut self,
        connection: &mut Option<Connection>,
        failed: Vec<Failed>,
        before: u64,
    ) -> Result<(), ledger::Error> {
        let others_work = self.suspicion.successes() > before;
        let shared = if others_work { vec![false; failed.len()] } else { self.suspicion.are_shared(&failed) };
        let mut fault_of_all = None;
        for (Failed { id, fault, .. }, shared) in failed.into_iter().zip(shared) {
            match fault {
                Fault::Error(error) if shared => fault_of_all = Some(error),
                fault => self.record_failure(connection, id, &fault.describe()).await?,
            }
        }
        fault_of_all.map_or(Ok(()), Err)
    }

    /// Records a failed try of a request.
    async fn record_failure(
        &mut self,
        connection: &mut Option<Connection>,
        id: i64,
        why: &str,
    ) -> Result<(), ledger::Error> {
        let connection = self.connect(connection).await?;
        let retries = i32::try_from(self.settings.retries).unwrap_or(i32::MAX);
        let pause = i64::try_from(self.settings.retry_pause.as_millis()).unwrap_or(i64::MAX);
        let why: String = why.replace('\0', "").chars().take(LONGEST_MESSAGE).collect();
        let statement = &connection.statements.fail;
        let row = connection.client.query_opt(statement, &[&self.number, &id, &retries, &pause, &why]).await?;
        // Another daemon has finished the request meanwhile.
        let Some(row) = row else { return Ok(()) };
        let (state, attempts): (&str, i32) = (row.try_get(0)?, row.try_get(1)?);
        if state == "parked" {
            self.stats.parked.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                request = id,
                attempts,
                why,
                "request {id} is parked: {why}; mend the cause, then call `pointsd requests retry`"
            );
        } else {
            tracing::warn!(request = id, attempts, why, "request {id} failed and is tried again later: {why}");
        }
        Ok(())
    }
}

impl Failure {
    /// Why the group failed; an error if the cause was an outage.
    pub(super) fn into_group(self) -> Result<Fault, ledger::Error> {
        match self {
            Failure::Outage(error) => Err(error),
            Failure::Group(fault) => Ok(fault),
        }
    }
}

impl Fault {
    fn describe(&self) -> String {
        match self {
            Fault::Error(error) => errors::chain(error),
            Fault::Panic => "posting it made the program panic".to_owned(),
        }
    }

    /// What a fault of several requests has in common, as the SQLSTATE. None for one that belongs to an account, such as a row
    /// that another transaction holds.
    fn kind(&self) -> Option<String> {
        match self {
            Fault::Error(error) if is_clash(error) || code_of(error) == Some(&SqlState::LOCK_NOT_AVAILABLE) => None,
            Fault::Error(error) => code_of(error).map(|code| code.code().to_owned()),
            Fault::Panic => None,
        }
    }
}

fn code_of(error: &ledger::Error) -> Option<&SqlState> {
    match error {
        ledger::Error::Database(error) => error.code(),
        _ => None,
    }
}

/// Whether two transactions collided, so that trying again helps.
pub(super) fn is_clash(error: &ledger::Error) -> bool {
    let code = code_of(error);
    code == Some(&SqlState::T_R_SERIALIZATION_FAILURE)
        || code == Some(&SqlState::T_R_DEADLOCK_DETECTED)
        || error.is_of_copied_row()
}

/// Whether no request can be posted at present.
pub(super) fn is_outage(error: &ledger::Error) -> bool {
    match (error, code_of(error)) {
        // A row is locked, or the same transactions keep colliding: only some requests are concerned.
        (_, Some(&SqlState::LOCK_NOT_AVAILABLE)) => false,
        (error, Some(_)) if is_clash(error) => false,
        // Classes 53, 57 and 58: no memory, disk or connection left, an operator's action, a failing disk. But a single request may
        // be the cause of a cancelled statement.
        (_, Some(&SqlState::QUERY_CANCELED)) => false,
        (ledger::Error::Database(error), Some(code)) => {
            let class = code.code().get(..2).unwrap_or_default();
            database::is_transient(error) || ["53", "57", "58"].contains(&class)
        }
        (ledger::Error::Database(error), None) => database::is_transient(error),
        (
            ledger::Error::Connection(_)
            | ledger::Error::LostRace
            | ledger::Error::Redistributed
            | ledger::Error::Stopped,
            _,
        ) => true,
        (ledger::Error::Corrupt(_) | ledger::Error::Future { .. } | ledger::Error::Uncommitted { .. }, _) => false,
    }
}

/// Whether a node of a cluster that is away may be the cause: a connection of the server's own was lost, or a statement took too long.
pub(super) fn may_be_of_a_node(error: &ledger::Error) -> bool {
    let ledger::Error::Database(error) = error else { return false };
    let Some(error) = error.as_db_error() else { return false };
    let class = error.code().code().get(..2).unwrap_or_default();
    database::is_of_a_node(error) || ["08", "57"].contains(&class)
}

/// Where to halve a group: between two accounts if it has two.
fn middle(requests: &mut [Request]) -> usize {
    requests.sort_unstable_by_key(|request| (request.user, request.id));
    let middle = requests.len() / 2;
    let is_edge = |at: &usize| match at.checked_sub(1).and_then(|before| requests.get(before..=*at)) {
        Some([left, right]) => left.user != right.user,
        _ => false,
    };
    (middle..requests.len()).find(is_edge).or_else(|| (1..middle).rev().find(is_edge)).unwrap_or(middle)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_halved_between_accounts_while_there_are_two() {
        let halves = |users: &[u128]| {
            let request = |(id, user): (i64, &u128)| Request { id, user: Uuid::from_u128(*user), unreadable: None };
            let mut requests: Vec<Request> = (1..).zip(users).map(request).collect();
            let middle = middle(&mut requests);
            let ids: Vec<i64> = requests.iter().map(|request| request.id).collect();
            let (first, second) = ids.split_at(middle);
            (first.to_vec(), second.to_vec())
        };
        assert_eq!(halves(&[1, 2]), (vec![1], vec![2]));
        assert_eq!(halves(&[2, 1, 2, 1]), (vec![2, 4], vec![1, 3]));
        assert_eq!(halves(&[1, 1, 1, 2]), (vec![1, 2, 3], vec![4]));
        assert_eq!(halves(&[1, 2, 2, 2]), (vec![1], vec![2, 3, 4]));
        // One account alone: its requests in their order.
        assert_eq!(halves(&[1, 1, 1]), (vec![1], vec![2, 3]));
    }
}
