//! Decodes a request into the operation that it asks for.

use super::form::Form;
use super::limits::Limits;
use super::script::Script;
use super::style::{Notation, ReplyContext, Style};
use super::submit;
use crate::domain::{Account, Failure, LegacyId, Op, Verdict};
use crate::http::Inbound;
use crate::methods;

/// A decoded request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Style of the reply. Known even if the request is refused.
    pub style: Style,
    /// The account and its operation, or the reason for the refusal.
    pub op: Result<(Account, Op), Failure>,
    /// Number of parameters that the gateway does not know.
    pub unknown_parameters: usize,
}

/// Decodes a request.
pub fn decode(script: Script, inbound: &Inbound, limits: &Limits) -> Request {
    let (form, parsed) = Form::parse(inbound, &limits.form);
    let is_set = |name| form.get(name).is_some_and(methods::is_true);
    let style = Style {
        context: reply_context(script, &form),
        notation: if is_set("json") { Notation::Json } else { Notation::Text },
        allow_any_origin: is_set("header_acao"),
    };
    let op = parsed.and_then(|()| parse_op(style.context, &form, limits));
    // Only a row defines which parameters are known, so other requests count none.
    let method = match &op {
        Ok((_, Op::Submit(tasks))) => tasks.first().map(|task| task.method),
        _ => None,
    };
    let unknown_parameters =
        method.map_or(0, |method| form.names().filter(|name| !submit::is_known_parameter(method, name)).count());
    Request { style, op, unknown_parameters }
}

fn reply_context(script: Script, form: &Form) -> ReplyContext {
    if script == Script::In {
        return ReplyContext::Submit;
    }
    match form.get("action").map(str::trim) {
        Some("get") if form.get("id").is_none() && form.get("ids").is_some() => ReplyContext::GetMany,
        Some("get") => ReplyContext::Get,
        Some("get2") => ReplyContext::GetWithPrice,
        Some("reportgood" | "reportbad") => ReplyContext::Report,
        Some("getbalance") => ReplyContext::Balance,
        _ => ReplyContext::UnknownAction,
    }
}

fn parse_op(context: ReplyContext, form: &Form, limits: &Limits) -> Result<(Account, Op), Failure> {
    // A request with two keys, tasks or actions is a mistake or an attack: a filter in front of the gateway may have
    // checked the other value.
    for name in ["key", "action", "id", "method"] {
        if form.has_conflict(name) {
            return Err(Failure::Parameter(name));
        }
    }
    let key = form.get("key").unwrap_or_default();
    if context == ReplyContext::Submit && form.get("method") == Some("get_server_errors") {
        // The gateway answers this on its own: no key is required (2captcha docs), and none is used.
        let account = Account::new(key).or_else(|_| Account::new("none"))?;
        return Ok((account, Op::ListErrors));
    }
    let account = Account::new(key)?;
    let op = match context {
        ReplyContext::Submit => Op::Submit(submit::decode(form, &limits.submit)?),
        ReplyContext::Get | ReplyContext::GetWithPrice => Op::Poll(parse_id(form.get("id").unwrap_or_default())?),
        ReplyContext::GetMany => Op::PollMany(parse_ids(form.get("ids").unwrap_or_default(), limits.ids_max)?),
        ReplyContext::Report => {
            let verdict =
                if form.get("action").map(str::trim) == Some("reportgood") { Verdict::Good } else { Verdict::Bad };
            Op::Report(parse_id(form.get("id").unwrap_or_default())?, verdict)
        }
        ReplyContext::Balance => Op::Balance,
        ReplyContext::UnknownAction => {
            let has_action = form.get("action").is_some_and(|action| !action.trim().is_empty());
            return Err(if has_action { Failure::ActionUnknown } else { Failure::ActionMissing });
        }
    };
    Ok((account, op))
}

/// Parses an id: decimal digits only (2captcha docs). White space around the digits is accepted, because shell scripts
/// cut ids out of `OK|…` together with a line end.
///
/// # Errors
/// [`Failure::IdMalformed`]; [`Failure::TaskUnknown`] for a number above any id that the gateway issues.
fn parse_id(text: &str) -> Result<LegacyId, Failure> {
    let digits = text.trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Failure::IdMalformed);
    }
    digits.parse().map(LegacyId).map_err(|_| Failure::TaskUnknown)
}

fn parse_ids(text: &str, ids_max: usize) -> Result<Vec<Result<LegacyId, Failure>>, Failure> {
    if text.trim().is_empty() {
        return Err(Failure::IdMalformed);
    }
    if text.bytes().filter(|byte| *byte == b',').count() >= ids_max {
        return Err(Failure::Parameter("ids"));
    }
    Ok(text.split(',').map(parse_id).collect())
}
