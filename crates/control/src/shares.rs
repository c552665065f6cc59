//! Who of several gateways may use how many of a replica's slots.

/// What one gateway does and wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Requests that it has at the replica.
    pub(crate) in_flight: u32,
    /// Requests that wait there for any replica.
    pub(crate) waiting: u64,
}

/// Divides the slots of one replica.
///
/// Each gateway keeps those that it uses. The free ones go to those where requests wait, in proportion; what is left
/// then is spread evenly, so that each can take the next request at once, and `turn` says who is the first to get one
/// more. Nobody is left without any, even if that makes more slots than there are: its clients would wait for ever.
pub(crate) fn divide(slots: u32, claims: &[Claim], turn: usize) -> Vec<u32> {
    let used: Vec<u64> = claims.iter().map(|claim| u64::from(claim.in_flight)).collect();
    let mut shares = apportion(slots, &used);
    let free = |shares: &[u32]| slots - shares.iter().sum::<u32>();
    let waiting: Vec<u64> = claims.iter().map(|claim| claim.waiting).collect();
    let wanted = apportion(free(&shares), &waiting);
    for (share, more) in shares.iter_mut().zip(wanted) {
        *share += more;
    }
    let (left, count) = (free(&shares), claims.len());
    for (index, share) in shares.iter_mut().enumerate() {
        let place = (index + count - turn % count) % count;
        let more = left / count as u32 + u32::from((place as u32) < left % count as u32);
        *share = (*share + more).max(1);
    }
    shares
}

/// Gives everybody what it wants; where there is too little, in proportion, by the largest remainders.
fn apportion(slots: u32, wanted: &[u64]) -> Vec<u32> {
    let total = wanted.iter().fold(0_u64, |sum, &wanted| sum.saturating_add(wanted));
    if total <= u64::from(slots) {
        return wanted.iter().map(|&wanted| wanted as u32).collect();
    }
    let exact = |wanted: u64| u128::from(wanted) * u128::from(slots);
    let mut shares: Vec<u32> =
        wanted.iter().map(|&wanted| (exact(wanted) / u128::from(total)) as u32).collect();
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(exact(wanted[index]) % u128::from(total)));
    let left = slots - shares.iter().sum::<u32>();
    for &index in order.iter().take(left as usize) {
        shares[index] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(pairs: &[(u32, u64)]) -> Vec<Claim> {
        pairs.iter().map(|&(in_flight, waiting)| Claim { in_flight, waiting }).collect()
    }

    #[test]
    fn slots_go_where_they_are_used_and_then_where_requests_wait() {
        struct Case {
            what: &'static str,
            slots: u32,
            claims: &'static [(u32, u64)],
            turn: usize,
            shares: &'static [u32],
        }
        let cases = [
            Case { what: "idle", slots: 8, claims: &[(0, 0), (0, 0), (0, 0)], turn: 0, shares: &[3, 3, 2] },
            Case {
                what: "another turn",
                slots: 8,
                claims: &[(0, 0), (0, 0), (0, 0)],
                turn: 4,
                shares: &[2, 3, 3],
            },
            Case { what: "one is busy", slots: 8, claims: &[(5, 40), (0, 0)], turn: 0, shares: &[8, 1] },
            Case { what: "both wait", slots: 8, claims: &[(2, 30), (0, 10)], turn: 0, shares: &[7, 1] },
            Case { what: "few wait", slots: 8, claims: &[(2, 1), (0, 0)], turn: 0, shares: &[6, 2] },
            Case { what: "too many there", slots: 4, claims: &[(6, 0), (2, 9)], turn: 0, shares: &[3, 1] },
            Case {
                what: "more gateways than slots",
                slots: 2,
                claims: &[(1, 0), (1, 9), (0, 5)],
                turn: 0,
                shares: &[1, 1, 1],
            },
            Case { what: "alone", slots: 4, claims: &[(1, 0)], turn: 7, shares: &[4] },
        ];
        for Case { what, slots, claims: pairs, turn, shares } in cases {
            assert_eq!(divide(slots, &claims(pairs), turn), shares, "{what}");
        }
    }

    #[test]
    fn never_more_than_there_are_but_for_the_last_resort_and_never_fewer() {
        for slots in 0..12 {
            for in_flight in [[0, 0, 0], [1, 2, 3], [9, 0, 0], [4, 4, 4]] {
                for waiting in [[0, 0, 0], [1, 0, 0], [5, 7, 100], [u64::MAX / 4; 3]] {
                    for turn in 0..4 {
                        let claims: Vec<Claim> = in_flight
                            .iter()
                            .zip(waiting)
                            .map(|(&in_flight, waiting)| Claim { in_flight, waiting })
                            .collect();
                        let shares = divide(slots, &claims, turn);
                        let sum: u32 = shares.iter().sum();
                        assert!(sum >= slots && sum <= slots + 3, "{slots} {claims:?} {shares:?}");
                        assert!(shares.iter().all(|&share| share > 0), "{slots} {claims:?} {shares:?}");
                        if shares.iter().all(|&share| share > 1) {
                            assert_eq!(sum, slots, "{claims:?} {shares:?}");
                        }
                    }
                }
            }
        }
    }
}
