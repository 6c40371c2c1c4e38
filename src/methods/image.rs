//! Images with text on them: an uploaded file (`method=post`) or base64 text (`method=base64`).
//!
//! The upstream usually answers these inside `createTask`; the ledger keeps the answer until the client polls.

use super::{Kind, Method, Solution, TaskType, optional, required};

pub(super) static TEXT_IMAGE: Method = Method {
    name: "image",
    // Clients mix them up freely: the name of the method says nothing of where the image stands.
    legacy: &["post", "base64"],
    when: &[],
    task_type: TaskType { proxyless: "ImageToTextTask", proxied: None },
    params: &[
        required(&["file", "body"], "body", Kind::Image),
        optional(&["phrase"], "phrase", Kind::Flag),
        optional(&["regsense"], "case", Kind::Flag),
        optional(&["numeric"], "numeric", Kind::Integer),
        optional(&["calc"], "math", Kind::Flag),
        optional(&["min_len"], "minLength", Kind::Integer),
        optional(&["max_len"], "maxLength", Kind::Integer),
        optional(&["textinstructions"], "comment", Kind::Text),
        optional(&["imginstructions"], "imgInstructions", Kind::Image),
    ],
    solution: Solution { text: &["text"], extras: &[] },
};
