//! Check runs and commit statuses. What GitHub would refuse or silently cut is cut here, on a character's border.

use super::Github;
use super::client::{PAGE, Purpose};
use crate::forge::{CheckRun, CommitStatus, ForgeError, RepoFacts};
use crate::model::time::Timestamp;
use http::Method;
use pipelines_spec::protocol::Annotation;
use serde::Deserialize;
use serde_json::{Value, json};

/// Bytes of a summary: GitHub refuses more.
const TEXT_BYTES: usize = 65_535;
/// Annotations of one request.
pub const ANNOTATIONS: usize = 50;
/// Pages of check runs that are looked through: 1,000 runs of one name is what GitHub keeps.
const CHECK_PAGES: usize = 10;

#[derive(Deserialize)]
struct Created {
    id: i64,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    check_runs: Vec<ListedRun>,
}

#[derive(Deserialize)]
struct ListedRun {
    id: i64,
    external_id: Option<String>,
}

impl Github {
    /// See [`crate::forge::Forge::find_check`].
    pub async fn find_check(&self, repo: &RepoFacts, check: &CheckRun) -> Result<Option<i64>, ForgeError> {
        let name: String = url::form_urlencoded::byte_serialize(check.name.as_bytes()).collect();
        for page in 1..=CHECK_PAGES {
            let route = format!(
                "commits/{}/check-runs?check_name={name}&filter=all&per_page={PAGE}&page={page}",
                check.head_sha
            );
            let listed: Listed = self.call(repo, Purpose::Report, Method::GET, &route, None::<&()>).await?;
            let ours = listed.check_runs.iter().find(|run| run.external_id.as_deref() == Some(&check.external_id));
            if let Some(run) = ours {
                return Ok(Some(run.id));
            }
            if listed.check_runs.len() < PAGE {
                break;
            }
        }
        Ok(None)
    }

    /// See [`crate::forge::Forge::count_annotations`].
    pub async fn count_annotations(&self, repo: &RepoFacts, id: i64) -> Result<usize, ForgeError> {
        let route = format!("check-runs/{id}");
        let found: Value = self.call(repo, Purpose::Report, Method::GET, &route, None::<&()>).await?;
        let count = found["output"]["annotations_count"].as_u64().and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| ForgeError::Unavailable("its answer names no number of annotations".to_owned()))
    }

    /// See [`crate::forge::Forge::create_check`].
    pub async fn create_check(&self, repo: &RepoFacts, check: &CheckRun) -> Result<i64, ForgeError> {
        let first = &check.annotations[..check.annotations.len().min(ANNOTATIONS)];
        let mut body = check_body(check, first);
        body["head_sha"] = check.head_sha.as_str().into();
        let created: Created = self.call(repo, Purpose::Report, Method::POST, "check-runs", Some(&body)).await?;
        Ok(created.id)
    }

    /// See [`crate::forge::Forge::update_check`].
    pub async fn update_check(
        &self,
        repo: &RepoFacts,
        id: i64,
        check: &CheckRun,
        annotations: &[Annotation],
    ) -> Result<(), ForgeError> {
        let more = &annotations[..annotations.len().min(ANNOTATIONS)];
        let body = check_body(check, more);
        let route = format!("check-runs/{id}");
        let _: Created = self.call(repo, Purpose::Report, Method::PATCH, &route, Some(&body)).await?;
        Ok(())
    }

    /// See [`crate::forge::Forge::set_status`].
    pub async fn set_status(&self, repo: &RepoFacts, sha: &str, status: &CommitStatus) -> Result<(), ForgeError> {
        let body = json!({
            "state": status.state,
            "context": chars(&status.context, 255),
            "description": chars(&status.description, 140),
            "target_url": status.target_url,
        });
        let _: Value = self.call(repo, Purpose::Report, Method::POST, &format!("statuses/{sha}"), Some(&body)).await?;
        Ok(())
    }
}

fn check_body(check: &CheckRun, annotations: &[Annotation]) -> Value {
    let mut output = json!({
        "title": if check.title.is_empty() { check.name.as_str() } else { bytes(&check.title, 255) },
        "summary": bytes(&check.summary, TEXT_BYTES),
    });
    if !annotations.is_empty() {
        output["annotations"] = annotations.iter().map(annotation_body).collect();
    }
    let mut body = json!({
        "name": check.name,
        "external_id": check.external_id,
        "details_url": check.details_url,
        "status": check.status,
        "output": output,
        "actions": check.actions.iter().take(3).map(|button| json!({
            "label": chars(&button.label, 20),
            "description": chars(&button.description, 40),
            "identifier": chars(&button.identifier, 20),
        })).collect::<Value>(),
    });
    if let Some(conclusion) = &check.conclusion {
        body["conclusion"] = conclusion.as_str().into();
        body["completed_at"] = check.completed_at.map(seconds).into();
    }
    if let Some(started) = check.started_at {
        body["started_at"] = seconds(started).into();
    }
    if body["completed_at"].is_null()
        && let Some(object) = body.as_object_mut()
    {
        object.remove("completed_at");
    }
    body
}

fn annotation_body(annotation: &Annotation) -> Value {
    let first = annotation.line.max(1);
    let mut body = json!({
        "path": annotation.path.trim_start_matches("./"),
        "start_line": first,
        "end_line": annotation.end_line.unwrap_or(first).max(first),
        "annotation_level": annotation.level.to_string(),
        "message": bytes(if annotation.message.is_empty() { "(no message)" } else { &annotation.message }, 64 << 10),
    });
    if let Some(title) = &annotation.title {
        body["title"] = chars(title, 255).into();
    }
    body
}

/// GitHub's times have no fractions.
fn seconds(time: Timestamp) -> String {
    chrono::DateTime::from_timestamp_millis(time.0)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// At most `limit` bytes of `text`, whole characters.
fn bytes(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// At most `limit` characters of `text`.
pub(super) fn chars(text: &str, limit: usize) -> &str {
    text.char_indices().nth(limit).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_fall_on_borders() {
        assert_eq!(bytes("aéé", 2), "a");
        assert_eq!(bytes("aéé", 3), "aé");
        assert_eq!(chars("aéé", 2), "aé");
        assert_eq!(chars("aé", 2), "aé");
        assert_eq!(bytes(&"é".repeat(40_000), TEXT_BYTES).len(), 65_534);
    }
}
