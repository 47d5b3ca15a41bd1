//! What a step does.

/// What a step does. A binary that does not know a kind may show a plan and must not drive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StepKind {
    /// Looks at the database: evidence and a verdict.
    Diagnose,
    /// The setting must point to the declared database now.
    CheckSetting,
    /// What leads users here can be switched.
    CheckTraffic,
    /// Every secret the plan needs resolves.
    ResolveSecrets,
    /// Keeps users out.
    ShutDoor,
    /// Something that would undo our steps is told to wait.
    PauseManager,
    /// Stops an application.
    StopWriter,
    /// The old database refuses sessions; no foreign session and no new WAL is proved.
    Fence,
    /// One database refuses sessions, its server goes on.
    FenceDatabase,
    /// What can still be read of the failed server's WAL is stored.
    Salvage,
    /// The old data directory is kept, untouched: the safety copy of a restore beside.
    KeepOld,
    /// The replaced cluster is held as evidence.
    HoldEvidence,
    /// A snapshot of the instance as it is.
    SafetySnapshot,
    /// Brings up what a standby site needs.
    ActivateSite,
    /// The target becomes a position in the log; it must be reachable.
    ResolveTarget,
    /// A new data directory, recovered and promoted, in quarantine.
    RestoreCluster,
    /// A new instance.
    RestoreInstance,
    /// A new database from a logical dump.
    RestoreDump,
    /// The built-in checks.
    Prove,
    /// The service's own SQL.
    RunSql,
    /// Files that rows point to.
    CheckFiles,
    /// Files that are missing are copied back from another site's bucket.
    RestoreFiles,
    /// A login from here, and from where the application is.
    ProveConnection,
    /// A person confirms something that only a person can see.
    Confirm,
    /// A role has another password.
    RotateCredentials,
    /// A command of the service gives something else another secret.
    RotateSecret,
    /// The restored cluster takes sessions over the network.
    OpenNetwork,
    /// A connection from where the applications are.
    ProveReach,
    /// The applications' connection setting.
    SwitchSetting,
    /// The old instance's name goes to the new one.
    RenameInstance,
    /// The old database's name goes to the restored one, on the same server.
    RenameDatabase,
    /// Starts an application.
    StartWriter,
    /// An application must answer before the next one is started.
    HealthGate,
    /// Asks the service like a user.
    Smoke,
    /// The application's sessions are seen at the restored database.
    ProveApplication,
    /// Recorded: from here on nothing is undone by itself.
    PointOfNoReturn,
    /// Lets users in.
    OpenDoor,
    /// DNS or load balancer.
    SwitchTraffic,
    /// The restored cluster becomes the production of its lineage.
    Adopt,
    /// What was told to wait goes on.
    ResumeManager,
    /// A backup of it.
    Backup,
    /// Backups, alarms and parameters of the new instance.
    ProtectInstance,
    /// A channel is told.
    Tell,
}

impl StepKind {
    /// Every kind and its name.
    pub const ALL: [(&'static str, Self); 43] = [
        ("diagnose", Self::Diagnose),
        ("check-setting", Self::CheckSetting),
        ("check-traffic", Self::CheckTraffic),
        ("resolve-secrets", Self::ResolveSecrets),
        ("shut-door", Self::ShutDoor),
        ("pause-manager", Self::PauseManager),
        ("stop-writer", Self::StopWriter),
        ("fence", Self::Fence),
        ("fence-database", Self::FenceDatabase),
        ("salvage", Self::Salvage),
        ("keep-old", Self::KeepOld),
        ("hold-evidence", Self::HoldEvidence),
        ("safety-snapshot", Self::SafetySnapshot),
        ("activate-site", Self::ActivateSite),
        ("resolve-target", Self::ResolveTarget),
        ("restore-cluster", Self::RestoreCluster),
        ("restore-instance", Self::RestoreInstance),
        ("restore-dump", Self::RestoreDump),
        ("prove", Self::Prove),
        ("run-sql", Self::RunSql),
        ("check-files", Self::CheckFiles),
        ("restore-files", Self::RestoreFiles),
        ("prove-connection", Self::ProveConnection),
        ("confirm", Self::Confirm),
        ("rotate-credentials", Self::RotateCredentials),
        ("rotate-secret", Self::RotateSecret),
        ("open-network", Self::OpenNetwork),
        ("prove-reach", Self::ProveReach),
        ("switch-setting", Self::SwitchSetting),
        ("rename-instance", Self::RenameInstance),
        ("rename-database", Self::RenameDatabase),
        ("start-writer", Self::StartWriter),
        ("health-gate", Self::HealthGate),
        ("smoke", Self::Smoke),
        ("prove-application", Self::ProveApplication),
        ("point-of-no-return", Self::PointOfNoReturn),
        ("open-door", Self::OpenDoor),
        ("switch-traffic", Self::SwitchTraffic),
        ("adopt", Self::Adopt),
        ("resume-manager", Self::ResumeManager),
        ("backup", Self::Backup),
        ("protect-instance", Self::ProtectInstance),
        ("tell", Self::Tell),
    ];

    /// The kind of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(name, _)| *name == text).map(|(_, kind)| kind)
    }

    /// Its name.
    #[must_use]
    pub fn text(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Whether the old database takes no sessions behind it.
    #[must_use]
    pub const fn is_fence(self) -> bool {
        matches!(self, Self::Fence | Self::FenceDatabase)
    }

    /// Whether the step has no effect outside the journal and is performed by the runner itself.
    #[must_use]
    pub const fn is_recorded_only(self) -> bool {
        matches!(self, Self::PointOfNoReturn | Self::Confirm)
    }
}
