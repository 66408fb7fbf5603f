//! Reads of many rows: from one snapshot, and in parts, so that memory does not grow with their number.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, IsolationLevel, Row, Statement, Transaction};

/// Begins a transaction that only reads, and that sees one state of the database.
///
/// # Errors
/// If the database fails.
pub async fn snapshot(client: &mut Client) -> Result<Transaction<'_>, Error> {
    client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await
}

/// A cursor on the server. It lives on the connection that opened it: to the end of its transaction, or of the session if it
/// was declared WITH HOLD.
pub struct Cursor {
    name: String,
    fetch: Statement,
}

impl Cursor {
    /// Opens the cursor `name` by the statement `declare`, to fetch so many rows `at_once`.
    ///
    /// Other cursors of the connection are closed first: an earlier read that was interrupted may have left one.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn open(
        client: &Client,
        name: &str,
        declare: &str,
        parameters: &[&(dyn ToSql + Sync)],
        at_once: usize,
    ) -> Result<Cursor, Error> {
        Cursor::close_all(client).await?;
        Cursor::declare(client, name.to_owned(), declare, parameters, at_once).await
    }

    /// The same beside other cursors of the connection.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn declare(
        client: &Client,
        name: String,
        declare: &str,
        parameters: &[&(dyn ToSql + Sync)],
        at_once: usize,
    ) -> Result<Cursor, Error> {
        client.execute(declare, parameters).await?;
        let fetch = client.prepare(&format!("FETCH FORWARD {at_once} FROM {name}")).await?;
        Ok(Cursor { name, fetch })
    }

    /// Closes all cursors of the connection.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn close_all(client: &Client) -> Result<(), Error> {
        client.batch_execute("CLOSE ALL").await
    }

    /// Counts the rows of a cursor that was declared SCROLL, and begins with the first one again.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn count(&self, client: &Client) -> Result<u64, Error> {
        let count = client.execute(&format!("MOVE FORWARD ALL FROM {}", self.name), &[]).await?;
        client.batch_execute(&format!("MOVE ABSOLUTE 0 FROM {}", self.name)).await?;
        Ok(count)
    }

    /// Fetches the next rows; None after the last one.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn fetch(&self, client: &Client) -> Result<Option<Vec<Row>>, Error> {
        let rows = client.query(&self.fetch, &[]).await?;
        Ok((!rows.is_empty()).then_some(rows))
    }

    /// Closes the cursor.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn close(self, client: &Client) -> Result<(), Error> {
        client.batch_execute(&format!("CLOSE {}", self.name)).await
    }
}
