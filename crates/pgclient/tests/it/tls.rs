//! libpq's `sslmode`, against a server with certificates made by openssl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pgclient::{Client, ConnectOptions, Error};
use testbed::Workdir;
use testbed::postgres::{Cluster, Install};

fn openssl(dir: &Path, args: &[&str]) {
    let output = Command::new("openssl").args(args).current_dir(dir).output();
    let output = output.expect("openssl is missing; run: make tools");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {args:?}: {said}");
}

/// A self-signed certificate for 'localhost', which is its own authority; returns its path.
fn self_signed(dir: &Path, name: &str, further: &[&str]) -> PathBuf {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
    let args = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        &key,
        "-out",
        &certificate,
    ];
    openssl(dir, &[&args, further].concat());
    dir.join(certificate)
}

/// A certificate for 'localhost' signed by an authority of its own; returns the authority's.
fn signed(dir: &Path, name: &str, further: &[&str]) -> PathBuf {
    let authority = self_signed(dir, "authority", &[]);
    fs::write(dir.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    let (key, request, certificate) =
        (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"));
    openssl(
        dir,
        &[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            "/CN=server",
            "-keyout",
            &key,
            "-out",
            &request,
        ],
    );
    let args = [
        "x509",
        "-req",
        "-in",
        &request,
        "-CA",
        "authority.crt",
        "-CAkey",
        "authority.key",
        "-CAcreateserial",
        "-extfile",
        "names",
        "-out",
        &certificate,
    ];
    openssl(dir, &[&args, further].concat());
    authority
}

/// A server that shows the certificate `name` of `dir` and lets in who `hba` says.
fn server(dir: &Path, name: &str, hba: &str) -> Cluster {
    let mut cluster = Cluster::builder(&Install::by_major(15))
        .hba(&format!("local all all trust\n{hba}\n"))
        .setting("ssl", "on")
        .setting("listen_addresses", "localhost")
        .create();
    for (from, to) in [("crt", "server.crt"), ("key", "server.key")] {
        let content = fs::read(dir.join(format!("{name}.{from}"))).unwrap();
        let path = cluster.data_dir().join(to);
        fs::write(&path, content).unwrap();
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        testbed::give_to_postgres(&path);
    }
    cluster.start();
    cluster
}

/// `tls`, `plain`, or the error's code.
async fn login(cluster: &Cluster, further: &str) -> String {
    use stdx::Diagnostic;
    let conninfo = format!("port={} user=postgres {further}", cluster.port());
    match Client::connect(&ConnectOptions::parse(&conninfo).unwrap()).await {
        Ok(client) => {
            let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            let rows = client.query_text(sql, Duration::from_secs(9)).await.unwrap();
            if rows == [[Some("t".to_owned())]] { "tls".into() } else { "plain".into() }
        }
        Err(error) => error.info().code.to_owned(),
    }
}

const TLS: &str = "RF0505";
const REFUSED: &str = "RF0504";

#[tokio::test]
async fn the_certificate_is_checked_as_far_as_asked() {
    let work = Workdir::new();
    let root = self_signed(work.path(), "server", &[]);
    let other = self_signed(work.path(), "other", &[]);
    let cluster = server(work.path(), "server", "host all all all trust");
    let (root, other) = (root.display(), other.display());
    for (further, expect) in [
        ("host=localhost sslmode=disable".to_owned(), "plain"),
        ("host=localhost sslmode=allow".to_owned(), "plain"),
        ("host=localhost sslmode=prefer".to_owned(), "tls"),
        ("host=127.0.0.1 sslmode=require".to_owned(), "tls"),
        (format!("host=127.0.0.1 sslmode=require sslrootcert={root}"), "tls"),
        (format!("host=127.0.0.1 sslmode=require sslrootcert={other}"), TLS),
        (format!("host=127.0.0.1 sslmode=verify-ca sslrootcert={root}"), "tls"),
        (format!("host=localhost sslmode=verify-ca sslrootcert={other}"), TLS),
        (format!("host=localhost sslmode=verify-full sslrootcert={root}"), "tls"),
        (format!("host=127.0.0.1 sslmode=verify-full sslrootcert={root}"), TLS),
        (
            format!("host=localhost hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={root}"),
            "tls",
        ),
        (format!("host=localhost sslmode=verify-full sslrootcert={other}"), TLS),
        ("host=localhost sslmode=verify-full sslrootcert=system".to_owned(), TLS),
        ("host=localhost sslmode=verify-full sslrootcert=/nowhere".to_owned(), TLS),
        (format!("host=localhost sslmode=prefer sslrootcert={other}"), "plain"),
        (format!("host={} sslmode=require", cluster.socket_dir().display()), "plain"),
    ] {
        assert_eq!(login(&cluster, &further).await, expect, "{further}");
    }
}

#[tokio::test]
async fn an_authority_vouches_for_the_servers_it_signed() {
    let work = Workdir::new();
    let root = signed(work.path(), "server", &[]);
    let stranger = self_signed(work.path(), "stranger", &[]);
    let cluster = server(work.path(), "server", "host all all all trust");
    let full = "host=localhost sslmode=verify-full sslrootcert=";
    assert_eq!(login(&cluster, &format!("{full}{}", root.display())).await, "tls");
    assert_eq!(login(&cluster, &format!("{full}{}", stranger.display())).await, TLS);
}

#[tokio::test]
async fn an_expired_certificate_is_refused_where_it_is_looked_at() {
    let work = Workdir::new();
    let root = signed(work.path(), "server", &["-days", "-1"]);
    let cluster = server(work.path(), "server", "host all all all trust");
    let check = format!("host=localhost sslmode=verify-ca sslrootcert={}", root.display());
    assert_eq!(login(&cluster, &check).await, TLS);
    assert_eq!(login(&cluster, "host=localhost sslmode=require").await, "tls");
}

#[tokio::test]
async fn allow_and_prefer_take_the_way_that_is_open() {
    let work = Workdir::new();
    self_signed(work.path(), "server", &[]);
    let only_tls = server(work.path(), "server", "hostssl all all all trust");
    assert_eq!(login(&only_tls, "host=localhost sslmode=disable").await, REFUSED);
    assert_eq!(login(&only_tls, "host=localhost sslmode=allow").await, "tls");
    drop(only_tls);
    let only_plain = server(work.path(), "server", "hostnossl all all all trust");
    assert_eq!(login(&only_plain, "host=localhost sslmode=require").await, REFUSED);
    assert_eq!(login(&only_plain, "host=localhost sslmode=prefer").await, "plain");
}

#[tokio::test]
async fn a_query_over_tls_can_be_cancelled() {
    let work = Workdir::new();
    self_signed(work.path(), "server", &[]);
    let cluster = server(work.path(), "server", "hostssl all all all trust");
    let conninfo = format!("host=localhost port={} sslmode=require", cluster.port());
    let client = Client::connect(&ConnectOptions::parse(&conninfo).unwrap()).await.unwrap();
    let short = Duration::from_millis(300);
    let error = client.query_text("SELECT pg_sleep(3600)", short).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    client.query_text("SELECT 1", Duration::from_secs(30)).await.unwrap();
}
