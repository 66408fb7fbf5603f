//! What was collected from the database last, and how it is written.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use chrono::{DateTime, Utc};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
};
use prometheus_client::metrics::MetricType;

use crate::books::{ARREARS, RunningTotals};
use crate::database::{Database, PoolStatus};

/// The label of the points that accounts owe, which belong to no source.
const OWED: &str = "arrears";

/// The label of all sources that the configuration does not name.
const OTHER: &str = "other";

/// The values that were collected last. A clone shares them.
#[derive(Clone, Default)]
pub(super) struct Collected {
    /// Nothing until the daemon has opened it.
    database: Arc<OnceLock<Database>>,
    last: Arc<Mutex<Arc<Snapshot>>>,
}

/// The values of one instant; each part is as old as it says.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// Whether the last attempt to collect succeeded.
    pub(super) database_up: bool,
    pub(super) operations: Option<Operations>,
    pub(super) points: Option<Points>,
}

/// The queue, the mails, the jobs, the findings and the arrears.
#[derive(Clone, Debug, Default)]
pub(super) struct Operations {
    /// When they were read, in seconds by the server's clock.
    pub(super) at: i64,
    /// Requests by state.
    pub(super) requests: [(&'static str, i64); 4],
    /// Seconds that the oldest pending request has waited.
    pub(super) oldest_request: f64,
    /// Mails by state.
    pub(super) mails: BTreeMap<String, i64>,
    /// Seconds that the oldest unsent mail has waited.
    pub(super) oldest_mail: f64,
    pub(super) findings: i64,
    pub(super) accounts_in_arrears: i64,
    pub(super) jobs: Vec<JobFigures>,
    /// Slots that ended since this daemon started, by job and state.
    pub(super) slots: BTreeMap<(&'static str, &'static str), u64>,
}

/// A job that is enabled.
#[derive(Clone, Debug, Default)]
pub(super) struct JobFigures {
    pub(super) name: &'static str,
    pub(super) paused: bool,
    /// The end of its last run that succeeded, in seconds.
    pub(super) last_success: Option<i64>,
    /// How many seconds that run took.
    pub(super) last_duration: Option<f64>,
    /// The first slot after that run's, in seconds: the job is late once it is past.
    pub(super) next_due: Option<i64>,
}

/// The points, up to a cutoff.
#[derive(Clone, Debug)]
pub(super) struct Points {
    /// The cutoff, in seconds by the server's clock.
    pub(super) at: i64,
    by_source: BTreeMap<String, PointFigures>,
    arrears: i64,
}

#[derive(Clone, Debug, Default)]
struct PointFigures {
    opened: u64,
    recharged: u64,
    refunded: u64,
    consumed: u64,
    voided: u64,
    expired: u64,
    restored: u64,
    left: i64,
}

impl Points {
    /// `is_named` says whether the configuration names a source.
    pub(super) fn new(totals: &RunningTotals, is_named: impl Fn(&str) -> bool) -> Points {
        let label = |source: &str| match source {
            ARREARS => OWED.to_owned(),
            source if is_named(source) => source.to_owned(),
            _ => OTHER.to_owned(),
        };
        let positive = |points: i64| u64::try_from(points).unwrap_or_default();
        let mut by_source: BTreeMap<String, PointFigures> = BTreeMap::new();
        for (source, moved) in &totals.moved {
            let sum = by_source.entry(label(source)).or_default();
            for (sum, points) in [
                // Of the arrears, debts are below zero.
                (&mut sum.opened, moved.opened.saturating_abs()),
                (&mut sum.recharged, moved.recharged),
                (&mut sum.refunded, moved.refunded),
                (&mut sum.consumed, moved.consumed),
                (&mut sum.voided, moved.voided),
                (&mut sum.expired, moved.expired),
                (&mut sum.restored, moved.restored),
            ] {
                *sum = sum.saturating_add(positive(points));
            }
        }
        let owed = totals.left.get(ARREARS).copied().unwrap_or_default();
        for (source, left) in totals.left.iter().filter(|(source, _)| *source != ARREARS) {
            let sum = by_source.entry(label(source)).or_default();
            sum.left = sum.left.saturating_add(*left);
        }
        Points { at: totals.until.timestamp(), by_source, arrears: owed.saturating_neg() }
    }
}

impl Collected {
    /// Shows the pool of this database, the first that is given.
    pub(super) fn show_pool(&self, database: &Database) {
        self.database.get_or_init(|| database.clone());
    }

    /// The arrears, and the cutoff up to which they are known.
    pub(super) fn arrears(&self) -> Option<(DateTime<Utc>, i64)> {
        let last = self.last();
        let points = last.points.as_ref()?;
        Some((DateTime::from_timestamp(points.at, 0)?, points.arrears))
    }

    fn last(&self) -> Arc<Snapshot> {
        Arc::clone(&self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        change(Arc::make_mut(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner)));
    }
}

/// Names no database, whose URL may hold a password.
impl fmt::Debug for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collected").field("last", &self.last()).finish_non_exhaustive()
    }
}

