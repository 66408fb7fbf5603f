//! The reconciliation report: whether the books hold, the exceptions, and the points roll-forward of the business days
//! since the last such report.

use std::pin::pin;

use chrono::{DateTime, NaiveDate, Utc};
use deadpool_postgres::Transaction;
use futures_util::{StreamExt, TryStreamExt};
use tokio_postgres::Client;

use super::Error;
use super::bridges;
use super::exceptions::Words;
use super::pipeline::{Report, Scope};
use super::roll_forward::{ReportedDays, ends_month, month_begin, of_day, promotional_points};
use super::rows_file::RowsFile;
use crate::books::{self, Booked, Books, MoneyBooked, Movement, Outstanding, RollForward};
use crate::document::{Cell, Document, Fact, Kind, Section, Table, TableBuilder, Tone};
use crate::messages::{Messages, args};
use crate::proof::{self, FindingCounts, Proof, RecordedFinding, load_open_findings, load_resolved_findings};
use crate::requests::{self, NotPosted, State};
use crate::time::Zone;

/// The report's name: that of its job.
pub const REPORT: &str = "reconciliation";

/// The most open exceptions that a document holds: a document of two and a half megabytes. A file has all of them.
const MOST_OPEN: usize = 10_000;

/// The most resolved exceptions that a document holds; all are counted.
const MOST_RESOLVED: usize = 1_000;

/// The most requests that a document lists; all are counted.
const MOST_NOT_POSTED: u32 = 1_000;

/// The file with all open exceptions, if a document cannot hold them.
const FILE: &str = "findings.csv";

/// The most exceptions in a mail's body.
const ROWS_IN_BODY: usize = 20;

/// The report on a proof and a tie-out of the books.
pub struct ReconciliationReport<'a> {
    /// The proof, without its counts of findings.
    pub proof: &'a Proof,
    /// Until when all accounts were last proved from the first entry on.
    pub full_until: Option<DateTime<Utc>>,
    /// The books that were tied out.
    pub books: &'a Books,
}

/// What the report reads from its snapshot.
pub struct Facts {
    /// The proof; its findings are those that stand in the snapshot.
    pub proof: Proof,
    open: Table,
    resolved: Table,
    /// Requests that were not posted since the last report.
    not_posted: Option<Table>,
    reported: ReportedDays,
    /// The last month that was closed.
    closed: Option<NaiveDate>,
}

impl Report for ReconciliationReport<'_> {
    const NAME: &'static str = REPORT;
    type Facts = Facts;
    type Counters = Proof;

    fn as_of(&self) -> Option<DateTime<Utc>> {
        Some(self.books.as_of)
    }

    async fn gather(&self, snapshot: &Transaction<'_>, scope: &Scope<'_>) -> Result<Facts, Error> {
        let client = snapshot.client();
        // The counts come from the table, because findings about the books as a whole are among them.
        let FindingCounts { open, new, resolved } = proof::count_findings(client, scope.run).await?;
        let messages = Messages::new(scope.config.language);
        Ok(Facts {
            proof: Proof { findings: open, new, resolved, ..self.proof.clone() },
            open: open_exceptions(client, scope, open, messages).await?,
            resolved: resolved_exceptions(client, scope, resolved, messages).await?,
            not_posted: requests_not_posted(client, scope, messages).await?,
            reported: load_reported_days(client, self.books, scope).await?,
            closed: books::load_closed_months(client).await?.into_keys().next_back(),
        })
    }

    fn document(&self, facts: &Facts, scope: &Scope<'_>) -> Document {
        let Facts { proof, open, resolved, not_posted, reported, closed } = facts;
        let (books, zone) = (self.books, scope.config.time_zone);
        let messages = Messages::new(scope.config.language);
        let mut summary = summary(proof, self.full_until, books, zone, messages);
        let closed = closed.map_or_else(|| messages.label("none"), |month| messages.month(month));
        summary.push(Fact { label: messages.label("last-closed-month"), value: closed.into() });
        let mut sections = vec![Section::Table(open.clone()), Section::Table(resolved.clone())];
        sections.extend(not_examined(proof, self.full_until, zone, messages));
        sections.extend(not_posted.clone().map(Section::Table));
        sections.extend(roll_forward_sections(reported, books, scope, messages));
        let open = books.outstanding.iter().map(|part| (part.source.as_str(), part.points));
        sections.extend(promotional_points(open, scope, messages).map(Section::Table));
        sections.push(Section::Table(tie_out(books, messages)));
        sections.push(Section::Table(bridges::closing_to_now(books, messages)));
        sections.push(Section::Table(outstanding_by_age(books, messages)));
        sections.push(Section::Table(outstanding_by_expiry(books, messages)));
        sections.push(Section::Table(checks(messages)));
        Document {
            title: scope.title("reconciliation-title"),
            tone: if proof.findings > 0 { Tone::Bad } else { Tone::Good },
            tone_rule: messages.label("reconciliation-tone-rule"),
            headline: headline(proof, reported, scope, messages),
            facts: summary,
            sections,
            ..scope.blank_document(REPORT)
        }
    }

    async fn remember(&self, transaction: &Transaction<'_>, facts: &Facts, scope: &Scope<'_>) -> Result<(), Error> {
        if let Some(last) = facts.reported.days.last() {
            let keep = include_str!("../../sql/reports/reported_day.sql");
            transaction.execute(keep, &[&last.day, &scope.as_of]).await?;
        }
        Ok(())
    }

    fn counters(&self, facts: &Facts) -> Proof {
        facts.proof.clone()
    }

    fn accounts(&self, facts: &Facts) -> u64 {
        facts.proof.accounts
    }
}

