//! Solutions for each task type, in the shapes of 2captcha's v2 API, which uCaptcha's documents follow where they name
//! any. Texts contain SANDBOX, coordinates are constant.

use serde_json::{Value as Json, json};

use super::triggers::TaskTrigger;

/// Returns the solution of a task.
pub(super) fn solution(kind: &str, trigger: Option<TaskTrigger>, id: &str) -> Json {
    let token = match trigger {
        Some(TaskTrigger::OddAnswer) => "SANDBOX|a \"quoted\" \\ <b>&amp; é 漢|\u{7f}".to_owned(),
        _ => format!("SANDBOX-{id}"),
    };
    let family = ["TaskProxyless", "TokenProxyLess", "Task", "Token"].iter().find_map(|end| kind.strip_suffix(end));
    match family.unwrap_or(kind).to_ascii_lowercase().as_str() {
        "imagetotext" | "textcaptcha" | "audio" => {
            json!({ "text": if trigger.is_some() { &token } else { "SANDBOX" } })
        }
        name if name.starts_with("recaptcha") => json!({ "gRecaptchaResponse": token, "token": token }),
        "hcaptcha" => json!({ "token": token, "respKey": "SANDBOX", "userAgent": "SANDBOX agent" }),
        "turnstile" => json!({ "token": token, "userAgent": "SANDBOX agent" }),
        // One task type for both versions, so the solution has the members of both.
        "geetest" => json!({
            "challenge": token, "validate": "SANDBOX", "seccode": "SANDBOX|jordan",
            "captcha_id": "SANDBOX", "lot_number": "SANDBOX", "pass_token": token,
            "gen_time": "1700000000", "captcha_output": "SANDBOX==",
        }),
        "capy" => json!({ "captchakey": "SANDBOX", "challengekey": token, "answer": "SANDBOX" }),
        "lemin" => json!({ "answer": token, "challenge_id": "SANDBOX" }),
        "amazon" => json!({ "captcha_voucher": token, "existing_token": "SANDBOX" }),
        "tencent" => json!({ "appid": "SANDBOX", "ret": 0, "ticket": token, "randstr": "SANDBOX" }),
        "datadomeslider" => json!({ "cookie": format!("datadome={token}; Path=/") }),
        "incapsula" => json!({ "cookies": format!("incap_ses={token}") }),
        "tspd" => json!({ "cookies": format!("TSPD={token}") }),
        "vkcaptchaimage" => json!({ "best_step": 5, "answer": "SANDBOX" }),
        "rotate" => json!({ "rotate": 40 }),
        "coordinates" | "temucaptcha" => json!({ "coordinates": [{ "x": 39, "y": 59 }, { "x": 252, "y": 72 }] }),
        "draganddrop" => json!({ "coordinates": [{ "x": 120, "y": 340 }, null] }),
        "grid" => json!({ "click": [3, 8, 9] }),
        "drawaround" => json!({ "canvas": [[{ "x": 5, "y": 5 }, { "x": 3, "y": 91 }], [{ "x": 7, "y": 7 }]] }),
        "boundingbox" => json!({ "bounding_boxes": [{ "xMin": 559, "xMax": 797, "yMin": 164, "yMax": 430 }] }),
        _ => json!({ "token": token }),
    }
}
