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
/// Points of one installation within a minute, all servers together; GitHub's limit is 900. A read costs 1, a write 5.
pub const POINTS_A_MINUTE: f64 = 600.0;
/// How many of a minute's points may be spent at once. With what comes back meanwhile that is 850 in the worst minute.
const BURST: f64 = 250.0 / 600.0;
/// The longest a call waits for its points; a longer wait is the caller's to plan.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The shortest silence after a secondary limit that names no time; it doubles with each further one.
const SECONDARY_SECONDS: u64 = 60;
const LONGEST_SECONDS: u64 = 3600;

pub(super) struct Limits {
    calls: Semaphore,
    state: Mutex<State>,
}

/// By whose limit it is: an installation, or 0 for the App itself.
struct State {
    /// What this server may spend a minute.
    rate: f64,
    points: HashMap<i64, Points>,
    silent: HashMap<i64, Silence>,
}

#[derive(Clone, Copy)]
struct Points {
    left: f64,
    filled_at: Timestamp,
}

struct Silence {
    until: Timestamp,
    in_a_row: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let state = State { rate: POINTS_A_MINUTE, points: HashMap::new(), silent: HashMap::new() };
        Self { calls: Semaphore::new(CONCURRENT), state: Mutex::new(state) }
    }
}

impl Limits {
    /// From now on so many points a minute: this server's share of what all of them may spend.
    pub(super) fn pace(&self, points_a_minute: f64) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).rate = points_a_minute;
    }

    /// Until when each installation is silent that has to be at `now`.
    pub(super) fn silences(&self, now: Timestamp) -> Vec<(i64, Timestamp)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.silent.iter().filter(|(_, s)| s.until > now).map(|(whose, s)| (*whose, s.until)).collect()
    }

    /// Another server was asked to be silent on `whose` behalf.
    pub(super) fn hush(&self, whose: i64, until: Timestamp) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let silence = state.silent.entry(whose).or_insert(Silence { until, in_a_row: 0 });
        silence.until = silence.until.max(until);
    }

    /// Waits for a turn to spend `points` on `whose` behalf; refuses while GitHub asked for silence.
    pub(super) async fn turn(&self, whose: i64, points: f64) -> Result<SemaphorePermit<'_>, ForgeError> {
        let wait = self.spend(whose, points, Timestamp::now())?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        // Only now: who waits for points of one installation must not take the turns of all others.
        self.calls.acquire().await.map_err(|_| ForgeError::Unavailable("shutting down".into()))
    }

    /// Takes the points, on credit of the time to be waited.
    fn spend(&self, whose: i64, points: f64, now: Timestamp) -> Result<Duration, ForgeError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(silence) = state.silent.get(&whose).filter(|silence| silence.until > now) {
            return Err(ForgeError::RateLimited { until: silence.until });
        }
        let (burst, a_second) = (state.rate * BURST, state.rate / 60.0);
        let had = state.points.get(&whose).copied().unwrap_or(Points { left: burst, filled_at: now });
        let passed = now.since(had.filled_at).max(0) as f64 / 1000.0;
        let left = (had.left + passed * a_second).min(burst);
        let wait = Duration::from_secs_f64(((points - left) / a_second).max(0.0));
        if wait > LONGEST_WAIT {
            let millis = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
            return Err(ForgeError::RateLimited { until: now.plus_millis(millis) });
        }
        state.points.insert(whose, Points { left: left - points, filled_at: now });
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
        assert_eq!(limits.spend(8, 5.0, NOW), Ok(Duration::ZERO), "another installation has its own");
        let minute: usize = (0..60)
            .map(|s| (0..100).filter(|_| limits.spend(7, 5.0, NOW.plus_seconds(10 + s)) == Ok(Duration::ZERO)).count())
            .sum();
        assert!(minute * 5 <= 900, "{minute}");
    }

    #[tokio::test]
    async fn who_waits_for_points_takes_no_turn_from_others() {
        let limits = Limits::default();
        for _ in 0..50 {
            limits.spend(7, 5.0, Timestamp::now()).unwrap();
        }
        // As many as there are turns wait for points of installation 7, all of them for less than the longest wait. The
        // turns they get are kept until the last one has its own: did they take them before, there would be none.
        let waiting = futures::future::try_join_all((0..CONCURRENT).map(|_| limits.turn(7, 4.0)));
        tokio::select! {
            biased;
            all = waiting => panic!("another installation's call waited for {} others", all.map_or(0, |all| all.len())),
            turn = limits.turn(8, 1.0) => assert!(turn.is_ok()),
        }
    }

    #[test]
    fn servers_share_what_may_be_spent_and_the_silence() {
        let limits = Limits::default();
        limits.pace(POINTS_A_MINUTE / 2.0);
        let spent = (0..50).filter(|_| limits.spend(7, 5.0, NOW) == Ok(Duration::ZERO)).count();
        assert_eq!(spent, 25);
        limits.hush(7, NOW.plus_seconds(30));
        assert!(limits.spend(7, 1.0, NOW.plus_seconds(29)).is_err());
        assert_eq!(limits.silences(NOW), [(7, NOW.plus_seconds(30))]);
        assert_eq!(limits.silences(NOW.plus_seconds(31)), []);
    }
}
