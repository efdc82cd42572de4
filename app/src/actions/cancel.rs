//! Cancels a run: what nobody holds ends at once, runners are told with their next heartbeat.

use crate::context::Context;
use crate::engine::advance::{Error, advance};
use crate::model::ids::RunId;
use crate::model::time::Timestamp;

/// Asks for the end of a run, for a reason people will read. A run that is being cancelled already is no error; one that is
/// over is [`Error::Refused`].
pub async fn cancel(context: &Context, run: &RunId, reason: &str, now: Timestamp) -> Result<(), Error> {
    advance(context, run, now, |graph| {
        if graph.run.state.is_over() {
            return Err(Error::Refused(format!("Run #{} is {} already.", graph.run.number, graph.run.state)));
        }
        if !graph.run.cancel_requested {
            graph.run.cancel_requested = true;
            graph.run.cancel_reason = Some(reason.to_owned());
            graph.run.dirty = true;
            graph.note(None, "cancel_requested", reason);
        }
        Ok(())
    })
    .await
}
