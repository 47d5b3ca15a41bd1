//! Names for relation files, from the maps that backups carry.

use std::collections::HashMap;

use pg::Oid;
use pg::wal::RelFileLocator;
use repository::relation_map::{Relation, RelationMap};

/// The names of relation files at the time of one or several backups.
///
/// A table that was rewritten or created since has no name here.
#[derive(Clone, Debug, Default)]
pub struct Names {
    databases: HashMap<Oid, String>,
    /// By database and file number.
    relations: HashMap<(Oid, Oid), Relation>,
    /// Names by database and table oid: what an index or a TOAST table belongs to.
    tables: HashMap<(Oid, Oid), String>,
}

impl Names {
    /// Takes over the maps, later ones winning.
    #[must_use]
    pub fn new(maps: impl IntoIterator<Item = RelationMap>) -> Self {
        let mut names = Self::default();
        for map in maps {
            for relation in map.relations {
                let database = if relation.shared { Oid::INVALID } else { map.database };
                let name = format!("{}.{}", relation.schema, relation.name);
                names.tables.insert((database, relation.oid), name);
                names.relations.insert((database, relation.filenode), relation);
            }
            names.databases.insert(map.database, map.name);
        }
        names
    }

    /// A database's name.
    #[must_use]
    pub fn database(&self, database: Oid) -> Option<&str> {
        self.databases.get(&database).map(String::as_str)
    }

    /// The relation whose file this was.
    #[must_use]
    pub fn relation(&self, file: RelFileLocator) -> Option<&Relation> {
        self.relations.get(&(file.database, file.relation))
    }

    /// Schema and name of the table with this oid (`pg_class.oid`).
    #[must_use]
    pub fn table(&self, database: Oid, table: Oid) -> Option<&str> {
        self.tables.get(&(database, table)).map(String::as_str)
    }
}
