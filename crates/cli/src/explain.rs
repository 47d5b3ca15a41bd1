//! The pages behind the error codes.

use stdx::diagnostic::{CodeInfo, Retry};

/// Every declared error of the product.
pub(crate) fn codes() -> impl Iterator<Item = &'static CodeInfo> {
    [
        archive::error::CODES,
        store::error::CODES,
        repository::error::CODES,
        pgclient::error::CODES,
        backup::error::CODES,
        backup::dump::error::CODES,
        restore::error::CODES,
        recovery::error::CODES,
        providers::error::CODES,
        crate::config::CODES,
        crate::failure::CODES,
    ]
    .into_iter()
    .flatten()
}

/// The page of a code: its line, what it means, what to do.
pub(crate) fn page(code: &str) -> Option<String> {
    let info = codes().find(|info| info.code.eq_ignore_ascii_case(code))?;
    let retry = match info.retry {
        Retry::Permanent => "Trying again does not help until something is changed.",
        Retry::Retry => "Trying again may help; rollforward has already done so a few times.",
        Retry::Wait => "Something has to happen first; then the same command goes on.",
    };
    let text = PAGES.iter().find(|(known, _)| *known == info.code).map_or("", |(_, text)| text);
    Some(format!(
        "{}: {}\n\n{}\n\n{retry} The command ends with exit code {}.",
        info.code,
        info.title,
        text.trim(),
        info.exit.code()
    ))
}

include!("explain/pages.rs");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{PAGES, codes};

    #[test]
    fn every_code_is_declared_once_and_has_a_page() {
        let mut seen = BTreeSet::new();
        for info in codes() {
            assert!(seen.insert(info.code), "{} is declared twice", info.code);
            let page = PAGES.iter().find(|(code, _)| *code == info.code);
            assert!(page.is_some_and(|(_, text)| text.len() > 80), "{} has no page", info.code);
        }
        for (code, _) in PAGES {
            assert!(seen.contains(code), "page {code} belongs to no error");
        }
    }
}
