//! What a posting and an expiry take on disk: bytes of tables, of indexes and of the write-ahead log.

use tokio_postgres::Client;

use crate::Row;
use crate::server::{Bench, users};

/// Bytes of the ledger's tables, of their indexes, and of the write-ahead log so far.
async fn bytes(client: &Client) -> [i64; 3] {
    let sql = "SELECT sum(pg_table_size(oid))::bigint, sum(pg_indexes_size(oid))::bigint,
                      pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint
               FROM unnest(ARRAY['pointsd.accounts', 'pointsd.batches', 'pointsd.entries']::regclass[]) AS oid";
    let row = client.query_one(sql, &[]).await.unwrap();
    [row.get(0), row.get(1), row.get(2)]
}

impl Bench {
    /// The pages that the work changes were changed before, since the last checkpoint. So the log has few of the whole pages that the
    /// first change after a checkpoint adds.
    pub async fn size(&self, lines: u64, rows: &mut Vec<Row>) {
        let users = users(lines / 5);
        let client = self.seed("size", lines / 5, 3).await;
        self.program("size", &["post", self.consumes(&users, lines, "warm").to_str().unwrap()]);
        self.program("size", &["post", self.recharges(&users, lines).to_str().unwrap()]);
        let mut before = bytes(&client).await;
        for work in ["consume", "recharge", "batch that expires"] {
            let count = match work {
                "consume" => {
                    self.program("size", &["post", self.consumes(&users, lines, "measured").to_str().unwrap()]);
                    lines
                }
                "recharge" => {
                    // Order ids of its own.
                    let file = self.recharges(&users, 2 * lines);
                    let text = std::fs::read_to_string(&file).unwrap();
                    let second: Vec<&str> = text.lines().skip(usize::try_from(lines).unwrap()).collect();
                    std::fs::write(&file, second.join("\n")).unwrap();
                    self.program("size", &["post", file.to_str().unwrap()]);
                    lines
                }
                _ => {
                    self.program("size", &["run", "expiry", "--at", "2026-03-01T00:00:00Z"]);
                    let sql = "SELECT count(*) FROM pointsd.entries WHERE type = 'expire'";
                    u64::try_from(client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)).unwrap()
                }
            };
            let after = bytes(&client).await;
            let each = |part: usize| (after[part] - before[part]) as f64 / count as f64;
            let (table, index, log) = (each(0), each(1), each(2));
            let text = format!("{table:.0} B of table, {index:.0} B of index, {log:.0} B of log");
            eprintln!("{work}: {text}");
            rows.push(Row::new(format!("size of a {work}"), text, String::new(), f64::NAN, ("", "")));
            before = after;
        }
    }
}
