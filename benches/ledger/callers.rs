//! Callers that post one at a time and measure the latency of each reply.

use std::time::{Duration, Instant};

use pointsd::ledger::{Poster, Posting};
use uuid::Uuid;

use crate::server::time;

/// The number of clients of pgbench and of single callers.
pub const CLIENTS: usize = 16;

/// Sixteen callers, each posting again as soon as the reply is there. Returns every latency in seconds.
pub async fn callers(poster: &Poster, users: &[Uuid], salt: &str, how_long: Duration) -> Vec<f64> {
    drive(poster, users, salt, how_long, CLIENTS, Duration::ZERO).await
}

/// Four callers that rest 5 ms after each posting, so that they do not keep the machine busy.
pub async fn callers_at_ease(poster: &Poster, users: &[Uuid], salt: &str, how_long: Duration) -> Vec<f64> {
    drive(poster, users, salt, how_long, 4, Duration::from_millis(5)).await
}

pub async fn drive(
    poster: &Poster,
    users: &[Uuid],
    salt: &str,
    how_long: Duration,
    callers: usize,
    rest: Duration,
) -> Vec<f64> {
    let until = Instant::now() + how_long;
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let (poster, users, salt) = (poster.clone(), users.to_vec(), salt.to_owned());
            tokio::spawn(async move {
                let mut random = fastrand::Rng::with_seed(caller as u64);
                let mut latencies = Vec::new();
                while Instant::now() < until {
                    let user = *random.choice(&users).unwrap();
                    let id = format!("{salt}-{caller}-{}", latencies.len());
                    let posting = Posting::consume(user, 1, "tts", id, time("2026-01-15T00:00:00Z"));
                    let began = Instant::now();
                    let reply = poster.post(posting).await.expect("the posting");
                    assert!(reply.entry().is_some(), "{reply:?}");
                    latencies.push(began.elapsed().as_secs_f64());
                    if !rest.is_zero() {
                        tokio::time::sleep(rest).await;
                    }
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    latencies
}
