//! What GitHub delivered to the App, or tried to: read with the App's own credentials.

use super::Github;
use super::client::PAGE;
use crate::forge::ForgeError;
use crate::model::time::Timestamp;
use http::Method;
use serde::Deserialize;
use serde_json::Value;

/// One try of GitHub's to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookDelivery {
    /// The try's own id.
    pub id: i64,
    /// The delivery's id, the same for every try.
    pub guid: String,
    /// When.
    pub delivered_at: Timestamp,
    /// Whether it was asked for.
    pub redelivery: bool,
    /// What we answered; 0 where no answer came.
    pub status_code: i64,
    /// The event's name.
    pub event: String,
    /// Its action.
    pub action: Option<String>,
    /// The installation it is about.
    pub installation_id: Option<i64>,
    /// The repository it is about.
    pub repository_id: Option<i64>,
}

#[derive(Deserialize)]
struct Told {
    id: i64,
    guid: String,
    delivered_at: String,
    #[serde(default)]
    redelivery: bool,
    #[serde(default)]
    status_code: i64,
    #[serde(default)]
    event: String,
    action: Option<String>,
    installation_id: Option<i64>,
    repository_id: Option<i64>,
}

impl TryFrom<Told> for HookDelivery {
    type Error = ForgeError;
    fn try_from(told: Told) -> Result<Self, ForgeError> {
        let time = chrono::DateTime::parse_from_rfc3339(&told.delivered_at)
            .map_err(|_| ForgeError::Unavailable("a delivery's time cannot be read".to_owned()))?;
        Ok(Self {
            id: told.id,
            guid: told.guid,
            delivered_at: Timestamp(time.timestamp_millis()),
            redelivery: told.redelivery,
            status_code: told.status_code,
            event: told.event,
            action: told.action,
            installation_id: told.installation_id,
            repository_id: told.repository_id,
        })
    }
}

impl Github {
    /// One page of what was delivered, newest first, and the cursor of the next page.
    pub async fn deliveries(&self, cursor: Option<&str>) -> Result<(Vec<HookDelivery>, Option<String>), ForgeError> {
        let mut route = format!("/app/hook/deliveries?per_page={PAGE}");
        if let Some(cursor) = cursor {
            route.push_str("&cursor=");
            route.extend(url::form_urlencoded::byte_serialize(cursor.as_bytes()));
        }
        let (told, link): (Vec<Told>, Option<String>) = self.page_as_app(&route).await?;
        let told: Result<Vec<_>, _> = told.into_iter().map(HookDelivery::try_from).collect();
        Ok((told?, link.as_deref().and_then(next_cursor)))
    }

    /// What a try delivered: its payload as GitHub keeps it.
    pub async fn delivered_payload(&self, id: i64) -> Result<Value, ForgeError> {
        let mut told: Value = self.get_as_app(&format!("/app/hook/deliveries/{id}")).await?;
        Ok(told["request"]["payload"].take())
    }

    /// Asks GitHub to deliver once more what try `id` delivered.
    pub async fn redeliver(&self, id: i64) -> Result<(), ForgeError> {
        let route = format!("/app/hook/deliveries/{id}/attempts");
        let _: Value = self.call_as_app(Method::POST, &route, None::<&()>).await?;
        Ok(())
    }
}

/// The cursor in a `Link` header's next page. Only the cursor is taken: where pages are is not for an answer to say.
fn next_cursor(link: &str) -> Option<String> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    let address = next.split('<').nth(1)?.split('>').next()?;
    let query = address.split_once('?')?.1;
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "cursor")
        .map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::next_cursor;

    #[test]
    fn the_next_page_is_named_by_its_cursor_alone() {
        let link = r#"<https://h/app/hook/deliveries?per_page=100&cursor=v1_5%2Bx>; rel="next", <https://h/x?cursor=no>; rel="prev""#;
        assert_eq!(next_cursor(link).as_deref(), Some("v1_5+x"));
        assert_eq!(next_cursor(r#"<https://h/x?cursor=no>; rel="prev""#), None);
        assert_eq!(next_cursor("nonsense"), None);
    }
}
