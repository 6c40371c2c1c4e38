//! Every method that is answered by one text: a token, a cookie, a fingerprint. Pure rows, no code.
//!
//! Native names are 2captcha's v2 names; uCaptcha's documents name few of these methods.

use super::{
    Certainty, Kind, Method, Need, PAGE_URL, Param, ROW, SITE_KEY, Solution, USER_AGENT, either, optional, required,
    with_proxy, without_proxy,
};

const INVISIBLE: Param = optional(&["invisible"], "isInvisible", Kind::Flag);
/// A user agent that the solver must use, since the token is bound to it.
const OWN_USER_AGENT: Param = required(&["userAgent", "useragent"], "userAgent", Kind::Text);
const API_SERVER: Param = optional(&["api_server"], "apiServer", Kind::Text);
/// What a legacy client gets beside a token that is bound to the solver's user agent.
const WITH_USER_AGENT: &[(&str, &str)] = &[("userAgent", "useragent")];

pub(super) static ROWS: &[&Method] = &[
    &Method {
        name: "hcaptcha",
        legacy: &["hcaptcha"],
        task_type: either("HCaptchaTaskProxyless", "HCaptchaTask"),
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
        ..ROW
    },
    &Method {
        name: "turnstile",
        legacy: &["turnstile"],
        task_type: either("TurnstileTaskProxyless", "TurnstileTask"),
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
        ..ROW
    },
    &Method {
        name: "funcaptcha",
        legacy: &["funcaptcha"],
        task_type: either("FunCaptchaTaskProxyless", "FunCaptchaTask"),
        params: &[
            PAGE_URL,
            required(&["publickey"], "websitePublicKey", Kind::Text),
            optional(&["surl"], "funcaptchaApiJSSubdomain", Kind::Host),
            optional(&["data"], "data", Kind::Record),
            USER_AGENT,
        ],
        certainty: Certainty::Inferred,
        ..ROW
    },
    &Method {
        name: "keycaptcha",
        legacy: &["keycaptcha"],
        task_type: either("KeyCaptchaTaskProxyless", "KeyCaptchaTask"),
        params: &[
            PAGE_URL,
            required(&["s_s_c_user_id"], "s_s_c_user_id", Kind::Text),
            required(&["s_s_c_session_id"], "s_s_c_session_id", Kind::Text),
            required(&["s_s_c_web_server_sign"], "s_s_c_web_server_sign", Kind::Text),
            required(&["s_s_c_web_server_sign2"], "s_s_c_web_server_sign2", Kind::Text),
        ],
        ..ROW
    },
    &Method {
        name: "mt_captcha",
        legacy: &["mt_captcha"],
        task_type: either("MtCaptchaTaskProxyless", "MtCaptchaTask"),
        params: &[PAGE_URL, SITE_KEY, USER_AGENT],
        ..ROW
    },
    &Method {
        name: "cybersiara",
        legacy: &["cybersiara"],
        task_type: either("AntiCyberSiAraTaskProxyless", "AntiCyberSiAraTask"),
        params: &[PAGE_URL, required(&["master_url_id"], "SlideMasterUrlId", Kind::Text), OWN_USER_AGENT],
        ..ROW
    },
    &Method {
        name: "cutcaptcha",
        legacy: &["cutcaptcha"],
        task_type: either("CutCaptchaTaskProxyless", "CutCaptchaTask"),
        params: &[
            PAGE_URL,
            required(&["misery_key"], "miseryKey", Kind::Text),
            required(&["api_key"], "apiKey", Kind::Text),
        ],
        ..ROW
    },
    &Method {
        name: "friendly_captcha",
        legacy: &["friendly_captcha"],
        task_type: either("FriendlyCaptchaTaskProxyless", "FriendlyCaptchaTask"),
        params: &[PAGE_URL, SITE_KEY, USER_AGENT],
        ..ROW
    },
    &Method {
        name: "atb_captcha",
        legacy: &["atb_captcha"],
        task_type: either("AtbCaptchaTaskProxyless", "AtbCaptchaTask"),
        params: &[
            PAGE_URL,
            required(&["app_id"], "appId", Kind::Text),
            required(&["api_server"], "apiServer", Kind::Text),
        ],
        ..ROW
    },
    &Method {
        name: "datadome",
        legacy: &["datadome"],
        task_type: with_proxy("DataDomeSliderTask"),
        params: &[PAGE_URL, required(&["captcha_url"], "captchaUrl", Kind::Url), OWN_USER_AGENT],
        solution: Solution::Text(&["cookie"]),
        certainty: Certainty::Inferred,
        ..ROW
    },
    &Method {
        name: "yandex",
        legacy: &["yandex"],
        task_type: either("YandexSmartCaptchaTaskProxyless", "YandexSmartCaptchaTask"),
        params: &[PAGE_URL, SITE_KEY, USER_AGENT],
        ..ROW
    },
    &Method {
        name: "prosopo",
        legacy: &["prosopo"],
        task_type: either("ProsopoTaskProxyless", "ProsopoTask"),
        params: &[PAGE_URL, SITE_KEY, USER_AGENT],
        ..ROW
    },
    &Method {
        name: "captchafox",
        legacy: &["captchafox"],
        task_type: with_proxy("CaptchaFoxTask"),
        params: &[PAGE_URL, SITE_KEY, OWN_USER_AGENT, API_SERVER],
        ..ROW
    },
    &Method {
        name: "vkcaptcha",
        legacy: &["vkcaptcha"],
        task_type: with_proxy("VKCaptchaTask"),
        params: &[required(&["redirect_uri"], "redirectUri", Kind::Url), OWN_USER_AGENT],
        ..ROW
    },
    &Method {
        name: "altcha",
        legacy: &["altcha"],
        task_type: either("AltchaTaskProxyless", "AltchaTask"),
        // 2captcha-go sends the native spellings.
        params: &[
            required(&["pageurl", "url", "websiteURL"], "websiteURL", Kind::PageUrl),
            optional(&["challenge_url", "challengeUrl"], "challengeURL", Kind::Text),
            optional(&["challenge_json", "challenge"], "challengeJSON", Kind::Text),
        ],
        any_of: &[&["challengeURL", "challengeJSON"]],
        ..ROW
    },
    &Method {
        name: "binance",
        legacy: &["binance"],
        task_type: either("BinanceTaskProxyless", "BinanceTask"),
        params: &[PAGE_URL, SITE_KEY, required(&["validate_id"], "validateId", Kind::Text), USER_AGENT],
        ..ROW
    },
    &Method {
        name: "yidun",
        legacy: &["yidun"],
        task_type: either("YidunTaskProxyless", "YidunTask"),
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
        ..ROW
    },
    &Method {
        name: "alibaba",
        legacy: &["alibaba"],
        task_type: either("AlibabaTaskProxyless", "AlibabaTask"),
        params: &[
            PAGE_URL,
            // 2captcha-go sends the native spelling.
            required(&["scene_id", "sceneId"], "sceneId", Kind::Text),
            required(&["prefix"], "prefix", Kind::Text),
            optional(&["user_id"], "userId", Kind::Text),
            optional(&["user_user_id"], "userUserId", Kind::Text),
            optional(&["verify_type"], "verifyType", Kind::Text),
            optional(&["region"], "region", Kind::Text),
            optional(&["user_certify_id"], "userCertifyId", Kind::Text),
            optional(&["api_get_lib"], "apiGetLib", Kind::Text),
            USER_AGENT,
        ],
        ..ROW
    },
    &Method {
        name: "hunt",
        legacy: &["hunt"],
        task_type: either("HuntTaskProxyless", "HuntTask"),
        params: &[
            PAGE_URL,
            required(&["api_get_lib"], "apiGetLib", Kind::Text),
            optional(&["data"], "data", Kind::Text),
            USER_AGENT,
        ],
        solution: Solution::Text(&["token", "fingerprint"]),
        ..ROW
    },
    &Method {
        name: "tspd",
        legacy: &["tspd"],
        task_type: with_proxy("TspdTask"),
        params: &[
            PAGE_URL,
            required(&["tspd_cookie"], "tspdCookie", Kind::Text),
            required(&["html_page_base64"], "htmlPageBase64", Kind::Text),
            USER_AGENT,
        ],
        solution: Solution::Text(&["cookies", "cookie", "token"]),
        ..ROW
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
        ..ROW
    },
    &Method {
        name: "basilisk",
        legacy: &["basilisk"],
        task_type: either("BasiliskTaskProxyless", "BasiliskTask"),
        params: &[PAGE_URL, SITE_KEY, USER_AGENT],
        ..ROW
    },
    &Method {
        name: "audio",
        legacy: &["audio"],
        task_type: without_proxy("AudioTask"),
        params: &[
            required(&["body", "file"], "body", Kind::Audio),
            Param { legacy: &["lang"], native: "lang", kind: Kind::Text, need: Need::Required },
        ],
        solution: Solution::Text(&["text"]),
        ..ROW
    },
];
