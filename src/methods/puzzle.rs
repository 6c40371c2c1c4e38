//! Methods that are answered by an object: the page that shows the puzzle wants several values back.

use super::{
    Certainty, Kind, Method, PAGE_URL, Param, Payload, ROW, SITE_KEY, Solution, USER_AGENT, Value, either, fixed,
    optional, required, without_proxy,
};

const API_SERVER_HOST: Param = optional(&["api_server"], "geetestApiServerSubdomain", Kind::Host);

/// Members under the native names.
macro_rules! same {
    ($($name:literal),*) => { &[$(($name, &[$name])),*] };
}

pub(super) static ROWS: &[&Method] = &[
    &Method {
        name: "geetest",
        legacy: &["geetest"],
        task_type: either("GeeTestTaskProxyless", "GeeTestTask"),
        params: &[
            PAGE_URL,
            required(&["gt"], "gt", Kind::Text),
            required(&["challenge"], "challenge", Kind::Text),
            API_SERVER_HOST,
            USER_AGENT,
        ],
        // Observed live: the prefixed names (python-rucaptcha, captcha_oxide). Documented: the bare ones, which do no harm
        // beside them.
        solution: Solution::Object(&[
            ("geetest_challenge", &["challenge", "geetest_challenge"]),
            ("geetest_validate", &["validate", "geetest_validate"]),
            ("geetest_seccode", &["seccode", "geetest_seccode"]),
            ("challenge", &["challenge", "geetest_challenge"]),
            ("validate", &["validate", "geetest_validate"]),
            ("seccode", &["seccode", "geetest_seccode"]),
        ]),
        certainty: Certainty::Inferred,
        ..ROW
    },
    &Method {
        name: "geetest_v4",
        legacy: &["geetest_v4"],
        task_type: either("GeeTestTaskProxyless", "GeeTestTask"),
        params: &[
            PAGE_URL,
            fixed("version", Kind::Integer, "4"),
            required(&["captcha_id"], "initParameters.captcha_id", Kind::Text),
            optional(&["risk_type"], "initParameters.risk_type", Kind::Text),
            API_SERVER_HOST,
            USER_AGENT,
        ],
        solution: Solution::Composed(version_4),
        certainty: Certainty::Inferred,
        ..ROW
    },
    &Method {
        name: "capy",
        legacy: &["capy"],
        task_type: either("CapyTaskProxyless", "CapyTask"),
        params: &[
            PAGE_URL,
            required(&["captchakey", "sitekey"], "websiteKey", Kind::Text),
            optional(&["version"], "version", Kind::Text),
            optional(&["api_server"], "api_server", Kind::Text),
            USER_AGENT,
        ],
        solution: Solution::Object(same!("captchakey", "challengekey", "answer")),
        ..ROW
    },
    &Method {
        name: "lemin",
        legacy: &["lemin"],
        task_type: either("LeminTaskProxyless", "LeminTask"),
        params: &[
            PAGE_URL,
            required(&["captcha_id"], "captchaId", Kind::Text),
            optional(&["div_id"], "divId", Kind::Text),
            optional(&["api_server"], "leminApiServerSubdomain", Kind::Text),
            USER_AGENT,
        ],
        solution: Solution::Object(same!("answer", "challenge_id")),
        ..ROW
    },
    &Method {
        name: "amazon_waf",
        legacy: &["amazon_waf"],
        task_type: either("AmazonTaskProxyless", "AmazonTask"),
        params: &[
            PAGE_URL,
            SITE_KEY,
            required(&["iv"], "iv", Kind::Text),
            required(&["context"], "context", Kind::Text),
            optional(&["challenge_script"], "challengeScript", Kind::Text),
            optional(&["captcha_script"], "captchaScript", Kind::Text),
            USER_AGENT,
        ],
        solution: Solution::Object(same!("captcha_voucher", "existing_token")),
        certainty: Certainty::Inferred,
        ..ROW
    },
    &Method {
        name: "tencent",
        legacy: &["tencent"],
        task_type: either("TencentTaskProxyless", "TencentTask"),
        params: &[
            PAGE_URL,
            required(&["app_id"], "appId", Kind::Text),
            optional(&["captcha_script"], "captchaScript", Kind::Text),
        ],
        solution: Solution::Object(same!("appid", "ret", "ticket", "randstr")),
        ..ROW
    },
    &Method {
        name: "vkimage",
        legacy: &["vkimage"],
        task_type: without_proxy("VKCaptchaImageTask"),
        params: &[required(&["body", "file"], "image", Kind::Image), required(&["steps"], "steps", Kind::Text)],
        // The legacy shape is unknown: the whole native object is handed on.
        solution: Solution::Object(&[]),
        ..ROW
    },
];

/// The five members under their native names; `gen_time` is a text (2captcha docs), whatever the upstream sends.
fn version_4(solution: &Value) -> Option<Payload> {
    const NAMES: [&str; 5] = ["captcha_id", "lot_number", "pass_token", "gen_time", "captcha_output"];
    let member = |name: &str| {
        let value = solution.get(name)?;
        let text = || Some(Value::Text(value.scalar()?.to_owned()));
        let value = if name == "gen_time" { text().unwrap_or_else(|| value.clone()) } else { value.clone() };
        Some((name.to_owned(), value))
    };
    let members: Vec<_> = NAMES.into_iter().filter_map(member).collect();
    (!members.is_empty()).then_some(Payload::Structure(Value::Record(members)))
}