fn headline(proof: &Proof, reported: &ReportedDays, scope: &Scope<'_>, messages: Messages) -> String {
    let Proof { accounts, entries, findings, new, .. } = *proof;
    let today = scope.as_of.with_timezone(&scope.config.time_zone).date_naive();
    let slot = scope.made_up_for();
    let mut day = messages.headline_day(reported.days.last().map_or(slot.unwrap_or(today), |last| last.day));
    if slot.is_some() {
        day = messages.text("day-made-up", args![day = day, made_up = messages.headline_day(today)]);
    }
    if findings > 0 {
        messages.text("reconciliation-exceptions", args![day = day, exceptions = findings, new = new])
    } else if proof.full {
        messages.text("reconciliation-full", args![day = day, accounts = accounts, entries = entries])
    } else if accounts > 0 {
        messages.text("reconciliation-changes", args![day = day, accounts = accounts, entries = entries])
    } else {
        messages.text("reconciliation-no-changes", args![day = day])
    }
}

fn summary(
    proof: &Proof,
    full_until: Option<DateTime<Utc>>,
    books: &Books,
    zone: Zone,
    messages: Messages,
) -> Vec<Fact> {
    let scope = match proof.since {
        Some(from) if !proof.full => {
            let from = messages.moment(from.with_timezone(&zone).naive_local());
            messages.text("scope-changes", args![from = from])
        }
        _ => messages.label("scope-full"),
    };
    let mut facts = vec![("scope", Cell::from(scope)), ("balances-as-of", books.as_of.into())];
    if !proof.full {
        let last = full_until.map_or_else(|| messages.label("last-full-reconciliation-never").into(), Cell::from);
        facts.push(("last-full-reconciliation", last));
    }
    facts.extend([
        ("accounts-checked", proof.accounts.into()),
        ("batches-checked", proof.batches.into()),
        ("entries-checked", proof.entries.into()),
        ("open-exceptions", proof.findings.into()),
        ("new-exceptions", proof.new.into()),
        ("resolved-exceptions", proof.resolved.into()),
        ("unused-points-liability", books.balance.saturating_add(books.owed).into()),
        ("arrears-receivable", books.owed.into()),
        ("net-balance", books.balance.into()),
    ]);
    facts.into_iter().map(|(label, value)| Fact { label: messages.label(label), value }).collect()
}

