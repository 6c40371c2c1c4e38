//! The rate limit: a fixed window for all keys together.

/// Length of the window (uCaptcha, API overview), in milliseconds.
const WINDOW_MS: u64 = 10_000;

/// Requests in the current window.
#[derive(Debug, Default)]
pub(super) struct Window {
    started_at_ms: u64,
    requests: u64,
}

/// Values of the `X-RateLimit-*` headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// `X-RateLimit-Limit`.
    pub limit: u64,
    /// `X-RateLimit-Remaining`.
    pub remaining: u64,
    /// Seconds until the window ends. `X-RateLimit-Reset` is a Unix time, so the caller adds the current one.
    pub reset_secs: u64,
}

impl Window {
    /// Counts a request.
    pub(super) fn count(&mut self, limit: u64, now_ms: u64) -> RateLimit {
        if now_ms.saturating_sub(self.started_at_ms) >= WINDOW_MS {
            self.started_at_ms = now_ms - now_ms % WINDOW_MS;
            self.requests = 0;
        }
        self.requests += 1;
        let remaining_ms = (self.started_at_ms + WINDOW_MS).saturating_sub(now_ms);
        RateLimit { limit, remaining: limit.saturating_sub(self.requests), reset_secs: remaining_ms.div_ceil(1000) }
    }

    /// Whether the window has more requests than `limit`.
    pub(super) fn is_over(&self, limit: u64) -> bool {
        self.requests > limit
    }
}
