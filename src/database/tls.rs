//! TLS to the database: opportunistic where the URL asks for nothing, verified where it asks.
//!
//! `sslmode=prefer` (the default) encrypts where the server can and verifies nothing, as libpq does:
//! a server with a self-signed certificate on the same machine must simply work. It sends no password to
//! another machine in the clear. `sslmode=require` and `database.ca_file` verify the chain and the host's
//! name, always.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Error;
use crate::errors;

/// The connector for `mode`. With `ca_file` it verifies, whatever the mode.
pub(super) fn connector(mode: SslMode, ca_file: Option<&Path>) -> Result<MakeRustlsConnect, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::CaFile { problem: format!("this build of pointsd knows no TLS version: {error}") })?;
    let mut config = if mode == SslMode::Require || ca_file.is_some() {
        builder.with_root_certificates(roots(ca_file)?).with_no_client_auth()
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified { provider })).with_no_client_auth()
    };
    // PostgreSQL 17 asks for it where sslnegotiation=direct; older servers do not mind.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(MakeRustlsConnect::new(config))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    // A certificate of the system that cannot be read is no reason to stop: if it was the one that
    // mattered, the server is refused as unknown.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = ca_file {
        let problem = |what: String| Error::CaFile { problem: format!("{}: {what}", file.display()) };
        let certificates = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| problem(format!("cannot be read as PEM: {error}")))?;
        if certificates.is_empty() {
            return Err(problem(
                "holds no certificate: give the authority's, which starts with -----BEGIN \
                 CERTIFICATE-----"
                    .to_owned(),
            ));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| problem(format!("holds a bad certificate: {error}")))?;
        }
    }
    Ok(roots)
}

/// What to do about a handshake that failed; `None` if TLS is not the cause.
pub(super) fn hint(error: &tokio_postgres::Error) -> Option<String> {
    // The driver's words, which have no type of their own.
    if errors::causes(error).any(|cause| cause.to_string() == "server does not support TLS") {
        let hint = "the server offers no TLS, and a password is sent to another machine only encrypted: turn TLS on there \
                    (ssl = on) and write sslmode=require, or connect by a socket or localhost";
        return Some(hint.to_owned());
    }
    errors::certificate_remedy(error, "database.url", "database.ca_file").or_else(|| {
        let of_tls = errors::causes(error).any(|cause| cause.is::<rustls::Error>());
        of_tls.then(|| "the TLS handshake failed; see the server's log".to_owned())
    })
}

/// Accepts every certificate. The encryption then protects against eavesdroppers, not against a false server.
#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