/// What a proof of changes leaves to the next full one. None for a full proof.
fn not_examined(proof: &Proof, full_until: Option<DateTime<Utc>>, zone: Zone, messages: Messages) -> Option<Section> {
    let since = proof.since.filter(|_| !proof.full)?;
    let moment = |at: DateTime<Utc>| messages.moment(at.with_timezone(&zone).naive_local());
    let last = full_until.map_or_else(|| messages.label("last-full-reconciliation-never"), moment);
    let text = messages.text("not-examined-text", args![from = moment(since), last = last]);
    Some(Section::Text { title: messages.label("not-examined"), paragraphs: vec![text] })
}

/// Reads all findings that stand, one by one: the document holds the first ones, and a file all if there are more.
async fn open_exceptions(client: &Client, scope: &Scope<'_>, count: u64, messages: Messages) -> Result<Table, Error> {
    let words = Words::new(scope.config);
    let table = TableBuilder::new(messages, "findings", messages.label("open-exceptions"))
        .if_empty(messages.label("no-exceptions"))
        .rows_in_body(ROWS_IN_BODY)
        .rows_in_all(count)
        .column("exception", Kind::Text, move |recorded: &RecordedFinding| words.sentence(&recorded.finding))
        .column("next-step", Kind::Text, move |recorded| words.next_step(&recorded.finding));
    let mut table = finding_columns(table, words, messages).column("status", Kind::Text, move |recorded| {
        if recorded.new { messages.label("status-new") } else { messages.label("status-open") }
    });
    let is_cut = count > MOST_OPEN as u64;
    let folder = scope.folder.as_deref().filter(|_| is_cut);
    let mut file = RowsFile::begin(folder, FILE, table.columns(), scope.config);
    let mut found = pin!(load_open_findings(client, scope.run).await?);
    while let Some(finding) = found.try_next().await? {
        let has_room = table.added().len() < MOST_OPEN;
        if has_room {
            table.row(&finding);
        } else if folder.is_none() {
            break;
        }
        if folder.is_some() {
            file.row(&table.cells(&finding));
        }
    }
    let in_file = file.finish();
    if is_cut {
        let path = folder.filter(|_| in_file).map(|folder| folder.join(FILE).display().to_string());
        let place = path.unwrap_or_else(|| messages.text("in-database-table", args![table = "pointsd.findings"]));
        table = table.whole_file(if in_file { FILE } else { "" });
        table = table.note(messages.text("only-the-first", args![shown = MOST_OPEN, all = count, place = place]));
    }
    Ok(table.build())
}

async fn resolved_exceptions(
    client: &Client,
    scope: &Scope<'_>,
    count: u64,
    messages: Messages,
) -> Result<Table, Error> {
    let words = Words::new(scope.config);
    let table = TableBuilder::new(messages, "resolved", messages.label("resolved-exceptions"))
        .rows_in_body(ROWS_IN_BODY)
        .rows_in_all(count)
        .column("exception", Kind::Text, move |recorded: &RecordedFinding| words.sentence(&recorded.finding));
    let found: Vec<RecordedFinding> =
        load_resolved_findings(client, scope.run).await?.take(MOST_RESOLVED).try_collect().await?;
    Ok(finding_columns(table, words, messages).rows(&found).build())
}

/// The requests of the queue that the ledger refused, or that failed for good, since the last report. None if there are none.
async fn requests_not_posted(client: &Client, scope: &Scope<'_>, messages: Messages) -> Result<Option<Table>, Error> {
    let (listed, all) = requests::not_posted(client, scope.slot, MOST_NOT_POSTED).await?;
    if listed.is_empty() {
        return Ok(None);
    }
    let table = TableBuilder::new(messages, "requests-not-posted", messages.label("requests-not-posted"))
        .note(messages.label("requests-not-posted-note"))
        .rows_in_body(ROWS_IN_BODY)
        .rows_in_all(all)
        .column("account", Kind::Identifier, |request: &NotPosted| request.user.to_string())
        .column("request", Kind::Identifier, |request| request.id.to_string())
        .column("status", Kind::Text, move |request| match request.state {
            State::Parked => messages.label("status-parked"),
            _ => messages.label("status-refused"),
        })
        .column("operation", Kind::Text, move |request| {
            messages.find(&format!("operation-{}", request.op), &[]).unwrap_or_else(|| request.op.clone())
        })
        .column("reference", Kind::Text, |request| {
            let label = request.source.as_ref().map(|source| scope.source_label(source));
            let parts = [label, request.source_type.clone(), request.reference.clone()];
            parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
        })
        .column("points", Kind::Number, |request| request.points)
        .column("reason", Kind::Text, move |request| {
            messages.find(&format!("refusal-{}", request.code), &[]).unwrap_or_else(|| request.message.clone())
        })
        .column("decided", Kind::Instant, |request| request.finished_at);
    Ok(Some(table.rows(&listed).build()))
}

