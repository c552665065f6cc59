//! Our HTTP/1.1 beside hyper's, on the same bytes.

mod client;
mod replica;

use proptest::{collection::vec, prelude::*};

use crate::headers::Headers;

/// In an order of their own.
fn sorted(headers: &Headers) -> Vec<(String, Vec<u8>)> {
    let line = |(name, value): (&[u8], &[u8])| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec());
    let mut headers: Vec<_> = headers.iter().map(line).collect();
    headers.sort();
    headers
}

/// The same with up to so many bytes changed, left out or doubled, in pieces.
fn harmed(message: impl Strategy<Value = Vec<u8>>, most: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let harm = vec((any::<prop::sample::Index>(), 0..3_u8, any::<u8>()), 0..=most);
    let cuts = vec(any::<prop::sample::Index>(), 0..4);
    (message, harm, cuts).prop_map(|(mut bytes, harm, cuts)| {
        for (at, what, byte) in harm {
            let at = at.index(bytes.len());
            match what {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|cut| bytes[cut[0]..cut[1]].to_vec()).filter(|piece| !piece.is_empty()).collect()
    })
}
