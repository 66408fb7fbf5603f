//! The one way of all reports, from a snapshot to the outbox.

use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use deadpool_postgres::{ClientWrapper, Transaction};
use tokio_postgres::IsolationLevel;

use super::{Error, files, store};
use crate::config::Config;
use crate::document::{Document, Tone};
use crate::ledger::{self, AlsoWrite, Progress, SoFar};
use crate::messages::{Messages, args};

/// A report that shows an instant less than this after its slot is on time.
const ON_TIME: TimeDelta = TimeDelta::hours(1);

/// What is particular to a report.
pub trait Report: Sync {
    /// The report's name: that of its job.
    const NAME: &'static str;

    /// What the report tells.
    type Facts: Send + Sync;
    /// What the run log keeps of it.
    type Counters: Clone + Send + Sync;

    /// The instant that the report shows, if its caller has fixed it. Otherwise the pipeline takes a cutoff.
    fn as_of(&self) -> Option<DateTime<Utc>> {
        None
    }

    /// Reads the facts from a snapshot, which is REPEATABLE READ.
    fn gather(
        &self,
        snapshot: &Transaction<'_>,
        scope: &Scope<'_>,
    ) -> impl Future<Output = Result<Self::Facts, Error>> + Send;

    /// Puts the facts into words and tables.
    fn document(&self, facts: &Self::Facts, scope: &Scope<'_>) -> Document;

    /// Writes what the next report must know, in the transaction that keeps this one. A slot that has its report already
    /// remembers nothing new, so that each change is told once. A report never replaces what one of a later instant remembered.
    fn remember(
        &self,
        _transaction: &Transaction<'_>,
        _facts: &Self::Facts,
        _scope: &Scope<'_>,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// The run's counters.
    fn counters(&self, facts: &Self::Facts) -> Self::Counters;

    /// How many accounts the report covers, for the run's progress.
    fn accounts(&self, facts: &Self::Facts) -> u64;
}

/// What a report is made for.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The slot.
    pub slot: DateTime<Utc>,
    /// The run.
    pub run: i64,
    /// The instant that the report shows: every entry recorded until then is in the snapshot, and none comes later.
    pub as_of: DateTime<Utc>,
    /// The folder for tables that are too long for a document. None for a dry run, and for a slot that has its report and
    /// files already.
    pub folder: Option<PathBuf>,
}

impl Scope<'_> {
    /// The name of a source for people, in the language of the report.
    pub fn source_label(&self, source: &str) -> String {
        self.config.source_label(source, self.config.language).to_owned()
    }

    /// The business day of the slot, if the report is made on a later one. A run shortly before midnight reads shortly after
    /// it, so an hour is on time.
    pub fn made_up_for(&self) -> Option<NaiveDate> {
        if self.as_of.signed_duration_since(self.slot) < ON_TIME {
            return None;
        }
        let zone = self.config.time_zone;
        let [slot, as_of] = [self.slot, self.as_of].map(|instant| instant.with_timezone(&zone).date_naive());
        (slot < as_of).then_some(slot)
    }

    /// The title of this key with the instant that the report shows.
    pub fn title(&self, key: &str) -> String {
        self.dated_title(&Messages::new(self.config.language).label(key))
    }

    /// A title with the instant that the report shows. A report that is made later names its slot, too.
    pub fn dated_title(&self, title: &str) -> String {
        let messages = Messages::new(self.config.language);
        let moment = |at: DateTime<Utc>| messages.moment(at.with_timezone(&self.config.time_zone).naive_local());
        let as_of = moment(self.as_of);
        match self.made_up_for() {
            None => messages.text("title-as-of", args![title = title, as_of = as_of]),
            Some(_) => messages.text("title-made-up", args![title = title, as_of = as_of, slot = moment(self.slot)]),
        }
    }

    /// A headline with the business day of the instant that the report shows.
    pub fn headline(&self, text: &str) -> String {
        let messages = Messages::new(self.config.language);
        let day = messages.headline_day(self.as_of.with_timezone(&self.config.time_zone).date_naive());
        match self.made_up_for().map(|slot| messages.headline_day(slot)) {
            None => messages.text("headline-of-day", args![day = day, headline = text]),
            Some(slot) => messages.text("headline-made-up", args![day = day, slot = slot, headline = text]),
        }
    }

