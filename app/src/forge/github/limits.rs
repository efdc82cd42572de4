//! GitHub's limits, obeyed from below: few calls at once, a bounded number of points a minute, and silence for as long
//! as GitHub asks for it. Ignoring them can get an App banned.

use crate::forge::ForgeError;
use crate::model::time::Timestamp;
use http::{HeaderMap, StatusCode};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Calls at once; GitHub's limit is 100.
const CONCURRENT: usize = 10;
/// Points that may be spent at once, and how many come back a second: at most 600 a minute in the long run, where
/// GitHub's limit is 900. A read costs 1, a write 5.
const BURST: f64 = 250.0;
const POINTS_A_SECOND: f64 = 10.0;
/// The longest a call waits for its points; a longer wait is the caller's to plan.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The shortest silence after a secondary limit that names no time; it doubles with each further one.
const SECONDARY_SECONDS: u64 = 60;
const LONGEST_SECONDS: u64 = 3600;

pub(super) struct Limits {
    calls: Semaphore,
    state: Mutex<State>,
}

struct State {
    points: f64,
    filled_at: Timestamp,
    /// By whose limit it is: an installation, or 0 for the App itself.
    silent: HashMap<i64, Silence>,
}

struct Silence {
    until: Timestamp,
    in_a_row: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let state = State { points: BURST, filled_at: Timestamp(0), silent: HashMap::new() };
        Self { calls: Semaphore::new(CONCURRENT), state: Mutex::new(state) }
    }
}

impl Limits {
    /// Waits for a turn to spend `points` on `whose` behalf; refuses while GitHub asked for silence.
    pub(super) async fn turn(&self, whose: i64, points: f64) -> Result<SemaphorePermit<'_>, ForgeError> {
        let permit = self.calls.acquire().await.map_err(|_| ForgeError::Unavailable("shutting down".into()))?;
        let wait = self.spend(whose, points, Timestamp::now())?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(permit)
    }

    /// Takes the points, on credit of the time to be waited.
    fn spend(&self, whose: i64, points: f64, now: Timestamp) -> Result<Duration, ForgeError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(silence) = state.silent.get(&whose).filter(|silence| silence.until > now) {
            return Err(ForgeError::RateLimited { until: silence.until });
        }
        let passed = now.since(state.filled_at).max(0) as f64 / 1000.0;
        state.points = (state.points + passed * POINTS_A_SECOND).min(BURST);
        state.filled_at = now;
        let short = points - state.points;
        let wait = Duration::from_secs_f64((short / POINTS_A_SECOND).max(0.0));
        if wait > LONGEST_WAIT {
            let millis = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
            return Err(ForgeError::RateLimited { until: now.plus_millis(millis) });
        }
        state.points -= points;
        Ok(wait)
    }

    /// Learns from an answer; says until when to be silent, if GitHub refused because of a limit.
    pub(super) fn learn(
        &self,
        whose: i64,
        status: StatusCode,
        headers: &HeaderMap,
        message: &str,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
        let spent = number("x-ratelimit-remaining") == Some(0);
        let reset = number("x-ratelimit-reset").and_then(|s| i64::try_from(s.saturating_mul(1000)).ok()).map(Timestamp);
        let limited = matches!(status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS);
        let secondary = message.to_lowercase().contains("rate limit");
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let in_a_row = state.silent.get(&whose).map_or(0, |silence| silence.in_a_row);
        let until = if !limited && !spent {
            if status.is_success() {
                state.silent.remove(&whose);
            }
            return None;
        } else if let Some(seconds) = number("retry-after").filter(|_| limited) {
            now.plus_seconds(seconds.clamp(1, LONGEST_SECONDS))
        } else if let Some(reset) = reset.filter(|reset| spent && *reset > now) {
            reset.min(now.plus_seconds(2 * LONGEST_SECONDS))
        } else if limited && (secondary || status == StatusCode::TOO_MANY_REQUESTS) {
            now.plus_seconds((SECONDARY_SECONDS << in_a_row.min(6)).min(LONGEST_SECONDS))
        } else {
            return None;
        };
        state.silent.insert(whose, Silence { until, in_a_row: in_a_row + u32::from(limited) });
        limited.then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn learn(limits: &Limits, status: u16, headers: &[(&'static str, &str)], message: &str) -> Option<i64> {
        let headers = headers.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
        let until = limits.learn(7, StatusCode::from_u16(status).unwrap(), &headers, message, NOW);
        until.map(|until| until.since(NOW) / 1000)
    }

    #[test]
    fn silence_is_as_long_as_github_says() {
        let limits = Limits::default();
        assert_eq!(learn(&limits, 403, &[], "Resource not accessible by integration"), None);
        assert_eq!(learn(&limits, 403, &[("retry-after", "17")], ""), Some(17));
        assert!(matches!(limits.spend(7, 1.0, NOW), Err(ForgeError::RateLimited { .. })));
        assert!(limits.spend(8, 1.0, NOW).is_ok(), "another installation's limit is its own");
        let reset = (NOW.0 / 1000 + 90).to_string();
        assert_eq!(learn(&limits, 403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &reset)], ""), Some(90));
        // The last call that was allowed: silence begins before the next one is refused.
        let limits = Limits::default();
        assert_eq!(learn(&limits, 200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &reset)], ""), None);
        assert!(limits.spend(7, 1.0, NOW).is_err());
        assert!(limits.spend(7, 1.0, NOW.plus_seconds(91)).is_ok());
    }

    #[test]
    fn a_secondary_limit_is_at_least_a_minute_and_doubles() {
        let limits = Limits::default();
        let message = "You have exceeded a secondary rate limit.";
        assert_eq!(learn(&limits, 403, &[], message), Some(60));
        assert_eq!(learn(&limits, 403, &[], message), Some(120));
        assert_eq!(learn(&limits, 429, &[], ""), Some(240));
        assert_eq!(learn(&limits, 200, &[], ""), None);
        assert_eq!(learn(&limits, 403, &[], message), Some(60));
    }

    #[test]
    fn points_run_out_and_come_back() {
        let limits = Limits::default();
        for _ in 0..50 {
            assert_eq!(limits.spend(7, 5.0, NOW), Ok(Duration::ZERO));
        }
        assert_eq!(limits.spend(7, 5.0, NOW), Ok(Duration::from_millis(500)));
        assert_eq!(limits.spend(7, 5.0, NOW.plus_seconds(10)), Ok(Duration::ZERO));
        let minute: usize = (0..60)
            .map(|s| (0..100).filter(|_| limits.spend(7, 5.0, NOW.plus_seconds(10 + s)) == Ok(Duration::ZERO)).count())
            .sum();
        assert!(minute * 5 <= 900, "{minute}");
    }
}
