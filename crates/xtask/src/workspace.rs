//! The checkout: its files and manifests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;

/// The checkout of this workspace.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
}

/// The dependencies that a crate declares.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) package: Option<Package>,
    pub(crate) workspace: Option<Shared>,
    #[serde(default)]
    pub(crate) dependencies: Dependencies,
    #[serde(default, rename = "dev-dependencies")]
    pub(crate) dev_dependencies: Dependencies,
    #[serde(default, rename = "build-dependencies")]
    pub(crate) build_dependencies: Dependencies,
}

/// The `[package]` table.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
}

/// The `[workspace]` table of the root.
#[derive(Debug, Deserialize)]
pub(crate) struct Shared {
    #[serde(default)]
    pub(crate) dependencies: Dependencies,
}

/// Dependencies by the name that the code uses.
pub(crate) type Dependencies = BTreeMap<String, toml::Value>;

impl Workspace {
    /// Returns the checkout that cargo runs this program for.
    pub(crate) fn find() -> anyhow::Result<Self> {
        // Not the one it was built from: checkouts may share a target folder.
        let here = std::env::var_os("CARGO_MANIFEST_DIR").context("run it by `cargo run`")?;
        let root = Path::new(&here).join("../..");
        let root = root.canonicalize().with_context(|| format!("find '{}'", root.display()))?;
        Ok(Self { root })
    }

    /// Returns a path below the root.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Reads a file as text; None when it is none (a golden repository, an image).
    pub(crate) fn read(&self, relative: &str) -> anyhow::Result<Option<String>> {
        let bytes = fs::read(self.path(relative)).with_context(|| format!("read '{relative}'"))?;
        Ok(String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')))
    }

    /// Returns the paths of all files that are, or would be, under version control, sorted.
    pub(crate) fn files(&self) -> anyhow::Result<Vec<String>> {
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&self.root)
            .output()
            .context("run git")?;
        ensure!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).context("a path is not UTF-8")?;
        let listed = text.split('\0').filter(|path| !path.is_empty());
        // A file removed but not yet committed is still listed.
        let mut files: Vec<String> =
            listed.filter(|path| self.path(path).is_file()).map(str::to_owned).collect();
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// Parses the manifest at `relative`.
    pub(crate) fn manifest(&self, relative: &str) -> anyhow::Result<Manifest> {
        let text = fs::read_to_string(self.path(relative))
            .with_context(|| format!("read '{relative}'"))?;
        toml::from_str(&text).with_context(|| format!("parse '{relative}'"))
    }
}