    /// An empty document for this scope.
    pub fn blank_document(&self, report: &str) -> Document {
        Document {
            report: report.to_owned(),
            language: self.config.language,
            business: self.config.business.clone(),
            title: String::new(),
            slot: self.slot,
            run: self.run,
            as_of: self.as_of,
            period: None,
            time_zone: self.config.time_zone.name().to_owned(),
            tone: Tone::Good,
            tone_rule: String::new(),
            headline: String::new(),
            facts: Vec::new(),
            sections: Vec::new(),
        }
    }
}

/// A report that was made.
pub struct Made<R: Report> {
    /// What it says.
    pub document: Document,
    /// The run's counters.
    pub counters: R::Counters,
    facts: R::Facts,
}

/// Makes reports for a slot.
pub struct Pipeline<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The slot.
    pub slot: DateTime<Utc>,
    /// The run, or 0 for a dry run.
    pub run: i64,
}

impl Pipeline<'_> {
    /// Makes a report, writes its files, keeps it and writes its mails to the outbox. `also` writes last in the transaction:
    /// for a run, its progress and the check of its fence.
    ///
    /// # Errors
    /// If the database fails, or `also` does.
    pub async fn publish<R: Report>(
        &self,
        report: &R,
        client: &mut ClientWrapper,
        also: &impl AlsoWrite<SoFar<R::Counters>>,
    ) -> Result<Made<R>, Error> {
        let (scope, made) = self.make(report, client, true).await?;
        files::write_files(client, &made.document, self.config).await?;
        let transaction = store_report(report, client, &scope, &made).await?;
        let accounts = report.accounts(&made.facts);
        let progress = Progress { done: accounts, total: accounts };
        also.write(transaction.client(), &SoFar { progress, counters: made.counters.clone() }).await?;
        transaction.commit().await?;
        Ok(made)
    }

    /// Makes a report without files, keeps it and rolls that back.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn rehearse<R: Report>(&self, report: &R, client: &mut ClientWrapper) -> Result<Made<R>, Error> {
        let (scope, made) = self.make(report, client, false).await?;
        store_report(report, client, &scope, &made).await?.rollback().await?;
        Ok(made)
    }

    /// Makes a report without files, and keeps nothing.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn preview<R: Report>(&self, report: &R, client: &mut ClientWrapper) -> Result<Made<R>, Error> {
        Ok(self.make(report, client, false).await?.1)
    }

    async fn make<R: Report>(
        &self,
        report: &R,
        client: &mut ClientWrapper,
        with_files: bool,
    ) -> Result<(Scope<'_>, Made<R>), Error> {
        let as_of = match report.as_of() {
            Some(as_of) => as_of,
            None => ledger::cutoff(client, ledger::CUTOFF_LIMIT).await?,
        };
        let snapshot = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let snapshot = snapshot.start().await?;
        let is_kept = store::find_by_slot(snapshot.client(), R::NAME, self.slot).await?.is_some();
        let folder = (with_files && !is_kept).then(|| files::folder_of(self.config, R::NAME, self.slot));
        let scope = Scope { config: self.config, slot: self.slot, run: self.run, as_of, folder };
        let facts = report.gather(&snapshot, &scope).await?;
        snapshot.rollback().await?;
        let (document, counters) = (report.document(&facts, &scope), report.counters(&facts));
        Ok((scope, Made { document, counters, facts }))
    }
}

/// Keeps a report in a transaction that is left open. It is not the snapshot's transaction: the run's row changes with each
/// heartbeat, which a REPEATABLE READ transaction would take for a conflict.
async fn store_report<'a, R: Report>(
    report: &R,
    client: &'a mut ClientWrapper,
    scope: &Scope<'_>,
    made: &Made<R>,
) -> Result<Transaction<'a>, Error> {
    let transaction = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
    if store::store_document(&transaction, &made.document, scope.config).await?.new {
        report.remember(&transaction, &made.facts, scope).await?;
    }
    Ok(transaction)
}
