//! What errors of TLS mean, and what would mend them: an alert alone does not say.

use std::io;

use rustls::{AlertDescription, CertificateError};

/// What went wrong in a handshake, and what would mend it where that is known.
pub(super) fn handshake(error: &io::Error) -> String {
    match meaning(error) {
        Some(meaning) => format!("{meaning} ({error})"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            format!("the peer closed the connection in the middle of it ({error})")
        }
        None => error.to_string(),
    }
}

/// What broke a flow. Over TLS 1.3 that can be what the peer found in the handshake.
pub(super) fn flow(error: &io::Error) -> String {
    match meaning(error) {
        Some(meaning) => format!("{meaning} ({error})"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the peer vanished without TLS's goodbye, close_notify".to_owned()
        }
        None => error.to_string(),
    }
}

/// An error of TLS in words, if it is one of those that wrong credentials lead to.
fn meaning(error: &io::Error) -> Option<&'static str> {
    use AlertDescription as Alert;
    use rustls::Error::{
        AlertReceived, InvalidCertificate, InvalidMessage, NoCertificatesPresented,
    };

    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the peer's certificate was not signed by a trusted authority; check the CA"
        }
        InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate is for another name; check the server name",
        NoCertificatesPresented => "the client showed no certificate; mtls needs one",
        AlertReceived(Alert::UnknownCA) => {
            "the peer does not trust the authority that signed our certificate"
        }
        AlertReceived(Alert::CertificateRequired) => {
            "the server requires a client certificate; use mtls"
        }
        AlertReceived(Alert::CertificateExpired) => "the peer finds our certificate expired",
        AlertReceived(Alert::ProtocolVersion) => "the peer speaks another version of TLS",
        InvalidMessage(_) => "the peer does not speak TLS",
        _ => return None,
    })
}
