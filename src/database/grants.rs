//! The rights of roles: what each kind of role needs, and no more.

use tokio_postgres::Client;

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

impl Database {
    /// The statements that give a role what its kind needs, and take back what else it had in the schema.
    ///
    /// # Errors
    /// [`Error::Role`] if there is no such role, or it needs no grant.
    pub async fn grants(&self, kind: RoleKind, role: &str) -> Result<String, Error> {
        let name = quoted(&*self.connection().await?, role).await?;
        Ok(format!("{}{}", include_str!("../../sql/grants/revoke.sql"), kind.grants()).replace(":role", &name))
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
