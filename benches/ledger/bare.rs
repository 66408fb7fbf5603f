//! Bare statements: what PostgreSQL alone needs to write the same rows. Each writes into copies of the ledger's tables, with all
//! their indexes and constraints, in one transaction on each connection.

use std::time::Instant;

use futures_util::future::join_all;
use tokio_postgres::Client;

use crate::Row;
use crate::server::Bench;

const TABLES: [&str; 3] = ["accounts", "batches", "entries"];

impl Bench {
    /// Copies the ledger's tables, as they are, into the schema `name`.
    pub async fn copy(&self, client: &Client, name: &str) {
        client.batch_execute(&format!("CREATE SCHEMA {name}")).await.unwrap();
        for table in TABLES {
            // LIKE copies no fillfactor.
            let described = format!(
                "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum), coalesce(array_to_string(reloptions, ', '), 'fillfactor = 100')
                 FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
                 WHERE c.oid = 'pointsd.{table}'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
                 GROUP BY reloptions"
            );
            let described = client.query_one(&described, &[]).await.unwrap();
            let (columns, options): (String, String) = (described.get(0), described.get(1));
            let copy = format!(
                "CREATE TABLE {name}.{table} (LIKE pointsd.{table} INCLUDING ALL) WITH ({options});
                 INSERT INTO {name}.{table} ({columns}) SELECT {columns} FROM pointsd.{table};"
            );
            client.batch_execute(&copy).await.unwrap();
            client.batch_execute(&format!("VACUUM (ANALYZE) {name}.{table}")).await.unwrap();
        }
        client.batch_execute("CHECKPOINT").await.unwrap();
    }

    /// The seconds of a sweep of all that is due, in the copies `name`.
    pub async fn bare_sweep(&self, client: &Client, name: &str, at: &str) -> f64 {
        let sweep = format!(
            "BEGIN;
             CREATE TEMP TABLE due ON COMMIT DROP AS
             SELECT b.user_id, b.batch, b.remaining, b.source, b.expires_at, a.last_seq, a.balance,
                    row_number() OVER drawing AS nth, (sum(b.remaining) OVER drawing)::bigint AS running
             FROM {name}.batches AS b JOIN {name}.accounts AS a USING (bucket, user_id)
             WHERE b.open AND b.expires_at <= '{at}'
             WINDOW drawing AS (PARTITION BY b.user_id ORDER BY b.expires_at, b.batch);
             UPDATE {name}.batches AS b SET remaining = 0, expired = b.expired + due.remaining, open = false
             FROM due WHERE b.bucket = 0 AND b.user_id = due.user_id AND b.batch = due.batch;
             UPDATE {name}.accounts AS a
             SET balance = a.balance - t.points, total_expired = a.total_expired + t.points, last_seq = a.last_seq + t.batches,
                 expired_until = t.until
             FROM (SELECT user_id, count(*) AS batches, sum(remaining)::bigint AS points, max(expires_at) AS until
                   FROM due GROUP BY user_id) AS t
             WHERE a.bucket = 0 AND a.user_id = t.user_id;
             INSERT INTO {name}.entries (user_id, seq, type, amount, balance_before, balance_after, source_type, at,
                                         drawing_rule, run, allocated_batches, allocated_points)
             SELECT user_id, last_seq + nth, 'expire', remaining, balance - running + remaining, balance - running, source, '{at}',
                    1, 1, ARRAY[batch], ARRAY[remaining]
             FROM due;
             COMMIT"
        );
        timed(client, &sweep).await
    }

