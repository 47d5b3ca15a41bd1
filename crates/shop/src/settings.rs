//! The file with the connection string.

use std::path::Path;

use anyhow::{Context, bail};
use tokio_postgres::Config;

/// Reads `DATABASE_URL=postgres://…` (with or without `export` and quotes), or a line that is just
/// the URL. No error shows the line: it holds the password.
pub(crate) fn read(path: &Path) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("read settings '{}'", path.display()))?;
    let Some(url) = find_url(&text) else {
        bail!("no DATABASE_URL in settings '{}'", path.display());
    };
    let mut config: Config = url.parse().map_err(|_| {
        anyhow::anyhow!("the DATABASE_URL in settings '{}' is not one", path.display())
    })?;
    if config.get_application_name().is_none() {
        config.application_name("shop");
    }
    Ok(config)
}

fn find_url(text: &str) -> Option<&str> {
    let mut lines = text.lines().map(str::trim);
    lines.find_map(|line| {
        let line = line.strip_prefix("export ").unwrap_or(line).trim();
        if line.starts_with("postgres://") || line.starts_with("postgresql://") {
            return Some(line);
        }
        let value = line.strip_prefix("DATABASE_URL")?.trim_start().strip_prefix('=')?.trim();
        let quoted = ['"', '\''].into_iter().find_map(|quote| {
            value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote))
        });
        Some(quoted.unwrap_or(value))
    })
}

#[cfg(test)]
mod tests {
    use super::find_url;

    #[test]
    fn the_url_is_found_among_other_lines() {
        let check = |text: &str, expect: Option<&str>| assert_eq!(find_url(text), expect, "{text}");
        check("# x\nA=b\nDATABASE_URL=postgres://u@h/d\n", Some("postgres://u@h/d"));
        check("export DATABASE_URL='postgres://u@h/d'", Some("postgres://u@h/d"));
        check("DATABASE_URL = \"postgres://u@h/d\"", Some("postgres://u@h/d"));
        check("postgresql://u@h/d\n", Some("postgresql://u@h/d"));
        check("#DATABASE_URL=postgres://u@h/d", None);
        check("DATABASE_URLS=postgres://u@h/d", None);
    }
}
