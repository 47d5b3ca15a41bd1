//! What stands around the database: connection settings, doors, writers.

use std::collections::BTreeMap;

/// How a connection is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `postgres://user:password@host:port/database?…`
    Uri,
    /// `host=… port=… dbname=…`
    Libpq,
    /// `Host=…;Port=…;Database=…` (ADO.NET, Npgsql)
    Ado,
    /// A JSON object with a field for each part.
    Json,
}

impl Form {
    /// Every form, as it is written in the configuration.
    pub const ALL: [(&'static str, Self); 4] =
        [("uri", Self::Uri), ("libpq", Self::Libpq), ("ado", Self::Ado), ("json", Self::Json)];

    /// The form of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(name, _)| *name == text).map(|(_, form)| form)
    }

    /// As it is written in the configuration.
    #[must_use]
    pub fn text(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, form)| *form == self).map_or("uri", |(name, _)| name)
    }
}

/// Where the applications read their connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Where it stands.
    pub place: SettingPlace,
    /// How it is written.
    pub form: Form,
    /// For [`Form::Json`]: the field of each part (`host`, `port`, `database`).
    pub fields: BTreeMap<String, String>,
}

/// Where a setting stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingPlace {
    /// A file of this host; with a key, the value of that key in it.
    File {
        /// Its path.
        path: String,
        /// `DATABASE_URL` of an environment file, `ConnectionStrings:Default` of a JSON file.
        key: Option<String>,
    },
    /// A secret of AWS Secrets Manager.
    AwsSecret {
        /// Its name or ARN.
        name: String,
    },
    /// A key of a Kubernetes ConfigMap or Secret.
    Kubernetes {
        /// The cluster's table.
        context: String,
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Namespace and name.
        object: String,
        /// The key.
        key: String,
        /// The key inside of what stands there, when that is a file: `DATABASE_URL` of an
        /// environment file, `ConnectionStrings:Default` of a JSON file.
        inside: Option<String>,
    },
    /// An environment variable of a Vercel project.
    Vercel {
        /// The project.
        project: String,
        /// The variable.
        variable: String,
    },
    /// A key of Azure App Configuration.
    AppConfiguration {
        /// The endpoint.
        endpoint: String,
        /// The key.
        key: String,
    },
}

impl SettingPlace {
    /// For people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::File { path, key: None } => format!("file '{path}'"),
            Self::File { path, key: Some(key) } => format!("'{key}' in file '{path}'"),
            Self::AwsSecret { name } => format!("secret '{name}' of AWS Secrets Manager"),
            Self::Kubernetes { context, kind, object, key, inside } => {
                let inside = inside.as_ref().map(|it| format!("'{it}' in ")).unwrap_or_default();
                format!("{inside}'{key}' of {kind} {object} ({context})")
            }
            Self::Vercel { project, variable } => {
                format!("variable '{variable}' of Vercel project '{project}'")
            }
            Self::AppConfiguration { endpoint, key } => {
                format!("'{key}' of App Configuration {endpoint}")
            }
        }
    }
}

/// What keeps users out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// A file whose existence shuts the door.
    File {
        /// Its path.
        path: String,
        /// What stands in it.
        content: String,
    },
    /// Commands.
    Command {
        /// Shuts; must be repeatable.
        shut: Vec<String>,
        /// Opens; must be repeatable.
        open: Vec<String>,
        /// Ends with 0 when shut, with 1 when open.
        probe: Vec<String>,
    },
    /// HTTP calls.
    Http {
        /// Shuts with PUT.
        shut: String,
        /// Opens with PUT.
        open: String,
        /// Answers GET with a body that contains `shut_word` when shut.
        probe: String,
        /// What the body contains when shut.
        shut_word: String,
        /// A bearer token, as a reference.
        login: Option<String>,
    },
    /// `PAUSE` and `RESUME` of PgBouncer.
    PgBouncer {
        /// The admin console, in libpq's form, without a password.
        admin: String,
        /// The database in PgBouncer's configuration.
        database: String,
    },
    /// Manifests of Kubernetes.
    Kubernetes {
        /// The cluster's table.
        context: String,
        /// Applied to shut.
        shut: String,
        /// Applied to open.
        open: String,
    },
}

impl Door {
    /// For people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::File { path, .. } => format!("file '{path}'"),
            Self::Command { shut, .. } => format!("command '{}'", shut.join(" ")),
            Self::Http { shut, .. } => format!("PUT {shut}"),
            Self::PgBouncer { database, .. } => format!("PgBouncer database '{database}'"),
            Self::Kubernetes { context, shut, .. } => format!("manifest '{shut}' ({context})"),
        }
    }
}

/// A workload of Kubernetes that can be stopped and started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Scaled to nothing, and back to as many replicas as it had.
    Deployment,
    /// Scaled likewise.
    StatefulSet,
    /// Suspended and resumed; what it runs already is waited for.
    CronJob,
}

impl Workload {
    /// Every kind: in the configuration, as Kubernetes calls it, its plural in addresses.
    pub const ALL: [(&'static str, &'static str, &'static str, Self); 3] = [
        ("deployment", "Deployment", "deployments", Self::Deployment),
        ("statefulset", "StatefulSet", "statefulsets", Self::StatefulSet),
        ("cronjob", "CronJob", "cronjobs", Self::CronJob),
    ];

    fn row(self) -> (&'static str, &'static str, &'static str, Self) {
        Self::ALL.into_iter().find(|row| row.3 == self).unwrap_or(Self::ALL[0])
    }

    /// As it is written in the configuration and in plans.
    #[must_use]
    pub fn text(self) -> &'static str {
        self.row().0
    }

    /// As Kubernetes calls it.
    #[must_use]
    pub fn kind(self) -> &'static str {
        self.row().1
    }

    /// Its plural, as it stands in addresses and rights.
    #[must_use]
    pub fn plural(self) -> &'static str {
        self.row().2
    }

    /// The workload of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|row| row.0 == text).map(|row| row.3)
    }
}

/// An application that writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A workload of Kubernetes.
    Kubernetes {
        /// The cluster's table.
        context: String,
        /// What it is.
        kind: Workload,
        /// Namespace and name.
        object: String,
        /// Replicas to start it with when it had none.
        replicas: Option<u32>,
    },
    /// A unit of systemd.
    Systemd {
        /// Its name.
        unit: String,
    },
    /// Commands.
    Command {
        /// A name for it.
        name: String,
        /// Starts; must be repeatable.
        start: Vec<String>,
        /// Stops; must be repeatable.
        stop: Vec<String>,
        /// Ends with 0 when it runs, with 1 when it does not.
        probe: Vec<String>,
    },
    /// A workflow of GitHub Actions that deploys, and so restarts.
    Workflow {
        /// Owner and name.
        repository: String,
        /// The workflow's file.
        workflow: String,
    },
}

impl Writer {
    /// A short name, for step ids.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Kubernetes { object, .. } => object,
            Self::Systemd { unit } => unit,
            Self::Command { name, .. } => name,
            Self::Workflow { workflow, .. } => workflow,
        }
    }

    /// For people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Kubernetes { context, kind, object, .. } => {
                format!("{} {object} ({context})", kind.kind())
            }
            Self::Systemd { unit } => format!("unit {unit}"),
            Self::Command { name, .. } => format!("application '{name}'"),
            Self::Workflow { repository, workflow } => {
                format!("workflow {workflow} of {repository}")
            }
        }
    }
}
