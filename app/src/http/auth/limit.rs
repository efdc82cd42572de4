//! How often somebody may be wrong. Kept in memory: it slows guessing down, it is not a ledger.

use crate::model::time::Timestamp;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

const WINDOW_MILLIS: i64 = 15 * 60 * 1000;
const FAILURES: usize = 10;
/// More addresses than this are not remembered: a flood of them must not become a flood of memory.
const ADDRESSES: usize = 10_000;

/// Counts failures by address: ten in fifteen minutes, then none for a while.
#[derive(Clone, Default)]
pub struct FailureLimit {
    failures: Arc<Mutex<HashMap<Option<IpAddr>, Vec<Timestamp>>>>,
}

impl FailureLimit {
    /// `Err` with the seconds to wait, where `address` has failed too often.
    pub fn check(&self, address: Option<IpAddr>, now: Timestamp) -> Result<(), u64> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(times) = failures.get_mut(&address) else { return Ok(()) };
        times.retain(|time| now.since(*time) < WINDOW_MILLIS);
        match times.first() {
            Some(first) if times.len() >= FAILURES => {
                let wait = (WINDOW_MILLIS - now.since(*first)) / 1000 + 1;
                Err(u64::try_from(wait).unwrap_or(1))
            }
            _ => Ok(()),
        }
    }

    /// Notes a failure.
    pub fn failed(&self, address: Option<IpAddr>, now: Timestamp) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= ADDRESSES {
            failures.retain(|_, times| times.last().is_some_and(|last| now.since(*last) < WINDOW_MILLIS));
        }
        if failures.len() < ADDRESSES || failures.contains_key(&address) {
            failures.entry(address).or_default().push(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eleventh_failure_in_a_quarter_of_an_hour_waits() {
        let limit = FailureLimit::default();
        let start = Timestamp(1_000_000);
        for n in 0..10 {
            let now = start.plus_seconds(n);
            assert_eq!(limit.check(None, now), Ok(()));
            limit.failed(None, now);
        }
        assert_eq!(limit.check(None, start.plus_seconds(10)), Err(891));
        assert_eq!(limit.check(Some(IpAddr::from([127, 0, 0, 1])), start), Ok(()), "others are not held up");
        assert_eq!(limit.check(None, start.plus_seconds(15 * 60)), Ok(()));
    }
}
