//! reCAPTCHA: v2, v2 Enterprise, v3 (plain and Enterprise).
//!
//! `version=v3`, and `enterprise=1` or `version=enterprise`, select the row (2captcha docs). `RecaptchaV2TaskProxyless` is printed on uCaptcha's
//! createTask page; the others follow 2captcha's v2 spelling.

use super::row::{
    Certainty, DEFAULTS, Kind, Method, Need, PAGE_URL, Param, Solution, USER_AGENT, optional, optional_proxy, required,
    without_proxy,
};

/// Some clients send `sitekey`, the name that other methods use.
const GOOGLE_KEY: Param = required(&["googlekey", "sitekey"], "websiteKey", Kind::GoogleKey);
const COOKIES: Param = optional(&["cookies", "json_cookies"], "cookies", Kind::Cookies);
const DOMAIN: Param = optional(&["domain"], "apiDomain", Kind::Text);
const INVISIBLE: Param = optional(&["invisible"], "isInvisible", Kind::Flag);
/// 2captcha-javascript sends `data-s` as `datas`.
const DATA_S: &[&str] = &["data-s", "datas"];
/// 2captcha's test suites send it with v2 as well. Native name: that of v3.
const ACTION: Param = optional(&["action"], "pageAction", Kind::Text);
const TOKEN: Solution = Solution::Text(&["gRecaptchaResponse", "token"]);

pub(super) static ROWS: &[&Method] = &[
    &Method {
        name: "recaptcha_v3",
        legacy: &["userrecaptcha"],
        when: &[("version", "v3")],
        task_type: without_proxy("RecaptchaV3TaskProxyless"),
        params: &[
            PAGE_URL,
            GOOGLE_KEY,
            // Defaults from the 2captcha docs. `score` is in 2captcha-ruby's README.
            Param {
                legacy: &["min_score", "score"],
                native: "minScore",
                kind: Kind::Decimal,
                need: Need::Default("0.4"),
            },
            Param { legacy: &["action"], native: "pageAction", kind: Kind::Text, need: Need::Default("verify") },
            optional(&["enterprise"], "isEnterprise", Kind::Flag),
            DOMAIN,
            USER_AGENT,
        ],
        solution: TOKEN,
        extras: &[("user_check", "user_check"), ("user_score", "user_score")],
        certainty: Certainty::Inferred,
        ..DEFAULTS
    },
    &Method {
        name: "recaptcha_v2_enterprise",
        legacy: &["userrecaptcha"],
        when: &[("enterprise", "1")],
        // rucaptcha by lorien.
        also_when: &[("version", "enterprise")],
        task_type: optional_proxy("RecaptchaV2EnterpriseTaskProxyless", "RecaptchaV2EnterpriseTask"),
        params: &[
            PAGE_URL,
            GOOGLE_KEY,
            INVISIBLE,
            optional(DATA_S, "enterprisePayload.s", Kind::Text),
            ACTION,
            DOMAIN,
            USER_AGENT,
            COOKIES,
        ],
        solution: TOKEN,
        extras: &[("cookies", "cookies")],
        certainty: Certainty::Inferred,
        ..DEFAULTS
    },
    &Method {
        name: "recaptcha_v2",
        legacy: &["userrecaptcha"],
        task_type: optional_proxy("RecaptchaV2TaskProxyless", "RecaptchaV2Task"),
        params: &[
            PAGE_URL,
            GOOGLE_KEY,
            INVISIBLE,
            optional(DATA_S, "recaptchaDataSValue", Kind::Text),
            ACTION,
            DOMAIN,
            USER_AGENT,
            COOKIES,
        ],
        solution: TOKEN,
        extras: &[("cookies", "cookies")],
        certainty: Certainty::Seen,
        ..DEFAULTS
    },
];
