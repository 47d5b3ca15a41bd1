//! Names of a database's relations by file number, as they were when a backup ended.
//!
//! PostgreSQL's files and WAL carry numbers only; the names are in the catalogs, which are in the
//! same files. This map lets WAL be read in terms of tables without a server. It lies in a backup
//! as an attachment under [`path`].

use minicbor::{Decode, Encode};
use pg::Oid;

use crate::object::{from_cbor, to_cbor};
use crate::tree::ATTACHMENT_PREFIX;

/// The relations of one database, those shared by all databases included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelationMap {
    /// The database's oid.
    pub database: Oid,
    /// Its name.
    pub name: String,
    /// Relations with files, in any order.
    pub relations: Vec<Relation>,
}

/// A relation with files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Its oid, which rewriting does not change.
    pub oid: Oid,
    /// The number in its files' names and in WAL, which rewriting changes.
    pub filenode: Oid,
    /// The tablespace its files are in; never 0.
    pub tablespace: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// PostgreSQL: `pg_class.relkind`: `r` table, `i` index, `S` sequence, `t` TOAST table, `m`
    /// materialised view.
    pub kind: char,
    /// PostgreSQL: `pg_class.relpersistence`: `p` permanent, `u` unlogged, `t` temporary.
    pub persistence: char,
    /// Whether all databases share it; its files are in `global`.
    pub shared: bool,
    /// The table it belongs to: of an index, or of a TOAST table and its index.
    pub owning_table: Option<Oid>,
    /// Rows as the planner believed; -1 if it never looked.
    pub estimated_rows: i64,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct MapWire {
    #[n(0)]
    database: u32,
    #[n(1)]
    name: String,
    #[n(2)]
    relations: Vec<RelationWire>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct RelationWire {
    #[n(0)]
    oid: u32,
    #[n(1)]
    filenode: u32,
    #[n(2)]
    tablespace: u32,
    #[n(3)]
    schema: String,
    #[n(4)]
    name: String,
    #[n(5)]
    kind: char,
    #[n(6)]
    persistence: char,
    #[n(7)]
    shared: bool,
    #[n(8)]
    owning_table: Option<u32>,
    #[n(9)]
    estimated_rows: i64,
}

/// Where the map of a database lies in a backup.
#[must_use]
pub fn path(database: Oid) -> String {
    format!("{ATTACHMENT_PREFIX}relations/{database}")
}

/// The database whose map lies at `path`; `None` for every other path.
#[must_use]
pub fn database_of(path: &[u8]) -> Option<Oid> {
    let path = std::str::from_utf8(path).ok()?;
    let digits = path.strip_prefix(ATTACHMENT_PREFIX)?.strip_prefix("relations/")?;
    digits.parse().ok().map(Oid::new)
}

impl RelationMap {
    /// The map's stored bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let relations = self.relations.iter().map(|relation| RelationWire {
            oid: relation.oid.get(),
            filenode: relation.filenode.get(),
            tablespace: relation.tablespace.get(),
            schema: relation.schema.clone(),
            name: relation.name.clone(),
            kind: relation.kind,
            persistence: relation.persistence,
            shared: relation.shared,
            owning_table: relation.owning_table.map(Oid::get),
            estimated_rows: relation.estimated_rows,
        });
        to_cbor(&MapWire {
            database: self.database.get(),
            name: self.name.clone(),
            relations: relations.collect(),
        })
    }

    /// Reads a map.
    ///
    /// # Errors
    /// A sentence: which rule of the format the bytes break.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let wire: MapWire = from_cbor(bytes)?;
        let relations = wire.relations.into_iter().map(|relation| Relation {
            oid: Oid::new(relation.oid),
            filenode: Oid::new(relation.filenode),
            tablespace: Oid::new(relation.tablespace),
            schema: relation.schema,
            name: relation.name,
            kind: relation.kind,
            persistence: relation.persistence,
            shared: relation.shared,
            owning_table: relation.owning_table.map(Oid::new),
            estimated_rows: relation.estimated_rows,
        });
        Ok(Self {
            database: Oid::new(wire.database),
            name: wire.name,
            relations: relations.collect(),
        })
    }

    /// The relation that had these files.
    #[must_use]
    pub fn by_filenode(&self, tablespace: Oid, filenode: Oid) -> Option<&Relation> {
        self.relations
            .iter()
            .find(|relation| relation.filenode == filenode && relation.tablespace == tablespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_round_trips_and_damage_is_told() {
        let map = RelationMap {
            database: Oid::new(5),
            name: "shop".into(),
            relations: vec![Relation {
                oid: Oid::new(16384),
                filenode: Oid::new(16390),
                tablespace: Oid::new(1663),
                schema: "public".into(),
                name: "bestellungen ä".into(),
                kind: 'r',
                persistence: 'p',
                shared: false,
                owning_table: None,
                estimated_rows: -1,
            }],
        };
        let bytes = map.encode();
        assert_eq!(RelationMap::decode(&bytes).unwrap(), map);
        assert!(map.by_filenode(Oid::new(1663), Oid::new(16390)).is_some());
        assert!(map.by_filenode(Oid::new(1663), Oid::new(16384)).is_none());
        for cut in 0..bytes.len() {
            assert!(RelationMap::decode(&bytes[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn the_path_names_the_database() {
        assert_eq!(database_of(path(Oid::new(16384)).as_bytes()), Some(Oid::new(16384)));
        for other in ["@rollforward/globals.sql", "base/5", "@rollforward/relations/x"] {
            assert_eq!(database_of(other.as_bytes()), None);
        }
    }
}
