//! The replaced service's way: one row, one statement, one round trip after the other.

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use uuid::Uuid;

use crate::server::time;

/// Consumes per second, one account and one statement at a time.
pub async fn naive_consume(client: &Client, users: &[Uuid], salt: &str) -> f64 {
    let statement = |sql: &'static str| async move { client.prepare(sql).await.unwrap() };
    let account =
        statement("SELECT balance, last_seq FROM pointsd.accounts WHERE bucket = 0 AND user_id = $1 FOR UPDATE").await;
    let open = statement(
        "SELECT batch, remaining FROM pointsd.batches
         WHERE bucket = 0 AND user_id = $1 AND open AND expires_at > $2 ORDER BY expires_at FOR UPDATE",
    )
    .await;
    let draw =
        statement("UPDATE pointsd.batches SET remaining = $3, open = $3::bigint > 0 WHERE bucket = 0 AND user_id = $1 AND batch = $2")
            .await;
    let update = statement(
        "UPDATE pointsd.accounts SET balance = balance - $2, total_consumed = total_consumed + $2, last_seq = last_seq + 1
         WHERE bucket = 0 AND user_id = $1",
    )
    .await;
    let insert = statement(
        "INSERT INTO pointsd.entries (user_id, seq, type, amount, balance_before, balance_after, source_type, source_id,
             at, key, drawing_rule, allocated_batches, allocated_points)
         VALUES ($1, $2, 'consume', $3, $4, $4::bigint - $3::bigint, 'tts', $5, $6, gen_random_uuid(), 1, $7, $8)",
    )
    .await;
    let mut random = fastrand::Rng::with_seed(7);
    let began = Instant::now();
    let mut done = 0_u32;
    while began.elapsed() < Duration::from_secs(4) {
        let (user, points) = (*random.choice(users).unwrap(), random.i64(1..=20));
        let at = time("2026-01-15T00:00:00Z");
        client.batch_execute("BEGIN").await.unwrap();
        let row = client.query_one(&account, &[&user]).await.unwrap();
        let (balance, seq): (i64, i64) = (row.get(0), row.get(1));
        let mut wanted = points;
        let (mut batches, mut drawn) = (Vec::<i32>::new(), Vec::<i64>::new());
        for row in client.query(&open, &[&user, &at]).await.unwrap() {
            let (batch, remaining): (i32, i64) = (row.get(0), row.get(1));
            let part = wanted.min(remaining);
            if part == 0 {
                break;
            }
            client.execute(&draw, &[&user, &batch, &(remaining - part)]).await.unwrap();
            wanted -= part;
            batches.push(batch);
            drawn.push(part);
        }
        client.execute(&update, &[&user, &points]).await.unwrap();
        let id = format!("{salt}-{done}");
        client.execute(&insert, &[&user, &(seq + 1), &points, &balance, &id, &at, &batches, &drawn]).await.unwrap();
        client.batch_execute("COMMIT").await.unwrap();
        done += 1;
    }
    f64::from(done) / began.elapsed().as_secs_f64()
}

/// Expired batches per second, over this many batches.
pub async fn naive_expiry(client: &Client, batches: i64) -> f64 {
    let began = Instant::now();
    client.batch_execute("BEGIN").await.unwrap();
    let at = time("2026-03-01T00:00:00Z");
    let due = client
        .query(
            "SELECT user_id, batch, remaining, source FROM pointsd.batches
             WHERE bucket = 0 AND open AND expires_at <= $1 LIMIT $2 FOR UPDATE",
            &[&at, &batches],
        )
        .await
        .unwrap();
    let statement = |sql: &'static str| async move { client.prepare(sql).await.unwrap() };
    let account =
        statement("SELECT balance, last_seq FROM pointsd.accounts WHERE bucket = 0 AND user_id = $1 FOR UPDATE").await;
    let update = statement(
        "UPDATE pointsd.accounts SET balance = balance - $2, total_expired = total_expired + $2, last_seq = last_seq + 1
         WHERE bucket = 0 AND user_id = $1",
    )
    .await;
    let close = statement(
        "UPDATE pointsd.batches SET remaining = 0, open = false WHERE bucket = 0 AND user_id = $1 AND batch = $2",
    )
    .await;
    let insert = statement(
        "INSERT INTO pointsd.entries (user_id, seq, type, amount, balance_before, balance_after, source_type, at,
             drawing_rule, allocated_batches, allocated_points)
         VALUES ($1, $2, 'expire', $3, $4, $4::bigint - $3::bigint, $5, $6, 1, $7, $8)",
    )
    .await;
    for row in &due {
        let (user, batch, points): (Uuid, i32, i64) = (row.get(0), row.get(1), row.get(2));
        let source: &str = row.get(3);
        let row = client.query_one(&account, &[&user]).await.unwrap();
        let (balance, seq): (i64, i64) = (row.get(0), row.get(1));
        client.execute(&update, &[&user, &points]).await.unwrap();
        client.execute(&close, &[&user, &batch]).await.unwrap();
        let (batches, taken) = (vec![batch], vec![points]);
        client.execute(&insert, &[&user, &(seq + 1), &points, &balance, &source, &at, &batches, &taken]).await.unwrap();
    }
    client.batch_execute("COMMIT").await.unwrap();
    due.len() as f64 / began.elapsed().as_secs_f64()
}
