//! How restored data and a started service are checked.

use std::collections::BTreeMap;
use std::time::Duration;

/// Files that rows point to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The bucket's address.
    pub bucket: String,
    /// A query that yields the keys.
    pub keys_sql: String,
    /// Another site's bucket with the same names: what is missing is copied back from there.
    pub copy: Option<String>,
    /// How many files may be missing everywhere.
    pub missing_max: u64,
    /// How many files may be missing in the copy, in a drill; `None`: they are only counted.
    pub copy_missing_max: Option<u64>,
    /// How far before the target the newest object may lie.
    pub newest_within: Option<Duration>,
    /// Files that bucket and copy are compared by; 0: none.
    pub sample: u32,
    /// Credentials of the bucket: names of options and references to secrets.
    pub credentials: BTreeMap<String, String>,
    /// Those of the copy.
    pub copy_credentials: BTreeMap<String, String>,
}

/// A tool whose table of applied migrations is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaTool {
    /// Odoo: `ir_module_module`.
    Odoo,
    /// Prisma: `_prisma_migrations`.
    Prisma,
    /// Rails: `schema_migrations`.
    Rails,
    /// Django: `django_migrations`.
    Django,
    /// Flyway: `flyway_schema_history`.
    Flyway,
    /// Entity Framework: `__EFMigrationsHistory`.
    EntityFramework,
}

impl SchemaTool {
    /// Every tool, as it is written in the configuration, and the query that says the version.
    pub const ALL: [(&'static str, Self, &'static str); 6] = [
        (
            "odoo",
            Self::Odoo,
            "SELECT latest_version FROM ir_module_module WHERE name = 'base' AND state = 'installed'",
        ),
        (
            "prisma",
            Self::Prisma,
            "SELECT migration_name FROM _prisma_migrations WHERE finished_at IS NOT NULL AND \
             rolled_back_at IS NULL ORDER BY finished_at DESC LIMIT 1",
        ),
        ("rails", Self::Rails, "SELECT max(version) FROM schema_migrations"),
        (
            "django",
            Self::Django,
            "SELECT app || '.' || name FROM django_migrations ORDER BY id DESC LIMIT 1",
        ),
        (
            "flyway",
            Self::Flyway,
            "SELECT version FROM flyway_schema_history WHERE success ORDER BY installed_rank DESC \
             LIMIT 1",
        ),
        (
            "entity-framework",
            Self::EntityFramework,
            "SELECT max(\"MigrationId\") FROM \"__EFMigrationsHistory\"",
        ),
    ];

    /// The tool of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(name, ..)| *name == text).map(|(_, tool, _)| tool)
    }

    /// As it is written in the configuration.
    #[must_use]
    pub fn text(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, tool, _)| *tool == self).map_or("", |(name, ..)| name)
    }

    /// The query that says the version.
    #[must_use]
    pub fn sql(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, tool, _)| *tool == self).map_or("", |(.., sql)| sql)
    }
}

/// What must hold for one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableCheck {
    /// The column with the time of a row: its newest value must be before the damage and close to
    /// the target.
    pub newest: Option<String>,
    /// How far before the target the newest value may lie.
    pub within: Option<Duration>,
    /// Rows there must be at least.
    pub min_rows: Option<u64>,
}

/// How restored data is checked before anything is switched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validation {
    /// A file of SQL that yields OK or FAILED.
    pub sql: Option<String>,
    /// How long one of its statements may take; `None`: a minute.
    pub timeout: Option<Duration>,
    /// The tool whose schema version is read.
    pub schema: Option<SchemaTool>,
    /// By table.
    pub tables: BTreeMap<String, TableCheck>,
}

/// What a smoke test expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The status.
    pub status: u16,
    /// JSON pointers and the values there, as JSON text.
    pub json: BTreeMap<String, String>,
    /// The least number of items in the body's (first) array.
    pub min_items: Option<u64>,
    /// The median of five must be within this.
    pub within: Option<Duration>,
}

impl Default for Expectation {
    fn default() -> Self {
        Self { status: 200, json: BTreeMap::new(), min_items: None, within: None }
    }
}

/// One smoke test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smoke {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// An address that answers while the door is shut.
    pub url: String,
    /// What is posted.
    pub body: Option<String>,
    /// A bearer token or `user:password`, as a reference.
    pub login: Option<String>,
    /// What is expected.
    pub expect: Expectation,
}
