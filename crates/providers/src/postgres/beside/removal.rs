//! Removing a replaced database for good, days later, by command.

use pgclient::identifier;
use recovery::effect::Failure;

use super::{Listed, by_oid, change, session, sessions};

/// A database that was replaced and is kept under another name.
#[derive(Clone, Debug)]
pub struct OldDatabase {
    /// Its server, in libpq's form; another database of it.
    pub server: String,
    /// The system identifier that the run saw.
    pub system_id: String,
    /// Its name since the run.
    pub name: String,
    /// Its oid.
    pub oid: u32,
}

impl OldDatabase {
    /// Whether it is there. Touches nothing.
    ///
    /// # Errors
    /// It is not the database that was replaced, somebody uses it, or nobody answers.
    pub async fn is_there(&self) -> Result<bool, Failure> {
        Ok(self.look().await?.is_some())
    }

    async fn look(&self) -> Result<Option<Listed>, Failure> {
        let no = |why: String| {
            Failure::terminal("RF1105", format!("database '{}' is not removed: {why}", self.name))
        };
        let client = session(&self.server, None).await?;
        let sql = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
        let seen = super::value(&client, sql).await?.unwrap_or_default();
        if seen != self.system_id {
            return Err(no(format!("expected system identifier {}, seen {seen}", self.system_id)));
        }
        let Some(there) = by_oid(&client, self.oid).await? else { return Ok(None) };
        if there.name != self.name {
            return Err(no(format!("it is called '{}' now", there.name)));
        }
        if there.takes_sessions {
            return Err(no("it takes sessions: somebody has taken it back".into()));
        }
        match sessions(&client, there.oid).await? {
            0 => Ok(Some(there)),
            count => Err(no(format!("{count} sessions work in it"))),
        }
    }

    /// Drops it, after another look.
    ///
    /// # Errors
    /// As [`OldDatabase::is_there`], and what the server says.
    pub async fn remove(&self) -> Result<(), Failure> {
        let Some(there) = self.look().await? else { return Ok(()) };
        let client = session(&self.server, None).await?;
        change(&client, &format!("DROP DATABASE {}", identifier(&there.name))).await
    }
}
