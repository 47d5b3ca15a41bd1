//! Servers that stop answering are given up in time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use store::retry::RetryPolicy;
use store::{Deadlines, Error, OpenOptions};
use testbed::S3;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::{key, parts, s3};

fn impatient(options: OpenOptions) -> OpenOptions {
    OpenOptions {
        deadlines: Deadlines {
            connect: Duration::from_secs(1),
            answer: Duration::from_millis(400),
            stall: Duration::from_millis(300),
            rate_min: 1 << 30,
        },
        retry: RetryPolicy {
            attempts_max: 2,
            delay_first: Duration::from_millis(10),
            ..RetryPolicy::default()
        },
        ..options
    }
}

/// The call fails as unavailable, neither at once nor long after its deadline.
async fn assert_given_up<T>(name: &str, call: impl Future<Output = Result<T, Error>>) {
    let begun = Instant::now();
    let Err(error) = call.await else { panic!("{name} succeeded on a silent server") };
    let elapsed = begun.elapsed();
    assert!(matches!(error, Error::Unavailable { .. }), "{name}: {error:?}");
    assert!(error.to_string().contains("no answer within"), "{name}: {error}");
    assert!(elapsed >= Duration::from_millis(300), "{name} gave up after {elapsed:?}");
    assert!(elapsed < Duration::from_secs(10), "{name} gave up after {elapsed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_answering_is_given_up_and_used_again_when_it_is_back() {
    let server = S3::private();
    let url = s3::url(&server, &server.endpoint(), "");
    let store = store::open(&url, &impatient(s3::options(&server))).unwrap();
    store.put_if_absent(&key("a"), parts("before")).await.unwrap();
    let mut begun = store.upload(&key("begun")).await.unwrap();
    begun.write(Bytes::from(vec![0; 9 << 20])).await.unwrap();
    server.pause();
    assert_given_up("get", store.get(&key("a"))).await;
    assert_given_up("get_range", store.get_range(&key("a"), 0..1)).await;
    assert_given_up("head", store.head(&key("a"))).await;
    assert_given_up("list", store.list("", None, 10)).await;
    assert_given_up("put", store.put_if_absent(&key("b"), parts("x"))).await;
    assert_given_up("delete", store.delete(&key("a"))).await;
    // Its first part may have been given up while the calls above were waited for.
    let finish = tokio::time::timeout(Duration::from_secs(10), begun.finish()).await;
    let error = finish.expect("finish gives up").unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    server.resume();
    // It first works off what it was sent before, so an answer may still come too late.
    let begun = Instant::now();
    while store.put_if_absent(&key("after"), parts("back")).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the server does not come back");
    }
    while store.get(&key("after")).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the server does not come back");
    }
    assert_eq!(store.get(&key("after")).await.unwrap(), "back");
    server.kill();
    let error = store.get(&key("after")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}

/// Answers with a head and half of the body, then nothing.
async fn stalling_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                let _ = client.read(&mut request).await;
                let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\
                    last-modified: Wed, 21 Oct 2026 07:28:00 GMT\r\netag: \"x\"\r\n\r\n";
                client.write_all(head.as_bytes()).await.unwrap();
                client.write_all(&[b'x'; 50]).await.unwrap();
                // Held open until the client goes.
                let _ = client.read(&mut request).await;
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stalls_is_given_up() {
    let endpoint = stalling_server().await;
    let url = format!("s3://bucket/p?endpoint={endpoint}&allow_http=true");
    let secrets = [("access_key_id", "AKID"), ("secret_access_key", "hush-hush")];
    let options = OpenOptions {
        secrets: secrets.map(|(k, v)| (k.into(), store::Secret::new(v))).into(),
        ..OpenOptions::default()
    };
    let store = store::open(&url, &impatient(options)).unwrap();
    assert_given_up("get", store.get(&key("a"))).await;
}
