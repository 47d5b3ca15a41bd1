//! The cloud store on a real S3-compatible server.

use std::sync::Arc;

use bytes::Bytes;
use stdx::Id;
use store::retry::RetryPolicy;
use store::testing::{Answers, conformance, conformance_with};
use store::{Created, Error, OpenOptions, Secret, Store, prove_put_if_absent};
use testbed::{Mishap, Order, Proxy, S3};

use crate::{key, parts};

pub(crate) fn options(s3: &S3) -> OpenOptions {
    let secrets = [("access_key_id", s3.access_key()), ("secret_access_key", s3.secret_key())];
    OpenOptions {
        secrets: secrets.map(|(name, value)| (name.to_owned(), Secret::new(value))).into(),
        ..OpenOptions::default()
    }
}

pub(crate) fn url(s3: &S3, endpoint: &str, rest: &str) -> String {
    let bucket = s3.bucket();
    format!("s3://{bucket}/some/prefix?endpoint={endpoint}&allow_http=true{rest}")
}

pub(crate) fn open(s3: &S3, rest: &str) -> Arc<dyn Store> {
    store::open(&url(s3, &s3.endpoint(), rest), &options(s3)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_keeps_every_promise() {
    let s3 = S3::start();
    conformance(open(&s3, "")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_keeps_every_promise_with_other_checksums_and_without_a_prefix() {
    let s3 = S3::start();
    conformance(open(&s3, "&checksum=sha256")).await;
    let endpoint = s3.endpoint();
    let bucket = s3.bucket();
    let bare = format!("s3://{bucket}?endpoint={endpoint}&allow_http=true&checksum=none");
    conformance(store::open(&bare, &options(&s3)).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_is_proved_to_honour_put_if_absent() {
    let s3 = S3::start();
    let store = open(&s3, "");
    prove_put_if_absent(&store, &Id::random).await.unwrap();
    assert!(store.list("", None, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_64_mib_is_put_whole_from_many_parts() {
    let s3 = S3::start();
    let store = open(&s3, "");
    let parts: Vec<Bytes> = (0..65_u8).map(|n| Bytes::from(vec![n; 1 << 20])).collect();
    assert_eq!(store.put_if_absent(&key("big"), parts.clone()).await.unwrap(), Created::New);
    assert_eq!(store.put_if_absent(&key("big"), parts.clone()).await.unwrap(), Created::Exists);
    assert!(store.get(&key("big")).await.unwrap() == parts.concat());
    let middle = store.get_range(&key("big"), (1 << 20) - 1..(3 << 20) + 1).await.unwrap();
    assert_eq!(middle.len(), (2 << 20) + 2);
    assert_eq!((middle[0], middle[1], middle[middle.len() - 1]), (0, 1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn prefixes_of_one_bucket_do_not_see_each_other() {
    let s3 = S3::start();
    let at = |prefix: &str| {
        let (bucket, endpoint) = (s3.bucket(), s3.endpoint());
        let url = format!("s3://{bucket}/{prefix}?endpoint={endpoint}&allow_http=true");
        store::open(&url, &options(&s3)).unwrap()
    };
    let (a, ab) = (at("a"), at("ab"));
    a.put_if_absent(&key("k"), parts("a's")).await.unwrap();
    ab.put_if_absent(&key("k"), parts("ab's")).await.unwrap();
    assert_eq!(a.get(&key("k")).await.unwrap(), "a's");
    assert_eq!(a.list("", None, 10).await.unwrap().len(), 1);
    assert_eq!(ab.list("", None, 10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_is_never_an_absent_object() {
    let s3 = S3::start();
    let endpoint = s3.endpoint();
    let url = format!("s3://no-such-bucket/p?endpoint={endpoint}&allow_http=true");
    let store = store::open(&url, &options(&s3)).unwrap();
    let denied = |error: Error| {
        assert!(matches!(error, Error::Denied { .. }), "{error:?}");
        assert!(error.to_string().contains("NoSuchBucket"), "{error}");
        assert!(!error.to_string().contains(s3.secret_key()), "{error}");
    };
    denied(store.get(&key("a")).await.unwrap_err());
    denied(store.get_range(&key("a"), 0..1).await.unwrap_err());
    denied(store.head(&key("a")).await.unwrap_err());
    denied(store.list("", None, 1).await.unwrap_err());
    denied(store.put_if_absent(&key("a"), parts("x")).await.unwrap_err());
    denied(store.delete(&key("a")).await.unwrap_err());
    let mut upload = store.upload(&key("a")).await.unwrap();
    denied(upload.write(Bytes::from(vec![0; 9 << 20])).await.unwrap_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_region_is_named_and_not_retried() {
    let s3 = S3::start();
    let store = open(&s3, "&region=ap-south-1");
    let error = store.put_if_absent(&key("a"), parts("x")).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains("region"), "{error}");
}

/// Requests that fail before they are forwarded, and answers that are cut off, one by one.
#[tokio::test(flavor = "multi_thread")]
async fn half_of_all_requests_failing_on_the_wire_break_no_promise() {
    let s3 = S3::start();
    use Mishap::{Busy, LostAnswer, None, Refused};
    let mishaps = [None, None, None, Busy, LostAnswer, Refused];
    let proxy = Proxy::start(&s3.endpoint(), Order::Random(7), &mishaps);
    let patient = RetryPolicy {
        attempts_max: 30,
        delay_first: std::time::Duration::from_millis(1),
        delay_max: std::time::Duration::from_millis(5),
        ..RetryPolicy::default()
    };
    let options = OpenOptions { retry: patient, ..options(&s3) };
    let store = store::open(&url(&s3, &proxy.endpoint(), ""), &options).unwrap();
    conformance_with(Arc::clone(&store), Answers::MayBeLost).await;
    prove_put_if_absent(&store, &Id::random).await.unwrap();
    let struck = proxy.struck();
    assert!(struck > 300, "only {struck} requests failed");
}
