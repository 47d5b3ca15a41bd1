//! What listing a bucket with very many objects costs: `bucket_list PLACE COUNT`.
//!
//! PLACE is `flat:DIR` (all files in one folder), `nested:DIR` (256 folders, as Odoo's filestore
//! has), or `s3`: a real S3-compatible server, on which COUNT objects are put first, several at a
//! time. A directory that is there is taken as it is. Lists everything in pages, as a look for the
//! files of a service does, and prints the time and the most memory that this process ever held.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic)] // a measurement on a terminal

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use store::{Bucket, OpenOptions, Secret};
use testbed::S3;

/// Objects that are put at a time.
const PUTS: usize = 32;

fn name(at: usize, is_nested: bool) -> String {
    let id = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    match is_nested {
        true => format!("{:02x}/{id:016x}{at:08x}.bin", id >> 56),
        false => format!("{id:016x}{at:08x}.bin"),
    }
}

fn make(folder: &Path, count: usize, is_nested: bool) {
    if folder.exists() {
        return;
    }
    std::fs::create_dir_all(folder).unwrap();
    for first in 0..256 {
        if is_nested {
            std::fs::create_dir(folder.join(format!("{first:02x}"))).unwrap();
        }
    }
    for at in 0..count {
        std::fs::write(folder.join(name(at, is_nested)), b"x").unwrap();
    }
}

async fn put(bucket: &Arc<dyn Bucket>, count: usize) {
    let source = tempfile::tempdir().unwrap();
    let from = store::bucket::open(&source.path().display().to_string(), &OpenOptions::default());
    let from = from.unwrap();
    const AT_ONCE: usize = 10_000;
    for begin in (0..count).step_by(AT_ONCE) {
        let names: Vec<String> =
            (begin..count.min(begin + AT_ONCE)).map(|at| name(at, false)).collect();
        let puts = names.iter().map(|name| {
            let (bucket, from) = (Arc::clone(bucket), Arc::clone(&from));
            let path = source.path().join(name);
            async move {
                std::fs::write(&path, b"x").unwrap();
                let item = from.head(name).await.unwrap().unwrap();
                bucket.copy_from(&*from, &item).await.unwrap();
                std::fs::remove_file(&path).unwrap();
            }
        });
        let puts: Vec<_> = puts.collect();
        futures::stream::iter(puts).buffer_unordered(PUTS).collect::<Vec<()>>().await;
    }
}

fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (place, count) = (arguments.next().unwrap(), arguments.next().unwrap());
    let count: usize = count.parse().unwrap();
    let begun = Instant::now();
    let s3 = (place == "s3").then(S3::private);
    let bucket = match (&s3, place.split_once(':')) {
        (Some(s3), _) => {
            let secrets =
                [("access_key_id", s3.access_key()), ("secret_access_key", s3.secret_key())];
            let options = OpenOptions {
                secrets: secrets.map(|(name, value)| (name.to_owned(), Secret::new(value))).into(),
                ..OpenOptions::default()
            };
            let (bucket, endpoint) = (s3.bucket(), s3.endpoint());
            let url = format!("s3://{bucket}/files?endpoint={endpoint}&allow_http=true");
            let bucket = store::bucket::open(&url, &options).unwrap();
            put(&bucket, count).await;
            bucket
        }
        (None, Some((shape @ ("flat" | "nested"), folder))) => {
            make(Path::new(folder), count, shape == "nested");
            store::bucket::open(folder, &OpenOptions::default()).unwrap()
        }
        _ => panic!("expected flat:DIR, nested:DIR or s3, seen '{place}'"),
    };
    println!("made in {:.1} s; peak {} MB", begun.elapsed().as_secs_f64(), peak_mb());
    let begun = Instant::now();
    let (mut seen, mut pages, mut last) = (0, 0, None::<String>);
    loop {
        let page = bucket.list(last.as_deref(), bucket.page_len()).await.unwrap();
        seen += page.len();
        pages += 1;
        let is_end = page.len() < bucket.page_len();
        last = page.last().map(|item| item.name.clone()).or(last);
        if is_end {
            break;
        }
    }
    assert_eq!(seen, count, "every object once");
    println!(
        "{seen} objects in {pages} pages, {:.1} s; peak {} MB",
        begun.elapsed().as_secs_f64(),
        peak_mb()
    );
}
