//! Whether stored records are a chain: checked without a key.

use repository::journal::Link;

/// Why records are no chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A number is missing.
    #[error("record {0} is missing")]
    Missing(u32),
    /// A record does not follow the one before it.
    #[error("record {number} does not follow record {}: expected link {expected}, seen {seen}", number - 1)]
    Broken {
        /// Its number.
        number: u32,
        /// The link to the record before it.
        expected: Link,
        /// The link in it.
        seen: Link,
    },
    /// A record's header cannot be read.
    #[error("record {number} cannot be read: {reason}")]
    Unreadable {
        /// Its number.
        number: u32,
        /// Why.
        reason: String,
    },
}

/// Checks records in order of their numbers, as they are stored. The last one's link is what a
/// report names.
///
/// # Errors
/// [`ChainError`], the first that is found.
pub fn check_chain<'b>(
    records: impl IntoIterator<Item = (u32, &'b [u8])>,
) -> Result<Link, ChainError> {
    let mut expected = Link::NONE;
    for (at, (number, stored)) in (0..).zip(records) {
        if number != at {
            return Err(ChainError::Missing(at));
        }
        let seen = Link::of(stored)
            .map_err(|error| ChainError::Unreadable { number, reason: format!("{error:?}") })?;
        if seen != expected {
            return Err(ChainError::Broken { number, expected, seen });
        }
        expected = Link::to(stored);
    }
    Ok(expected)
}
