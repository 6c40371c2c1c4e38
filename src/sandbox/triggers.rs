//! Keys and site keys that bring about each documented error of the native API. `docs/sandbox.md` lists them; a test
//! keeps it complete.

/// What a special API key does.
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
    /// An answer that never comes.
    Hang,
    /// Answers inside createTask, as a Lightning key does.
    Lightning,
}

/// The keys.
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
    pub(super) fn of(key: &str) -> Option<Self> {
        KEYS.iter().find(|(name, _)| *name == key).map(|(_, trigger)| *trigger)
    }
}

/// What a special site key, or the comment of an image, does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskTrigger {
    /// The task fails with `ERROR_CAPTCHA_UNSOLVABLE`.
    Unsolvable,
    /// The task fails with `ERROR_BAD_PROXY`.
    ProxyFails,
    /// The task is never ready.
    Never,
    /// The task is unknown when it is polled: `ERROR_WRONG_CAPTCHA_ID`, 404.
    Lost,
    /// The answer holds pipes, quotes, backslashes, markup and letters beyond ASCII.
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
    /// createTask takes the task and never answers.
    SubmitHangs,
    /// createTask takes the task and answers 502 with HTML.
    SubmitHtml,
    /// The task takes this many milliseconds, whatever its type; zero: answered inside createTask.
    Takes(u64),
}

/// The site keys.
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

/// What stands before the milliseconds in a site key that says how long its task takes.
pub const TAKES: &str = "sandbox-takes-";
/// The longest time that can be asked for so. A sandbox forgets a task after it.
pub const TAKES_MS_MAX: u64 = 3_600_000;

impl TaskTrigger {
    pub(super) fn of(text: &str) -> Option<Self> {
        let named = SITE_KEYS.iter().find(|(name, _)| *name == text).map(|(_, trigger)| *trigger);
        named.or_else(|| Self::takes(text))
    }

    fn takes(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(TAKES)?;
        // The standard library would take a plus sign as well.
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|ms| is_number && *ms <= TAKES_MS_MAX).map(Self::Takes)
    }

    /// What createTask says instead of taking the task.
    pub(super) fn refusal(self) -> Option<super::Refusal> {
        Some(match self {
            Self::SiteKey => (400, "ERROR_SITEKEY", "websiteKey is invalid"),
            Self::PageUrl => (400, "ERROR_PAGEURL", "websiteURL is invalid"),
            Self::Parameters => (400, "ERROR_BAD_PARAMETERS", "a field is invalid"),
            Self::ProxyBad => (400, "ERROR_BAD_PROXY", "the proxy is unreachable"),
            Self::ProxyFormat => (400, "ERROR_PROXY_FORMAT", "the proxy cannot be parsed"),
            Self::Unsupported => (400, "TASK_NOT_SUPPORTED", "task.type is unknown"),
            Self::NoProviders => (503, "NO_PROVIDERS_AVAILABLE", "nobody can take the task now"),
            _ => return None,
        })
    }

    /// The code that the task fails with.
    pub(super) fn failure(self) -> Option<&'static str> {
        match self {
            Self::Unsolvable => Some("ERROR_CAPTCHA_UNSOLVABLE"),
            Self::ProxyFails => Some("ERROR_BAD_PROXY"),
            _ => None,
        }
    }
}
