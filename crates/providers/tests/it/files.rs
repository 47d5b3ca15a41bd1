//! Files that rows of a real server point to, in directories and on a real S3-compatible server.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use providers::{Buckets, Providers};
use recovery::effect::{Effects, Failure, Found, StepContext};
use recovery::plan::{Mode, Parameters};
use recovery::service::{Files, Service};
use recovery::testing::{conformance, sample};
use store::{Bucket, OpenOptions, Secret};
use testbed::S3;
use testbed::postgres::{Cluster, Install};

use crate::conformance::providers;

/// Opens everything with the test server's keys.
struct Opener;

impl Buckets for Opener {
    fn open(
        &self,
        url: &str,
        credentials: &BTreeMap<String, String>,
    ) -> Result<Arc<dyn Bucket>, String> {
        let resolved = credentials.iter().map(|(name, reference)| {
            (name.clone(), Secret::new(reference.trim_start_matches("env:")))
        });
        let options = OpenOptions { secrets: resolved.collect(), ..OpenOptions::default() };
        store::bucket::open(url, &options).map_err(|error| error.to_string())
    }
}

struct Bench {
    cluster: Cluster,
    providers: Providers,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let cluster = Cluster::builder(&Install::latest()).start();
        cluster.psql("CREATE DATABASE shop");
        cluster.psql_in("shop", "CREATE TABLE files (name text)");
        let providers = providers().with_buckets(Arc::new(Opener));
        Self { cluster, providers, folder: tempfile::tempdir().unwrap() }
    }

    fn rows(&self, values: &str) {
        self.cluster.psql_in("shop", &format!("INSERT INTO files {values}"));
    }

    /// Two directories: where files should be, and a copy.
    fn directories(&self) -> Files {
        let at = |name: &str| {
            let path = self.folder.path().join(name);
            fs::create_dir_all(&path).unwrap();
            path.display().to_string()
        };
        Files {
            bucket: at("here"),
            copy: Some(at("there")),
            keys_sql: "SELECT name FROM files -- all of them".into(),
            ..Files::default()
        }
    }

    fn context(&self, files: &Files, mode: Mode, verb: &str) -> StepContext {
        let service = Service { files: vec![files.clone()], ..sample::shop() };
        let plan = sample::plan(&service, mode, &sample::inventory()).unwrap();
        let found = plan.steps.into_iter().find(|it| it.id.as_str().starts_with(verb));
        let step = found.unwrap_or_else(|| panic!("no step {verb}"));
        let directory = self.cluster.data_dir().display().to_string();
        StepContext {
            run: "shop-1126-test".into(),
            parameters: step.parameters.clone(),
            key: format!("shop-1126-test.{verb}.1"),
            step,
            facts: Parameters::from([("directory".into(), directory)]),
            originals: Parameters::new(),
        }
    }

    async fn outcome(&self, context: &StepContext) -> Result<Parameters, Failure> {
        let effect = self.providers.of(&context.step).expect("somebody performs it");
        effect.precheck(context).await?;
        effect.act(context).await?;
        assert_eq!(effect.probe(context).await, Found::Done);
        effect.verify(context).await
    }

    async fn check(&self, files: &Files) -> Result<Parameters, Failure> {
        self.outcome(&self.context(files, Mode::Incident, "prove.files")).await
    }

    async fn drill(&self, files: &Files) -> Result<Parameters, Failure> {
        self.outcome(&self.context(files, Mode::Copy, "prove.files")).await
    }

    async fn put_back(&self, files: &Files) -> Result<Parameters, Failure> {
        self.outcome(&self.context(files, Mode::Incident, "prove.copy-files")).await
    }
}

