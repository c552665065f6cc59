//! Finds a port for a replica. Nothing reserves it: between here and the engine's own bind a stranger
//! can still take it, and then the engine says so and the start has failed.

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, TcpListener},
};

/// Tries before giving up. The system hands out ports that are free, so more than one try is only
/// needed while a replica that was given a port has not bound it yet.
const TRIES: usize = 64;

/// The port for the next replica: `fixed`, or a free one that no replica in `taken` has if it is 0.
///
/// # Errors
/// Says why there is none, and what would be right.
pub(crate) fn choose(fixed: u16, taken: &BTreeSet<u16>) -> Result<u16, String> {
    if fixed == 0 {
        return free(taken).map_err(|error| format!("no free port on 127.0.0.1: {error}"));
    }
    if taken.contains(&fixed) {
        return Err(format!(
            "port {fixed} is fixed, so only one replica can run; set port to 0 and pass {{port}} to the command"
        ));
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, fixed)).map(|_| fixed).map_err(|error| {
        format!(
            "port {fixed} cannot be used on 127.0.0.1 ({error}); stop what listens there, or set port to 0 and pass {{port}} to the command"
        )
    })
}

fn free(taken: &BTreeSet<u16>) -> io::Result<u16> {
    // Held until one fits, so that the system offers another each time.
    let mut held = Vec::new();
    for _ in 0..TRIES {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        if !taken.contains(&port) {
            return Ok(port);
        }
        held.push(listener);
    }
    Err(io::Error::other(format!("{TRIES} tries gave only ports of replicas that are starting")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_port_is_free_and_not_handed_out_twice() {
        let mut taken = BTreeSet::new();
        for _ in 0..50 {
            let port = choose(0, &taken).unwrap();
            assert!(taken.insert(port), "{port} was handed out twice");
        }
    }

    #[test]
    fn a_fixed_port_serves_one_replica_and_must_be_free() {
        let stranger = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = stranger.local_addr().unwrap().port();
        let error = choose(port, &BTreeSet::new()).unwrap_err();
        assert!(error.contains(&format!("port {port} cannot be used")), "{error}");
        drop(stranger);
        assert_eq!(choose(port, &BTreeSet::new()), Ok(port));
        let error = choose(port, &BTreeSet::from([port])).unwrap_err();
        assert!(error.contains("only one replica can run"), "{error}");
    }
}
