//! The histories of a restored cluster's way lie in its own directory, for the moment at which
//! PostgreSQL asks for its parent's: `recovery.signal` is gone by then, and if nothing answered,
//! the next start would replay past the target.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use testbed::binary;
use testbed::postgres::{Cluster, Stop};

use crate::program::{Ran, program};
use crate::recovering::recover;
use crate::site::{Site, archive, mode};

const ROWS: &str = "SELECT string_agg(text, ',' ORDER BY text) FROM rows";

/// A site with a row of timeline 1 in its archive.
fn first(major: u32) -> Site {
    let mut site = Site::new(major);
    site.cluster.psql("CREATE TABLE rows (text text)");
    site.backup();
    site.cluster.psql("INSERT INTO rows VALUES ('1')");
    site.archive();
    site.cluster.stop(Stop::Fast);
    site
}

/// Makes a restored cluster that has promoted the production, adds `row` and stops it: the
/// archive's current timeline is then its own.
fn live_on(site: &Site, cluster: &mut Cluster, row: &str) {
    let words = format!("adopt shop --keep-port --at {}", cluster.data_dir().display());
    site.run(&words).done();
    cluster.psql(&format!("INSERT INTO rows VALUES ('{row}')"));
    archive(cluster);
    cluster.stop(Stop::Fast);
}

fn timeline(cluster: &Cluster) -> String {
    cluster.psql("SELECT timeline_id FROM pg_control_checkpoint()")
}

fn away(path: &Path) -> PathBuf {
    path.with_extension("away")
}

fn take_away(site: &Site) {
    for path in repositories(site) {
        fs::rename(&path, away(&path)).unwrap();
    }
}

fn bring_back(site: &Site) {
    for path in repositories(site) {
        fs::rename(away(&path), &path).unwrap();
    }
}

fn repositories(site: &Site) -> [PathBuf; 2] {
    ["main", "second"].map(|name| site.repository(name))
}

fn history(data: &Path, timeline: u32) -> PathBuf {
    data.join(format!("pg_wal/{timeline:08X}.history"))
}

/// Makes the restored cluster's own `restore_command` lose every repository at the moment when its
/// parent's history is asked for and `recovery.signal` is gone.
fn lose_repositories_when_it_promotes(site: &Site, cluster: &Cluster, parent: u32) {
    let [main, second] = repositories(site).map(|path| path.display().to_string());
    let script = format!(
        "if [ \"$1\" = {parent:08X}.history ] && [ ! -e recovery.signal ]; then\n\
         mv {main} {main}.away && mv {second} {second}.away || kill -9 $$\n\
         fi\n\
         exec {program} wal get --ticket {ticket} \"$1\" \"$2\"\n",
        program = binary("rollforward").display(),
        ticket = cluster.data_dir().join("rollforward.ticket.json").display(),
    );
    let script = site.folder.file("restore-command.sh", script);
    let auto = cluster.data_dir().join("postgresql.auto.conf");
    let mut auto = OpenOptions::new().append(true).open(auto).unwrap();
    writeln!(auto, "restore_command = 'sh {} %f %p'", script.display()).unwrap();
}

fn promotes_without_a_repository(major: u32) {
    let site = first(major);
    let mut second = site.restore("on-2", "--latest").cluster;
    live_on(&site, &mut second, "2");

    let restored = site.restored("on-3", "--latest");
    assert_eq!(restored.report["reserved_timeline"], 3);
    let mut third = restored.cluster;
    lose_repositories_when_it_promotes(&site, &third, 2);
    recover(&mut third).unwrap_or_else(|log| panic!("{log}"));
    for path in repositories(&site) {
        assert!(!path.exists(), "'{}' was not taken away", path.display());
    }
    assert_eq!((timeline(&third), third.psql(ROWS)), ("3".into(), "1,2".into()));
    let told = fs::read(history(third.data_dir(), 3)).unwrap();
    let parents = fs::read(history(second.data_dir(), 2)).unwrap();
    assert!(told.starts_with(&parents), "{}", String::from_utf8_lossy(&told));

    bring_back(&site);
    live_on(&site, &mut third, "3");
    let copy = site.restore("copy", "--latest --copy").cluster;
    assert_eq!(copy.psql(ROWS), "1,2,3");
    site.no_conflicts();
    site.verify_clean();
}

