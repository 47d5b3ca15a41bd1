//! Where tablespaces go.

use std::path::PathBuf;

use pg::Oid;

use crate::Error;

/// Places for tablespaces, as the operator named them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remap {
    /// By oid or by the path in the backup: which directory it goes to.
    pub single: Vec<(String, PathBuf)>,
    /// A folder in which every other one gets a directory named by its oid.
    pub below: Option<PathBuf>,
}

/// The place of one tablespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) oid: Oid,
    pub(crate) directory: PathBuf,
}

impl Remap {
    /// A place for each tablespace of the backup. One that was not named keeps its own path.
    pub(crate) fn resolve(&self, tablespaces: &[(Oid, String)]) -> Result<Vec<Place>, Error> {
        let mut unused: Vec<&str> = self.single.iter().map(|(which, _)| which.as_str()).collect();
        let mut places: Vec<Place> = Vec::new();
        for (oid, path) in tablespaces {
            let number = oid.get().to_string();
            let named = self.single.iter().find(|(which, _)| *which == number || which == path);
            unused.retain(|which| *which != number && which != path);
            let directory = match (named, &self.below) {
                (Some((_, directory)), _) => directory.clone(),
                (None, Some(below)) => below.join(&number),
                (None, None) => PathBuf::from(path),
            };
            let refuse = |reason: &str| Error::Tablespace {
                oid: oid.get(),
                path: directory.display().to_string(),
                reason: reason.into(),
            };
            if !directory.is_absolute() {
                return Err(refuse("needs an absolute path"));
            }
            if places.iter().any(|place| place.directory == directory) {
                return Err(refuse("would share its directory with another tablespace"));
            }
            places.push(Place { oid: *oid, directory });
        }
        match unused.first() {
            None => Ok(places),
            Some(which) => Err(Error::Tablespace {
                oid: which.parse().unwrap_or(0),
                path: (*which).into(),
                reason: "is not in the backup".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use pg::Oid;

    use super::Remap;

    fn check(single: &[(&str, &str)], below: Option<&str>, expect: &str) {
        let remap = Remap {
            single: single.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect(),
            below: below.map(Into::into),
        };
        let seen = match remap
            .resolve(&[(Oid::new(100), "/fast".into()), (Oid::new(200), "/slow".into())])
        {
            Ok(places) => places
                .iter()
                .map(|place| format!("{}={}", place.oid, place.directory.display()))
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(seen, expect);
    }

    #[test]
    fn maps_by_oid_by_path_and_below_a_folder() {
        check(&[], None, "100=/fast 200=/slow");
        check(&[("100", "/new/a"), ("/slow", "/new/b")], None, "100=/new/a 200=/new/b");
        check(&[("100", "/new/a")], Some("/ts"), "100=/new/a 200=/ts/200");
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        check(&[("300", "/x")], None, "tablespace 300 at '300' is not in the backup");
        check(&[("100", "x")], None, "tablespace 100 at 'x' needs an absolute path");
        check(
            &[("100", "/x"), ("200", "/x")],
            None,
            "tablespace 200 at '/x' would share its directory with another tablespace",
        );
    }
}
