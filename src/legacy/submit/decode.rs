//! Decodes the form of a submit into its tasks.

use super::proxy::decode_proxy;
use super::text::http_url;
use super::value::{decode_value, missing_parameter};
use crate::domain::{Failure, Routing, Task};
use crate::legacy::form::Form;
use crate::legacy::limits::{SELECTION_MODES, SubmitLimits, is_provider_name};
use crate::methods::{Kind, Value};

/// Decodes a submit: one task, or several if several images are to be solved one by one.
pub(in crate::legacy) fn decode(form: &Form, limits: &SubmitLimits) -> Result<Vec<Task>, Failure> {
    let name = method_name(form).ok_or(Failure::MethodUnknown)?;
    let method = limits.table.find(name, |name| form.get(name)).ok_or(Failure::MethodUnknown)?;
    let mut fields = Vec::with_capacity(method.params.len());
    for param in method.params {
        if let Some(value) = decode_value(form, param, limits)? {
            fields.push((param.native, value));
        }
    }
    for group in method.any_of {
        if !fields.iter().any(|(native, _)| group.contains(native)) {
            let first = method.params.iter().find(|param| group.contains(&param.native));
            return Err(first.map_or(Failure::Parameters, missing_parameter));
        }
    }
    let task = Task {
        method,
        fields,
        proxy: decode_proxy(form, method)?,
        routing: routing(form, &limits.routing)?,
        pingback: pingback(form)?,
    };
    Ok(split_images(task))
}

/// Returns `method=`, or the method that its absence implies: the legacy service's documented forms, 2captcha-go and
/// 2captcha-javascript omit it if they send a file, a body or a question.
fn method_name<'f>(form: &'f Form<'_>) -> Option<&'f str> {
    // Trimmed, because unicaps sends a trailing space with one of its names.
    let method = form.non_empty("method");
    if form.non_empty("textcaptcha").is_some() && matches!(method, None | Some("post" | "base64")) {
        return Some("textcaptcha");
    }
    if method.is_some() {
        return method;
    }
    // Only images to be rotated have numbered names.
    if form.file("file_1").is_some() || form.get("file_1").is_some() {
        return Some("rotatecaptcha");
    }
    if form.file("file").is_some() {
        return Some("post");
    }
    form.get("body").map(|_| "base64")
}

/// Splits a task with several images into one task per image.
fn split_images(task: Task) -> Vec<Task> {
    let is_split =
        |native: &str| task.method.params.iter().any(|param| param.native == native && param.kind == Kind::Images);
    let Some(at) = task.fields.iter().position(|(native, value)| is_split(native) && value.items().is_some()) else {
        return vec![task];
    };
    let images = match task.fields.get(at) {
        Some((_, Value::List(images))) => images.clone(),
        _ => Vec::new(),
    };
    let with_image = |image: Value| {
        let mut task = task.clone();
        if let Some((_, value)) = task.fields.get_mut(at) {
            *value = image;
        }
        task
    };
    images.into_iter().map(with_image).collect()
}

/// Returns the http(s) URL at which the client wants to receive the answer.
fn pingback(form: &Form) -> Result<Option<Box<str>>, Failure> {
    /// Longest URL. The ledger keeps it as long as the task.
    const BYTES_MAX: usize = 2_048;
    let Some(text) = form.non_empty("pingback") else {
        return Ok(None);
    };
    let url = http_url(text).filter(|url| url.len() <= BYTES_MAX).ok_or(Failure::Parameter("pingback"))?;
    Ok(Some(url.into_boxed_str()))
}

/// Returns uCaptcha's own options. Those of the request take precedence over the configured defaults.
fn routing(form: &Form, defaults: &Routing) -> Result<Routing, Failure> {
    let text = |name| form.non_empty(name).map(str::to_owned);
    let selection_mode = text("selectionMode").or_else(|| defaults.selection_mode.clone());
    if selection_mode.as_deref().is_some_and(|mode| !SELECTION_MODES.contains(&mode)) {
        return Err(Failure::Parameter("selectionMode"));
    }
    let provider = text("provider").or_else(|| defaults.provider.clone());
    if provider.as_deref().is_some_and(|name| !is_provider_name(name)) {
        return Err(Failure::Parameter("provider"));
    }
    Ok(Routing { selection_mode, provider })
}