#[test]
fn on_14_a_promotion_needs_no_repository_for_its_parents_history() {
    promotes_without_a_repository(14);
}

#[test]
fn on_15_a_promotion_needs_no_repository_for_its_parents_history() {
    promotes_without_a_repository(15);
}

#[test]
fn on_16_a_promotion_needs_no_repository_for_its_parents_history() {
    promotes_without_a_repository(16);
}

#[test]
fn on_17_a_promotion_needs_no_repository_for_its_parents_history() {
    promotes_without_a_repository(17);
}

#[test]
fn on_18_a_promotion_needs_no_repository_for_its_parents_history() {
    promotes_without_a_repository(18);
}

/// `wal get` of a history, as the restored cluster in `data` runs it.
struct Get {
    data: PathBuf,
    destination: PathBuf,
}

impl Get {
    fn run(&self, timeline: u32) -> Ran {
        let _ = fs::remove_file(&self.destination);
        let mut command = program();
        command.args(["wal", "get", "--ticket"]).arg(self.data.join("rollforward.ticket.json"));
        Ran::of(command.arg(format!("{timeline:08X}.history")).arg(&self.destination))
    }

    #[track_caller]
    fn delivers(&self, timeline: u32, expected: &[u8]) {
        let ran = self.run(timeline);
        assert_eq!(ran.status.code(), Some(0), "{ran:?}");
        assert_eq!(fs::read(&self.destination).unwrap(), expected, "{ran:?}");
    }

    #[track_caller]
    fn aborts(&self, timeline: u32) {
        let said = self.run(timeline).aborted();
        assert!(said.contains("error[RF0204]"), "{said}");
        assert!(!self.destination.exists());
    }
}

#[test]
fn a_restored_directory_has_the_histories_of_its_way_and_no_other_is_believed() {
    let site = first(16);
    let mut second = site.restore("on-2", "--latest").cluster;
    live_on(&site, &mut second, "2");
    let mut third = site.restore("on-3", "--latest").cluster;
    live_on(&site, &mut third, "3");
    let written = [(2, &second), (3, &third)]
        .map(|(id, cluster)| (id, fs::read(history(cluster.data_dir(), id)).unwrap()));

    let on_one = site.restored("on-one", "--latest --copy --timeline 1").cluster;
    assert!(!history(on_one.data_dir(), 2).exists(), "not on its way");
    let data = site.restored("restored", "--latest").cluster.data_dir().to_owned();
    for (id, content) in &written {
        let path = history(&data, *id);
        assert_eq!(&fs::read(&path).unwrap(), content, "{id}");
        assert_eq!(mode(&path), 0o600);
    }
    let destination = data.join("pg_wal/RECOVERYHISTORY");
    let get = Get { data, destination };
    take_away(&site);
    for (id, content) in &written {
        get.delivers(*id, content);
    }
    // Whether another id is free only a repository can say.
    get.aborts(4);
    get.aborts(5);

    // What does not tell this way is not delivered; a repository that answers has the right one.
    let [(_, two), (_, three)] = &written;
    for wrong in [&b""[..], two, b"\0\0\0\0", b"1\t0/3000000\tx\n2\t0/3000100\ty\n"] {
        let path = history(&get.data, 3);
        fs::write(&path, wrong).unwrap();
        get.aborts(3);
        bring_back(&site);
        get.delivers(3, three);
        take_away(&site);
        // One that cannot be read is none.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        get.aborts(3);
        fs::remove_file(&path).unwrap();
        get.aborts(3);
        get.delivers(2, two);
    }
    bring_back(&site);
}
