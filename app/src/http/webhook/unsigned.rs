//! Whoever sends deliveries that are not signed may do so only so often. One that is signed is never counted, so it is never
//! dropped, whatever else comes from its address.

use super::refuse;
use crate::http::error::ApiError;
use crate::model::time::Timestamp;
use axum::http::StatusCode;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Unsigned requests of one address in a second, in the long run.
const A_SECOND: f64 = 50.0;
/// So many may come at once.
const AT_ONCE: f64 = 500.0;
/// More addresses than this are not remembered: a flood of them must not become a flood of memory.
const ADDRESSES: usize = 10_000;

/// What each address has left.
#[derive(Default)]
pub(super) struct Unsigned(Mutex<HashMap<IpAddr, Left>>);

struct Left {
    requests: f64,
    at: Timestamp,
}

impl Left {
    fn at(&self, now: Timestamp) -> f64 {
        let seconds = now.since(self.at).max(0) as f64 / 1000.0;
        (self.requests + seconds * A_SECOND).min(AT_ONCE)
    }
}

impl Unsigned {
    /// Counts one unsigned request; refuses it where there were too many.
    pub(super) fn count(&self, address: Option<IpAddr>, now: Timestamp) -> Result<(), ApiError> {
        let Some(address) = address else { return Ok(()) };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ADDRESSES {
            all.retain(|_, left| left.at(now) < AT_ONCE);
        }
        if all.len() >= ADDRESSES && !all.contains_key(&address) {
            return Ok(());
        }
        let left = all.entry(address).or_insert(Left { requests: AT_ONCE, at: now });
        *left = Left { requests: left.at(now), at: now };
        if left.requests < 1.0 {
            let detail = "Too many unsigned requests from this address; signed ones are still taken.";
            let mut error = refuse(StatusCode::TOO_MANY_REQUESTS, "webhook.rate", detail);
            error.retry_after = Some(1);
            return Err(error);
        }
        left.requests -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_hundred_at_once_then_fifty_a_second_by_address() {
        let (unsigned, start) = (Unsigned::default(), Timestamp(1_000_000));
        let (one, other) = (Some(IpAddr::from([192, 0, 2, 1])), Some(IpAddr::from([192, 0, 2, 2])));
        let taken = |address, now| (0..1000).filter(|_| unsigned.count(address, now).is_ok()).count();
        assert_eq!(taken(one, start), 500);
        assert_eq!(taken(one, start.plus_seconds(1)), 50);
        assert_eq!(taken(other, start.plus_seconds(1)), 500, "others are not held up");
        assert_eq!(taken(one, start.plus_seconds(3600)), 500);
        assert_eq!(unsigned.count(one, start.plus_seconds(3600)).unwrap_err().status, 429);
    }
}
