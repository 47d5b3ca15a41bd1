//! `rollforward version`.

use serde::Serialize;

use super::Context;

#[derive(Serialize)]
struct Version {
    version: &'static str,
    format: u16,
    postgresql: [u32; 5],
}

/// Prints the version, the repository format it writes and the PostgreSQL majors it knows.
pub(crate) fn run(context: &Context<'_>) -> u8 {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        format: repository::header::FORMAT_VERSION,
        postgresql: [14, 15, 16, 17, 18],
    };
    let text = format!(
        "rollforward {} (repository format {}, PostgreSQL 14 to 18)",
        version.version, version.format
    );
    context.printer.result(&version, &text);
    0
}
