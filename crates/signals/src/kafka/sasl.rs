//! Proving who asks: PLAIN (RFC 4616) and SCRAM (RFC 5802).

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use forewarm_manifest::signal::{Sasl, SaslMechanism};
use kafka_protocol::{
    messages::{SaslAuthenticateRequest, SaslHandshakeRequest},
    protocol::StrBytes,
};

use super::connection::Connection;
use crate::secret::reveal;

/// More than any broker asks for (4,096 is usual): above it somebody wants to keep us busy.
const MAX_ITERATIONS: u32 = 1_000_000;

/// Goes through the mechanism's messages.
pub(super) async fn authenticate(connection: &Connection, sasl: &Sasl) -> Result<(), String> {
    let mechanism = name(sasl.mechanism);
    let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
    // Version 1: what follows are Kafka's messages, too.
    let known = connection.send(1, &request).await?;
    if known.error_code != 0 {
        let offered: Vec<&str> = known.mechanisms.iter().map(StrBytes::as_str).collect();
        if offered.is_empty() {
            return Err("the broker takes no password at this address: leave `sasl` out".to_owned());
        }
        return Err(format!("the broker does not take {mechanism}; it offers {}", offered.join(", ")));
    }
    let (username, password) = (reveal(&sasl.username)?, reveal(&sasl.password)?);
    match sasl.mechanism {
        SaslMechanism::Plain => {
            let message = format!("\0{username}\0{password}");
            exchange(connection, message.into_bytes(), mechanism).await.map(drop)
        }
        SaslMechanism::ScramSha256 | SaslMechanism::ScramSha512 => {
            let mut nonce = [0; 24];
            rand::fill(&mut nonce).map_err(|_| "there is no randomness for SCRAM".to_owned())?;
            let nonce = STANDARD.encode(nonce);
            let mut client = Scram::new(sasl.mechanism, &username, &password, &nonce);
            let challenge = exchange(connection, client.first().into_bytes(), mechanism).await?;
            let proof = client.proof(&challenge)?;
            let verdict = exchange(connection, proof.into_bytes(), mechanism).await?;
            client.check(&verdict)
        }
    }
}

fn name(mechanism: SaslMechanism) -> &'static str {
    match mechanism {
        SaslMechanism::Plain => "PLAIN",
        SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
        SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
    }
}

async fn exchange(connection: &Connection, message: Vec<u8>, mechanism: &str) -> Result<Vec<u8>, String> {
    let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(message));
    let version = connection.version::<SaslAuthenticateRequest>()?;
    let answer = connection.send(version, &request).await?;
    if answer.error_code != 0 {
        return Err(format!("the broker refuses this `username` and `password` ({mechanism})"));
    }
    Ok(answer.auth_bytes.to_vec())
}

/// One conversation of SCRAM without channel binding.
struct Scram<'a> {
    pbkdf2: pbkdf2::Algorithm,
    hmac: hmac::Algorithm,
    digest: &'static digest::Algorithm,
    password: &'a str,
    nonce: &'a str,
    first_bare: String,
    server_signature: Vec<u8>,
}

impl<'a> Scram<'a> {
    fn new(mechanism: SaslMechanism, username: &str, password: &'a str, nonce: &'a str) -> Self {
        let (pbkdf2, hmac, digest) = match mechanism {
            SaslMechanism::ScramSha512 => (pbkdf2::PBKDF2_HMAC_SHA512, hmac::HMAC_SHA512, &digest::SHA512),
            SaslMechanism::Plain | SaslMechanism::ScramSha256 => {
                (pbkdf2::PBKDF2_HMAC_SHA256, hmac::HMAC_SHA256, &digest::SHA256)
            }
        };
        let username = username.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={username},r={nonce}");
        Self { pbkdf2, hmac, digest, password, nonce, first_bare, server_signature: Vec::new() }
    }

    fn first(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    fn sign(&self, key: &[u8], message: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(self.hmac, key), message).as_ref().to_vec()
    }

    /// The proof that answers the server's challenge.
    fn proof(&mut self, challenge: &[u8]) -> Result<String, String> {
        let wrong = || "the broker's SCRAM challenge cannot be read".to_owned();
        let challenge = std::str::from_utf8(challenge).map_err(|_| wrong())?;
        let field =
            |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).ok_or_else(wrong);
        let nonce = field("r=")?;
        let salt = STANDARD.decode(field("s=")?).map_err(|_| wrong())?;
        let iterations: NonZeroU32 = field("i=")?.parse().map_err(|_| wrong())?;
        if !nonce.starts_with(self.nonce)
            || nonce.len() == self.nonce.len()
            || iterations.get() > MAX_ITERATIONS
        {
            return Err(wrong());
        }
        let mut salted = vec![0; self.digest.output_len()];
        pbkdf2::derive(self.pbkdf2, iterations, &salt, self.password.as_bytes(), &mut salted);
        let client_key = self.sign(&salted, b"Client Key");
        let stored_key = digest::digest(self.digest, &client_key);
        // `biws` is `n,,`: no channel binding.
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{challenge},{without_proof}", self.first_bare);
        let signature = self.sign(stored_key.as_ref(), message.as_bytes());
        let server_key = self.sign(&salted, b"Server Key");
        self.server_signature = self.sign(&server_key, message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, sign)| key ^ sign).collect();
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }

    /// Whether the server knows the password as well.
    fn check(&self, verdict: &[u8]) -> Result<(), String> {
        let verdict = std::str::from_utf8(verdict).unwrap_or_default();
        let signature = verdict.split(',').find_map(|part| part.strip_prefix("v="));
        let signature = signature.and_then(|text| STANDARD.decode(text).ok());
        if signature.as_ref() == Some(&self.server_signature) {
            Ok(())
        } else {
            Err("the broker cannot prove that it knows the password: it is somebody else".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, section 3.
    #[test]
    fn scram_sha_256_gives_the_proof_of_the_standard() -> Result<(), String> {
        let mut client = Scram::new(SaslMechanism::ScramSha256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(client.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let challenge =
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(
            client.proof(challenge)?,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        client.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")?;
        assert!(client.check(b"v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").is_err());
        assert!(client.proof(b"r=another,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096").is_err());
        Ok(())
    }
}
