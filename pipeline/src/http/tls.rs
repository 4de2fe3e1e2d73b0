//! The TLS configuration of all clients, with the CA certificates of the system or those that `SSL_CERT_FILE` and
//! `SSL_CERT_DIR` name. They are read when the first certificate is checked: plain http to this machine needs
//! none, and containers without a bundle have none.

use std::{
    error::Error,
    io,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use rustls_native_certs::load_certs_from_paths;

use crate::environment;

/// Why a server's certificate is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateProblem {
    /// This machine has no CA certificates.
    NoAuthorities,
    /// It is not signed by any of them.
    UnknownAuthority,
    /// It is for another name or another time, or damaged.
    Invalid,
}

impl CertificateProblem {
    /// Returns the suggested fix.
    pub fn hint(self) -> &'static str {
        match self {
            Self::NoAuthorities => "install ca-certificates or set SSL_CERT_FILE",
            Self::UnknownAuthority => {
                "install ca-certificates or set SSL_CERT_FILE to a file that also has your organisation's CA"
            }
            Self::Invalid => "check the host's name and this machine's clock",
        }
    }
}

/// Returns why the server's certificate was refused, if that caused `err`. A retry would get the same certificate.
pub fn certificate_problem(err: &(dyn Error + 'static)) -> Option<CertificateProblem> {
    let errors = std::iter::successors(Some(err), |&err| match err.downcast_ref::<io::Error>() {
        // Its `source` would skip the error that it wraps.
        Some(io) => io.get_ref().map(|within| within as &(dyn Error + 'static)),
        None => err.source(),
    });
    errors.into_iter().find_map(|err| match err.downcast_ref::<TlsError>()? {
        TlsError::InvalidCertificate(CertificateError::Other(other)) if other.0.is::<NoAuthorities>() => {
            Some(CertificateProblem::NoAuthorities)
        }
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => {
            Some(CertificateProblem::UnknownAuthority)
        }
        TlsError::InvalidCertificate(_) => Some(CertificateProblem::Invalid),
        _ => None,
    })
}

/// This machine has no CA certificates.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("no CA certificates found on this machine")]
pub struct NoAuthorities;

/// Returns the TLS setting of all clients.
pub(super) fn config() -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let verifier = SystemVerifier { provider: Arc::clone(&provider) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has ciphers for all versions")
        .dangerous() // The verifier is the library's, made later.
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// Checks certificates as the library does, against what the system trusts.
#[derive(Debug)]
struct SystemVerifier {
    provider: Arc<CryptoProvider>,
}

/// Returns what checks certificates; nothing if there are no CA certificates. They are read once.
fn verifier() -> Option<&'static WebPkiServerVerifier> {
    static VERIFIER: OnceLock<Option<Arc<WebPkiServerVerifier>>> = OnceLock::new();
    let verifier = VERIFIER.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let (_, num_ignored) = roots.add_parsable_certificates(authorities());
        if num_ignored > 0 {
            tracing::debug!(num_ignored, "ignoring CA certificates that cannot be used");
        }
        let provider = Arc::new(ring::default_provider());
        // Fails if there are none.
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()
    });
    verifier.as_deref()
}

/// Returns whether there are CA certificates. Without them every https request fails.
pub fn has_authorities() -> bool {
    verifier().is_some()
}

impl SystemVerifier {
    fn inner() -> Result<&'static WebPkiServerVerifier, TlsError> {
        let none =
            || TlsError::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(NoAuthorities))));
        verifier().ok_or_else(none)
    }
}

/// Reads the CA certificates: those that the environment names, else the system's.
fn authorities() -> Vec<CertificateDer<'static>> {
    let named_file = environment::variable("SSL_CERT_FILE").map(PathBuf::from);
    let named_folders = environment::variable("SSL_CERT_DIR");
    let named_folders =
        named_folders.iter().flat_map(std::env::split_paths).filter(|path| !path.as_os_str().is_empty());
    let named_folders: Vec<PathBuf> = named_folders.collect();
    let (file, folders) = if named_file.is_some() || !named_folders.is_empty() {
        (named_file, named_folders)
    } else {
        let found = openssl_probe::probe();
        (found.cert_file, found.cert_dir)
    };
    let mut certificates = load_certs_from_paths(file.as_deref(), None);
    for folder in folders {
        let more = load_certs_from_paths(None, Some(&folder));
        certificates.certs.extend(more.certs);
        certificates.errors.extend(more.errors);
    }
    for error in certificates.errors {
        tracing::debug!(%error, "ignoring CA certificates that cannot be read");
    }
    certificates.certs
}

impl ServerCertVerifier for SystemVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Self::inner()?.verify_server_cert(certificate, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