    /// The seconds in which the entries of `work`, groups of a thousand in the order of the input, are written anew into the copies
    /// `name`, on so many connections.
    pub async fn bare_post(&self, database: &str, name: &str, connections: u32) -> f64 {
        let mut lanes = Vec::new();
        for _ in 0..connections {
            let client = self.client(database).await;
            client
                .batch_execute(
                    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off",
                )
                .await
                .unwrap();
            lanes.push(client);
        }
        let began = Instant::now();
        join_all(lanes.iter().zip(0..).map(|(client, lane)| async move {
            let lane = format!("c.lane % {connections} = {lane}");
            let post = format!(
                "DO $$
                 DECLARE g integer;
                 BEGIN
                     FOR g IN SELECT generate_series(0, max(nth)) FROM work LOOP
                         UPDATE {name}.accounts AS a
                         SET balance = c.balance, total_recharged = a.total_recharged + c.recharged,
                             total_consumed = a.total_consumed + c.consumed, last_seq = c.seq,
                             last_batch = greatest(a.last_batch, c.batch)
                         FROM work_accounts AS c WHERE c.nth = g AND {lane} AND a.bucket = 0 AND a.user_id = c.user_id;
                         UPDATE {name}.batches AS b SET remaining = b.remaining - c.points, open = b.remaining > c.points
                         FROM work_batches AS c
                         WHERE c.nth = g AND {lane} AND b.bucket = 0 AND b.user_id = c.user_id AND b.batch = c.batch;
                         INSERT INTO {name}.batches (user_id, batch, amount, remaining, opened_at, expires_at, open, source)
                         SELECT user_id, batch, amount, amount, at, at + interval '1 year', true, source_type
                         FROM work AS c WHERE nth = g AND {lane} AND batch IS NOT NULL;
                         INSERT INTO {name}.entries (user_id, seq, type, amount, balance_before, balance_after, source_type, source_id,
                                                     batch, at, duration, key, drawing_rule, allocated_batches, allocated_points)
                         SELECT user_id, seq, type, amount, balance_before, balance_after, source_type, source_id, batch, at, duration,
                                key, drawing_rule, allocated_batches, allocated_points
                         FROM work AS c WHERE nth = g AND {lane};
                     END LOOP;
                 END $$"
            );
            client.batch_execute(&post).await.unwrap();
        }))
        .await;
        let seconds = began.elapsed().as_secs_f64();
        eprintln!("bare statements on {connections} connections: {seconds:.2} s");
        seconds
    }

    /// Keeps the entries that were written after these copies were made, as `work`: groups of a thousand in the order of the input.
    pub async fn keep_work(&self, client: &Client, name: &str) {
        let keep = format!(
            "CREATE TABLE work AS
             SELECT e.*, ((substring(source_id FROM '[0-9]+$')::integer) / 1000) AS nth,
                    get_byte(uuid_send(user_id), 15) AS lane
             FROM pointsd.entries AS e
             WHERE NOT EXISTS (SELECT FROM {name}.entries AS o WHERE o.bucket = 0 AND o.user_id = e.user_id AND o.seq = e.seq);
             CREATE TABLE work_accounts AS
             SELECT nth, lane, user_id, (array_agg(balance_after ORDER BY seq DESC))[1] AS balance, max(seq) AS seq,
                    coalesce(sum(amount) FILTER (WHERE type = 'recharge'), 0)::bigint AS recharged,
                    coalesce(sum(amount) FILTER (WHERE type = 'consume'), 0)::bigint AS consumed, max(batch) AS batch
             FROM work GROUP BY nth, lane, user_id ORDER BY nth, user_id;
             CREATE TABLE work_batches AS
             SELECT w.nth, w.lane, w.user_id, t.batch, sum(t.points)::bigint AS points
             FROM work AS w, unnest(w.allocated_batches, w.allocated_points) AS t (batch, points)
             GROUP BY w.nth, w.lane, w.user_id, t.batch ORDER BY w.nth, w.user_id;
             CREATE INDEX ON work (nth, user_id);
             CREATE INDEX ON work_accounts (nth, user_id);
             CREATE INDEX ON work_batches (nth, user_id);
             ANALYZE work, work_accounts, work_batches;
             CHECKPOINT"
        );
        client.batch_execute(&keep).await.unwrap();
    }
}

async fn timed(client: &Client, sql: &str) -> f64 {
    let began = Instant::now();
    client.batch_execute(sql).await.unwrap();
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("bare statements: {seconds:.2} s");
    seconds
}

/// How much longer the program takes than bare statements.
pub fn times_bare(work: &str, seconds: f64, bare: f64, aims: (&'static str, &'static str)) -> Row {
    Row::new(work, format!("{seconds:.1} s"), format!("bare statements {bare:.1} s"), seconds / bare, aims)
}
