//! Deliberate damage: one manual change gives one finding, under the right rule and at the place of the change.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use pointsd::ledger::{Buckets, Posting, Reference};
use pointsd::proof::{Finding, RULES, examine};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::{
    TestDatabase, consume, day, debt, finding, note_proved, opening, post, recharge, rng, unguard, user, write_history,
};
use crate::support::rows::Rows;

/// A manual change, where `$u` is user 1, and the exact findings.
fn hands() -> Vec<(&'static str, Vec<Finding>)> {
    let nothing = None::<i64>;
    let account = |rule: &str, expected: &str, found: &str| vec![finding(1, rule, None, nothing, expected, found)];
    let batch =
        |rule: &str, batch: i32, expected: &str, found: &str| vec![finding(1, rule, batch, nothing, expected, found)];
    let entry = |rule: &str, seq: i64, expected: &str, found: &str| vec![finding(1, rule, None, seq, expected, found)];
    let both = |rule: &str, batch: i32, seq: i64, expected: &str, found: &str| {
        vec![finding(1, rule, batch, seq, expected, found)]
    };
    vec![
        // Accounts.
        ("UPDATE pointsd.accounts SET balance = 180 WHERE user_id = $u", account("account_balance", "175", "180")),
        ("UPDATE pointsd.accounts SET balance = -5 WHERE user_id = $u", account("account_balance", "175", "-5")),
        (
            "UPDATE pointsd.accounts SET total_recharged = 481 WHERE user_id = $u",
            account("account_totals", "recharged 480", "recharged 481"),
        ),
        (
            "UPDATE pointsd.accounts SET total_consumed = 0 WHERE user_id = $u",
            account("account_totals", "consumed 245", "consumed 0"),
        ),
        (
            "UPDATE pointsd.accounts SET total_expired = 59 WHERE user_id = $u",
            account("account_totals", "expired 60", "expired 59"),
        ),
        (
            "UPDATE pointsd.accounts SET total_adjusted = 3 WHERE user_id = $u",
            account("account_totals", "adjusted 0", "adjusted 3"),
        ),
        (
            "UPDATE pointsd.accounts SET last_seq = 13 WHERE user_id = $u",
            account("account_numbers", "last_seq 12", "last_seq 13"),
        ),
        (
            "UPDATE pointsd.accounts SET last_seq = 2 WHERE user_id = $u",
            account("account_numbers", "last_seq 12", "last_seq 2"),
        ),
        (
            "UPDATE pointsd.accounts SET last_batch = 4 WHERE user_id = $u",
            account("account_numbers", "last_batch 5", "last_batch 4"),
        ),
        (
            "DELETE FROM pointsd.accounts WHERE user_id = $u",
            account("account_missing", "an account", "none, but 5 batches, 12 entries and 0 holds"),
        ),
        // Batches.
        (
            "UPDATE pointsd.batches SET remaining = 180 WHERE user_id = $u AND batch = 5",
            batch("batch_amount", 5, "remaining 175", "remaining 180"),
        ),
        (
            "UPDATE pointsd.batches SET remaining = 0 WHERE user_id = $u AND batch = 5",
            batch("batch_amount", 5, "remaining 175", "remaining 0"),
        ),
        (
            "UPDATE pointsd.batches SET remaining = 7 WHERE user_id = $u AND batch = 3",
            batch("batch_amount", 3, "remaining 0", "remaining 7"),
        ),
        (
            "UPDATE pointsd.batches SET remaining = -1 WHERE user_id = $u AND batch = 1",
            batch("batch_amount", 1, "remaining 0", "remaining -1"),
        ),
        (
            "UPDATE pointsd.batches SET open = false WHERE user_id = $u AND batch = 5",
            batch("batch_state", 5, "open", "closed"),
        ),
        (
            "UPDATE pointsd.batches SET open = true WHERE user_id = $u AND batch = 2",
            batch("batch_state", 2, "closed", "open"),
        ),
        (
            "UPDATE pointsd.batches SET amount = 90 WHERE user_id = $u AND batch = 5",
            both("batch_recharge", 5, 9, "amount 200", "amount 90"),
        ),
        (
            "UPDATE pointsd.batches SET amount = 31 WHERE user_id = $u AND batch = 4",
            both("batch_recharge", 4, 7, "amount 30", "amount 31"),
        ),
        (
            "UPDATE pointsd.batches SET source = 'card' WHERE user_id = $u AND batch = 4",
            both("batch_recharge", 4, 7, "source invite", "source card"),
        ),
        (
            "UPDATE pointsd.batches SET opened_at = expires_at + '1 day' WHERE user_id = $u AND batch = 1",
            both("batch_recharge", 1, 1, "opened_at 2026-01-01 12:00:00 UTC", "opened_at 2026-01-21 12:00:00 UTC"),
        ),
        (
            "UPDATE pointsd.batches SET expires_at = opened_at WHERE user_id = $u AND batch = 5",
            batch("batch_state", 5, "expires_at after 2026-01-13 12:00:00 UTC", "expires_at 2026-01-13 12:00:00 UTC"),
        ),
        (
            "UPDATE pointsd.batches SET expires_at = opened_at + '1 day' WHERE user_id = $u AND batch = 5",
            both("entry_batches", 5, 12, "drawn before 2026-01-14 12:00:00 UTC", "drawn at 2026-01-17 12:00:00 UTC"),
        ),
        (
            "UPDATE pointsd.batches SET expires_at = '2026-02-01 00:00Z' WHERE user_id = $u AND batch = 4",
            both("entry_batches", 4, 8, "expired from 2026-02-01 00:00:00 UTC", "expired at 2026-01-12 12:00:00 UTC"),
        ),
        (
            "UPDATE pointsd.batches SET batch = 30 WHERE user_id = $u AND batch = 3",
            both("batch_recharge", 3, 5, "batch 3 of 100 points from gift", "batch 30"),
        ),
        (
            "UPDATE pointsd.batches SET batch = 30 WHERE user_id = $u AND batch = 5",
            both("batch_recharge", 5, 9, "batch 5 of 200 points from card", "batch 30"),
        ),
        (
            "DELETE FROM pointsd.batches WHERE user_id = $u AND batch = 3",
            both("batch_recharge", 3, 5, "batch 3 of 100 points from gift", "no such batch"),
        ),
        (
            "INSERT INTO pointsd.batches (bucket, user_id, batch, amount, remaining, open, source, opened_at, expires_at)
             VALUES (pointsd.bucket_of($u), $u, 6, 5, 5, true, 'gift', '2026-01-02', '2026-03-02')",
            batch("batch_recharge", 6, "a recharge, a refund or an opening that opened it", "none"),
        ),
        // Entries.
        ("DELETE FROM pointsd.entries WHERE user_id = $u AND seq = 4", entry("entry_numbers", 4, "entry 4", "entry 5")),
        ("DELETE FROM pointsd.entries WHERE user_id = $u AND seq = 1", entry("entry_numbers", 1, "entry 1", "entry 2")),
        (
            "DELETE FROM pointsd.entries WHERE user_id = $u AND seq = 12",
            entry("entry_numbers", 12, "entry 12", "none, but the account counts 12"),
        ),
        (
            "DELETE FROM pointsd.entries WHERE user_id = $u",
            entry("entry_numbers", 1, "entry 1", "none, but the account counts 12"),
        ),
        (
            "UPDATE pointsd.entries SET seq = 40 WHERE user_id = $u AND seq = 4",
            entry("entry_numbers", 4, "entry 4", "entry 5"),
        ),
        (
            "UPDATE pointsd.entries SET seq = 14 WHERE user_id = $u AND seq = 12",
            entry("entry_numbers", 12, "entry 12", "entry 14"),
        ),
        (
            "UPDATE pointsd.entries SET user_id = '00000000-0000-4000-8000-000000000000',
                 bucket = pointsd.bucket_of('00000000-0000-4000-8000-000000000000') WHERE user_id = $u AND seq = 3",
            vec![
                Finding {
                    user: Some("00000000-0000-4000-8000-000000000000".parse().unwrap()),
                    ..finding(
                        1,
                        "account_missing",
                        None,
                        nothing,
                        "an account",
                        "none, but 0 batches, 1 entries and 0 holds",
                    )
                },
                finding(1, "entry_numbers", None, 3, "entry 3", "entry 4"),
            ],
        ),
        (
            "UPDATE pointsd.entries SET balance_before = 149 WHERE user_id = $u AND seq = 3",
            entry("entry_chain", 3, "balance_before 150", "balance_before 149"),
        ),
        (
            "UPDATE pointsd.entries SET balance_before = 7 WHERE user_id = $u AND seq = 1",
            entry("entry_chain", 1, "balance_before 0", "balance_before 7"),
        ),
        (
            "UPDATE pointsd.entries SET balance_after = 81 WHERE user_id = $u AND seq = 3",
            entry("entry_amount", 3, "balance_after 80", "balance_after 81"),
        ),
        (
            "UPDATE pointsd.entries SET balance_after = 0 WHERE user_id = $u AND seq = 12",
            entry("entry_amount", 12, "balance_after 175", "balance_after 0"),
        ),
        (
            "UPDATE pointsd.entries SET amount = 71 WHERE user_id = $u AND seq = 3",
            entry("entry_amount", 3, "amount 70", "amount 71"),
        ),
        (
            "UPDATE pointsd.entries SET amount = 1 WHERE user_id = $u AND seq = 5",
            entry("entry_amount", 5, "amount 100", "amount 1"),
        ),
        (
            "UPDATE pointsd.entries SET amount = -30 WHERE user_id = $u AND seq = 8",
            entry("entry_amount", 8, "amount 30", "amount -30"),
        ),
        (
            "UPDATE pointsd.entries SET type = 'transfer' WHERE user_id = $u AND seq = 3",
            entry("entry_type", 3, "recharge, consume, expire, refund, void, restore, adjust or opening", "transfer"),
        ),
        (
            "UPDATE pointsd.entries SET type = 'refund' WHERE user_id = $u AND seq = 3",
            entry(
                "entry_type",
                3,
                "refund with a batch and a reference and what was asked",
                "refund with no batch and no reference and nothing asked",
            ),
        ),
        (
            "UPDATE pointsd.entries SET type = 'expire' WHERE user_id = $u AND seq = 3",
            entry("entry_type", 3, "expire with no key", "expire with a key"),
        ),
        (
            "UPDATE pointsd.entries SET type = 'consume' WHERE user_id = $u AND seq = 5",
            entry("entry_type", 5, "consume with no batch", "consume with a batch"),
        ),
        (
            "UPDATE pointsd.entries SET type = 'recharge' WHERE user_id = $u AND seq = 6",
            entry("entry_type", 6, "recharge with a batch", "recharge with no batch"),
        ),
        (
            "UPDATE pointsd.entries SET type = 'adjust' WHERE user_id = $u AND seq = 8",
            entry("entry_type", 8, "adjust with a correction", "adjust with no correction"),
        ),
        (
            "UPDATE pointsd.entries SET type = 'consume' WHERE user_id = $u AND seq = 8",
            entry("entry_type", 8, "consume with a key", "consume with no key"),
        ),
        (
            "UPDATE pointsd.entries SET key = NULL WHERE user_id = $u AND seq = 3",
            entry("entry_type", 3, "consume with a key", "consume with no key"),
        ),
        (
            "UPDATE pointsd.entries SET key = gen_random_uuid() WHERE user_id = $u AND seq = 8",
            entry("entry_type", 8, "expire with no key", "expire with a key"),
        ),
        (
            "UPDATE pointsd.entries SET correction = '{}' WHERE user_id = $u AND seq = 1",
            entry("entry_type", 1, "recharge with no correction", "recharge with a correction"),
        ),
        (
            "UPDATE pointsd.entries SET batch = NULL WHERE user_id = $u AND seq = 5",
            entry("entry_type", 5, "recharge with a batch", "recharge with no batch"),
        ),
        (
            "UPDATE pointsd.entries SET batch = 2 WHERE user_id = $u AND seq = 3",
            entry("entry_type", 3, "consume with no batch", "consume with a batch"),
        ),
        (
            "UPDATE pointsd.entries SET batch = 2 WHERE user_id = $u AND seq = 5",
            both("batch_recharge", 3, 5, "batch 3", "batch 2"),
        ),
        (
            "UPDATE pointsd.entries SET batch = 30 WHERE user_id = $u AND seq = 9",
            both("batch_recharge", 5, 9, "batch 5", "batch 30"),
        ),
        (
            "UPDATE pointsd.entries SET at = '2026-01-05 13:00Z' WHERE user_id = $u AND seq = 5",
            both("batch_recharge", 3, 5, "opened_at 2026-01-05 13:00:00 UTC", "opened_at 2026-01-05 12:00:00 UTC"),
        ),
        (
            "UPDATE pointsd.entries SET at = '2026-03-05 12:00Z' WHERE user_id = $u AND seq = 3",
            both("entry_batches", 1, 3, "drawn before 2026-01-20 12:00:00 UTC", "drawn at 2026-03-05 12:00:00 UTC"),
        ),
        (
            "UPDATE pointsd.entries SET at = '2026-01-11 12:00Z' WHERE user_id = $u AND seq = 8",
            both("entry_batches", 4, 8, "expired from 2026-01-12 12:00:00 UTC", "expired at 2026-01-11 12:00:00 UTC"),
        ),
        (
            "UPDATE pointsd.entries SET source_type = 'card' WHERE user_id = $u AND seq = 5",
            both("batch_recharge", 3, 5, "source card", "source gift"),
        ),
        (
            "UPDATE pointsd.entries SET source_type = 'card' WHERE user_id = $u AND seq = 8",
            both("entry_batches", 4, 8, "source invite", "source card"),
        ),
        (
            "UPDATE pointsd.entries SET allocated_points = '{50,21}' WHERE user_id = $u AND seq = 3",
            entry("entry_allocations", 3, "70 points from batches", "71 points from batches"),
        ),
        (
            "UPDATE pointsd.entries SET allocated_points = '{50}' WHERE user_id = $u AND seq = 3",
            entry("entry_allocations", 3, "as many batches as points", "batches {2,1}, points {50}"),
        ),
        (
            "UPDATE pointsd.entries SET allocated_points = '{70,0}' WHERE user_id = $u AND seq = 3",
            entry("entry_allocations", 3, "points in each batch", "points {70,0}"),
        ),
        (
            "UPDATE pointsd.entries SET allocated_points = '{50,NULL}' WHERE user_id = $u AND seq = 3",
            entry("entry_allocations", 3, "points in each batch", "points {50,NULL}"),
        ),
        (
            "UPDATE pointsd.entries SET allocated_batches = '{2,2}' WHERE user_id = $u AND seq = 3",
            entry("entry_allocations", 3, "each batch once", "batches {2,2}"),
        ),
        (
            "UPDATE pointsd.entries SET allocated_batches = '{2,9}' WHERE user_id = $u AND seq = 3",
            both("entry_allocations", 9, 3, "batch 9", "no such batch"),
        ),
        (
            "UPDATE pointsd.entries SET allocated_batches = '{}' WHERE user_id = $u AND seq = 8",
            entry("entry_allocations", 8, "as many batches as points", "batches {}, points {30}"),
        ),
        // Two changed fields that agree with each other: only the allocation shows the change.
        (
            "UPDATE pointsd.entries SET allocated_batches = '{}', allocated_points = '{}' WHERE user_id = $u AND seq = 8",
            entry("entry_allocations", 8, "30 points from batches", "0 points from batches"),
        ),
        (
            "UPDATE pointsd.entries SET amount = 1000000000001, balance_after = 1000000000001, balance_before = 0
             WHERE user_id = $u AND seq = 1;
             UPDATE pointsd.entries SET balance_before = 1000000000001, balance_after = 1000000000051
             WHERE user_id = $u AND seq = 2;
             UPDATE pointsd.entries SET balance_before = 1000000000051 WHERE user_id = $u AND seq = 3",
            vec![
                finding(1, "entry_amount", None, 1, "amount 1 to 1000000000000", "amount 1000000000001"),
                finding(1, "entry_amount", None, 3, "amount 999999999971", "amount 70"),
            ],
        ),
    ]
}

