//! Which backups there are.

use futures::StreamExt;

use crate::error::Error;
use crate::names::{self, Label, LineageId};
use crate::root::{self, Summary};
use crate::set::Repository;

/// How many summaries are read at once.
const READS_MAX: usize = 8;

/// The backups of a lineage.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Those that can be read, ordered by (timeline, stop LSN): along any timeline path this is the
    /// order of their positions. Names and clocks have no say in it.
    pub backups: Vec<Summary>,
    /// Those that cannot.
    pub problems: Vec<Problem>,
}

/// A backup whose root cannot be read.
#[derive(Debug)]
pub struct Problem {
    /// The key of its root.
    pub key: store::Key,
    /// Why: damage, a newer version, another key.
    pub error: Error,
}

impl Catalog {
    /// The backup of that label.
    #[must_use]
    pub fn find(&self, label: &Label) -> Option<&Summary> {
        self.backups.iter().find(|summary| summary.label == *label)
    }
}

/// Lists the backups of a lineage: one request for the names, one small range for each.
///
/// A damaged root becomes a [`Problem`] and hides no other backup.
///
/// # Errors
/// When no member of the set answers.
pub async fn backups(repository: &Repository, lineage: LineageId) -> Result<Catalog, Error> {
    let prefix = names::backups(lineage);
    let listed = repository.list(&prefix).await?;
    let reads = listed.into_iter().map(|meta| {
        let label = meta.key.as_str().strip_prefix(&prefix).unwrap_or_default().parse::<Label>();
        async move {
            let read = match label {
                Ok(label) => root::read_summary(repository, lineage, &label).await,
                Err(error) => Err(Error::Damaged {
                    store: repository.address(),
                    key: meta.key.to_string(),
                    reason: error.to_string(),
                }),
            };
            (meta.key, read)
        }
    });
    let read: Vec<_> = futures::stream::iter(reads).buffered(READS_MAX).collect().await;
    let mut catalog = Catalog::default();
    for (key, read) in read {
        match read {
            Ok(summary) => catalog.backups.push(summary),
            // Expired between the two requests.
            Err(Error::Store(store::Error::NotFound { .. })) => {}
            // An object that ends too early is damage; a silent store is not the backup's fault.
            Err(error @ Error::Store(store::Error::Range { .. })) => {
                catalog.problems.push(Problem { key, error });
            }
            Err(error @ Error::Store(_)) => return Err(error),
            Err(error) => catalog.problems.push(Problem { key, error }),
        }
    }
    catalog
        .backups
        .sort_by(|a, b| (a.timeline, a.stop, &a.label).cmp(&(b.timeline, b.stop, &b.label)));
    Ok(catalog)
}
