//! libpq's `sslmode` with rustls.
//!
//! One difference: a name is looked for among the certificate's alternative names only. libpq also
//! takes the common name of a certificate that has none, which no certificate authority issues any
//! more.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{ConnectOptions, Error, SslMode};

/// A connector for the options' `sslmode`; `None` for `disable`.
///
/// With `sslrootcert` the certificate's chain is checked in every mode, as in libpq; the name only
/// with `verify-full`.
///
/// # Errors
/// [`Error::Tls`] if the roots cannot be read.
pub(crate) fn connector(options: &ConnectOptions) -> Result<Option<MakeRustlsConnect>, Error> {
    if options.ssl_mode == SslMode::Disable {
        return Ok(None);
    }
    let failed = |reason: String| Error::Tls { address: options.address(), reason };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = match &options.ssl_root_cert {
        Some(path) => Some(Roots::read(path).map_err(failed)?),
        None => None,
    };
    let check_name = options.ssl_mode == SslMode::VerifyFull;
    let verifier = LibpqVerifier { provider: Arc::clone(&provider), roots, check_name };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Some(MakeRustlsConnect::new(config)))
}

#[derive(Debug)]
struct Roots {
    store: RootCertStore,
    /// The roots as they stand in the file: a server's own certificate may be one of them.
    certificates: Vec<CertificateDer<'static>>,
}

impl Roots {
    fn read(path: &Path) -> Result<Self, String> {
        let failed = |what: &dyn std::fmt::Display| {
            format!("cannot read root certificates '{}': {what}", path.display())
        };
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| failed(&error))?;
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(certificates.iter().cloned());
        if added == 0 {
            return Err(failed(&"no certificate in it"));
        }
        Ok(Self { store, certificates })
    }
}

/// What libpq checks of a server's certificate: nothing without roots, the chain with them, the
/// name too when asked.
#[derive(Debug)]
struct LibpqVerifier {
    provider: Arc<CryptoProvider>,
    roots: Option<Roots>,
    check_name: bool,
}

impl LibpqVerifier {
    fn verify_chain(
        &self,
        roots: &Roots,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let verified = verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &roots.store,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        );
        match verified {
            // `openssl req -x509` makes a certificate that is its own authority. webpki refuses one
            // as a server's, after it has found it valid in time; libpq accepts it if it is a root.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(reason)))
                if reason.0.to_string() == CA_AS_END_ENTITY
                    && roots.certificates.iter().any(|root| root == certificate) =>
            {
                Ok(())
            }
            other => other,
        }
    }
}

/// How webpki names its `Error::CaUsedAsEndEntity`.
const CA_AS_END_ENTITY: &str = "CaUsedAsEndEntity";

impl ServerCertVerifier for LibpqVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            self.verify_chain(roots, end_entity, intermediates, now)?;
        }
        if self.check_name {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