fn write(root: &str, name: &str, text: &str) {
    let path = Path::new(root).join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn output(outputs: &Parameters, what: &str) -> String {
    let found = outputs.iter().find(|(name, _)| name.split(' ').next() == Some(what));
    found.unwrap_or_else(|| panic!("no {what} in {outputs:?}")).1.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_files_are_named_copied_back_and_never_replaced() {
    let bench = Bench::new();
    let files = bench.directories();
    let (here, there) = (files.bucket.clone(), files.copy.clone().unwrap());
    bench.rows("VALUES ('a b.pdf'), ('it''s/ü.txt'), ('ab/1'), ('ab/1'), (NULL), ('gone')");
    write(&here, "ab/1", "here");
    write(&there, "ab/1", "other");
    write(&there, "a b.pdf", "a letter");
    write(&there, "it's/ü.txt", "a text");
    write(&there, "gone", "");
    let looking = bench.context(&files, Mode::Incident, "prove.files");
    let effect = bench.providers.of(&looking.step).unwrap();
    conformance::looking(effect, &looking).await.unwrap();
    let outputs = bench.check(&files).await.unwrap();
    assert_eq!(output(&outputs, "files"), "4");
    assert_eq!(output(&outputs, "files_to_copy_back"), "3");
    assert_eq!(output(&outputs, "files_missing"), "0");
    // What is nowhere is named, and stops.
    bench.rows("VALUES ('nowhere'), ('nor/here')");
    let failure = bench.check(&files).await.unwrap_err();
    assert_eq!(failure.code, "RF1141");
    assert!(failure.message.contains("'nor/here', 'nowhere'"), "{}", failure.message);
    let failure = bench.put_back(&files).await.unwrap_err();
    assert!(failure.message.contains("seen 2"), "{}", failure.message);
    // As many as may be missing do not.
    let tolerant = Files { missing_max: 2, ..files.clone() };
    assert_eq!(output(&bench.check(&tolerant).await.unwrap(), "files_missing"), "2");
    let copying = bench.context(&tolerant, Mode::Incident, "prove.copy-files");
    let effect = bench.providers.of(&copying.step).unwrap();
    conformance::looking(effect, &copying).await.unwrap();
    for (name, text) in [("a b.pdf", "a letter"), ("it's/ü.txt", "a text"), ("ab/1", "here")] {
        assert_eq!(fs::read_to_string(Path::new(&here).join(name)).unwrap(), text, "{name}");
    }
    // A copy that does not answer matters only when it is needed.
    let without = Files { copy: Some("/does/not/exist".into()), ..tolerant };
    let outputs = bench.check(&without).await.unwrap();
    assert!(output(&outputs, "files_copy").contains("not mounted"), "{outputs:?}");
    let failure = bench.check(&Files { missing_max: 0, ..without }).await.unwrap_err();
    assert_eq!(failure.code, "RF1142");
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_are_none_and_write_are_refused() {
    let bench = Bench::new();
    let files = bench.directories();
    for (sql, expected) in [
        ("SELECT 1; SELECT 2", "expected one query"),
        ("SELECT name FROM nowhere", "nowhere"),
        ("DELETE FROM files RETURNING name", "syntax error"),
    ] {
        let failure = bench.check(&Files { keys_sql: sql.into(), ..files.clone() }).await;
        let failure = failure.unwrap_err();
        assert_eq!(failure.code, "RF1107");
        assert!(failure.message.contains(expected), "{sql}: {}", failure.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_differs_lacks_or_stands_still_fails_a_drill_and_is_noted_in_an_incident() {
    let bench = Bench::new();
    let files = Files { sample: 10, copy_missing_max: Some(0), ..bench.directories() };
    let (here, there) = (files.bucket.clone(), files.copy.clone().unwrap());
    bench.rows("SELECT 'f' || i FROM generate_series(1, 30) i");
    for at in 1..=30 {
        write(&here, &format!("f{at}"), "same");
        write(&there, &format!("f{at}"), "same");
    }
    assert_eq!(output(&bench.drill(&files).await.unwrap(), "files_compared"), "10");
    for at in 1..=30 {
        write(&there, &format!("f{at}"), "diff");
    }
    let failure = bench.drill(&files).await.unwrap_err();
    assert!(failure.message.contains("10 differ: 'f"), "{}", failure.message);
    assert_eq!(output(&bench.check(&files).await.unwrap(), "files_differing"), "10");
    let files = Files { sample: 0, ..files };
    fs::remove_file(Path::new(&there).join("f7")).unwrap();
    let failure = bench.drill(&files).await.unwrap_err();
    assert!(failure.message.contains("seen 1: 'f7'"), "{}", failure.message);
    assert_eq!(output(&bench.check(&files).await.unwrap(), "files_not_in_copy_names"), "'f7'");
    // The target of the sample's plan lies in the past of these files; then they are made old.
    let within = Some(Duration::from_secs(3600));
    let files = Files { copy_missing_max: None, newest_within: within, ..files };
    let mut context = bench.context(&files, Mode::Incident, "prove.files");
    context.parameters.insert("last_good".into(), "2000-01-01T00:30:00Z".into());
    assert!(output(&bench.outcome(&context).await.unwrap(), "newest_file").starts_with("20"));
    context.parameters.insert("last_good".into(), "2100-01-01T00:00:00Z".into());
    let failure = bench.outcome(&context).await.unwrap_err();
    assert_eq!(failure.code, "RF1143");
    assert!(failure.message.contains("at most 3600 s before"), "{}", failure.message);
}

/// Rows and files of `count` names, in a directory.
fn many(bench: &Bench, root: &str, count: usize) {
    bench.rows(&format!(
        "SELECT lpad(to_hex(i % 256), 2, '0') || '/' || md5(i::text) \
         FROM generate_series(1, {count}) i"
    ));
    for line in bench.cluster.psql_in("shop", "SELECT name FROM files").lines() {
        write(root, line, line);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_files_of_a_directory_are_looked_for_and_two_of_them_found_missing() {
    let bench = Bench::new();
    let files = Files { sample: 200, ..bench.directories() };
    let (here, there) = (files.bucket.clone(), files.copy.clone().unwrap());
    many(&bench, &here, 20_000);
    let names = bench.cluster.psql_in("shop", "SELECT name FROM files ORDER BY name LIMIT 2");
    for name in names.lines() {
        write(&there, name, name);
        fs::remove_file(Path::new(&here).join(name)).unwrap();
    }
    let began = Instant::now();
    let outputs = bench.check(&files).await.unwrap();
    println!("20,000 files of a directory and its copy: {:?}", began.elapsed());
    assert_eq!(output(&outputs, "files"), "20000");
    assert_eq!(output(&outputs, "files_to_copy_back"), "2");
    let outputs = bench.put_back(&files).await.unwrap();
    assert_eq!(output(&outputs, "files_copied_back"), "2");
    assert_eq!(output(&bench.check(&files).await.unwrap(), "files_to_copy_back"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_thousands_is_walked_beside_the_rows() {
    const COUNT: usize = 5000;
    let (bench, s3) = (Bench::new(), S3::start());
    let directories = bench.directories();
    many(&bench, &directories.bucket, COUNT);
    let keys = [("access_key_id", s3.access_key()), ("secret_access_key", s3.secret_key())];
    let credentials: BTreeMap<String, String> =
        keys.iter().map(|(name, key)| ((*name).into(), format!("env:{key}"))).collect();
    let endpoint = s3.endpoint();
    let url = format!("s3://{}/files?endpoint={endpoint}&allow_http=true", s3.bucket());
    let files = Files {
        bucket: url.clone(),
        credentials: credentials.clone(),
        copy: Some(directories.bucket.clone()),
        sample: 20,
        newest_within: Some(Duration::from_secs(3600)),
        ..directories.clone()
    };
    // All but every hundredth are copied, as replication would.
    let (from, to) = (
        Opener.open(&directories.bucket, &BTreeMap::new()).unwrap(),
        Opener.open(&url, &credentials).unwrap(),
    );
    let items = from.list(None, COUNT).await.unwrap();
    let wanted = items.iter().enumerate().filter(|(at, _)| at % 100 != 0);
    let copies = wanted.map(|(_, item)| to.copy_from(from.as_ref(), item));
    let copies: Vec<_> = copies.collect();
    futures::stream::iter(copies)
        .buffer_unordered(32)
        .for_each(|done| async { assert_eq!(done.unwrap(), store::Created::New) })
        .await;
    let began = Instant::now();
    let outputs = bench.check(&files).await.unwrap();
    println!("{COUNT} rows beside a bucket's listing: {:?}", began.elapsed());
    assert_eq!(output(&outputs, "files"), COUNT.to_string());
    assert_eq!(output(&outputs, "files_to_copy_back"), "50");
    assert_eq!(output(&outputs, "files_differing"), "0");
    let outputs = bench.put_back(&files).await.unwrap();
    assert_eq!(output(&outputs, "files_copied_back"), "50");
    let outputs = bench.check(&files).await.unwrap();
    assert_eq!(output(&outputs, "files_to_copy_back"), "0");
    // Few rows are asked for one by one, and find the same.
    bench.cluster.psql_in("shop", "DELETE FROM files WHERE name > '05'");
    let outputs = bench.check(&files).await.unwrap();
    assert_eq!(output(&outputs, "files_to_copy_back"), "0");
    let nowhere = url.replace(s3.bucket(), "no-such-bucket");
    let failure = bench.check(&Files { copy: None, bucket: nowhere, ..files }).await.unwrap_err();
    assert_eq!(failure.code, "RF1142", "it says nothing about files");
}
