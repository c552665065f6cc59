//! Who asks, and that nobody changed what: HMAC-SHA256 over the time and the body.

use aws_lc_rs::hmac;

/// The header of the signature: `t=<seconds since 1970>,v1=<HMAC-SHA256 in hex of "t.body">`.
pub const HEADER: &str = "forewarm-signature";

/// The header's value for a body that is sent at this time.
pub(crate) fn header(secret: &[u8], unix_seconds: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    context.update(format!("{unix_seconds}.").as_bytes());
    context.update(body);
    format!("t={unix_seconds},v1={}", hex(context.sign().as_ref()))
}

/// Small letters and digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_openssl_computes() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac swordfish
        let expected = "t=1700000000,v1=8f1701c54ae5132691656d186f95251b9ae92f79d732c3a8d1037301c9d4513c";
        assert_eq!(header(b"swordfish", 1_700_000_000, br#"{"a":1}"#), expected);
    }
}
