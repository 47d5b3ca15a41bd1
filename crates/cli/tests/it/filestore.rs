//! Files that rows of a service point to, by the real program and on a real S3-compatible server.

use std::fs;
use std::path::Path;

use serde_json::Value;
use testbed::S3;

use crate::program::text;
use crate::s3::credentials;
use crate::services::verdict;
use crate::shop::Shop;
use crate::site::Site;

/// The shop with three receipts, in a bucket, with a copy in a directory.
fn shop(s3: &S3) -> Shop {
    let mut site = Site::unprotected(16, 1, |builder| builder.setting("archive_mode", "on"));
    site.variables = credentials(s3);
    site.init(&site.two_repositories()).done();
    let copy = site.folder.folder("copy", 0o755);
    for name in ["receipts/1", "receipts/2", "receipts/3"] {
        write(&copy, name, &format!("the copy of {name}"));
    }
    let shop = Shop::on(site, |text| {
        format!(
            "{text}files = [{{ bucket = \"s3://{}/shop?endpoint={}&allow_http=true\", \
             copy = \"{}\", keys_sql = \"SELECT name FROM receipts\" }}]\n",
            s3.bucket(),
            s3.endpoint(),
            copy.display()
        )
    });
    shop.site.cluster.psql_in("shop", "CREATE TABLE receipts (name text)");
    shop.site.cluster.psql_in(
        "shop",
        "INSERT INTO receipts VALUES ('receipts/1'), ('receipts/2'), ('receipts/3')",
    );
    // The newest moment that a drill restores knows them.
    shop.site.archive();
    shop
}

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    testbed::give_to_postgres(path.parent().unwrap());
    testbed::give_to_postgres(&path);
}

fn fact(report: &Value, what: &str) -> String {
    let facts = report["facts"].as_object().unwrap();
    let found = facts.iter().find(|(name, _)| name.split(' ').next() == Some(what));
    found.unwrap_or_else(|| panic!("no {what}: {report}")).1.as_str().unwrap().to_owned()
}

#[test]
fn files_that_are_missing_are_copied_back_and_a_drill_writes_nothing() {
    let s3 = S3::start();
    let shop = shop(&s3);
    s3.put("shop/receipts/2", b"production's own");
    // What production allows its applications does not end a run.
    shop.site.cluster.psql(
        "ALTER ROLE postgres IN DATABASE shop SET idle_in_transaction_session_timeout = '300ms'",
    );
    shop.site.cluster.psql("ALTER ROLE postgres IN DATABASE shop SET statement_timeout = '20ms'");
    shop.site.archive();
    let checked = shop.site.run("check shop").json();
    let seen = |what: &str| {
        let found = checked.as_array().unwrap().iter().find(|finding| {
            let subject = finding["subject"].as_str().unwrap();
            subject.starts_with("service shop, ") && subject.contains(what)
        });
        text(found.unwrap_or_else(|| panic!("no {what}: {checked}")), "seen")
    };
    assert_eq!(seen("copy of files"), "it can be listed");
    assert_eq!(seen("files 's3://"), "it can be listed");
    // A copy that holds something else is what a drill is for.
    let drill = "drill shop --copy --as oncall --latest";
    let failed = shop.site.run(drill).ended(3).to_string();
    assert!(failed.contains("1 differ: 'receipts/2'"), "{failed}");
    let copy = shop.path("copy");
    write(&copy, "receipts/2", "production's own");
    let drilled = shop.site.run(drill).done();
    assert_eq!(fact(&drilled, "files_to_copy_back"), "2");
    assert_eq!(s3.keys(), ["shop/receipts/2"], "a drill looks only");
    write(&copy, "receipts/2", "another one");
    shop.site.cluster.psql("ALTER ROLE postgres IN DATABASE shop RESET ALL");
    let before = shop.destroy();
    let report = shop.recover("--confirm-any").done();
    assert_eq!(fact(&report, "files_differing_names"), "'receipts/2'", "noted only");
    assert_eq!(verdict(&report), ("restored".into(), "new".into()));
    assert_eq!(shop.restored_orders(&report, &before.at), before.orders);
    assert_eq!(fact(&report, "files_copied_back"), "2");
    assert_eq!(s3.keys(), ["shop/receipts/1", "shop/receipts/2", "shop/receipts/3"]);
    assert_eq!(s3.get("shop/receipts/1"), b"the copy of receipts/1");
    assert_eq!(s3.get("shop/receipts/2"), b"production's own");
}

#[test]
fn a_file_that_is_nowhere_stops_the_run_before_anything_is_switched() {
    let s3 = S3::start();
    let shop = shop(&s3);
    shop.site.cluster.psql_in("shop", "INSERT INTO receipts VALUES ('receipts/lost')");
    let setting = shop.setting();
    shop.destroy();
    let report = shop.recover("--confirm-any").ended(6);
    assert_eq!(text(&report, "verdict"), "rolled_back");
    let steps = report["steps"].as_array().unwrap();
    let failed = steps.iter().find(|step| step["outcome"] == "failed").unwrap();
    assert!(text(failed, "id").starts_with("prove.files."), "{failed}");
    assert!(failed.to_string().contains("'receipts/lost'"), "{failed}");
    assert_eq!(shop.setting(), setting);
    assert_eq!(s3.keys(), [""; 0], "nothing was copied");
    // A bucket that is not there: the check says so, before the night.
    shop.site.edit_config(&format!("s3://{}/shop", s3.bucket()), "s3://no-such-bucket/shop");
    let checked = shop.site.run("check shop").ended(3).to_string();
    assert!(checked.contains("it cannot be listed"), "{checked}");
}
