//! Signs in with a certificate: takes a PEM file with key and certificate, gives the signed assertion (a JWT)
//! that the authority accepts instead of a secret.
//!
//! The identity library's credential for this needs OpenSSL and PKCS#12. This one signs with the crypto library
//! that TLS uses anyway.

use std::{fmt, io, path::Path};

use azure_core::{error::ErrorKind, http::ClientMethodOptions};
use azure_identity::ClientAssertion;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::Utc;
use ring::{
    digest,
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls::pki_types::pem::{PemObject, SectionKind};

use crate::http::secret::read_secret_file;

/// Lifetime of an assertion. It is used at once; the rest allows for clock skew.
const ASSERTION_SECS: i64 = 600;
/// Largest certificate file that is read: a key and a chain have some kilobytes.
const MAX_PEM_BYTES: u64 = 1024 * 1024;

/// A certificate and its key.
pub(super) struct CertificateAssertion {
    key: RsaKeyPair,
    /// The encoded header of every assertion.
    header: String,
    client_id: String,
    audience: String,
}

impl fmt::Debug for CertificateAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAssertion").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

impl CertificateAssertion {
    /// Reads key and certificate from `path`, for assertions to the token endpoint `audience`.
    ///
    /// # Errors
    ///
    /// Returns the reason as text, without contents of the file.
    pub(super) fn try_read(path: &Path, client_id: String, audience: String) -> Result<Self, String> {
        let shown = path.display();
        let pem = read_secret_file(path, MAX_PEM_BYTES).map_err(|err| match err.kind() {
            io::ErrorKind::FileTooLarge => format!("{shown} is too large for a certificate"),
            _ => format!("cannot read {shown}: {err}"),
        })?;
        let (mut key, mut certificate) = (None, None);
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&pem) {
            let (kind, der) = section.map_err(|_| format!("{shown} is not a PEM file"))?;
            match kind {
                SectionKind::PrivateKey => key = Some(RsaKeyPair::from_pkcs8(&der)),
                SectionKind::RsaPrivateKey => key = Some(RsaKeyPair::from_der(&der)),
                // The first certificate is the caller's own, the others are its issuers'.
                SectionKind::Certificate => {
                    certificate.get_or_insert(der);
                }
                _ => {}
            }
        }
        let key = key
            .ok_or_else(|| {
                format!("{shown} holds no unencrypted private key in PEM form (PKCS#12 has to be converted)")
            })?
            .map_err(|err| format!("the private key in {shown} cannot be used: {err}"))?;
        let certificate = certificate.ok_or_else(|| format!("{shown} holds no certificate"))?;
        // Entra finds the certificate by this thumbprint, which by its definition is SHA-1.
        let thumbprint = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &certificate);
        let header = serde_json::json!({
            "alg": "RS256", "typ": "JWT", "x5t": BASE64_URL_SAFE_NO_PAD.encode(thumbprint),
        });
        let header = BASE64_URL_SAFE_NO_PAD.encode(header.to_string());
        Ok(Self { key, header, client_id, audience })
    }

    /// Signs a new assertion.
    fn sign(&self, now_secs: i64) -> Result<String, String> {
        let id = getrandom::u64().map_err(|err| err.to_string())?;
        let claims = serde_json::json!({
            "aud": self.audience, "iss": self.client_id, "sub": self.client_id,
            "jti": format!("{id:016x}"), "nbf": now_secs, "exp": now_secs + ASSERTION_SECS,
        });
        let statement = format!("{}.{}", self.header, BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), statement.as_bytes(), &mut signature)
            .map_err(|_| "the key cannot sign".to_owned())?;
        Ok(format!("{statement}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[async_trait::async_trait]
impl ClientAssertion for CertificateAssertion {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let signed = self.sign(Utc::now().timestamp());
        signed.map_err(|reason| azure_core::Error::with_message(ErrorKind::Credential, reason))
    }
}
