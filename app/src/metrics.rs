//! What is counted while the server runs. What the database knows is counted there when somebody asks
//! ([`crate::http::health`]); no label ever holds a string from outside, so the number of series is bounded.

use crate::model::schedule::FiringState;
use pipelines_spec::protocol::Conclusion;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// Counters and their registry.
pub struct Metrics {
    registry: Registry,
    deliveries: Family<Outcome, Counter>,
    requests: Family<Request, Counter>,
    request_seconds: Histogram,
    forge_calls: Family<Outcome, Counter>,
    passes: Family<Pass, Counter>,
    claimed_jobs: Counter,
    finished_jobs: Family<Outcome, Counter>,
    log_bytes: Counter,
    firings: Family<Outcome, Counter>,
    firing_late_seconds: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pass {
    pass: &'static str,
    outcome: &'static str,
}

impl Metrics {
    /// Everything at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("rivet");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program", build);
        let (deliveries, requests, forge_calls) = (Family::default(), Family::default(), Family::default());
        let passes = Family::default();
        // From half a millisecond to about 16 s.
        let request_seconds = Histogram::new(exponential_buckets(0.0005, 2.0, 16));
        registry.register("deliveries", "Webhook deliveries by what became of them", Family::clone(&deliveries));
        registry.register("http_requests", "Answered requests", Family::clone(&requests));
        registry.register("http_request_seconds", "Time to the answer's first byte", request_seconds.clone());
        registry.register("forge_calls", "Calls to a forge by outcome", Family::clone(&forge_calls));
        registry.register("passes", "Passes of the engine by outcome", Family::clone(&passes));
        let (claimed_jobs, finished_jobs, log_bytes) = (Counter::default(), Family::default(), Counter::default());
        registry.register("jobs_claimed", "Jobs given to runners", claimed_jobs.clone());
        registry.register("jobs_finished", "Jobs that runners ended, by conclusion", Family::clone(&finished_jobs));
        registry.register("log_bytes", "Bytes of logs that runners sent", log_bytes.clone());
        let firings = Family::default();
        // From half a second to about 2 h 20 min.
        let firing_late_seconds = Histogram::new(exponential_buckets(0.5, 2.0, 15));
        registry.register("schedule_firings", "Firings of schedules by outcome", Family::clone(&firings));
        let late = "Time from when a schedule was due until its run was stored";
        registry.register("schedule_late_seconds", late, firing_late_seconds.clone());
        Self {
            registry,
            firings,
            firing_late_seconds,
            claimed_jobs,
            finished_jobs,
            log_bytes,
            deliveries,
            requests,
            request_seconds,
            forge_calls,
            passes,
        }
    }

    /// One delivery: `accepted`, `duplicate`, `ignored`, `refused`.
    pub fn delivery(&self, outcome: &'static str) {
        self.deliveries.get_or_create(&Outcome { outcome }).inc();
    }

    /// Jobs given to a runner.
    pub fn claim(&self, jobs: usize) {
        self.claimed_jobs.inc_by(jobs as u64);
    }

    /// One job that its runner ended.
    pub fn finish(&self, conclusion: Conclusion) {
        let outcome = match conclusion {
            Conclusion::Succeeded => "succeeded",
            Conclusion::Failed => "failed",
            Conclusion::Cancelled => "cancelled",
        };
        self.finished_jobs.get_or_create(&Outcome { outcome }).inc();
    }

    /// Bytes of a log.
    pub fn log_bytes(&self, bytes: usize) {
        self.log_bytes.inc_by(bytes as u64);
    }

    /// One answered request.
    pub fn request(&self, method: &http::Method, status: u16, took: Duration) {
        self.requests.get_or_create(&Request { method: method_name(method), status }).inc();
        self.request_seconds.observe(took.as_secs_f64());
    }

    /// One call to a forge: `ok`, `refused`, `rate_limited`, `unavailable`.
    pub fn forge_call(&self, outcome: &'static str) {
        self.forge_calls.get_or_create(&Outcome { outcome }).inc();
    }

    /// One firing of a schedule that ended.
    pub fn firing(&self, state: FiringState) {
        let outcome = match state {
            FiringState::Pending => return,
            FiringState::Started => "started",
            FiringState::Skipped => "skipped",
            FiringState::Failed => "failed",
        };
        self.firings.get_or_create(&Outcome { outcome }).inc();
    }

    /// How long after its due time a firing's run was stored.
    pub fn firing_late(&self, late: Duration) {
        self.firing_late_seconds.observe(late.as_secs_f64());
    }

    /// One pass of the engine: `ok` or `error`.
    pub fn pass(&self, pass: &'static str, outcome: &'static str) {
        self.passes.get_or_create(&Pass { pass, outcome }).inc();
    }

    /// The text of what was counted, without its closing `# EOF`.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode_registry(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A client may invent methods; the label may not grow by them.
fn method_name(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        _ => "other",
    }
}
