//! The TLS of a server: its certificate and the authorities of its clients, from PEM files that may change while it runs.
//!
//! Start reading at [`ServerTls`]. When to look at the files again is the server's choice: [`ServerTls::reload`] at each
//! connection, or [`ServerTls::refresh`] now and then. What cannot be used leaves everything as it was, and the error names the file.

mod marks;
mod pem;
mod server;

pub use marks::Marks;
pub use pem::{TlsError, certificates, private_key, roots};
pub use server::{ServerTls, TlsFiles};

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The one provider of cryptography, whatever else is compiled in.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
