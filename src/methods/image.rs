//! Text to be read: on an image, as a question.
//!
//! The upstream usually answers images inside `createTask`; the ledger keeps the answer until the client polls.

use super::{Certainty, Kind, Method, ROW, Solution, optional, required, without_proxy};

pub(super) static ROWS: &[&Method] = &[&Method {
    name: "image",
    // Clients mix them up freely: the name of the method says nothing of where the image stands.
    // `multipart` is infosimples' word for a base64 body.
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
    ..ROW
}];

/// A question in words. Asked for by the parameter, whatever `method` says: clients send `post`, `textcaptcha` or none.
pub(super) static QUESTION: Method = Method {
    name: "textcaptcha",
    // python-rucaptcha says `text`.
    legacy: &["textcaptcha", "text"],
    task_type: without_proxy("TextCaptchaTask"),
    params: &[required(&["textcaptcha"], "comment", Kind::Text)],
    solution: Solution::Text(&["text"]),
    ..ROW
};
