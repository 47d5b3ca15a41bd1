//! The certificate of a wire.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::tools::INSTALL_COMMAND;
use crate::workdir::Workdir;

const REQUEST: &str = "[req]\ndistinguished_name = name\nx509_extensions = extensions\n[name]\n\
    [extensions]\nsubjectAltName = IP:127.0.0.1\nbasicConstraints = critical, CA:FALSE\n";

/// What signs for the wire: itself.
pub(super) fn authority(folder: &Workdir) -> PathBuf {
    folder.join("wire.crt")
}

/// Makes a certificate for 127.0.0.1 that speaks HTTP/1.1.
pub(super) fn config(folder: &Workdir) -> Arc<ServerConfig> {
    let (key, certificate) = (folder.join("wire.key"), authority(folder));
    let request = folder.file("wire.cnf", REQUEST);
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    command.args(["-nodes", "-days", "2", "-subj", "/CN=wire", "-config"]).arg(request);
    command.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("openssl: {error}: `{INSTALL_COMMAND}`"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "make a certificate: {said}");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&certificate, mode).expect("let everybody read a certificate");
    let certificate = CertificateDer::from_pem_file(&certificate).expect("read a certificate");
    let key = PrivateKeyDer::from_pem_file(&key).expect("read a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3 are there")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    Arc::new(config.expect("a key that fits its certificate"))
}
