//! The first cluster, and its protection.

use std::path::PathBuf;

use anyhow::Context as _;
use pgclient::local::{InitOptions, RunAs, StopMode, init_cluster};

use super::stage::{CLUSTER, QUIET_MAX, Stage, number, text};

/// Its data directory.
pub(super) fn directory(stage: &Stage<'_>) -> PathBuf {
    stage.path("production")
}

/// Creates and starts it, with the application's role and database.
pub(super) async fn create(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    stage.begin("create a cluster");
    let directory = directory(stage);
    let options = InitOptions {
        superuser: "postgres".into(),
        data_checksums: true,
        args: vec!["--auth-local=trust".into(), "--auth-host=scram-sha-256".into()],
    };
    init_cluster(&stage.programs, &directory, &options, &RunAs::Caller).await?;
    let settings = format!(
        "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\n\
         shared_buffers = '256MB'\nmax_wal_size = '2GB'\n",
        stage.port,
        stage.directory.display()
    );
    let conf = directory.join("postgresql.conf");
    let old = std::fs::read_to_string(&conf)?;
    std::fs::write(&conf, old + &settings)
        .with_context(|| format!("write '{}'", conf.display()))?;
    stage.server(&directory)?.start(&[], QUIET_MAX).await?;
    let client = stage.connect(&stage.directory, stage.port, "postgres").await?;
    for sql in [
        format!("CREATE ROLE shop LOGIN PASSWORD '{}'", stage.password),
        "CREATE DATABASE shop OWNER shop".into(),
    ] {
        client.query_text(&sql, QUIET_MAX).await?;
    }
    stage.end();
    Ok(())
}

/// Makes the repository, turns archiving on, takes a backup while the application writes.
pub(super) async fn protect(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    stage.begin("create an encrypted repository and turn archiving on");
    let repository = format!("main={}", stage.path("repository").display());
    let connection = format!(
        "host={} port={} user=postgres dbname=postgres",
        stage.directory.display(),
        stage.port
    );
    let state = stage.path("state").display().to_string();
    let code = stage.path("recovery-code").display().to_string();
    let init = [
        "init",
        "--repository",
        &repository,
        "--cluster",
        CLUSTER,
        "--connection",
        &connection,
        "--state-directory",
        &state,
        "--recovery-code-file",
        &code,
        "--enable-archiving",
    ];
    stage.type_command(&init, &[]).await?;
    let server = stage.server(&directory(stage))?;
    server.stop(StopMode::Fast, QUIET_MAX).await?;
    server.start(&[], QUIET_MAX).await?;
    stage.begin("prove that the recovery code alone opens it");
    let place = stage.path("repository").display().to_string();
    let prove = ["key", "prove", "--repository", &place, "--recovery-code-file", &code];
    stage.type_command(&prove, &[]).await?;
    stage.begin("take a full backup while the shop writes");
    let backup = stage.type_command(&["backup", CLUSTER], &[]).await?;
    stage.printer.note(&format!(
        "  backup {}: {} in {:.1} s, {} stored",
        text(&backup, "/backup/label")?,
        stdx::ByteCount::new(number(&backup, "/backup/size")?),
        backup.pointer("/seconds").and_then(serde_json::Value::as_f64).unwrap_or_default(),
        stdx::ByteCount::new(number(&backup, "/backup/stored")?),
    ));
    stage.begin("check what would stop a recovery today");
    stage.type_command(&["check"], &[]).await?;
    stage.end();
    Ok(())
}
