//! Methods that are answered by an object, because the page with the puzzle expects several values.

use super::row::{
    Certainty, DEFAULTS, Kind, Method, PAGE_URL, Param, SITE_KEY, Solution, USER_AGENT, fixed, optional,
    optional_proxy, required, without_proxy,
};
use super::value::{Payload, Value};

const API_SERVER_HOST: Param = optional(&["api_server"], "geetestApiServerSubdomain", Kind::Host);

/// Members with the same name in both dialects.
macro_rules! same_names {
    ($($name:literal),*) => { &[$(($name, &[$name])),*] };
}

pub(super) static ROWS: &[&Method] = &[
    &Method {
        name: "geetest",
        legacy: &["geetest"],
        task_type: optional_proxy("GeeTestTaskProxyless", "GeeTestTask"),
        params: &[
            PAGE_URL,
            required(&["gt"], "gt", Kind::Text),
            required(&["challenge"], "challenge", Kind::Text),
            API_SERVER_HOST,
            USER_AGENT,
        ],
        // The prefixed names were observed live (python-rucaptcha, captcha_oxide). The bare ones are documented and
        // do no harm.
        solution: Solution::Object(&[
            ("geetest_challenge", &["challenge", "geetest_challenge"]),
            ("geetest_validate", &["validate", "geetest_validate"]),
            ("geetest_seccode", &["seccode", "geetest_seccode"]),
            ("challenge", &["challenge", "geetest_challenge"]),
            ("validate", &["validate", "geetest_validate"]),
            ("seccode", &["seccode", "geetest_seccode"]),
        ]),
        certainty: Certainty::Inferred,
        ..DEFAULTS
    },
    &Method {
        name: "geetest_v4",
        legacy: &["geetest_v4"],
        task_type: optional_proxy("GeeTestTaskProxyless", "GeeTestTask"),
        params: &[
            PAGE_URL,
            fixed("version", Kind::Integer, "4"),
            required(&["captcha_id"], "initParameters.captcha_id", Kind::Text),
            optional(&["risk_type"], "initParameters.risk_type", Kind::Text),
            API_SERVER_HOST,
            USER_AGENT,
        ],
        solution: Solution::Composed(geetest_v4),
        certainty: Certainty::Inferred,
        ..DEFAULTS
    },
    &Method {
        name: "capy",
        legacy: &["capy"],
        task_type: optional_proxy("CapyTaskProxyless", "CapyTask"),
        params: &[
            PAGE_URL,
            required(&["captchakey", "sitekey"], "websiteKey", Kind::Text),
            optional(&["version"], "version", Kind::Text),
            optional(&["api_server"], "api_server", Kind::Text),
            USER_AGENT,
        ],
        solution: Solution::Object(same_names!("captchakey", "challengekey", "answer")),
        ..DEFAULTS
    },
    &Method {
        name: "lemin",
        legacy: &["lemin"],
        task_type: optional_proxy("LeminTaskProxyless", "LeminTask"),
        params: &[
            PAGE_URL,
            required(&["captcha_id"], "captchaId", Kind::Text),
            optional(&["div_id"], "divId", Kind::Text),
            optional(&["api_server"], "leminApiServerSubdomain", Kind::Text),
            USER_AGENT,
        ],
        solution: Solution::Object(same_names!("answer", "challenge_id")),
        ..DEFAULTS
    },
    &Method {
        name: "amazon_waf",
        legacy: &["amazon_waf"],
        task_type: optional_proxy("AmazonTaskProxyless", "AmazonTask"),
        params: &[
            PAGE_URL,
            SITE_KEY,
            required(&["iv"], "iv", Kind::Text),
            required(&["context"], "context", Kind::Text),
            optional(&["challenge_script"], "challengeScript", Kind::Text),
            optional(&["captcha_script"], "captchaScript", Kind::Text),
            USER_AGENT,
        ],
        // CapSolver and AnySolver send the cookie alone, which is what clients read from `existing_token`.
        solution: Solution::Object(&[
            ("captcha_voucher", &["captcha_voucher"]),
            ("existing_token", &["existing_token", "aws-waf-token"]),
        ]),
        certainty: Certainty::Inferred,
        ..DEFAULTS
    },
    &Method {
        name: "tencent",
        legacy: &["tencent"],
        task_type: optional_proxy("TencentTaskProxyless", "TencentTask"),
        params: &[
            PAGE_URL,
            required(&["app_id"], "appId", Kind::Text),
            optional(&["captcha_script"], "captchaScript", Kind::Text),
        ],
        solution: Solution::Object(same_names!("appid", "ret", "ticket", "randstr")),
        ..DEFAULTS
    },
    &Method {
        name: "vkimage",
        legacy: &["vkimage"],
        task_type: without_proxy("VKCaptchaImageTask"),
        params: &[required(&["body", "file"], "image", Kind::Image), required(&["steps"], "steps", Kind::Text)],
        // The legacy shape is unknown, so the whole native object is passed on.
        solution: Solution::Object(&[]),
        ..DEFAULTS
    },
];

/// Composes the five members under their native names. `gen_time` is always a text (2captcha docs), even if the
/// upstream sends a number.
fn geetest_v4(solution: &Value) -> Option<Payload> {
    const NAMES: [&str; 5] = ["captcha_id", "lot_number", "pass_token", "gen_time", "captcha_output"];
    let member = |name: &str| {
        let value = solution.get(name)?;
        let value = match value.scalar() {
            Some(text) if name == "gen_time" => Value::Text(text.to_owned()),
            _ => value.clone(),
        };
        Some((name.to_owned(), value))
    };
    let members: Vec<_> = NAMES.into_iter().filter_map(member).collect();
    (!members.is_empty()).then_some(Payload::Structure(Value::Record(members)))
}
