//! Alerts are bytes of strangers: whatever they are, they are read or refused. And many at once
//! open one incident.

use std::sync::Arc;

use proptest::prelude::*;
use recovery::alert::{parse, signature};
use recovery::journal::{
    Home, IncidentEntry, IncidentState, close_incident, incidents, incidents_and_damaged,
    load_incident, open_incident, open_incident_of,
};
use recovery::plan::Parameters;
use recovery::template::Template;
use repository::SetKeys;
use stdx::Id;
use store::MemoryStore;

fn seeds() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/testdata/alert");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn read(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(payload) = parse(bytes) {
        for alert in payload.alerts {
            assert!(alert.summary.chars().all(|c| !c.is_control()), "{alert:?}");
        }
    }
    let _ = signature::check_sns(bytes, &text);
    let _ = signature::check_hmac(bytes, &text, "secret");
    let _ = Template::parse(&text).render(&Parameters::new());
}

#[test]
fn every_seed_is_what_it_should_be_and_may_be_cut_anywhere() {
    let seeds = seeds();
    let seen: Vec<String> = seeds
        .iter()
        .map(|seed| match parse(seed) {
            Ok(payload) => payload.alerts[0].source.text().to_owned(),
            Err(error) => error.to_string(),
        })
        .collect();
    let control = "this is no alert, it is 'SubscriptionConfirmation' of SNS";
    assert_eq!(seen, ["alertmanager", "cloudwatch", control, "pagerduty", "generic"]);
    for seed in &seeds {
        (0..seed.len()).for_each(|at| read(&seed[..at]));
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read(&bytes);
    }

    #[test]
    fn no_change_of_an_alert_panics(
        number in 0..5_usize, at in any::<prop::sample::Index>(), len in 0..9_usize,
        with in proptest::collection::vec(prop_oneof![
            any::<u8>(), Just(b'"'), Just(b'{'), Just(b'['), Just(b'0'), Just(b'\\')], 0..9),
    ) {
        let mut bytes = seeds().swap_remove(number);
        let at = at.index(bytes.len());
        let end = (at + len).min(bytes.len());
        bytes.splice(at..end, with);
        read(&bytes);
    }
}

fn entry(kind: &str, by: &str) -> IncidentEntry {
    IncidentEntry {
        kind: kind.into(),
        at: "2026-11-26T12:00:00Z".parse().unwrap(),
        by: by.into(),
        fields: Parameters::from([("service".into(), "shop".into())]),
    }
}

fn home() -> Home {
    Home {
        store: Arc::new(MemoryStore::new()),
        keys: Arc::new(SetKeys::plain(Id::from_bytes([7; 16]))),
        copies: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_that_cannot_be_read_keeps_no_other_from_being_opened_or_seen() {
    let home = home();
    let damage = |id: &str, number: u32| {
        let key = repository::journal::incident_entry(id, number).unwrap();
        let store = Arc::clone(&home.store);
        async move { store.put_if_absent(&key, vec!["no entry".into()]).await.unwrap() }
    };
    let first = open_incident(&home, "shop", "shop-1", &entry("open", "a")).await.unwrap();
    let crm = IncidentEntry {
        fields: Parameters::from([("service".into(), "crm".into())]),
        ..entry("open", "a")
    };
    open_incident(&home, "crm", "crm-1", &crm).await.unwrap();
    damage(&first.id, 1).await;
    let (all, damaged) = incidents_and_damaged(&home).await.unwrap();
    assert_eq!(all.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["crm-1"]);
    assert_eq!(damaged.len(), 1);
    assert!(damaged[0].to_string().contains("shop-1"), "{damaged:?}");
    assert!(open_incident_of(&home, "shop").await.unwrap().is_none());
    // Its claim goes to the next one.
    let next = open_incident(&home, "shop", "shop-2", &entry("open", "b")).await.unwrap();
    assert_eq!((next.id.as_str(), next.is_new), ("shop-2", true));
    let again = open_incident(&home, "shop", "shop-3", &entry("open", "c")).await.unwrap();
    assert_eq!((again.id.as_str(), again.is_new), ("shop-2", false));
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_that_come_at_the_same_moment_open_one_incident() {
    let home = home();
    for round in 0..8 {
        let mut under_way = tokio::task::JoinSet::new();
        for number in 0..6 {
            let home = home.clone();
            under_way.spawn(async move {
                let id = format!("shop-{round}-{number}");
                open_incident(&home, "shop", &id, &entry("open", &id)).await.unwrap()
            });
        }
        let opened = under_way.join_all().await;
        assert_eq!(opened.iter().filter(|it| it.is_new).count(), 1, "{opened:?}");
        let all = incidents(&home).await.unwrap();
        let open: Vec<_> = all.iter().filter(|it| it.state != IncidentState::Closed).collect();
        assert_eq!(open.len(), 1, "{open:?}");
        assert!(opened.iter().all(|it| it.id == open[0].id));
        let incident = load_incident(&home, &open[0].id).await.unwrap();
        assert_eq!(incident.entries.len(), 6, "nobody is lost");
        close_incident(&home, &incident, &entry("close", "x")).await.unwrap();
    }
    // Somebody claimed it and died before it was opened; somebody closed it and died.
    recovery::journal::claim(&home, "incident\nshop", "shop-dead", None).await.unwrap().unwrap();
    let opened = open_incident(&home, "shop", "shop-new", &entry("open", "a")).await.unwrap();
    assert_eq!((opened.id.as_str(), opened.is_new), ("shop-dead", true));
    recovery::journal::append_incident(&home, "shop-dead", &entry("close", "b")).await.unwrap();
    let opened = open_incident(&home, "shop", "shop-new", &entry("open", "c")).await.unwrap();
    assert_eq!((opened.id.as_str(), opened.is_new), ("shop-new", true));
}