impl Collector for Collected {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let snapshot = self.last();
        let mut writer = Writer(encoder);
        if let Some(database) = self.database.get() {
            writer.pool(database.pool_status())?;
        }
        writer.gauge(
            "database_up",
            "Whether the last attempt to collect from the database succeeded",
            i64::from(snapshot.database_up),
        )?;
        let operations = snapshot.operations.iter().map(|operations| ([("part", "operations")], operations.at));
        let points = snapshot.points.iter().map(|points| ([("part", "points")], points.at));
        writer.gauges(
            "collected_timestamp_seconds",
            "When the values of this part were read from the database",
            operations.chain(points),
        )?;
        if let Some(operations) = &snapshot.operations {
            writer.operations(operations)?;
            writer.jobs(operations)?;
        }
        if let Some(points) = &snapshot.points {
            writer.points(points)?;
        }
        Ok(())
    }
}

/// Writes families of values.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        values.into_iter().try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
    }

    fn counters<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        values.into_iter().try_for_each(|(labels, value)| {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    fn pool(&mut self, pool: PoolStatus) -> fmt::Result {
        self.gauges(
            "pool_connections",
            "Connections of the pool to the database, by what they do",
            [([("state", "in_use")], pool.in_use), ([("state", "idle")], pool.idle)],
        )?;
        self.gauge("pool_connections_max", "Connections of the pool at most", pool.most)?;
        self.gauge("pool_waiting", "Callers that wait for a connection of the pool", pool.waiting)
    }

    fn operations(&mut self, operations: &Operations) -> fmt::Result {
        self.gauges(
            "requests",
            "Requests of the queue that wait (pending), are tried again (waiting), or need an operator (refused, parked); each \
             counted up to 100,000",
            operations.requests.iter().map(|(state, count)| ([("state", *state)], *count)),
        )?;
        self.gauge(
            "requests_oldest_age_seconds",
            "How long the oldest pending request has waited; 0 if there is none",
            operations.oldest_request,
        )?;
        self.gauges(
            "mails",
            "The last 10,000 mails, by state",
            operations.mails.iter().map(|(state, count)| ([("state", state.as_str())], *count)),
        )?;
        self.gauge(
            "mails_oldest_age_seconds",
            "How long the oldest mail has waited that is neither sent nor parked; 0 if there is none",
            operations.oldest_mail,
        )?;
        self.gauge("findings_open", "Findings of the proofs that stand", operations.findings)?;
        self.gauge(
            "accounts_in_arrears",
            "Accounts with a balance below zero, counted up to 100,000",
            operations.accounts_in_arrears,
        )
    }

    fn jobs(&mut self, operations: &Operations) -> fmt::Result {
        let jobs = &operations.jobs;
        fn each<V>(jobs: &[JobFigures], value: impl Fn(&JobFigures) -> Option<V>) -> Vec<([(&str, &str); 1], V)> {
            jobs.iter().filter_map(|job| Some(([("job_name", job.name)], value(job)?))).collect()
        }
        self.gauges(
            "job_last_success_timestamp_seconds",
            "When the last run of the job that succeeded ended",
            each(jobs, |job| job.last_success),
        )?;
        self.gauges(
            "job_last_duration_seconds",
            "How long the last run of the job that succeeded took",
            each(jobs, |job| job.last_duration),
        )?;
        self.gauges(
            "job_next_due_timestamp_seconds",
            "The first slot of the job after its last run that succeeded; the job is late once this is past",
            each(jobs, |job| job.next_due),
        )?;
        self.gauges("job_paused", "Whether an operator paused the job", each(jobs, |job| Some(i64::from(job.paused))))?;
        self.counters(
            "slots",
            "Slots of the job that ended since this daemon started, by state, whichever daemon ran them",
            operations.slots.iter().map(|((job, state), count)| ([("job_name", *job), ("state", *state)], *count)),
        )
    }

    fn points(&mut self, points: &Points) -> fmt::Result {
        let posted = points.by_source.iter().flat_map(|(source, points)| {
            let kinds = [
                ("opening", points.opened),
                ("recharge", points.recharged),
                ("refund", points.refunded),
                ("consume", points.consumed),
                ("void", points.voided),
            ];
            // Nothing is recharged into arrears, and few ledgers begin with points from elsewhere.
            let given = move |(kind, points): &(&str, u64)| match *kind {
                "consume" | "void" => true,
                "opening" => *points > 0,
                _ => source != OWED || *points > 0,
            };
            kinds
                .into_iter()
                .filter(given)
                .map(move |(kind, points)| ([("kind", kind), ("source", source.as_str())], points))
        });
        self.counters(
            "points_posted",
            "Points posted since the first entry, by kind and by source of the batches; a consume or a void beyond them counts as \
             source arrears",
            posted,
        )?;
        let owned = || points.by_source.iter().filter(|(source, _)| *source != OWED);
        self.counters(
            "points_expired",
            "Points expired since the first entry, by source, with those that were restored later",
            owned().map(|(source, points)| ([("source", source.as_str())], points.expired)),
        )?;
        self.counters(
            "points_restored",
            "Expired points that came back for late usage since the first entry, by source",
            owned().map(|(source, points)| ([("source", source.as_str())], points.restored)),
        )?;
        self.gauges(
            "points_outstanding",
            "Points that the accounts have, by source: the net balance of all accounts is their sum less the arrears",
            owned().map(|(source, points)| ([("source", source.as_str())], points.left)),
        )?;
        self.gauge("arrears_points", "Points that the accounts in arrears owe", points.arrears)
    }
}
