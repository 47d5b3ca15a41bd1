//! Two restores of one cluster, each promoted: their histories never collide.

use testbed::postgres::{Cluster, Stop};

use crate::site::{Site, archive};

fn timeline(cluster: &Cluster) -> String {
    cluster.psql("SELECT timeline_id FROM pg_control_checkpoint()")
}

/// A stopped cluster with one row that was written after its backup.
fn lost(major: u32) -> Site {
    let mut site = Site::new(major);
    site.cluster.psql("CREATE TABLE rows (text text)");
    site.backup();
    site.cluster.psql("INSERT INTO rows VALUES ('old')");
    site.archive();
    site.cluster.stop(Stop::Fast);
    site
}

fn adopt(site: &Site, cluster: &Cluster) {
    let words = format!("adopt shop --keep-port --at {}", cluster.data_dir().display());
    assert!(site.run(&words).done()["archived"].is_string());
}

#[test]
fn the_second_can_be_adopted_when_the_first_is_stopped() {
    let site = lost(17);
    let mut first = site.restore("one", "--latest").cluster;
    let second = site.restore("two", "--latest").cluster;
    assert_eq!((timeline(&first), timeline(&second)), ("2".into(), "3".into()));

    adopt(&site, &first);
    first.psql("INSERT INTO rows VALUES ('first')");
    archive(&first);
    // Two productions at once there are never.
    let words = format!("adopt shop --keep-port --at {}", second.data_dir().display());
    let refused = site.run(&words).failed("RF0912", 4);
    assert!(refused.contains("still runs"), "{refused}");
    first.stop(Stop::Fast);
    adopt(&site, &second);
    second.psql("INSERT INTO rows VALUES ('second')");
    archive(&second);
    site.backup();

    // The first one's WAL stays, and nothing new of it is taken.
    let kept = site.objects("main", "wal/").len();
    first.start();
    first.psql("INSERT INTO rows VALUES ('lost')");
    first.switch_wal();
    first.wait_until("SELECT failed_count > 0 FROM pg_stat_archiver", "t", crate::site::DEADLINE);
    first.stop(Stop::Fast);
    let refused = first.log_text();
    assert!(refused.contains("error[RF0106]"), "{refused}");
    assert!(site.objects("main", "wal/").iter().filter(|path| of_timeline(path, 2)).count() > 0);
    assert!(site.objects("main", "wal/").len() >= kept);

    assert_histories(&site, &["00000002", "00000003"]);
    let latest = site.restore("latest", "--latest --copy").cluster;
    assert_eq!(latest.psql("SELECT string_agg(text, ',' ORDER BY text) FROM rows"), "old,second");
    let other = site.restore("other", "--latest --copy --timeline 2").cluster;
    assert_eq!(other.psql("SELECT string_agg(text, ',' ORDER BY text) FROM rows"), "first,old");
    site.no_conflicts();
    site.verify_clean();
}

#[test]
fn the_one_with_the_lower_timeline_can_be_adopted_last() {
    let site = lost(15);
    let first = site.restore("one", "--latest").cluster;
    let mut second = site.restore("two", "--latest").cluster;
    adopt(&site, &second);
    second.psql("INSERT INTO rows VALUES ('second')");
    archive(&second);
    second.stop(Stop::Fast);
    adopt(&site, &first);
    first.psql("INSERT INTO rows VALUES ('first')");
    archive(&first);
    site.backup();
    let latest = site.restore("latest", "--latest --copy").cluster;
    assert_eq!(latest.psql("SELECT string_agg(text, ',' ORDER BY text) FROM rows"), "first,old");
    // The next one takes an id that neither has.
    let third = site.restore("third", "--latest");
    assert_eq!(third.report["reserved_timeline"], 4);
    assert_eq!(timeline(&third.cluster), "4");
    assert_histories(&site, &["00000002", "00000003"]);
    site.no_conflicts();
    site.verify_clean();
}

fn of_timeline(path: &std::path::Path, timeline: u32) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    name.starts_with(&format!("{timeline:08X}"))
}

#[track_caller]
fn assert_histories(site: &Site, expected: &[&str]) {
    let histories = site.objects("main", "history/");
    let names: Vec<_> =
        histories.iter().map(|path| path.file_name().unwrap().to_string_lossy()).collect();
    assert_eq!(names, expected);
}
