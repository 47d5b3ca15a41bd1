//! Configuration of the source in the restored cluster.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use testbed::postgres::Cluster;
use testbed::{as_postgres, give_to_postgres};

use crate::fixture::{Backup, builder, spool};

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    give_to_postgres(path.parent().unwrap());
    give_to_postgres(path);
}

/// As Debian has it: the data directory without any configuration, which lies in a folder of its
/// own and includes other files.
fn start_with_outside_config(cluster: &Cluster) -> Cluster {
    let data = cluster.data_dir();
    let etc = data.parent().unwrap().join("etc");
    fs::create_dir(&etc).unwrap();
    give_to_postgres(&etc);
    let mut text = fs::read_to_string(data.join("postgresql.conf")).unwrap();
    fs::remove_file(data.join("postgresql.conf")).unwrap();
    for name in ["pg_hba.conf", "pg_ident.conf"] {
        fs::rename(data.join(name), etc.join(name)).unwrap();
    }
    text.push_str(&format!(
        "data_directory = '{}'\nhba_file = '{1}/pg_hba.conf'\nident_file = '{1}/pg_ident.conf'\n\
         external_pid_file = '{1}/server.pid'\nlog_directory = '/var/log/of-the-original'\n\
         include_dir 'conf.d'\ninclude_if_exists = '{1}/not-there'\ninclude '{0}/inside.conf'\n",
        data.display(),
        etc.display()
    ));
    write(&etc.join("postgresql.conf"), &text);
    write(&etc.join("conf.d/10-memory.conf"), "work_mem = '7MB'\ninclude '../more.conf'\n");
    write(&etc.join("conf.d/20-old.conf"), "recovery_target_xid = '5' # left over\n");
    write(&etc.join("conf.d/ignored.txt"), "nonsense\n");
    write(&etc.join("more.conf"), "maintenance_work_mem = '11MB'\n# gr\u{fc}n\n");
    write(
        &data.join("inside.conf"),
        "temp_buffers = '9MB'\nprimary_conninfo = 'host=production'\n",
    );
    let mut command = Command::new(cluster.install().tool("pg_ctl"));
    let socket = data.parent().unwrap().join("run");
    let output = as_postgres(&mut command)
        .arg("-D")
        .arg(&etc)
        .args(["-w", "start", "-l"])
        .arg(etc.join("log"))
        .arg("-o")
        .arg(format!("-p {} -k {}", cluster.port(), socket.display()))
        .output()
        .unwrap();
    let log = fs::read_to_string(etc.join("log")).unwrap_or_default();
    assert!(output.status.success(), "{}{log}", String::from_utf8_lossy(&output.stdout));
    Cluster::attach(cluster.install(), data, cluster.port())
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_outside_the_data_directory_stays_in_force() {
    for major in [15, 18] {
        let created = builder(major).setting("max_connections", "77").create();
        spool(&created);
        let source = start_with_outside_config(&created);
        source.psql("ALTER SYSTEM SET random_page_cost = '1.5'");
        let backup = Backup::of(&source).await;
        let options = backup.options(&backup.directory());
        let (mut restored, report) = backup.restored(&options).await;
        let show = |restored: &Cluster, name: &str| restored.psql(&format!("SHOW {name}"));
        for (name, expect) in [
            ("work_mem", "7MB"),
            ("maintenance_work_mem", "11MB"),
            ("temp_buffers", "9MB"),
            ("random_page_cost", "1.5"),
            ("max_connections", "77"),
            ("data_directory", options.directory.to_str().unwrap()),
            ("external_pid_file", ""),
        ] {
            assert_eq!(show(&restored, name), expect, "{name}");
        }
        let etc = source.data_dir().parent().unwrap().join("etc");
        let taken = report.taken_out.join("\n");
        for line in [
            format!("{}/conf.d/20-old.conf:1 recovery_target_xid", etc.display()),
            "inside.conf:2 primary_conninfo".into(),
            " data_directory".into(),
            " hba_file".into(),
        ] {
            assert!(taken.contains(&line), "{line} is not in\n{taken}");
        }
        let kept = options.directory.join("rollforward.source-config");
        let kept = kept.join(etc.strip_prefix("/").unwrap());
        for name in ["postgresql.conf", "pg_hba.conf", "conf.d/10-memory.conf", "more.conf"] {
            assert_eq!(fs::read(kept.join(name)).unwrap(), fs::read(etc.join(name)).unwrap());
        }
        // Lifted, it stands alone: rules and settings are in its own directory.
        let major = pg::MajorVersion::from_server_version_num(backup.root.summary.server_version);
        restore::quarantine::lift(&options.directory, &[], major.unwrap()).unwrap();
        restored.restart();
        let hba = options.directory.join("pg_hba.conf");
        assert_eq!(show(&restored, "hba_file"), hba.to_str().unwrap());
        assert_eq!(fs::read(&hba).unwrap(), fs::read(etc.join("pg_hba.conf")).unwrap());
        assert_eq!(show(&restored, "work_mem"), "7MB");
        // The original's files were not touched.
        assert_eq!(source.psql("SHOW data_directory"), source.data_dir().to_str().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_inside_are_looked_through_where_they_are() {
    let created = builder(16).create();
    spool(&created);
    let data = created.data_dir().to_owned();
    write(&data.join("conf.d/a.conf"), "restore_command = 'rm -rf /'\nwork_mem = '6MB'\n");
    write(&data.join("rules/mine.conf"), &fs::read_to_string(data.join("pg_hba.conf")).unwrap());
    write(&data.join("elsewhere.conf"), "temp_buffers = '10MB'\n");
    symlink(data.join("elsewhere.conf"), data.join("linked.conf")).unwrap();
    created.append_setting("hba_file", data.join("rules/mine.conf").to_str().unwrap());
    let conf = data.join("postgresql.conf");
    let mut text = fs::read_to_string(&conf).unwrap();
    text.push_str("include_dir 'conf.d'\ninclude 'linked.conf'\nshared_preload_libraries = ''\n");
    fs::write(&conf, text).unwrap();
    let mut source = created;
    source.start();
    assert_eq!(source.psql("SHOW temp_buffers"), "10MB");
    let backup = Backup::of(&source).await;
    let options = backup.options(&backup.directory());
    let (mut restored, report) = backup.restored(&options).await;
    assert_eq!(restored.psql("SHOW work_mem"), "6MB");
    let text = fs::read_to_string(options.directory.join("conf.d/a.conf")).unwrap();
    assert_eq!(text, "# rollforward: restore_command = 'rm -rf /'\nwork_mem = '6MB'\n");
    let taken = report.taken_out.join("\n");
    assert!(taken.contains("conf.d/a.conf:1 restore_command"), "{taken}");
    // What a link points to is not in the backup; the line that needs it would stop the server.
    assert!(taken.contains(" include"), "{taken}");
    restore::quarantine::lift(&options.directory, &[], pg::MajorVersion::V16).unwrap();
    restored.restart();
    let rules = options.directory.join("rules/mine.conf");
    assert_eq!(restored.psql("SHOW hba_file"), rules.to_str().unwrap());
}
