//! reCAPTCHA: v2, v2 Enterprise, v3 (plain and Enterprise).
//!
//! `version=v3` and `enterprise=1` select the row (2captcha docs). Type names: `RecaptchaV2TaskProxyless` is printed on
//! uCaptcha's createTask page; the others follow 2captcha's v2 spelling.

use super::{Kind, Method, Need, Param, Solution, TaskType, optional, required};

const PAGE_URL: Param = required(&["pageurl", "url"], "websiteURL", Kind::Url);
// `sitekey` is what clients that grew up on other methods send.
const SITE_KEY: Param = required(&["googlekey", "sitekey"], "websiteKey", Kind::SiteKey);
const USER_AGENT: Param = optional(&["userAgent", "useragent"], "userAgent", Kind::Text);
const COOKIES: Param = optional(&["cookies"], "cookies", Kind::Cookies);
const DOMAIN: Param = optional(&["domain"], "apiDomain", Kind::Text);
const INVISIBLE: Param = optional(&["invisible"], "isInvisible", Kind::Flag);
/// 2captcha-javascript sends data-s as `datas`.
const DATA_S: &[&str] = &["data-s", "datas"];

const TOKEN: Solution = Solution { text: &["gRecaptchaResponse", "token"], extras: &[("cookies", "cookies")] };

pub(super) static V3: Method = Method {
    name: "recaptcha_v3",
    legacy: &["userrecaptcha"],
    when: &[("version", "v3")],
    // The legacy service takes no proxy for v3 (2captcha docs); one that a client sends anyway is left out.
    task_type: TaskType { proxyless: "RecaptchaV3TaskProxyless", proxied: None },
    params: &[
        PAGE_URL,
        SITE_KEY,
        // Defaults from the 2captcha docs. `score` is what 2captcha-ruby's README shows.
        Param { legacy: &["min_score", "score"], native: "minScore", kind: Kind::Decimal, need: Need::Default("0.4") },
        Param { legacy: &["action"], native: "pageAction", kind: Kind::Text, need: Need::Default("verify") },
        optional(&["enterprise"], "isEnterprise", Kind::Flag),
        DOMAIN,
        USER_AGENT,
    ],
    solution: Solution { text: TOKEN.text, extras: &[] },
};

pub(super) static V2_ENTERPRISE: Method = Method {
    name: "recaptcha_v2_enterprise",
    legacy: &["userrecaptcha"],
    when: &[("enterprise", "1")],
    task_type: TaskType { proxyless: "RecaptchaV2EnterpriseTaskProxyless", proxied: Some("RecaptchaV2EnterpriseTask") },
    params: &[
        PAGE_URL,
        SITE_KEY,
        INVISIBLE,
        optional(DATA_S, "enterprisePayload.s", Kind::Text),
        DOMAIN,
        USER_AGENT,
        COOKIES,
    ],
    solution: TOKEN,
};

pub(super) static V2: Method = Method {
    name: "recaptcha_v2",
    legacy: &["userrecaptcha"],
    when: &[],
    task_type: TaskType { proxyless: "RecaptchaV2TaskProxyless", proxied: Some("RecaptchaV2Task") },
    params: &[
        PAGE_URL,
        SITE_KEY,
        INVISIBLE,
        optional(DATA_S, "recaptchaDataSValue", Kind::Text),
        DOMAIN,
        USER_AGENT,
        COOKIES,
    ],
    solution: TOKEN,
};
