//! Storing deliveries together: requests that come while a commit is under way share the next one, so that many
//! deliveries cost one write to disk. Each request is answered only after the commit that holds its row.

use crate::context::Context;
use crate::store::deliveries::{MOST_AT_ONCE, NewDelivery};
use crate::store::wake::Topic;
use crate::store::{Error, Result, Store};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

/// The most deliveries of one commit.
const BATCH_ROWS: usize = MOST_AT_ONCE;
/// The most payload bytes of one commit, unless one delivery alone has more.
const BATCH_BYTES: usize = 8 << 20;
/// Requests that may wait for the writer; more wait outside.
const WAITING: usize = 1024;
/// How long a request waits for its commit: the forge gives up soon after.
const ANSWER_TIME: Duration = Duration::from_secs(3);

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kept {
    /// Stored, to be processed.
    New,
    /// It was stored before.
    Duplicate,
    /// Stored, of no use.
    Ignored(String),
}

/// Why nothing was stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotKept {
    /// The database refused.
    #[error("{0}")]
    Store(Arc<Error>),
    /// The writer ended.
    #[error("the writer of deliveries ended")]
    Ended,
    /// The database takes too long. The delivery may yet be stored; its repeat is then a duplicate.
    #[error("the database did not answer within {} seconds", ANSWER_TIME.as_secs())]
    Slow,
}

struct Waiting {
    incoming: NewDelivery,
    answer: oneshot::Sender<Result<Kept, NotKept>>,
}

/// Hands deliveries to the one writer of this process, which is started with the first of them and ends with the router.
#[derive(Default)]
pub(super) struct Inbox {
    writer: Mutex<Option<mpsc::Sender<Waiting>>>,
}

impl Inbox {
    /// Stores `incoming` and answers once that is durable.
    pub(super) async fn keep(&self, context: &Context, incoming: NewDelivery) -> Result<Kept, NotKept> {
        let (answer, kept) = oneshot::channel();
        let writer = self.writer(&context.store);
        let stored = async {
            writer.send(Waiting { incoming, answer }).await.map_err(|_| NotKept::Ended)?;
            kept.await.map_err(|_| NotKept::Ended)?
        };
        tokio::time::timeout(ANSWER_TIME, stored).await.map_err(|_| NotKept::Slow)?
    }

    fn writer(&self, store: &Store) -> mpsc::Sender<Waiting> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match writer.as_ref().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender.clone(),
            None => {
                let (sender, receiver) = mpsc::channel(WAITING);
                tokio::spawn(write_all(store.clone(), receiver));
                writer.insert(sender).clone()
            }
        }
    }
}

/// The writer: takes what waits, commits it, answers, until nobody can send any more.
async fn write_all(store: Store, mut waiting: mpsc::Receiver<Waiting>) {
    let news = Arc::new(Notify::new());
    let waker = tokio::spawn(wake_intake(store.clone(), news.clone()));
    let mut batch = Vec::with_capacity(BATCH_ROWS);
    let mut held_over = None;
    loop {
        let first = match held_over.take() {
            Some(first) => Some(first),
            None => waiting.recv().await,
        };
        let Some(first) = first else { break };
        held_over = fill(&mut batch, first, &mut waiting);
        write(&store, &mut batch, &news).await;
    }
    waker.abort();
}

/// Fills a batch with what waits already; answers the delivery that no longer fitted.
fn fill(batch: &mut Vec<Waiting>, first: Waiting, waiting: &mut mpsc::Receiver<Waiting>) -> Option<Waiting> {
    let mut bytes = first.incoming.payload.len();
    batch.push(first);
    while batch.len() < BATCH_ROWS {
        let Ok(next) = waiting.try_recv() else { break };
        bytes += next.incoming.payload.len();
        if bytes > BATCH_BYTES {
            return Some(next);
        }
        batch.push(next);
    }
    None
}

async fn write(store: &Store, batch: &mut Vec<Waiting>, news: &Notify) {
    let (mut rows, mut answers) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
    for waiting in batch.drain(..) {
        rows.push(waiting.incoming);
        answers.push(waiting.answer);
    }
    match store_all(store, &rows).await {
        Ok(kept) => {
            if kept.contains(&Kept::New) {
                news.notify_one();
            }
            // A client that went away meanwhile is no error: its delivery is stored.
            answers.into_iter().zip(kept).for_each(|(answer, kept)| drop(answer.send(Ok(kept))));
        }
        Err(error) => {
            let error = Arc::new(error);
            answers.into_iter().for_each(|answer| drop(answer.send(Err(NotKept::Store(error.clone())))));
        }
    }
}

async fn store_all(store: &Store, rows: &[NewDelivery]) -> Result<Vec<Kept>> {
    let recorded = store.record_deliveries(rows).await?;
    let mut new: HashMap<String, Option<String>> = recorded.into_iter().map(|row| (row.id.0, row.reason)).collect();
    // Of two with one id in the same batch the first is the new one.
    let kept = |row: &NewDelivery| match new.remove(&row.guid) {
        None => Kept::Duplicate,
        Some(Some(reason)) => Kept::Ignored(reason),
        Some(None) => Kept::New,
    };
    Ok(rows.iter().map(kept).collect())
}

/// Wakes intake beside the writer, so that no commit waits for it; what piles up meanwhile is one hint.
async fn wake_intake(store: Store, news: Arc<Notify>) {
    loop {
        news.notified().await;
        store.wake.notify(Topic::Intake).await;
    }
}
