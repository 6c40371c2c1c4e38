//! The form of a reply: its notation, and the part of the protocol that it answers.

/// The form in which a client expects its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// The part of the protocol that is answered. Determines the code of a failure.
    pub context: ReplyContext,
    /// Text or JSON.
    pub notation: Notation,
    /// Whether scripts of any web origin may read the reply (`header_acao=1`).
    pub allow_any_origin: bool,
}

/// Text or JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// `OK|…` or a bare code.
    Text,
    /// `{"status":…,"request":…}`.
    Json,
}

/// The parts of the protocol that render failures and results differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyContext {
    /// `in.php`.
    Submit,
    /// `res.php`, `action=get`.
    Get,
    /// `res.php`, `action=get2`: the answer with its price.
    GetWithPrice,
    /// `res.php`, `action=get` with `ids=`.
    GetMany,
    /// `res.php`, `action=reportgood` and `reportbad`.
    Report,
    /// `res.php`, `action=getbalance`.
    Balance,
    /// `res.php` with a missing or unknown action.
    UnknownAction,
}

impl ReplyContext {
    /// Returns the name for metrics and logs, from a closed set.
    pub fn label(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Get => "get",
            Self::GetWithPrice => "get2",
            Self::GetMany => "ids",
            Self::Report => "report",
            Self::Balance => "getbalance",
            Self::UnknownAction => "none",
        }
    }

    /// Whether the reply is to a poll.
    pub(super) fn is_poll(self) -> bool {
        matches!(self, Self::Get | Self::GetWithPrice | Self::GetMany)
    }
}
