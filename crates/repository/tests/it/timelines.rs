//! Timelines of a cluster that was recovered and went on.

use pg::TimelineId;
use repository::lineage::{self, State};
use repository::target::{Request, Target, resolve};
use repository::{Error, timeline};
use stdx::Id;
use testbed::poll;
use testbed::postgres::Install;

use crate::site::{Site, settings};
use crate::support;

#[tokio::test(flavor = "multi_thread")]
async fn recovery_follows_the_current_timeline_and_not_what_was_given_up() {
    let mut site = Site::new(&Install::by_major(15));
    let repository = support::in_memory().await.0;
    let shop = support::lineage(&repository, site.system_id()).await;
    let first = site.backup();
    site.insert(1);
    let kept = site.insert(2);
    site.insert(3);
    // Not the next id: that one is given out again on the new timeline.
    let lost = site.insert(33);
    site.archive_all();
    // What the old timeline wrote after the point at which it was left.
    let abandoned = site.backup();
    site.insert(4);
    site.archive_all();
    site.push(&repository, &shop).await;
    site.publish(&repository, &shop, &first, "first").await;
    site.publish(&repository, &shop, &abandoned, "abandoned").await;

    let target = Request::new(Target::Xid(kept.xid));
    let resolved = resolve(&repository, &shop, &target).await.unwrap();
    let mut with = settings(&resolved);
    with.push(("archive_mode", "on".into()));
    with.push(site.archive_setting());
    let recovered = site.recover(&first, &with).unwrap();
    assert_eq!(recovered.rows(), "1 2");
    recovered.cluster.psql("INSERT INTO t VALUES (20)");
    let archived = recovered.cluster.switch_wal();
    assert!(archived.starts_with("00000002"), "{archived}");
    poll(std::time::Duration::from_secs(60), "the new timeline to be archived", || {
        site.archived().contains(&archived)
    });
    site.push(&repository, &shop).await;
    let state = State {
        number: 1,
        timeline: TimelineId::new(2),
        writer: Id::from_bytes([1; 16]),
        reason: "adopted".into(),
        since: support::now(),
    };
    // Without a state the highest timeline with a history is the latest.
    assert_eq!(timeline::latest(&repository, shop.id).await.unwrap(), TimelineId::new(2));
    lineage::advance(&repository, shop.id, &state).await.unwrap();

    let latest = resolve(&repository, &shop, &Request::new(Target::Latest)).await.unwrap();
    assert_eq!(latest.timeline, TimelineId::new(2));
    assert_eq!(latest.backup.label.to_string(), "first");
    assert_eq!(latest.path.timelines(), [TimelineId::new(1), TimelineId::new(2)]);
    let again = site.recover(&first, &settings(&latest)).unwrap();
    assert_eq!(again.rows(), "1 2 20");
    assert_eq!(again.cluster.psql("SELECT timeline_id FROM pg_control_checkpoint()"), "3");

    // The given-up transaction is not on the way any more...
    let gone = Request::new(Target::Xid(lost.xid));
    let error = resolve(&repository, &shop, &gone).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    // ...but is on the old timeline, when that is asked for.
    let old = Request { timeline: Some(TimelineId::FIRST), ..gone };
    let resolved = resolve(&repository, &shop, &old).await.unwrap();
    let old = site.recover(&first, &settings(&resolved)).unwrap();
    assert_eq!(old.rows(), "1 2 3 33");

    let named =
        Request { backup: Some("abandoned".parse().unwrap()), ..Request::new(Target::Latest) };
    let error = resolve(&repository, &shop, &named).await.unwrap_err().to_string();
    assert!(error.contains("serves: 'abandoned' ends at"), "{error}");
    assert!(error.contains("which timeline 2 left at"), "{error}");
    // It still restores by itself: on its own timeline.
    let named = Request { target: Target::Immediate, ..named };
    let resolved = resolve(&repository, &shop, &named).await.unwrap();
    assert_eq!(resolved.timeline, TimelineId::FIRST);
}
