//! Waking what waits: `LISTEN/NOTIFY` on Postgres, an in-process signal on SQLite. A wake-up is only a hint: everything
//! that waits also polls, so a lost one costs time and never work. Register *before* looking, or the hint is missed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

/// What there may be to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display, strum::EnumString, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Topic {
    /// Deliveries to decide about.
    Intake,
    /// Runs whose stages may move on.
    Schedule,
    /// Jobs to claim.
    Jobs,
    /// Reports to make.
    Report,
    /// The instance's own settings, such as its App.
    Settings,
    /// Something a page or a follower shows changed.
    Live,
}

/// Sends and receives hints. Cheap to clone.
#[derive(Clone)]
pub struct Wake {
    sender: broadcast::Sender<Topic>,
    /// To the task that tells other instances, on Postgres.
    others: Option<mpsc::UnboundedSender<Topic>>,
    /// Holds the embedded database's lock for as long as the store lives.
    _lock: Option<Arc<std::fs::File>>,
}

const CHANNEL: &str = "rivet_wake";
/// Hints at one topic that follow each other within this time are told to other instances together.
const TOGETHER: Duration = Duration::from_millis(10);

impl Wake {
    pub(super) fn in_process(lock: std::fs::File) -> Self {
        Self { sender: broadcast::channel(1024).0, others: None, _lock: Some(Arc::new(lock)) }
    }

    /// Listens on a connection of its own for as long as the store lives; a lost connection is made again.
    pub(super) fn postgres(pool: sqlx::PgPool) -> Self {
        let sender = broadcast::channel(1024).0;
        let (others, topics) = mpsc::unbounded_channel();
        tokio::spawn(listen(pool.clone(), sender.clone()));
        tokio::spawn(tell(pool, topics));
        Self { sender, others: Some(others), _lock: None }
    }

    /// A receiver of every hint from now on. A lagging receiver gets an error, which is a hint for everything.
    pub fn subscribe(&self) -> broadcast::Receiver<Topic> {
        self.sender.subscribe()
    }

    /// Hints at `topic` to this process at once and to every other instance soon. Call it after the commit.
    pub async fn notify(&self, topic: Topic) {
        // No receiver is no error: nobody waits.
        let _ = self.sender.send(topic);
        if let Some(others) = &self.others {
            // The task ends with the pool only, when nobody waits any more.
            let _ = others.send(topic);
        }
        // Those who were woken get their turn before the caller goes on.
        tokio::task::yield_now().await;
    }
}

/// Tells other instances. The first hint at a topic goes at once; those that follow it closely go together, so that a busy
/// server tells others no more than a hundred times a second and an idle one tells without delay.
async fn tell(pool: sqlx::PgPool, mut topics: mpsc::UnboundedReceiver<Topic>) {
    const SEND: &str =
        "SELECT pg_notify($1, topic) FROM (SELECT DISTINCT unnest(string_to_array($2, ',')) AS topic) AS topics";
    let mut told: HashMap<Topic, Instant> = HashMap::new();
    // When the first of the topics that wait has to go.
    let mut due: Option<Instant> = None;
    let mut waiting: HashSet<Topic> = HashSet::new();
    loop {
        let next = match due {
            Some(due) => tokio::time::timeout_at(due, topics.recv()).await.ok(),
            None => Some(topics.recv().await),
        };
        match next {
            Some(Some(topic)) => {
                let at = told.get(&topic).map_or_else(Instant::now, |told| *told + TOGETHER);
                due = Some(due.map_or(at, |due| due.min(at)));
                waiting.insert(topic);
            }
            Some(None) => return,
            None => {
                let texts: Vec<String> = waiting.iter().map(ToString::to_string).collect();
                if let Err(error) = sqlx::query(SEND).bind(CHANNEL).bind(texts.join(",")).execute(&pool).await {
                    tracing::debug!(%error, "a wake-up could not be sent; polling makes up for it");
                }
                let now = Instant::now();
                told.extend(waiting.drain().map(|topic| (topic, now)));
                due = None;
            }
        }
    }
}

async fn listen(pool: sqlx::PgPool, sender: broadcast::Sender<Topic>) {
    while !pool.is_closed() {
        if let Err(error) = listen_once(&pool, &sender).await {
            tracing::debug!(%error, "listening for wake-ups was interrupted; trying again in a second");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn listen_once(pool: &sqlx::PgPool, sender: &broadcast::Sender<Topic>) -> Result<(), sqlx::Error> {
    let mut listener = sqlx::postgres::PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        let notification = listener.recv().await?;
        if let Ok(topic) = notification.payload().parse::<Topic>() {
            let _ = sender.send(topic);
        }
    }
}