/// The columns that open and resolved exceptions have in common.
fn finding_columns<'a>(
    table: TableBuilder<'a, RecordedFinding>,
    words: Words<'a>,
    messages: Messages,
) -> TableBuilder<'a, RecordedFinding> {
    table
        .column("account", Kind::Identifier, move |recorded| match recorded.finding.user {
            Some(user) => user.to_string(),
            None => messages.label("all-accounts"),
        })
        .column("batch", Kind::Number, |recorded| recorded.finding.batch)
        .column("entry", Kind::Number, |recorded| recorded.finding.seq)
        .column("points-difference", Kind::Number, |recorded| recorded.finding.points)
        .column("expected", Kind::Text, move |recorded| words.values(&recorded.finding).0)
        .column("found", Kind::Text, move |recorded| words.values(&recorded.finding).1)
        .column("failed-check", Kind::Identifier, |recorded| recorded.finding.rule.clone())
        .column("found-since", Kind::Instant, |recorded| recorded.since)
        .column("found-by-run", Kind::Number, |recorded| recorded.since_run)
}

/// The closed days that this report shows: those after the last day that was reported, up to the day before the slot. If there are
/// none, the day before the slot again.
async fn load_reported_days(client: &Client, books: &Books, scope: &Scope<'_>) -> Result<ReportedDays, Error> {
    let zone = scope.config.time_zone;
    let before_slot = scope.slot.with_timezone(&zone).date_naive().pred_opt();
    let Some((last, before_slot)) = books.last.as_ref().zip(before_slot) else { return Ok(ReportedDays::default()) };
    let to = last.day.min(before_slot);
    let row = client.query_opt(include_str!("../../sql/reports/reported_last.sql"), &[]).await?;
    let reported: Option<NaiveDate> = row.map(|row| row.try_get("day")).transpose()?;
    let from = reported.map(|reported| reported.succ_opt().unwrap_or(to).min(to));
    let mut reported = ReportedDays { days: books::load_span(client, from, to).await?, months: Vec::new() };
    for day in reported.days.iter().map(|day| day.day).filter(|day| ends_month(*day)) {
        let days = books::load_span(client, Some(month_begin(day)), day).await?;
        reported.months.extend(books::add_up(&days));
    }
    Ok(reported)
}

/// The roll-forward of the days that this report shows; before the first one has ended, of what moved so far.
fn roll_forward_sections(
    reported: &ReportedDays,
    books: &Books,
    scope: &Scope<'_>,
    messages: Messages,
) -> Vec<Section> {
    if !reported.days.is_empty() {
        return reported.sections(scope, messages);
    }
    let (title, is_late) = (messages.label("roll-forward"), books.last.is_some());
    let so_far = first_day_so_far(books, scope.config.time_zone);
    let note = messages.label(match () {
        () if is_late => "no-business-day-then",
        () if so_far.rows.is_empty() => "nothing-recorded-yet",
        () => "no-business-day-yet",
    });
    let mut sections = vec![Section::Text { title, paragraphs: vec![note] }];
    if !is_late && !so_far.rows.is_empty() {
        sections.extend(of_day(&so_far, scope, messages));
    }
    sections
}

fn first_day_so_far(books: &Books, zone: Zone) -> RollForward {
    let booked = |moved: &Movement| Booked { opening: 0, moved: *moved, closing: moved.closing(0) };
    let rows = books.since.iter().map(|(source, moved)| (source.clone(), booked(moved)));
    let money = books
        .money_since
        .iter()
        .map(|(place, moved)| (place.clone(), MoneyBooked { opening: 0, moved: *moved, closing: moved.closing(0) }));
    let day = books.as_of.with_timezone(&zone).date_naive();
    RollForward { day, ended: books.as_of, rows: rows.collect(), money: money.collect() }
}

