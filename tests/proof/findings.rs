//! Findings over several runs: new, open, resolved.

use futures_util::TryStreamExt;
use pointsd::proof::{
    Finding, RecordedFinding, count_findings, load_open_findings, load_resolved_findings, load_users_with_findings,
    record_findings, record_whole_ledger_findings, resolve_findings,
};
use tokio_postgres::Client;

use super::{TestDatabase, day, finding, user};

async fn open(client: &Client, run: i64) -> Vec<RecordedFinding> {
    load_open_findings(client, run).await.unwrap().try_collect().await.unwrap()
}

async fn counts(client: &Client, run: i64) -> (u64, u64, u64) {
    let counts = count_findings(client, run).await.unwrap();
    (counts.open, counts.new, counts.resolved)
}

/// Stores a document, as if this run had made its report.
async fn told(client: &Client, run: i64) {
    let insert = "INSERT INTO pointsd.documents (report, slot, run, made, tone, headline, content, host, folder)
                  VALUES ('reconciliation', now() + $1::bigint * interval '1 day', $1, now(), 'bad', '', '{}', '', '')";
    client.execute(insert, &[&run]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stand_from_the_first_run_that_finds_them_to_the_first_that_does_not() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let balance = finding(1, "account_balance", None, None, "1", "2");
    let worse = Finding { found: "3".to_owned(), ..balance.clone() };
    let amount = finding(2, "batch_amount", 4, None, "remaining 1", "remaining 2");
    let totals = finding(3, "account_totals", None, None, "10", "11");

    // Written twice, as after a resume, it is one finding.
    for _ in 0..2 {
        let found = [balance.clone(), amount.clone(), balance.clone(), totals.clone()];
        record_findings(&client, 1, day(1), &found).await.unwrap();
    }
    assert_eq!(resolve_findings(&client, 1, day(1)).await.unwrap(), 0);
    assert_eq!(counts(&client, 1).await, (3, 3, 0));
    assert_eq!(load_users_with_findings(&client).await.unwrap(), [user(1), user(2), user(3)]);
    told(&client, 1).await;

    let chain = finding(1, "entry_chain", None, 3, "balance_before 1", "balance_before 2");
    record_findings(&client, 2, day(2), &[worse.clone(), chain.clone()]).await.unwrap();
    record_findings(&client, 2, day(2), &[]).await.unwrap();
    assert_eq!(resolve_findings(&client, 2, day(2)).await.unwrap(), 2);
    assert_eq!(resolve_findings(&client, 2, day(2)).await.unwrap(), 0);
    assert_eq!(counts(&client, 2).await, (2, 1, 2));
    let now = open(&client, 2).await;
    let listed: Vec<_> = now.iter().map(|kept| (&kept.finding, kept.since, kept.new)).collect();
    assert_eq!(listed, [(&chain, day(2), true), (&worse, day(1), false)]);
    let resolved: Vec<RecordedFinding> = load_resolved_findings(&client, 2).await.unwrap().try_collect().await.unwrap();
    let listed: Vec<_> = resolved.iter().map(|kept| (&kept.finding, kept.since, kept.resolved_at)).collect();
    assert_eq!(listed, [(&amount, day(1), Some(day(2))), (&totals, day(1), Some(day(2)))]);

    // That run was interrupted before its report: the next one reports the finding, once.
    assert_eq!(counts(&client, 3).await, (2, 1, 2));
    told(&client, 2).await;
    assert_eq!(counts(&client, 3).await, (2, 0, 0));

    // A resolved finding that is found again is new.
    record_findings(&client, 3, day(3), std::slice::from_ref(&amount)).await.unwrap();
    assert_eq!(resolve_findings(&client, 3, day(3)).await.unwrap(), 2);
    assert_eq!(counts(&client, 3).await, (1, 1, 2));
    assert_eq!(open(&client, 3).await[0].since, day(3));
}

/// The ledger is repaired between two attempts of a run: the second attempt resolves what the first one found, although
/// the proof of the run has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn about_the_whole_ledger_follow_the_last_tie_out_of_a_run() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let of_ledger = |rule| Finding { user: None, ..finding(1, rule, None, None, "10", "11") };
    let (balance, source) = (of_ledger("days_balance"), of_ledger("days_source"));
    let account = finding(1, "account_balance", None, None, "1", "2");
    record_whole_ledger_findings(&client, 1, day(1), &[balance, source.clone()]).await.unwrap();
    record_findings(&client, 1, day(1), std::slice::from_ref(&account)).await.unwrap();
    assert_eq!(resolve_findings(&client, 1, day(1)).await.unwrap(), 0);
    assert_eq!(counts(&client, 1).await, (3, 3, 0));

    record_whole_ledger_findings(&client, 1, day(2), std::slice::from_ref(&source)).await.unwrap();
    let now: Vec<_> = open(&client, 1).await.into_iter().map(|kept| kept.finding).collect();
    assert_eq!(now, [source, account.clone()]);
    assert_eq!(counts(&client, 1).await, (2, 2, 1));
    record_whole_ledger_findings(&client, 1, day(3), &[]).await.unwrap();
    let now: Vec<_> = open(&client, 1).await.into_iter().map(|kept| kept.finding).collect();
    assert_eq!(now, [account]);
}
