//! Reads and checks the fields of a request.

use serde_json::{Map, Value as Json};

use super::reply::Refusal;

/// Returns a text field; empty if it is absent or not text.
pub(super) fn text<'a>(fields: &'a Map<String, Json>, name: &str) -> &'a str {
    fields.get(name).and_then(Json::as_str).unwrap_or_default()
}

/// Applies the documented checks to the fields of a task.
pub(super) fn check_task(kind: &str, task: &Map<String, Json>) -> Result<(), Refusal> {
    let is_known = ["Task", "TaskProxyless", "Token", "TokenProxyLess"].iter().any(|end| kind.ends_with(end));
    if !is_known {
        return Err(Refusal::new(400, "TASK_NOT_SUPPORTED", "task.type is unknown"));
    }
    // Images, questions and audio have no page.
    if ["body", "comment", "image"].iter().any(|name| task.contains_key(*name)) && !task.contains_key("websiteURL") {
        return Ok(());
    }
    if task.contains_key("redirectUri") {
        return Ok(());
    }
    if kind == "ImageToTextTask" {
        return Err(Refusal::new(400, "ERROR_BAD_PARAMETERS", "body is required"));
    }
    let url = text(task, "websiteURL");
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        return Err(Refusal::new(400, "ERROR_PAGEURL", "websiteURL must be fully qualified"));
    }
    if kind.to_ascii_lowercase().contains("recaptcha") && text(task, "websiteKey").is_empty() {
        return Err(Refusal::new(400, "ERROR_SITEKEY", "websiteKey is required"));
    }
    let takes_proxy = kind.ends_with("Task") || kind.ends_with("Token");
    if takes_proxy && kind.starts_with("Re") && !text(task, "proxy").contains("://") {
        return Err(Refusal::new(400, "ERROR_PROXY_FORMAT", "proxy must be type://user:pass@ip:port"));
    }
    Ok(())
}
