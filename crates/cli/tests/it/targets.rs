//! Every kind of target, each on one major at least.

use crate::program::text;
use crate::site::{Restored, Site};

/// A cluster with a backup and three transactions after it, each with a row of its own.
struct Story {
    site: Site,
    label: String,
    steps: Vec<Step>,
}

/// Where one transaction is, and what lies just behind it.
struct Step {
    xid: String,
    lsn: String,
    time: String,
    name: String,
}

impl Story {
    fn make(major: u32) -> Self {
        let site = Site::new(major);
        site.cluster.psql("CREATE TABLE steps (step int)");
        let label = site.backup();
        let steps = (1..=3).map(|number| Step::make(&site, number)).collect();
        // Another transaction must end after the last time, or it could not be told to lie there.
        site.cluster.psql("CREATE TABLE later (id int)");
        site.archive();
        Self { site, label, steps }
    }

    /// Restores with these options and checks which steps are there.
    fn check(&self, folder: &str, options: &str, steps: &str) -> Restored {
        let restored = self.site.restore(folder, options);
        let seen =
            restored.cluster.psql("SELECT string_agg(step::text, ',' ORDER BY step) FROM steps");
        assert_eq!(seen, steps, "{options}: {}", restored.report);
        restored
    }
}

impl Step {
    fn make(site: &Site, number: u32) -> Self {
        let xid = site.cluster.psql(&format!(
            "BEGIN; INSERT INTO steps VALUES ({number}); SELECT pg_current_xact_id(); COMMIT"
        ));
        let name = format!("after-{number}");
        let lsn = site.cluster.psql("SELECT pg_current_wal_insert_lsn()");
        site.cluster.psql(&format!("SELECT pg_create_restore_point('{name}')"));
        let format = "YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"";
        let time = site
            .cluster
            .psql(&format!("SET timezone = 'UTC'; SELECT to_char(clock_timestamp(), '{format}')"));
        Self { xid, lsn, time, name }
    }
}

#[test]
fn on_14_a_time_and_a_transaction_are_reached() {
    let story = Story::make(14);
    story.check("time", &format!("--target-time {}", story.steps[0].time), "1");
    let copied = story.check("xid", &format!("--copy --target-xid {}", story.steps[1].xid), "1,2");
    assert_eq!(copied.cluster.psql("SHOW archive_mode"), "off");
    assert!(copied.report["reserved_timeline"].is_null());
}

#[test]
fn on_15_a_position_and_a_restore_point_are_reached() {
    let story = Story::make(15);
    story.check("lsn", &format!("--target-lsn {}", story.steps[1].lsn), "1,2");
    story.check("name", &format!("--target-name {}", story.steps[0].name), "1");
}

#[test]
fn on_16_exclusive_leaves_the_named_transaction_out() {
    let story = Story::make(16);
    let options = format!("--target-xid {} --exclusive", story.steps[1].xid);
    story.check("exclusive", &options, "1");
    story.check("inclusive", &format!("--target-xid {}", story.steps[1].xid), "1,2");
}

#[test]
fn on_17_consistency_and_a_restore_point_are_reached() {
    let story = Story::make(17);
    story.check("immediate", "--immediate", "");
    let options = format!("--target-name {} --backup {}", story.steps[2].name, story.label);
    story.check("name", &options, "1,2,3");
}

#[test]
fn on_18_the_end_and_a_time_with_another_offset_are_reached() {
    let story = Story::make(18);
    let latest = story.check("latest", "--latest", "1,2,3");
    assert_eq!(latest.cluster.psql("SELECT count(*) FROM later"), "0");
    // The same moment, as a clock in New York shows it in winter and in Kathmandu.
    let utc: jiff::Timestamp = story.steps[1].time.parse().unwrap();
    let there = utc.to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(-5)));
    let time = there.strftime("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string();
    assert!(time.ends_with("-05:00"), "{time}");
    story.check("time", &format!("--target-time {time}"), "1,2");
}

#[test]
fn a_paused_recovery_can_be_looked_at_and_asked_what_is_reachable() {
    let story = Story::make(16);
    let time = &story.steps[1].time;
    let reach = story.site.run(&format!("window shop --target-time {time}")).done();
    assert_eq!(reach["reachable"], true);
    assert_eq!(text(&reach, "backup"), story.label);
    let paused = story.check("paused", &format!("--action pause --target-time {time}"), "1,2");
    assert_eq!(paused.cluster.psql("SELECT pg_is_in_recovery()"), "t");
    assert_eq!(paused.cluster.psql("SELECT pg_get_wal_replay_pause_state()"), "paused");
}