/// Manual changes of refunds, voids, restores and holds, where `$v` is user 4, and the exact findings.
fn hands_on_user_4() -> Vec<(&'static str, Vec<Finding>)> {
    let nothing = None::<i64>;
    let one = |rule: &str, batch: Option<i32>, seq: Option<i64>, expected: &str, found: &str| {
        vec![finding(4, rule, batch, seq, expected, found)]
    };
    let account = |rule: &str, expected: &str, found: &str| vec![finding(4, rule, None, nothing, expected, found)];
    let entry = |rule: &str, seq: i64, expected: &str, found: &str| vec![finding(4, rule, None, seq, expected, found)];
    vec![
        (
            "UPDATE pointsd.accounts SET total_refunded = 51 WHERE user_id = $v",
            account("account_totals", "refunded 50", "refunded 51"),
        ),
        (
            "UPDATE pointsd.accounts SET total_voided = 0 WHERE user_id = $v",
            account("account_totals", "voided 10", "voided 0"),
        ),
        (
            "UPDATE pointsd.accounts SET open_holds = 0 WHERE user_id = $v",
            account("account_numbers", "open_holds 1", "open_holds 0"),
        ),
        (
            "UPDATE pointsd.accounts SET expired_until = NULL WHERE user_id = $v",
            account("account_expiry", "expired until 2026-01-10 12:00:00 UTC", "nothing expired"),
        ),
        (
            "UPDATE pointsd.batches SET expired = 5 WHERE user_id = $v AND batch = 4",
            one("batch_expired", Some(4), None, "0", "5"),
        ),
        (
            "UPDATE pointsd.batches SET expires_at = 'infinity' WHERE user_id = $v AND batch = 4",
            one("batch_state", Some(4), None, "expires_at an instant", "expires_at infinity"),
        ),
        (
            "UPDATE pointsd.entries SET recorded_at = '2026-01-15 11:54Z' WHERE user_id = $v AND seq = 10",
            entry("entry_time", 10, "dated until 2026-01-15 11:59:00 UTC", "dated 2026-01-15 12:00:00 UTC"),
        ),
        // One changed column that several rules see.
        (
            "UPDATE pointsd.batches SET source = 'card' WHERE user_id = $v AND batch = 1",
            one("batch_recharge", Some(1), Some(1), "source gift", "source card"),
        ),
        (
            "UPDATE pointsd.entries SET batch = 1 WHERE user_id = $v AND seq = 8",
            one("batch_recharge", Some(4), Some(8), "batch 4", "batch 1"),
        ),
        ("UPDATE pointsd.entries SET type = 'restore' WHERE user_id = $v AND seq = 3", entry("entry_type", 3, "expire", "restore")),
        ("UPDATE pointsd.entries SET type = 'expire' WHERE user_id = $v AND seq = 4", entry("entry_type", 4, "restore", "expire")),
        (
            "UPDATE pointsd.entries SET type = 'restore' WHERE user_id = $v AND seq = 5",
            entry("entry_type", 5, "restore with no key", "restore with a key"),
        ),
        (
            "UPDATE pointsd.entries SET amount = 31 WHERE user_id = $v AND seq = 6",
            entry("entry_amount", 6, "amount 30", "amount 31"),
        ),
        (
            "UPDATE pointsd.entries SET refers_to = 1 WHERE user_id = $v AND seq = 7",
            entry("refund_consume", 7, "a consume", "recharge"),
        ),
        (
            "UPDATE pointsd.entries SET allocated_batches = '{2}' WHERE user_id = $v AND seq = 3",
            [
                one("batch_amount", Some(1), None, "remaining 40", "remaining 0"),
                one("batch_amount", Some(2), None, "remaining -40", "remaining 0"),
            ]
            .concat(),
        ),
        // Refunds.
        (
            "UPDATE pointsd.entries SET refers_to = NULL WHERE user_id = $v AND seq = 7",
            entry("entry_type", 7, "refund with a reference", "refund with no reference"),
        ),
        (
            "UPDATE pointsd.entries SET key = NULL, asked = NULL WHERE user_id = $v AND seq = 6",
            entry("entry_asked", 6, "a key with the first entry of a refund", "an entry that belongs to no refund"),
        ),
        (
            "UPDATE pointsd.entries SET asked = jsonb_set(asked, '{posted}', '51') WHERE user_id = $v AND seq = 6",
            entry("entry_asked", 6, "asked for 50 points in 2 entries", "asked for 51 points in 2 entries"),
        ),
        (
            "UPDATE pointsd.entries SET refers_to = 2, source_id = 'task-2' WHERE user_id = $v AND seq IN (6, 7)",
            one("refund_batch", Some(2), Some(6), "source gift", "source refund"),
        ),
        (
            "UPDATE pointsd.entries SET refers_to = 1 WHERE user_id = $v AND seq IN (6, 7)",
            entry("refund_consume", 6, "a consume", "recharge"),
        ),
        (
            "UPDATE pointsd.entries SET source_id = 'task-2' WHERE user_id = $v AND seq = 7",
            entry("refund_consume", 7, "refund of task-3", "refund of task-2"),
        ),
        (
            "UPDATE pointsd.batches SET amount = 40 WHERE user_id = $v AND batch = 2;
             UPDATE pointsd.batches SET amount = 10, remaining = 0, open = false WHERE user_id = $v AND batch = 3;
             UPDATE pointsd.batches SET remaining = 10, open = true WHERE user_id = $v AND batch = 2;
             UPDATE pointsd.entries SET amount = 40, balance_after = 10 WHERE user_id = $v AND seq = 6;
             UPDATE pointsd.entries SET amount = 10, balance_before = 10 WHERE user_id = $v AND seq = 7",
            one("refund_batch", Some(2), Some(6), "the points of one part of entry 5", "its points 1 to 40"),
        ),
        (
            "INSERT INTO pointsd.batches (bucket, user_id, batch, amount, remaining, open, source, opened_at, expires_at)
             VALUES (pointsd.bucket_of($v), $v, 5, 30, 30, true, 'gift', '2026-01-17 12:00Z', '2026-02-17 12:00Z');
             INSERT INTO pointsd.entries (bucket, user_id, seq, type, amount, balance_before, balance_after, source_type, source_id,
                 batch, at, description, drawing_rule, allocated_batches, allocated_points, refers_to, key, asked)
             VALUES (pointsd.bucket_of($v), $v, 11, 'refund', 30, 50, 80, 'gift', 'task-3', 5, '2026-01-17 12:00Z', '', 2, '{}', '{}', 5,
                     gen_random_uuid(), '{\"posted\": 30, \"entries\": 1}');
             UPDATE pointsd.accounts SET balance = 80, total_refunded = 80, last_seq = 11, last_batch = 5 WHERE user_id = $v",
            vec![Finding {
                points: Some(10),
                ..finding(4, "refund_consume", None, 11, "at most 70 points refunded", "80 points refunded")
            }],
        ),
        (
            "$entry 11, 'consume', 10, 50, 40, 'tts', 'task-18', '2026-01-17 12:00Z', '{4}', '{10}', gen_random_uuid(), NULL, NULL, NULL);
             $entry 12, 'refund', 10, 40, 50, 'card', 'task-18', '2026-01-17 12:00Z', '{}', '{}', gen_random_uuid(), 5, 11,
                    '{\"posted\": 10, \"entries\": 1}');
             INSERT INTO pointsd.batches (bucket, user_id, batch, amount, remaining, open, source, opened_at, expires_at)
             VALUES (pointsd.bucket_of($v), $v, 5, 10, 10, true, 'card', '2026-01-17 12:00Z', '2026-02-28 12:00Z');
             UPDATE pointsd.batches SET remaining = 30 WHERE user_id = $v AND batch = 4;
             UPDATE pointsd.accounts SET total_consumed = total_consumed + 10, total_refunded = 60, last_seq = 12, last_batch = 5
             WHERE user_id = $v",
            one(
                "refund_batch",
                Some(5),
                Some(12),
                "expires from 2026-03-01 12:00:00 UTC",
                "expires 2026-02-28 12:00:00 UTC",
            ),
        ),
        // Voids.
        (
            "UPDATE pointsd.entries SET refers_to = 12 WHERE user_id = $v AND seq = 9",
            entry("entry_type", 9, "void of an earlier entry", "void of entry 12"),
        ),
        (
            "UPDATE pointsd.entries SET asked = NULL WHERE user_id = $v AND seq = 9",
            entry("entry_type", 9, "void with what was asked", "void with nothing asked"),
        ),
        (
            "UPDATE pointsd.entries SET refers_to = 2 WHERE user_id = $v AND seq = 9",
            entry("void_recharge", 9, "a recharge", "consume"),
        ),
        (
            "UPDATE pointsd.entries SET source_id = '7' WHERE user_id = $v AND seq = 9",
            one("void_recharge", Some(4), Some(9), "the order of entry 8", "another order"),
        ),
        (
            "INSERT INTO pointsd.entries (bucket, user_id, seq, type, amount, balance_before, balance_after, source_type, at, description,
                 drawing_rule, allocated_batches, allocated_points, refers_to, key, asked)
             VALUES (pointsd.bucket_of($v), $v, 11, 'void', 45, 50, 5, 'card', '2026-01-17 12:00Z', '', 2, '{4,3}', '{40,5}', 8,
                     gen_random_uuid(), '{\"posted\": 45, \"entries\": 1}');
             UPDATE pointsd.batches SET remaining = 0, open = false WHERE user_id = $v AND batch = 4;
             UPDATE pointsd.batches SET remaining = 5 WHERE user_id = $v AND batch = 3;
             UPDATE pointsd.accounts SET balance = 5, total_voided = 55, last_seq = 11 WHERE user_id = $v",
            vec![Finding {
                points: Some(5),
                ..finding(4, "void_recharge", 4, 11, "at most 50 points lost", "55 points lost")
            }],
        ),
        // Restores.
        (
            "UPDATE pointsd.entries SET at = at - interval '1 hour' WHERE user_id = $v AND seq = 4",
            one("entry_restored", Some(1), Some(4), "directly before its consume", "before one dated otherwise"),
        ),
        (
            "UPDATE pointsd.entries SET at = '2026-01-10 12:00Z' WHERE user_id = $v AND seq = 4",
            one(
                "entry_batches",
                Some(1),
                Some(4),
                "restored before 2026-01-10 12:00:00 UTC",
                "restored at 2026-01-10 12:00:00 UTC",
            ),
        ),
        (
            "$entry 11, 'expire', 40, 50, 10, 'card', NULL, '2026-03-02 12:00Z', '{4}', '{40}', NULL, NULL, NULL, NULL);
             $entry 12, 'restore', 5, 10, 15, 'card', NULL, '2026-01-17 12:00Z', '{4}', '{5}', NULL, NULL, NULL, NULL);
             UPDATE pointsd.batches SET remaining = 5, expired = 35 WHERE user_id = $v AND batch = 4;
             UPDATE pointsd.accounts SET balance = 15, total_expired = total_expired + 35, last_seq = 12,
                 expired_until = '2026-03-01 12:00Z' WHERE user_id = $v",
            one("entry_restored", Some(4), Some(12), "directly before its consume", "before nothing"),
        ),
        (
            "$entry 11, 'expire', 40, 50, 10, 'card', NULL, '2026-03-02 12:00Z', '{4}', '{40}', NULL, NULL, NULL, NULL);
             $entry 12, 'restore', 5, 10, 15, 'card', NULL, '2026-01-17 12:00Z', '{4}', '{5}', NULL, NULL, NULL, NULL);
             $entry 13, 'consume', 5, 15, 10, 'tts', 'task-18', '2026-01-17 12:00Z', '{3}', '{5}', gen_random_uuid(), NULL, NULL, NULL);
             UPDATE pointsd.batches SET remaining = 5, expired = CASE batch WHEN 4 THEN 35 ELSE 0 END
             WHERE user_id = $v AND batch IN (3, 4);
             UPDATE pointsd.accounts SET balance = 10, total_consumed = total_consumed + 5, total_expired = total_expired + 35,
                 last_seq = 13, expired_until = '2026-03-01 12:00Z' WHERE user_id = $v",
            one("entry_restored", Some(4), Some(12), "5 points drawn after it", "0 points drawn"),
        ),
        // Holds.
        (
            "UPDATE pointsd.holds SET seq = 2 WHERE user_id = $v AND state = 'captured'",
            entry("hold_consume", 2, "a consume with the key of its hold (hold for tts task-15)", "entry 10"),
        ),
        (
            "UPDATE pointsd.holds SET at = '2026-01-14 12:00Z' WHERE user_id = $v AND state = 'captured'",
            entry(
                "hold_consume",
                10,
                "dated until 2026-01-14 12:00:00 UTC (hold for tts task-15)",
                "dated 2026-01-15 12:00:00 UTC",
            ),
        ),
        (
            "UPDATE pointsd.holds SET state = 'open', seq = NULL WHERE user_id = $v AND state = 'captured'",
            entry("hold_consume", 10, "a captured hold (hold for tts task-15)", "an open hold"),
        ),
        (
            "DELETE FROM pointsd.holds WHERE user_id = $v AND state = 'open'",
            account("account_numbers", "open_holds 0", "open_holds 1"),
        ),
        (
            "UPDATE pointsd.holds SET user_id = '00000000-0000-4000-8000-000000000000',
                 bucket = pointsd.bucket_of('00000000-0000-4000-8000-000000000000') WHERE user_id = $v AND state = 'open'",
            vec![
                Finding {
                    user: Some("00000000-0000-4000-8000-000000000000".parse().unwrap()),
                    ..finding(
                        4,
                        "account_missing",
                        None,
                        nothing,
                        "an account",
                        "none, but 0 batches, 0 entries and 1 holds",
                    )
                },
                finding(4, "account_numbers", None, nothing, "open_holds 0", "open_holds 1"),
            ],
        ),
    ]
}

