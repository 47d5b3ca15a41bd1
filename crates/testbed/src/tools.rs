//! Where `make tools` has put things.

use std::env;
use std::path::PathBuf;

/// What to tell whoever lacks a component.
pub(crate) const INSTALL_COMMAND: &str = "make tools";

/// Returns the folders that may hold installed components, first choice first.
///
/// The same rule as `cache_directory` in scripts/tools.sh, except that it decides by what is
/// there and not by what can be written.
pub(crate) fn caches() -> Vec<PathBuf> {
    if let Some(named) = env::var_os("ROLLFORWARD_TOOLS").filter(|value| !value.is_empty()) {
        return vec![PathBuf::from(named)];
    }
    let mut found = vec![PathBuf::from("/var/cache/rollforward")];
    if let Some(home) = env::var_os("HOME") {
        found.push(PathBuf::from(home).join(".cache/rollforward"));
    }
    found
}

/// Returns `relative` below the first cache that has it.
pub(crate) fn find(relative: &str) -> Option<PathBuf> {
    caches().into_iter().map(|cache| cache.join(relative)).find(|path| path.exists())
}

/// Returns a program that other people's formats are checked with: `promtool`, `crontab`.
///
/// # Panics
/// When it is not installed.
pub fn tool(name: &str) -> PathBuf {
    let found = find(&format!("checkers/usr/bin/{name}"));
    found.unwrap_or_else(|| panic!("{name} is not installed; run: {INSTALL_COMMAND}"))
}