/// From the last closing to the balances of the accounts.
fn tie_out(books: &Books, messages: Messages) -> Table {
    let since = books.since.values().fold(0_i64, |sum, moved| sum.saturating_add(moved.closing(0)));
    let difference = books.balance.saturating_sub(books.expected);
    let closing = match &books.last {
        Some(last) => messages.text("closing-of-day", args![day = messages.day(last.day)]),
        None => messages.label("opening"),
    };
    let rows = [
        (closing, books.expected.saturating_sub(since)),
        (messages.label("recorded-since"), since),
        (messages.label("expected-net-balance"), books.expected),
        (messages.label("net-balance-of-accounts"), books.balance),
        (messages.label("unreconciled-difference"), difference),
    ];
    let note = if books.recomputed { messages.label("days-recomputed") } else { String::new() };
    TableBuilder::new(messages, "tie-out", messages.label("tie-out"))
        .note(note)
        .column("item", Kind::Text, |(item, _): &(String, i64)| item.clone())
        .column("points", Kind::Number, |(_, points)| *points)
        .rows(&rows)
        .build()
}

/// A group of batches by age or time to expiry.
struct Group {
    label: String,
    batches: i64,
    points: i64,
}

/// The groups with these labels; `place` tells to which one a part belongs. None if there are no unused points.
fn groups(books: &Books, labels: &[&str], place: impl Fn(&Outstanding) -> usize, messages: Messages) -> Vec<Group> {
    let group = |(nth, label): (usize, &&str)| {
        let parts = books.outstanding.iter().filter(|part| place(part) == nth);
        let (batches, points) = parts.fold((0_i64, 0_i64), |(batches, points), part| {
            (batches.saturating_add(part.batches), points.saturating_add(part.points))
        });
        Group { label: messages.label(label), batches, points }
    };
    // A table of zeros says nothing.
    match books.outstanding.is_empty() {
        true => Vec::new(),
        false => labels.iter().enumerate().map(group).collect(),
    }
}

/// The youngest first; [`Outstanding::age`] counts from the oldest.
fn outstanding_by_age(books: &Books, messages: Messages) -> Table {
    let labels = ["days-0-30", "days-31-90", "days-91-180", "days-over-180"];
    let groups = groups(books, &labels, |part| books::STEPS.len().saturating_sub(part.age), messages);
    TableBuilder::new(messages, "outstanding-by-age", messages.label("unused-by-age"))
        .note(messages.label("unused-by-age-note"))
        .if_empty(messages.label("unused-none"))
        .column("age", Kind::Text, |group: &Group| group.label.clone())
        .summed("batches", |group| group.batches)
        .summed("points", |group| group.points)
        .rows(&groups)
        .build()
}

fn outstanding_by_expiry(books: &Books, messages: Messages) -> Table {
    let labels = ["overdue-not-expired", "days-0-30", "days-31-90", "days-91-180", "days-over-180"];
    let groups = groups(books, &labels, |part| part.expiry, messages);
    TableBuilder::new(messages, "outstanding-by-expiry", messages.label("unused-by-expiry"))
        .note(messages.label("unused-by-expiry-note"))
        .if_empty(messages.label("unused-none"))
        .column("time-to-expiry", Kind::Text, |group: &Group| group.label.clone())
        .summed("batches", |group| group.batches)
        .summed("points", |group| group.points)
        .same_as("points", "outstanding-by-age", "points")
        .rows(&groups)
        .build()
}

fn checks(messages: Messages) -> Table {
    let names: Vec<&str> = rules().collect();
    TableBuilder::new(messages, "rules", messages.label("checks-performed"))
        .column("check", Kind::Identifier, |name: &&str| *name)
        .column("requirement", Kind::Text, move |name| messages.label(&format!("rule-{name}")))
        .rows(&names)
        .build()
}

/// The names of all rules.
pub(super) fn rules() -> impl Iterator<Item = &'static str> {
    let of_accounts = proof::RULES.iter().map(|rule| rule.name);
    of_accounts.chain(books::RULES)
}
