//! Which PostgreSQL wrote the bytes.

use std::fmt;

/// A PostgreSQL major version whose bytes this crate can read: 13 to 19.
///
/// 14 to 18 are supported and tested on real servers; 13 and 19 are tolerated where nothing in
/// their formats stands against it, see [`MajorVersion::is_supported`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MajorVersion(u8);

/// The version is none that this crate reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected PostgreSQL 14 to 18, seen {what} '{seen}'")]
pub struct UnknownVersionError {
    what: &'static str,
    seen: String,
}

/// Catalog versions of the released majors: `pg_control` has no other trace of the major, because
/// 13 to 16 share one control file version. PostgreSQL: `CATALOG_VERSION_NO`, catalog/catversion.h.
const CATALOG_VERSIONS: [(u32, u8); 6] = [
    (202_007_201, 13),
    (202_107_181, 14),
    (202_209_061, 15),
    (202_307_071, 16),
    (202_406_281, 17),
    (202_506_291, 18),
];

impl MajorVersion {
    /// PostgreSQL 13.
    pub const V13: Self = Self(13);
    /// PostgreSQL 14.
    pub const V14: Self = Self(14);
    /// PostgreSQL 15.
    pub const V15: Self = Self(15);
    /// PostgreSQL 16.
    pub const V16: Self = Self(16);
    /// PostgreSQL 17.
    pub const V17: Self = Self(17);
    /// PostgreSQL 18.
    pub const V18: Self = Self(18);

    /// The supported ones, ascending.
    pub const SUPPORTED: [Self; 5] = [Self::V14, Self::V15, Self::V16, Self::V17, Self::V18];

    /// Wraps a major version number.
    ///
    /// # Errors
    /// [`UnknownVersionError`] outside 13..=19: nothing of such a cluster may be touched.
    pub fn new(major: u32) -> Result<Self, UnknownVersionError> {
        Self::known(major).ok_or_else(|| error("major version", &major))
    }

    /// Reads the number the server reports as `server_version_num`, such as 160014.
    ///
    /// # Errors
    /// [`UnknownVersionError`] for a major outside 13..=19.
    pub fn from_server_version_num(number: u32) -> Result<Self, UnknownVersionError> {
        Self::known(number / 10_000).ok_or_else(|| error("server_version_num", &number))
    }

    /// Reads the content of the file `PG_VERSION`, such as `"16\n"`.
    ///
    /// # Errors
    /// [`UnknownVersionError`] for anything but a major in 13..=19.
    pub fn from_version_file(text: &str) -> Result<Self, UnknownVersionError> {
        text.trim_end()
            .parse()
            .ok()
            .and_then(Self::known)
            .ok_or_else(|| error("PG_VERSION", &text.trim_end()))
    }

    /// Finds the major by the catalog version in `pg_control`.
    ///
    /// # Errors
    /// [`UnknownVersionError`] when it is not the catalog version of a released major 13 to 18.
    pub fn from_catalog_version(number: u32) -> Result<Self, UnknownVersionError> {
        CATALOG_VERSIONS
            .iter()
            .find(|(catalog, _)| *catalog == number)
            .map(|(_, major)| Self(*major))
            .ok_or_else(|| error("catalog version", &number))
    }

    /// The number, such as 16.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0 as u32
    }

    /// Whether this is one of [`MajorVersion::SUPPORTED`].
    #[must_use]
    pub const fn is_supported(self) -> bool {
        matches!(self.0, 14..=18)
    }

    fn known(major: u32) -> Option<Self> {
        u8::try_from(major).ok().filter(|major| (13..=19).contains(major)).map(Self)
    }
}

fn error(what: &'static str, seen: &dyn fmt::Display) -> UnknownVersionError {
    UnknownVersionError { what, seen: seen.to_string() }
}

impl fmt::Display for MajorVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_names_the_same_major() {
        assert_eq!(MajorVersion::new(16), Ok(MajorVersion::V16));
        assert_eq!(MajorVersion::from_server_version_num(160_014), Ok(MajorVersion::V16));
        assert_eq!(MajorVersion::from_version_file("16\n"), Ok(MajorVersion::V16));
        assert_eq!(MajorVersion::from_catalog_version(202_307_071), Ok(MajorVersion::V16));
    }

    #[test]
    fn refuses_strangers_by_name() {
        let check = |result: Result<MajorVersion, UnknownVersionError>, expect: &str| {
            assert_eq!(result.unwrap_err().to_string(), expect);
        };
        check(
            MajorVersion::from_server_version_num(90_624),
            "expected PostgreSQL 14 to 18, seen server_version_num '90624'",
        );
        check(
            MajorVersion::from_version_file("9.6\n"),
            "expected PostgreSQL 14 to 18, seen PG_VERSION '9.6'",
        );
        check(MajorVersion::new(269), "expected PostgreSQL 14 to 18, seen major version '269'");
        check(
            MajorVersion::from_catalog_version(202_307_070),
            "expected PostgreSQL 14 to 18, seen catalog version '202307070'",
        );
    }
}