/// What the screens pass before the first proof, and the checks find: points that were restored before they expired.
fn hands_that_screens_pass() -> Vec<(&'static str, Vec<Finding>)> {
    vec![(
        "$entry 11, 'restore', 5, 50, 55, 'card', NULL, '2026-01-17 12:00Z', '{4}', '{5}', NULL, NULL, NULL, NULL);
         $entry 12, 'consume', 5, 55, 50, 'tts', 'task-18', '2026-01-17 12:00Z', '{4}', '{5}', gen_random_uuid(), NULL, NULL, NULL);
         $entry 13, 'expire', 40, 50, 10, 'card', NULL, '2026-03-02 12:00Z', '{4}', '{40}', NULL, NULL, NULL, NULL);
         UPDATE pointsd.batches SET remaining = 0, open = false, expired = 35 WHERE user_id = $v AND batch = 4;
         UPDATE pointsd.accounts SET balance = 10, total_consumed = total_consumed + 5, total_expired = total_expired + 35,
             last_seq = 13, expired_until = '2026-03-01 12:00Z' WHERE user_id = $v",
        vec![Finding {
            points: Some(5),
            ..finding(4, "entry_restored", 4, 11, "at most 0 points, which had expired", "5 points")
        }],
    )]
}

/// The begin of a statement that adds an entry to user 4: all but these columns, which follow.
const ENTRY: &str =
    "INSERT INTO pointsd.entries (bucket, user_id, drawing_rule, description, seq, type, amount, balance_before, balance_after,
        source_type, source_id, at, allocated_batches, allocated_points, key, batch, refers_to, asked)
    VALUES (pointsd.bucket_of($v), $v, 1, '',";

/// A statement, with users 1 and 4 put in.
fn by_hand(hand: &str) -> String {
    let hand = hand.replace("$entry", ENTRY);
    hand.replace("$u", &format!("'{}'", user(1))).replace("$v", &format!("'{}'", user(4)))
}

/// Manual changes that the arithmetic of the screens has to find by itself, where `$u` is user 1.
const HANDS_THAT_ADD_UP: [&str; 9] = [
    "UPDATE pointsd.entries SET key = NULL WHERE user_id = $u AND seq = 1",
    "UPDATE pointsd.entries SET allocated_batches = '{1}', allocated_points = '{1}' WHERE user_id = $u AND seq = 1",
    // An expiry that left 10 of 30 points.
    "UPDATE pointsd.entries SET amount = 20, balance_after = balance_after + 10, allocated_points = '{20}'
     WHERE user_id = $u AND seq = 8;
     UPDATE pointsd.entries SET balance_before = balance_before + 10, balance_after = balance_after + 10
     WHERE user_id = $u AND seq > 8;
     UPDATE pointsd.accounts SET balance = balance + 10, total_expired = total_expired - 10 WHERE user_id = $u;
     UPDATE pointsd.batches SET remaining = 10, open = true WHERE user_id = $u AND batch = 4",
    "$adjust, NULL, '{5}', '{0}')",
    "$adjust, NULL, '{5,5}', '{7,-7}')",
    "$adjust, NULL, '{5}', '{7}'); UPDATE pointsd.batches SET remaining = 168 WHERE user_id = $u AND batch = 5",
    "$adjust, NULL, '{5}', '{9000000000000000000}')",
    "$adjust, NULL, '{5,NULL}', '{7,NULL}')",
    "$adjust, gen_random_uuid(), '{}', '{}')",
];

/// The begin of a statement that adds an adjust entry of 0 points to user 1: all but its key and allocations.
const ADJUST: &str = "UPDATE pointsd.accounts SET last_seq = 13 WHERE user_id = $u;
    INSERT INTO pointsd.entries (bucket, user_id, seq, type, amount, balance_before, balance_after, source_type, at, description,
        drawing_rule, correction, key, allocated_batches, allocated_points)
    VALUES (pointsd.bucket_of($u), $u, 13, 'adjust', 0, 175, 175, 'repair', '2026-01-18 12:00Z', '', 1, '{}'";

/// The users that the screens suspect before the first proof.
async fn suspects(client: &Client, users: &[Uuid]) -> [BTreeSet<Uuid>; 2] {
    let (range, each) =
        (include_str!("../../sql/proof/screen_range.sql"), include_str!("../../sql/proof/screen_users.sql"));
    let mut suspects = [BTreeSet::new(), BTreeSet::new()];
    client.batch_execute("SAVEPOINT before").await.unwrap();
    let buckets = Buckets::read(client).await.unwrap();
    for bucket in buckets.all() {
        let of_range: [(&(dyn ToSql + Sync), Type); 6] = [
            (&Uuid::nil(), Type::UUID),
            (&None::<Uuid>, Type::UUID),
            (&true, Type::BOOL),
            (&None::<Vec<i32>>, Type::INT4_ARRAY),
            (&None::<DateTime<Utc>>, Type::TIMESTAMPTZ),
            (&bucket, Type::INT2),
        ];
        suspects[0].extend(client.query_typed(range, &of_range).await.unwrap()[0].get::<_, Vec<Uuid>>("suspects"));
    }
    client.batch_execute("ROLLBACK TO before").await.unwrap();
    for (bucket, users) in buckets.part(users.iter().copied(), |user| *user) {
        let no_users: &[Uuid] = &[];
        let of_users: [(&(dyn ToSql + Sync), Type); 3] =
            [(&users, Type::UUID_ARRAY), (&no_users, Type::UUID_ARRAY), (&bucket, Type::INT2)];
        suspects[1].extend(client.query_typed(each, &of_users).await.unwrap()[0].get::<_, Vec<Uuid>>("suspects"));
    }
    client.batch_execute("ROLLBACK TO before").await.unwrap();
    suspects
}

/// Each account with a finding is a suspect of the screens, also before its first proof. Otherwise it would count as
/// proved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_screens_suspect_whatever_a_check_finds() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let client = database.client().await;
    write_history(&database).await;
    unguard(&client).await;
    let without_account: Uuid = "00000000-0000-4000-8000-000000000000".parse().unwrap();
    let users = [without_account, user(1), user(2), user(3), user(4)];
    client.batch_execute("BEGIN").await.unwrap();
    let sound = suspects(&client, &users[1..]).await;
    assert_eq!(sound, [BTreeSet::new(), BTreeSet::new()], "before any hand");
    client.batch_execute("ROLLBACK").await.unwrap();
    let mut wrong = Vec::new();
    let of_hands: Vec<&str> = hands().into_iter().chain(hands_on_user_4()).map(|(hand, _)| hand).collect();
    for hand in of_hands.into_iter().chain(HANDS_THAT_ADD_UP) {
        client.batch_execute("BEGIN").await.unwrap();
        client.batch_execute(&by_hand(&hand.replace("$adjust", ADJUST))).await.unwrap();
        let found: BTreeSet<Uuid> =
            examined(&client, &users).await.into_iter().filter_map(|finding| finding.user).collect();
        assert!(!found.is_empty(), "{hand}");
        for (screen, suspects) in ["screen_range", "screen_users"].iter().zip(suspects(&client, &users).await) {
            if !found.is_subset(&suspects) {
                wrong.push(format!("{screen} passes {hand}"));
            }
        }
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

async fn examined(client: &Client, users: &[Uuid]) -> Vec<Finding> {
    examine(client, users).await.unwrap_or_else(|error| panic!("{}", pointsd::errors::chain(&error)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_change_is_one_finding() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let client = database.client().await;
    write_history(&database).await;
    unguard(&client).await;
    let without_account: Uuid = "00000000-0000-4000-8000-000000000000".parse().unwrap();
    let users = [without_account, user(1), user(2), user(3), user(4)];
    assert_eq!(examined(&client, &users).await, [], "before any hand");
    let (mut raw, mut told) = (BTreeSet::new(), BTreeSet::new());
    let mut wrong = Vec::new();
    for (hand, expected) in hands().into_iter().chain(hands_on_user_4()).chain(hands_that_screens_pass()) {
        client.batch_execute("BEGIN").await.unwrap();
        client.batch_execute(&by_hand(hand)).await.unwrap();
        let found = examined(&client, &users).await;
        for (bucket, users) in Buckets::read(&client).await.unwrap().part(users, |user| *user) {
            for rule in RULES {
                if !client.query(rule.sql, &[&users, &bucket]).await.unwrap().is_empty() {
                    raw.insert(rule.name);
                }
            }
        }
        told.extend(found.iter().map(|finding| finding.rule.clone()));
        client.batch_execute("ROLLBACK").await.unwrap();
        if found != expected {
            wrong.push(format!("{hand}\n   found {found:#?}\n   expected {expected:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    // Two rules follow from others, which report the cause. history_changed and the rules about money have their own tests.
    let implied = ["account_identity", "account_remaining"];
    let elsewhere = ["history_changed", "batch_paid", "entry_paid", "entry_price"];
    for rule in RULES.iter().filter(|rule| !elsewhere.contains(&rule.name)) {
        assert!(raw.contains(rule.name), "no hand breaks {}", rule.name);
        assert_eq!(told.contains(rule.name), !implied.contains(&rule.name), "{}", rule.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_change_of_money_is_one_finding() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let client = database.client().await;
    let work = Reference::Work { source_type: "tts".to_owned(), source_id: "task-2".to_owned() };
    let price = recharge(1, 7, "card", (1, 60)).with_key("r").with_paid(1_999, "CNY".parse().unwrap());
    let void = Posting::void(user(1), Reference::Key("r".to_owned()), day(4)).with_points(2);
    let refund = Posting::refund(user(1), work, day(3)).with_points(1);
    post(&mut database.session().await, &[price, consume(1, 3, 2), refund, void]).await;
    unguard(&client).await;
    let users = [user(1)];
    let of = |rule: &str, batch: Option<i32>, seq: i64, expected: &str, found: &str| {
        finding(1, rule, batch, seq, expected, found)
    };
    let hands = [
        (
            "UPDATE pointsd.batches SET paid = 2000 WHERE batch = 1",
            of("batch_paid", Some(1), 1, "1999 CNY", "2000 CNY"),
        ),
        (
            "UPDATE pointsd.batches SET currency = 'JPY' WHERE batch = 1",
            of("batch_paid", Some(1), 1, "1999 CNY", "1999 JPY"),
        ),
        ("UPDATE pointsd.entries SET paid = 1998 WHERE seq = 1", of("batch_paid", Some(1), 1, "1998 CNY", "1999 CNY")),
        (
            "UPDATE pointsd.entries SET allocated_paid = '{859}' WHERE seq = 2",
            of("entry_paid", Some(1), 2, "856 CNY", "859 CNY"),
        ),
        (
            "UPDATE pointsd.entries SET allocated_paid = NULL WHERE seq = 2",
            of("entry_paid", Some(1), 2, "856 CNY", "no money"),
        ),
        (
            "UPDATE pointsd.entries SET allocated_paid = '{571,1}' WHERE seq = 4",
            of("entry_paid", None, 4, "money of 1 allocations", "money of 2"),
        ),
        ("UPDATE pointsd.entries SET paid = 570 WHERE seq = 4", of("entry_price", None, 4, "571 CNY", "570 CNY")),
        (
            "UPDATE pointsd.entries SET paid = 286 WHERE seq = 3; UPDATE pointsd.batches SET paid = 286 WHERE batch = 2",
            of("entry_price", None, 3, "285 CNY", "286 CNY"),
        ),
        (
            "UPDATE pointsd.entries SET paid = 5, currency = 'CNY' WHERE seq = 2",
            of("entry_price", None, 2, "no money", "5 CNY"),
        ),
    ];
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(examined(&client, &users).await, [], "before any hand");
    assert_eq!(suspects(&client, &users).await, [BTreeSet::new(), BTreeSet::new()], "before any hand");
    for (hand, expected) in hands {
        client.batch_execute("SAVEPOINT sound").await.unwrap();
        client.batch_execute(hand).await.unwrap();
        assert_eq!(examined(&client, &users).await, [expected], "{hand}");
        assert_eq!(suspects(&client, &users).await, [users.into(), users.into()], "{hand}");
        client.batch_execute("ROLLBACK TO sound").await.unwrap();
    }
    client.batch_execute("ROLLBACK").await.unwrap();
}

/// After a proof each immutable column is compared with its proved value, also columns that no other rule covers. Every
/// earlier manual change is still one finding.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_proved_may_not_change() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let client = database.client().await;
    write_history(&database).await;
    note_proved(&client).await;
    unguard(&client).await;
    // Later postings are not changes of proved rows.
    post(&mut database.session().await, &[consume(1, 5, 18)]).await;
    let users = [user(1), user(2), user(3)];
    assert_eq!(examined(&client, &users).await, []);
    let entries = ("entries 1 to 12 as they were proved", "entries SET", "seq = 3");
    let batches = ("batches 1 to 5 as they were proved", "batches SET", "batch = 3");
    for ((expected, table, row), change) in [
        (entries, "recorded_at = recorded_at + '1 microsecond'"),
        (entries, "description = 'otherwise'"),
        (entries, "source_id = 'task-x'"),
        (entries, "source_type = 'video'"),
        (entries, "duration = 0.5"),
        (entries, "run = 7"),
        (entries, "drawing_rule = 2"),
        (entries, "key = gen_random_uuid()"),
        (entries, "at = at + '1 microsecond'"),
        (batches, "expires_at = expires_at + '1 microsecond'"),
    ] {
        client.batch_execute("BEGIN").await.unwrap();
        let hand = format!("UPDATE pointsd.{table} {change} WHERE user_id = '{}' AND {row}", user(1));
        client.batch_execute(&hand).await.unwrap();
        let found = examined(&client, &users).await;
        let print = found.first().and_then(|one| one.found.strip_prefix("changed since, to ")).unwrap_or_default();
        assert!(print.parse::<i128>().is_ok(), "{found:?}");
        let expected = finding(1, "history_changed", None, None, expected, &format!("changed since, to {print}"));
        assert_eq!(found, [expected], "{hand}");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    for (hand, expected) in
        hands().into_iter().filter(|(hand, _)| hand.contains("seq = 3") || hand.contains("batch = 3"))
    {
        client.batch_execute("BEGIN").await.unwrap();
        client.batch_execute(&by_hand(hand)).await.unwrap();
        let found = examined(&client, &users).await;
        assert_eq!(found, expected.into_iter().filter(|one| one.user == Some(user(1))).collect::<Vec<_>>(), "{hand}");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extreme_values_are_findings_and_no_errors() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let client = database.client().await;
    write_history(&database).await;
    note_proved(&client).await;
    unguard(&client).await;
    for (table, row, of) in [
        ("accounts", "true", user(1)),
        ("batches", "batch = 3", user(1)),
        ("batches", "batch = 1", user(4)),
        ("entries", "seq IN (5, 8)", user(1)),
        ("entries", "seq IN (4, 6, 9)", user(4)),
        ("holds", "true", user(4)),
    ] {
        let columns = client
            .query(
                "SELECT column_name::text, data_type::text FROM information_schema.columns
                 WHERE table_schema = 'pointsd' AND table_name = $1 AND (table_name, column_name) <> ('holds', 'key')
                   AND column_name NOT IN ('user_id', 'bucket')
                   AND is_generated = 'NEVER'",
                &[&table],
            )
            .await
            .unwrap();
        assert!(columns.len() > 5, "{table}");
        for column in columns {
            let (column, kind): (String, String) = (column.get(0), column.get(1));
            let values: &[&str] = match kind.as_str() {
                "bigint" => &["9223372036854775807", "-9223372036854775808", "-1"],
                "integer" => &["2147483647", "-2147483648", "-1"],
                "smallint" => &["32767", "-32768"],
                "timestamp with time zone" => &["'infinity'", "'-infinity'", "'4713-01-01 BC'", "'294276-12-31'"],
                "numeric" => &["'NaN'", "'Infinity'", "1e131071"],
                "text" => &["''", "repeat('x', 1000000)"],
                "ARRAY" => &["'{}'", "'{NULL,NULL}'", "'{{1,2},{3,4}}'", "'[5:6]={1,2}'"],
                "boolean" => &["NOT open"],
                "uuid" | "jsonb" => &["NULL"],
                kind => panic!("a value for {kind}"),
            };
            for value in values {
                client.batch_execute("BEGIN").await.unwrap();
                // A number twice in an account is refused by the primary key; one row is enough then.
                let one = if column == "seq" { "seq = 5" } else { row };
                let hand = format!("UPDATE pointsd.{table} SET {column} = {value} WHERE user_id = '{of}' AND {one}");
                client.batch_execute(&hand).await.unwrap_or_else(|error| panic!("{hand}: {error}"));
                let found = examine(&client, &[of]).await;
                let found = found.unwrap_or_else(|error| panic!("{hand}: {}", pointsd::errors::chain(&error)));
                if table == "accounts" {
                    assert_ne!(found, [], "{hand}");
                }
                suspects(&client, &[of]).await;
                client.batch_execute("ROLLBACK").await.unwrap();
            }
        }
    }
    // All changes at once.
    client
        .batch_execute(
            "UPDATE pointsd.accounts SET balance = 9223372036854775807, total_recharged = -9223372036854775808,
                 total_consumed = 9223372036854775807, last_seq = 9223372036854775807, last_batch = -2147483648;
             UPDATE pointsd.batches SET amount = -9223372036854775808, remaining = 9223372036854775807,
                 opened_at = 'infinity', expires_at = '-infinity';
             UPDATE pointsd.entries SET amount = 9223372036854775807, balance_before = 9223372036854775807,
                 balance_after = -9223372036854775808, allocated_points = '{9223372036854775807,9223372036854775807}'",
        )
        .await
        .unwrap();
    assert_ne!(examined(&client, &[user(1), user(2), user(3), user(4)]).await, []);
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(suspects(&client, &[user(1)]).await.map(|found| found.contains(&user(1))), [true, true]);
    client.batch_execute("ROLLBACK").await.unwrap();
    let rows = client.query_one("SELECT count(*) FROM pointsd.entries", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 25);
}

/// Random histories over a few accounts, without damage: nothing is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_history_yields_nothing() {
    let mut rng = rng();
    let database = TestDatabase::new().await;
    let (client, mut session) = (database.client().await, database.session().await);
    super::corruption::live(&mut rng, &mut session, 600).await;
    let rows = Rows::read(&client).await;
    let users: Vec<Uuid> = rows.accounts.iter().map(|account| account.user).collect();
    assert!(rows.entries.len() > 300 && rows.entries.iter().any(|entry| entry.balance_after < 0));
    assert_eq!(examined(&client, &users).await, []);
}

/// Manual changes of openings: user 5 brought two batches along and used 20 points, user 6 a debt.
fn hands_on_openings() -> Vec<(&'static str, Finding)> {
    let account = |nth, rule, expected, found| finding(nth, rule, None, None, expected, found);
    let entry = |nth, rule, seq: i64, expected, found| finding(nth, rule, None, seq, expected, found);
    vec![
        (
            "UPDATE pointsd.accounts SET total_opening = 131 WHERE user_id = $5",
            account(5, "account_totals", "opened 130", "opened 131"),
        ),
        (
            "UPDATE pointsd.accounts SET total_opening = -41 WHERE user_id = $6",
            account(6, "account_totals", "opened -40", "opened -41"),
        ),
        (
            "UPDATE pointsd.accounts SET last_batch = 1 WHERE user_id = $6",
            account(6, "account_numbers", "last_batch 0", "last_batch 1"),
        ),
        (
            "UPDATE pointsd.batches SET remaining = 31 WHERE user_id = $5 AND batch = 2",
            finding(5, "batch_amount", 2, None, "remaining 30", "remaining 31"),
        ),
        (
            "UPDATE pointsd.batches SET source = 'card' WHERE user_id = $5 AND batch = 2",
            finding(5, "batch_recharge", 2, 2, "source gift", "source card"),
        ),
        (
            "UPDATE pointsd.entries SET amount = 29 WHERE user_id = $5 AND seq = 2",
            entry(5, "entry_amount", 2, "amount 30", "amount 29"),
        ),
        (
            "UPDATE pointsd.entries SET amount = 39 WHERE user_id = $6 AND seq = 1",
            entry(6, "entry_amount", 1, "amount 40", "amount 39"),
        ),
        (
            "UPDATE pointsd.entries SET batch = NULL WHERE user_id = $5 AND seq = 2",
            entry(5, "entry_type", 2, "opening with a batch", "opening with no batch"),
        ),
        (
            "UPDATE pointsd.entries SET batch = 1 WHERE user_id = $6 AND seq = 1",
            entry(6, "entry_type", 1, "opening with no batch", "opening with a batch"),
        ),
        (
            // Both entries change their places, and the chain of balances holds.
            "UPDATE pointsd.entries SET seq = 9 WHERE user_id = $5 AND seq = 2;
             UPDATE pointsd.entries SET seq = 2, balance_before = 100, balance_after = 80, recorded_at = (
                 SELECT recorded_at FROM pointsd.entries WHERE user_id = $5 AND seq = 1
             ) WHERE user_id = $5 AND seq = 3;
             UPDATE pointsd.entries SET seq = 3, balance_before = 80, balance_after = 110 WHERE user_id = $5 AND seq = 9",
            entry(5, "entry_type", 3, "opening before entry 2", "opening as entry 3"),
        ),
        (
            "UPDATE pointsd.entries SET key = NULL WHERE user_id = $6 AND seq = 1",
            entry(6, "entry_type", 1, "opening with a key", "opening with no key"),
        ),
        (
            "UPDATE pointsd.entries SET allocated_batches = '{1}', allocated_points = '{5}' WHERE user_id = $5 AND seq = 2",
            Finding {
                points: Some(5),
                ..entry(5, "entry_allocations", 2, "0 points from batches", "5 points from batches")
            },
        ),
        (
            "UPDATE pointsd.entries SET paid = 5, currency = 'CNY' WHERE user_id = $6 AND seq = 1",
            entry(6, "entry_price", 1, "no money", "5 CNY"),
        ),
        (
            "UPDATE pointsd.entries SET paid = 5, currency = 'CNY' WHERE user_id = $5 AND seq = 2",
            finding(5, "batch_paid", 2, 2, "5 CNY", "no price"),
        ),
        (
            "UPDATE pointsd.entries SET type = 'recharge' WHERE user_id = $5 AND seq = 2",
            Finding {
                points: Some(-30),
                ..account(5, "account_totals", "recharged 30, opened 100", "recharged 0, opened 130")
            },
        ),
    ]
}

/// The checks tell where, and the screens suspect the account, also before its first proof.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_to_openings_is_found() {
    let mut database = TestDatabase::new().await;
    database.expect_damage();
    let client = database.client().await;
    let history = [opening(5, 100, "card", 1), opening(5, 30, "gift", 2), debt(6, 40, 1), consume(5, 20, 3)];
    post(&mut database.session().await, &history).await;
    unguard(&client).await;
    let users = [user(5), user(6)];
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(suspects(&client, &users).await, [BTreeSet::new(), BTreeSet::new()]);
    for (hand, expected) in hands_on_openings() {
        let hand = hand.replace("$5", &format!("'{}'", user(5))).replace("$6", &format!("'{}'", user(6)));
        client.batch_execute(&format!("SAVEPOINT sound; {hand}")).await.unwrap();
        let found = examine(&client, &users).await.unwrap();
        let suspected = suspects(&client, &users).await;
        assert!(suspected.iter().all(|of| of.contains(&expected.user.unwrap())), "{hand}: {suspected:?}");
        assert_eq!(found, [expected], "{hand}");
        client.batch_execute("ROLLBACK TO sound").await.unwrap();
    }
}
