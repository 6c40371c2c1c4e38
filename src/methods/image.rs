//! Methods that are answered by reading: an image of text, or a question in words.
//!
//! The upstream usually answers images within `createTask`; the ledger keeps the answer until the client polls.

use super::row::{Certainty, DEFAULTS, Kind, Method, Solution, optional, required, without_proxy};

pub(super) static ROWS: &[&Method] = &[&IMAGE, &QUESTION];

static IMAGE: Method = Method {
    name: "image",
    // Clients use these names interchangeably, wherever the image is. infosimples sends `multipart` with a base64 body.
    legacy: &["post", "base64", "multipart"],
    task_type: without_proxy("ImageToTextTask"),
    params: &[
        required(&["file", "body"], "body", Kind::Image),
        optional(&["phrase"], "phrase", Kind::Flag),
        optional(&["regsense", "caseSensitive"], "case", Kind::Flag),
        optional(&["numeric"], "numeric", Kind::Integer),
        optional(&["calc"], "math", Kind::Flag),
        optional(&["min_len"], "minLength", Kind::Integer),
        optional(&["max_len"], "maxLength", Kind::Integer),
        optional(&["textinstructions", "hintText"], "comment", Kind::Text),
        optional(&["imginstructions"], "imgInstructions", Kind::Image),
    ],
    solution: Solution::Text(&["text"]),
    certainty: Certainty::Seen,
    ..DEFAULTS
};

/// A question in words. Selected by the parameter `textcaptcha`: clients send `method=post`, `textcaptcha` or no
/// method.
static QUESTION: Method = Method {
    name: "textcaptcha",
    // python-rucaptcha sends `text`.
    legacy: &["textcaptcha", "text"],
    task_type: without_proxy("TextCaptchaTask"),
    params: &[required(&["textcaptcha"], "comment", Kind::Text)],
    solution: Solution::Text(&["text"]),
    ..DEFAULTS
};
