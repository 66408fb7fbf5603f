//! The rights of roles: what each kind of role needs, and no more.

use serde::Serialize;
use tokio_postgres::{Client, Row};

use super::{Database, Error};

/// What a role is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleKind {
    /// The daemon, and commands that post.
    Daemon,
    /// An application: requests, holds, balances.
    Application,
    /// Balances, exports and reports.
    Reader,
}

impl RoleKind {
    fn grants(self) -> &'static str {
        match self {
            RoleKind::Daemon => include_str!("../../sql/grants/daemon.sql"),
            RoleKind::Application => include_str!("../../sql/grants/application.sql"),
            RoleKind::Reader => include_str!("../../sql/grants/reader.sql"),
        }
    }
}

/// Rights that a role has in the schema as PUBLIC or as a member of another role. A grant to the role does not take them back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptRights {
    /// The role.
    pub role: String,
    /// PUBLIC, or the other role.
    pub through: String,
    /// Such as `INSERT, UPDATE`.
    pub rights: String,
    /// Such as `TABLE pointsd.accounts`.
    pub object: String,
    /// The statement that takes them back.
    pub revoke: String,
}

impl Database {
    /// The rights in the schema that [`Database::grants`] leaves to a role.
    ///
    /// # Errors
    /// [`Error::Statement`] if they cannot be read.
    pub async fn kept_rights(&self, role: &str) -> Result<Vec<KeptRights>, Error> {
        let sql = include_str!("../../sql/grants/right_elsewhere.sql");
        let kept = |row: &Row| {
            Ok(KeptRights {
                role: role.to_owned(),
                through: row.try_get("through")?,
                rights: row.try_get("rights")?,
                object: row.try_get("object")?,
                revoke: row.try_get("revoke")?,
            })
        };
        let rows = self.connection().await?.query(sql, &[&role]).await;
        rows.and_then(|rows| rows.iter().map(kept).collect())
            .map_err(Error::statement("reading the rights of the role"))
    }

    /// The statements that give a role what its kind needs, and take back what else it had in the schema.
    ///
    /// # Errors
    /// [`Error::Role`] if there is no such role, or it needs no grant.
    pub async fn grants(&self, kind: RoleKind, role: &str) -> Result<String, Error> {
        let client = self.connection().await?;
        let name = quoted(&client, role).await?;
        let mut statements = format!("{}{}", include_str!("../../sql/grants/revoke.sql"), kind.grants());
        if kind == RoleKind::Daemon && is_spread(&client).await.map_err(Error::statement("looking for a cluster"))? {
            statements.push_str(include_str!("../../sql/grants/daemon_on_cluster.sql"));
        }
        Ok(statements.replace(":role", &name))
    }

    /// Runs such statements in one transaction. The schema's owner calls it.
    ///
    /// # Errors
    /// [`Error::Statement`] if the caller may not grant that.
    pub async fn grant(&self, statements: &str) -> Result<(), Error> {
        let mut client = self.connection().await?;
        let failed = || Error::statement("granting rights");
        let transaction = client.transaction().await.map_err(failed())?;
        transaction.batch_execute(statements).await.map_err(failed())?;
        transaction.commit().await.map_err(failed())
    }
}

/// Whether the ledger is spread over the nodes of a cluster.
async fn is_spread(client: &Client) -> Result<bool, tokio_postgres::Error> {
    client.query_one(include_str!("../../sql/server/ledger_spread.sql"), &[]).await?.try_get(0)
}

/// The name of a role that exists and does not own the schema, quoted for a statement.
async fn quoted(client: &Client, role: &str) -> Result<String, Error> {
    let sql = "SELECT quote_ident(r.rolname), r.rolsuper OR EXISTS (
                   SELECT FROM pg_namespace AS n WHERE n.nspname = 'pointsd' AND pg_has_role(r.oid, n.nspowner, 'USAGE'))
               FROM pg_roles AS r WHERE r.rolname = $1";
    let failed = || Error::statement("looking for the role");
    let found = client.query_opt(sql, &[&role]).await.map_err(failed())?;
    let Some(found) = found else {
        return Err(Error::Role {
            problem: format!("there is no role {role}: create it first, with CREATE ROLE … LOGIN"),
        });
    };
    match found.try_get(1).map_err(failed())? {
        true => Err(Error::Role {
            problem: format!(
                "the role {role} is a superuser, the schema's owner or a member of it, so it may do everything: name another one"
            ),
        }),
        false => found.try_get(0).map_err(failed()),
    }
}
