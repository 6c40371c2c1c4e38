//! Keys and site keys that provoke each documented error of the native API. A test checks that `docs/sandbox.md` lists
//! all of them.

use super::reply::Refusal;

/// Effect of a special API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyTrigger {
    /// `ERROR_KEY_DOES_NOT_EXIST`, 401.
    Unknown,
    /// `ERROR_WRONG_USER_KEY`, 401.
    Wrong,
    /// `ERROR_ZERO_BALANCE`, 402, on createTask; a balance of 0.
    ZeroBalance,
    /// 429.
    RateLimited,
    /// 502 with HTML.
    Html,
    /// An answer that arrives too late.
    Hang,
    /// createTask returns the solution, as with a Lightning key.
    Lightning,
}

/// The special keys.
pub const KEYS: &[(&str, KeyTrigger)] = &[
    ("sandbox-key-unknown", KeyTrigger::Unknown),
    ("sandbox-key-wrong", KeyTrigger::Wrong),
    ("sandbox-zero-balance", KeyTrigger::ZeroBalance),
    ("sandbox-rate-limited", KeyTrigger::RateLimited),
    ("sandbox-html", KeyTrigger::Html),
    ("sandbox-hang", KeyTrigger::Hang),
    ("sandbox-lightning", KeyTrigger::Lightning),
];

impl KeyTrigger {
    pub(super) fn parse(key: &str) -> Option<Self> {
        KEYS.iter().find(|(name, _)| *name == key).map(|(_, trigger)| *trigger)
    }
}

/// Effect of a special site key, or of a special comment on an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskTrigger {
    /// The task fails with `ERROR_CAPTCHA_UNSOLVABLE`.
    Unsolvable,
    /// The task fails with `ERROR_BAD_PROXY`.
    ProxyFails,
    /// The task is never solved.
    Never,
    /// Polls do not find the task: `ERROR_WRONG_CAPTCHA_ID`, 404.
    Lost,
    /// The token contains pipes, quotes, backslashes, markup and letters beyond ASCII.
    OddAnswer,
    /// createTask is refused with `ERROR_SITEKEY`, 400.
    SiteKey,
    /// createTask is refused with `ERROR_PAGEURL`, 400.
    PageUrl,
    /// createTask is refused with `ERROR_BAD_PARAMETERS`, 400.
    Parameters,
    /// createTask is refused with `ERROR_BAD_PROXY`, 400.
    ProxyBad,
    /// createTask is refused with `ERROR_PROXY_FORMAT`, 400.
    ProxyFormat,
    /// createTask is refused with `TASK_NOT_SUPPORTED`, 400.
    Unsupported,
    /// createTask is refused with `NO_PROVIDERS_AVAILABLE`, 503.
    NoProviders,
    /// createTask accepts the task and answers too late.
    SubmitHangs,
    /// createTask accepts the task and answers 502 with HTML.
    SubmitHtml,
    /// The task of any type is solved after this many milliseconds. Zero: createTask returns the solution.
    SolvedAfter(u64),
}

/// The special site keys.
pub const SITE_KEYS: &[(&str, TaskTrigger)] = &[
    ("sandbox-unsolvable", TaskTrigger::Unsolvable),
    ("sandbox-proxy-fails", TaskTrigger::ProxyFails),
    ("sandbox-never", TaskTrigger::Never),
    ("sandbox-lost", TaskTrigger::Lost),
    ("sandbox-odd-answer", TaskTrigger::OddAnswer),
    ("sandbox-bad-sitekey", TaskTrigger::SiteKey),
    ("sandbox-bad-pageurl", TaskTrigger::PageUrl),
    ("sandbox-bad-parameters", TaskTrigger::Parameters),
    ("sandbox-bad-proxy", TaskTrigger::ProxyBad),
    ("sandbox-proxy-format", TaskTrigger::ProxyFormat),
    ("sandbox-unsupported", TaskTrigger::Unsupported),
    ("sandbox-no-providers", TaskTrigger::NoProviders),
    ("sandbox-submit-hangs", TaskTrigger::SubmitHangs),
    ("sandbox-submit-html", TaskTrigger::SubmitHtml),
];

/// Prefix of a site key that sets the solve time of its task; the milliseconds follow.
pub const SOLVE_MS_PREFIX: &str = "sandbox-takes-";
/// Longest solve time of such a site key: the sandbox forgets a task after it.
pub const SOLVE_MS_MAX: u64 = 3_600_000;

impl TaskTrigger {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let named = SITE_KEYS.iter().find(|(name, _)| *name == text).map(|(_, trigger)| *trigger);
        named.or_else(|| Self::parse_solve_ms(text))
    }

    fn parse_solve_ms(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(SOLVE_MS_PREFIX)?;
        // `parse` also accepts a plus sign.
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|ms| is_number && *ms <= SOLVE_MS_MAX).map(Self::SolvedAfter)
    }

    /// Returns the error with which createTask refuses the task.
    pub(super) fn refusal(self) -> Option<Refusal> {
        Some(match self {
            Self::SiteKey => Refusal::new(400, "ERROR_SITEKEY", "websiteKey is invalid"),
            Self::PageUrl => Refusal::new(400, "ERROR_PAGEURL", "websiteURL is invalid"),
            Self::Parameters => Refusal::new(400, "ERROR_BAD_PARAMETERS", "a field is invalid"),
            Self::ProxyBad => Refusal::new(400, "ERROR_BAD_PROXY", "the proxy is unreachable"),
            Self::ProxyFormat => Refusal::new(400, "ERROR_PROXY_FORMAT", "the proxy cannot be parsed"),
            Self::Unsupported => Refusal::new(400, "TASK_NOT_SUPPORTED", "task.type is unknown"),
            Self::NoProviders => Refusal::new(503, "NO_PROVIDERS_AVAILABLE", "nobody can take the task now"),
            _ => return None,
        })
    }

    /// Returns the error code with which the task fails.
    pub(super) fn failure(self) -> Option<&'static str> {
        match self {
            Self::Unsolvable => Some("ERROR_CAPTCHA_UNSOLVABLE"),
            Self::ProxyFails => Some("ERROR_BAD_PROXY"),
            _ => None,
        }
    }
}
