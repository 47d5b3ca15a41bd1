//! Playing the demo as an unprivileged user, and the folder it is played in.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use pgclient::local::RunAs;

use super::super::Context;
use super::{Arguments, report};
use crate::failure::Error;

/// The programs the demo runs.
const PROGRAMS: [&str; 2] = ["rollforward", "rollforward-shop"];

/// Runs this command again as the user given, from copies of the programs that this user can run.
pub(super) fn play_as_user(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let (uid, gid) =
        RunAs::user(&arguments.user).ok().and_then(|account| account.ids()).ok_or_else(|| {
            Error::Usage(format!("there is no user '{}': name one with --user", arguments.user))
        })?;
    let directory = make_stage(&arguments.directory)?;
    let bin = directory.join("bin");
    std::fs::create_dir(&bin)?;
    let here = crate::wiring::own_program()?;
    for program in PROGRAMS {
        let from = here.with_file_name(program);
        let to = bin.join(program);
        std::fs::copy(&from, &to).with_context(|| {
            format!(
                "copy '{}': build it with `cargo build --release -p shop -p cli`",
                from.display()
            )
        })?;
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755))?;
    }
    for path in [&bin, &directory] {
        std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
    }
    let mut command = Command::new(bin.join("rollforward"));
    command.arg("demo").arg("--stage").arg(&directory).args(["--size", &arguments.size]);
    if let Some(bin) = &arguments.bin_directory {
        command.arg("--bin-directory").arg(bin);
    }
    if context.global.quiet {
        command.arg("--quiet");
    }
    command.current_dir(&directory).env_remove("ROLLFORWARD_CONFIG").uid(uid).gid(gid);
    let status = command.status().context("run the demo as an unprivileged user")?;
    if status.success() {
        report::publish(&directory, &arguments.report)?;
        let report = report::read(&directory)?;
        context.printer.result(&report, &report.text());
    }
    leave(context, &directory, arguments.keep)?;
    if !status.success() {
        return Err(Error::Failed {
            what: format!("the demo ended with {status}"),
            hint: "repeat with --keep and look at the logs in the folder it names".into(),
        }
        .into());
    }
    context
        .printer
        .next(&format!("read '{}'; docs/guide/getting-started.md", arguments.report.display()));
    Ok(0)
}

/// A fresh folder with a short name: sockets lie in it.
pub(super) fn make_stage(below: &Path) -> anyhow::Result<PathBuf> {
    let directory =
        std::path::absolute(below)?.join(format!("rf-demo-{}", stdx::Id::random().short()));
    std::fs::DirBuilder::new()
        .mode(0o755)
        .create(&directory)
        .with_context(|| format!("create folder '{}'", directory.display()))?;
    Ok(directory)
}

/// Removes the folder, or says where it is.
pub(super) fn leave(context: &Context<'_>, directory: &Path, keep: bool) -> anyhow::Result<()> {
    if keep {
        context.printer.note(&format!("kept: '{}'", directory.display()));
        return Ok(());
    }
    std::fs::remove_dir_all(directory)
        .with_context(|| format!("remove folder '{}'", directory.display()))
}
