//! Containers beside a stage.

use super::checker::{Checker, Fields};
use super::values::is_host;
use crate::plan::{Ready, Service};
use crate::raw::{Node, Raw, quoted};
use std::collections::BTreeMap;

impl Checker<'_> {
    pub(super) fn services(&mut self, fields: &Fields<'_>) -> BTreeMap<String, Service> {
        let mut services = BTreeMap::new();
        let Some(node) = fields.get("services") else { return services };
        let Some(entries) = self.entries(node, "services") else { return services };
        for entry in entries {
            if !is_host(&entry.key) {
                let text = format!("service name {} must be lower-case letters, digits and '-'.", quoted(&entry.key));
                self.report(&entry.at, "plan.name", text);
            }
            if let Some(service) = self.service(&entry.value, &format!("services.{}", entry.key)) {
                services.insert(entry.key.clone(), service);
            }
        }
        services
    }

    fn service(&mut self, node: &Node, name: &str) -> Option<Service> {
        let fields = self.nested(node, name, &["image", "env", "command", "ready"])?;
        if !fields.has("image") {
            self.report(fields.at, "plan.missing", format!("{name}.image is missing."));
        }
        Some(Service {
            image: self.image(&fields, "image").unwrap_or_default(),
            env: self.env(&fields, "env"),
            command: fields.get("command").and_then(|n| self.command(n, &fields.name("command"))).unwrap_or_default(),
            ready: fields.get("ready").and_then(|node| self.ready(node, &fields.name("ready"))),
        })
    }

    fn ready(&mut self, node: &Node, name: &str) -> Option<Ready> {
        let fields = self.nested(node, name, &["command", "interval", "timeout"])?;
        let Some(command) = fields.get("command") else {
            self.report(fields.at, "plan.missing", format!("{name}.command is missing."));
            return None;
        };
        Some(Ready {
            command: self.command(command, &fields.name("command"))?,
            interval: self.delay(&fields, "interval", 3600).unwrap_or(1.0),
            timeout: self.delay(&fields, "timeout", 3600).unwrap_or(60.0),
        })
    }

    /// A list runs directly, a string through `sh -c`.
    fn command(&mut self, node: &Node, name: &str) -> Option<Vec<String>> {
        match &node.value {
            Raw::Text(line) => Some(vec!["sh".into(), "-c".into(), line.clone()]),
            _ => self.text_or_texts(node, name),
        }
    }
}
