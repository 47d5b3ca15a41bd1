//! Roots of logical dumps.

use std::sync::Arc;

use repository::dump::{
    self, DumpRoot, DumpSummary, DumpedDatabase, GlobalsHeld, NAME_PLACE, StreamInfo, StreamKind,
};
use repository::names::{self, Label, LineageId};
use repository::pack::TreeWriter;
use repository::{Error, Repository, SetKeys};
use stdx::Id;
use store::{MemoryStore, Store};

use crate::support::member;

const LINEAGE: LineageId = LineageId(Id::from_bytes([7; 16]));

async fn root(repository: &Repository, label: &str, second: i64) -> DumpRoot {
    let (tree, packs) = TreeWriter::begin(repository).await.unwrap().finish().await.unwrap();
    let at = |second| jiff::Timestamp::from_second(second).unwrap();
    let stream = |path: &str, kind| StreamInfo { path: path.into(), kind, size: 5 };
    let database = DumpedDatabase {
        name: "we=ird \"db".into(),
        owner: "app".into(),
        encoding: "UTF8".into(),
        locale_provider: "i".into(),
        collate: "C".into(),
        ctype: "C".into(),
        locale: Some("de".into()),
        comment: None,
        extensions: vec!["pg_trgm".into()],
        owners: vec!["app".into()],
        grantees: vec!["reader".into()],
        named: vec![],
        tablespaces: vec!["fast".into()],
        statements: vec![format!("GRANT CONNECT ON DATABASE {NAME_PLACE} TO \"reader\"")],
        streams: vec![
            stream("database/0000/schema.dump", StreamKind::Schema),
            stream("database/0000/data.dump", StreamKind::Rest),
            stream("database/0000/table/0002.dump", StreamKind::Table("s".into(), "t.u".into())),
        ],
    };
    let summary = DumpSummary {
        label: label.parse::<Label>().unwrap(),
        lineage: LINEAGE,
        cluster: "shop".into(),
        system_id: pg::SystemId::new(4711),
        server_version: 150_018,
        tool_major: 18,
        started: at(second),
        stopped: at(second + 60),
        size: 15,
        stored: 1000,
        databases: vec![database.name.clone()],
        database_count: 1,
        is_complete: true,
        globals: GlobalsHeld::WithoutPasswords,
        note: "before the move".into(),
        tree,
    };
    DumpRoot { summary, packs, databases: vec![database], made_by: "a test".into() }
}

#[tokio::test]
async fn a_root_comes_back_as_it_was_and_under_its_own_name_only() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let keys = Arc::new(SetKeys::plain(Id::from_bytes([3; 16])));
    let repository = Repository::new(vec![member("m", &store)], keys);
    // The order is that of their beginnings, whatever they are called.
    let later = root(&repository, "a", 2000).await;
    let earlier = root(&repository, "b", 1000).await;
    for made in [&later, &earlier] {
        dump::publish(&repository, made).await.unwrap();
        let read = dump::read(&repository, LINEAGE, &made.summary.label).await.unwrap();
        assert_eq!(read, *made);
    }
    let again = dump::publish(&repository, &later).await.unwrap_err();
    assert!(matches!(again, Error::Conflict { .. }), "{again}");
    let (found, problems) = dump::list(&repository, LINEAGE).await.unwrap();
    assert_eq!(found, [earlier.summary.clone(), later.summary]);
    assert!(problems.is_empty(), "{problems:?}");

    // Under another name it is no dump, and hides no other one.
    let from = names::dump(LINEAGE, &earlier.summary.label);
    let to = names::dump(LINEAGE, &"c".parse::<Label>().unwrap());
    let bytes = store.get(&from).await.unwrap();
    store.put_if_absent(&to, vec![bytes]).await.unwrap();
    let (found, problems) = dump::list(&repository, LINEAGE).await.unwrap();
    assert_eq!((found.len(), problems.len()), (2, 1));
    assert!(problems[0].error.to_string().contains("it is dump 'b'"), "{}", problems[0].error);
}
