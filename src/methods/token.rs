//! Methods that are answered by one text: a token, a cookie or a fingerprint. Rows only, no code.
//!
//! Native names are 2captcha's v2 names; uCaptcha's documents name few of these methods.

use super::row::{
    Certainty, DEFAULTS, Kind, Method, PAGE_URL, Param, SITE_KEY, Solution, USER_AGENT, optional, optional_proxy,
    required, with_proxy, without_proxy,
};

const INVISIBLE: Param = optional(&["invisible"], "isInvisible", Kind::Flag);
/// The solver must use this user agent, because the token is bound to it.
const REQUIRED_USER_AGENT: Param = required(&["userAgent", "useragent"], "userAgent", Kind::Text);
const API_SERVER: Param = optional(&["api_server"], "apiServer", Kind::Text);
/// The token is bound to the solver's user agent, so legacy clients get both.
const WITH_USER_AGENT: &[(&str, &str)] = &[("userAgent", "useragent")];

pub(super) static ROWS: &[&Method] = &[
    &Method {
        name: "hcaptcha",
        legacy: &["hcaptcha"],
        task_type: optional_proxy("HCaptchaTaskProxyless", "HCaptchaTask"),
        params: &[
            PAGE_URL,
            SITE_KEY,
            INVISIBLE,
            optional(&["data", "rqdata"], "enterprisePayload.rqdata", Kind::Text),
            optional(&["domain"], "apiDomain", Kind::Text),
            USER_AGENT,
        ],
        solution: Solution::Text(&["token", "gRecaptchaResponse"]),
        extras: &[("userAgent", "useragent"), ("respKey", "respKey")],
        certainty: Certainty::Inferred,
        ..DEFAULTS
    },
    &Method {
        name: "turnstile",
        legacy: &["turnstile"],
        task_type: optional_proxy("TurnstileTaskProxyless", "TurnstileTask"),
        params: &[
            PAGE_URL,
            SITE_KEY,
            optional(&["action"], "action", Kind::Text),
            optional(&["data"], "data", Kind::Text),
            optional(&["pagedata"], "pagedata", Kind::Text),
            USER_AGENT,
        ],
        extras: WITH_USER_AGENT,
        certainty: Certainty::Inferred,
        ..DEFAULTS
    },
    &Method {
        name: "funcaptcha",
        legacy: &["funcaptcha"],
        task_type: optional_proxy("FunCaptchaTaskProxyless", "FunCaptchaTask"),
        params: &[
            PAGE_URL,
            required(&["publickey"], "websitePublicKey", Kind::Text),
            optional(&["surl"], "funcaptchaApiJSSubdomain", Kind::Host),
            optional(&["data"], "data", Kind::Record),
            USER_AGENT,
        ],
        certainty: Certainty::Inferred,
        ..DEFAULTS
    },
    &Method {
        name: "keycaptcha",
        legacy: &["keycaptcha"],
        task_type: optional_proxy("KeyCaptchaTaskProxyless", "KeyCaptchaTask"),
        params: &[
            PAGE_URL,
            required(&["s_s_c_user_id"], "s_s_c_user_id", Kind::Text),
            required(&["s_s_c_session_id"], "s_s_c_session_id", Kind::Text),
            required(&["s_s_c_web_server_sign"], "s_s_c_web_server_sign", Kind::Text),
            required(&["s_s_c_web_server_sign2"], "s_s_c_web_server_sign2", Kind::Text),
        ],
        ..DEFAULTS
    },
    &Method {
        name: "mt_captcha",
        legacy: &["mt_captcha"],
        task_type: optional_proxy("MtCaptchaTaskProxyless", "MtCaptchaTask"),
        params: &[PAGE_URL, SITE_KEY, USER_AGENT],
        ..DEFAULTS
    },
    &Method {
        name: "cybersiara",
        legacy: &["cybersiara"],
        task_type: optional_proxy("AntiCyberSiAraTaskProxyless", "AntiCyberSiAraTask"),
        params: &[PAGE_URL, required(&["master_url_id"], "SlideMasterUrlId", Kind::Text), REQUIRED_USER_AGENT],
        ..DEFAULTS
    },
    &Method {
        name: "cutcaptcha",
        legacy: &["cutcaptcha"],
        task_type: optional_proxy("CutCaptchaTaskProxyless", "CutCaptchaTask"),
        params: &[
            PAGE_URL,
            required(&["misery_key"], "miseryKey", Kind::Text),
            required(&["api_key"], "apiKey", Kind::Text),
        ],
        ..DEFAULTS
    },
    &Method {
        name: "friendly_captcha",
        legacy: &["friendly_captcha"],
        task_type: optional_proxy("FriendlyCaptchaTaskProxyless", "FriendlyCaptchaTask"),
        params: &[PAGE_URL, SITE_KEY, USER_AGENT],
        ..DEFAULTS
    },
    &Method {
        name: "atb_captcha",
        legacy: &["atb_captcha"],
        task_type: optional_proxy("AtbCaptchaTaskProxyless", "AtbCaptchaTask"),
        params: &[
            PAGE_URL,
            required(&["app_id"], "appId", Kind::Text),
            required(&["api_server"], "apiServer", Kind::Text),
        ],
        ..DEFAULTS
    },
    &Method {
        name: "datadome",
        legacy: &["datadome"],
        task_type: with_proxy("DataDomeSliderTask"),
        params: &[PAGE_URL, required(&["captcha_url"], "captchaUrl", Kind::Url), REQUIRED_USER_AGENT],
        solution: Solution::Text(&["cookie"]),
        certainty: Certainty::Inferred,
        ..DEFAULTS
    },
    &Method {
        name: "yandex",
        legacy: &["yandex"],
        task_type: optional_proxy("YandexSmartCaptchaTaskProxyless", "YandexSmartCaptchaTask"),
        params: &[PAGE_URL, SITE_KEY, USER_AGENT],
        ..DEFAULTS
    },
    &Method {
        name: "prosopo",
        legacy: &["prosopo"],
        task_type: optional_proxy("ProsopoTaskProxyless", "ProsopoTask"),
        params: &[PAGE_URL, SITE_KEY, USER_AGENT],
        ..DEFAULTS
    },
    &Method {
        name: "captchafox",
        legacy: &["captchafox"],
        task_type: with_proxy("CaptchaFoxTask"),
        params: &[PAGE_URL, SITE_KEY, REQUIRED_USER_AGENT, API_SERVER],
        ..DEFAULTS
    },
    &Method {
        name: "vkcaptcha",
        legacy: &["vkcaptcha"],
        task_type: with_proxy("VKCaptchaTask"),
        params: &[required(&["redirect_uri"], "redirectUri", Kind::Url), REQUIRED_USER_AGENT],
        ..DEFAULTS
    },
    &Method {
        name: "altcha",
        legacy: &["altcha"],
        task_type: optional_proxy("AltchaTaskProxyless", "AltchaTask"),
        // 2captcha-go sends the native spellings.
        params: &[
            required(&["pageurl", "url", "websiteURL"], "websiteURL", Kind::PageUrl),
            optional(&["challenge_url", "challengeUrl"], "challengeURL", Kind::Text),
            optional(&["challenge_json", "challenge"], "challengeJSON", Kind::Text),
        ],
        any_of: &[&["challengeURL", "challengeJSON"]],
        ..DEFAULTS
    },
    &Method {
        name: "binance",
        legacy: &["binance"],
        task_type: optional_proxy("BinanceTaskProxyless", "BinanceTask"),
        params: &[PAGE_URL, SITE_KEY, required(&["validate_id"], "validateId", Kind::Text), USER_AGENT],
        ..DEFAULTS
    },
    &Method {
        name: "yidun",
        legacy: &["yidun"],
        task_type: optional_proxy("YidunTaskProxyless", "YidunTask"),
        params: &[
            PAGE_URL,
            SITE_KEY,
            optional(&["yidun_get_lib"], "yidunGetLib", Kind::Text),
            optional(&["yidun_api_server_subdomain"], "yidunApiServerSubdomain", Kind::Text),
            optional(&["challenge"], "challenge", Kind::Text),
            optional(&["hcg"], "hcg", Kind::Text),
            optional(&["hct"], "hct", Kind::Text),
            USER_AGENT,
        ],
        ..DEFAULTS
    },
    &Method {
        name: "alibaba",
        legacy: &["alibaba"],
        task_type: optional_proxy("AlibabaTaskProxyless", "AlibabaTask"),
        params: &[
            PAGE_URL,
            // 2captcha's libraries send the native spellings as well.
            required(&["scene_id", "sceneId"], "sceneId", Kind::Text),
            required(&["prefix"], "prefix", Kind::Text),
            optional(&["user_id", "userId"], "userId", Kind::Text),
            optional(&["user_user_id", "userUserId"], "userUserId", Kind::Text),
            optional(&["verify_type", "verifyType"], "verifyType", Kind::Text),
            optional(&["region"], "region", Kind::Text),
            optional(&["user_certify_id", "userCertifyId"], "userCertifyId", Kind::Text),
            optional(&["api_get_lib", "apiGetLib"], "apiGetLib", Kind::Text),
            USER_AGENT,
        ],
        ..DEFAULTS
    },
    &Method {
        name: "hunt",
        legacy: &["hunt"],
        task_type: optional_proxy("HuntTaskProxyless", "HuntTask"),
        params: &[
            PAGE_URL,
            required(&["api_get_lib", "apiGetLib"], "apiGetLib", Kind::Text),
            optional(&["data"], "data", Kind::Text),
            USER_AGENT,
        ],
        solution: Solution::Text(&["token", "fingerprint"]),
        ..DEFAULTS
    },
    &Method {
        name: "tspd",
        legacy: &["tspd"],
        task_type: with_proxy("TspdTask"),
        params: &[
            PAGE_URL,
            required(&["tspd_cookie", "tspdcookie"], "tspdCookie", Kind::Text),
            required(&["html_page_base64", "htmlPageBase64"], "htmlPageBase64", Kind::Text),
            USER_AGENT,
        ],
        solution: Solution::Text(&["cookies", "cookie", "token"]),
        ..DEFAULTS
    },
    &Method {
        name: "incapsula",
        legacy: &["incapsula"],
        task_type: with_proxy("IncapsulaTask"),
        params: &[
            PAGE_URL,
            required(&["incapsula_script_url"], "incapsulaScriptUrl", Kind::Text),
            required(&["incapsula_cookies"], "incapsulaCookies", Kind::Text),
            optional(&["reese84_url_endpoint"], "reese84UrlEndpoint", Kind::Text),
            USER_AGENT,
        ],
        solution: Solution::Text(&["cookies", "cookie", "token"]),
        ..DEFAULTS
    },
    &Method {
        name: "basilisk",
        legacy: &["basilisk"],
        task_type: optional_proxy("BasiliskTaskProxyless", "BasiliskTask"),
        params: &[PAGE_URL, SITE_KEY, USER_AGENT],
        ..DEFAULTS
    },
    &Method {
        name: "audio",
        legacy: &["audio"],
        task_type: without_proxy("AudioTask"),
        params: &[
            required(&["body", "file"], "body", Kind::Audio),
            // The documents require it, but the minimal examples of 2captcha's libraries send none.
            optional(&["lang"], "lang", Kind::Text),
        ],
        solution: Solution::Text(&["text"]),
        ..DEFAULTS
    },
];
