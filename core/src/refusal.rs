//! Why a broker refuses a connection.
//!
//! The only place that reads the text of a `connection.close`. AMQP has one code (530) both for a virtual host that
//! does not exist and for a limit of connections that is reached; only RabbitMQ's text tells them apart.

use hopmq_proto::method::MethodId;
use hopmq_proto::{CloseReason, code};

/// What the broker refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The user name, the password, or where the user connects from.
    Credentials,
    /// The virtual host does not exist.
    VhostMissing,
    /// The user may not use the virtual host.
    AccessRefused,
    /// The node, the virtual host or the user has too many connections.
    ConnectionLimit,
    /// Something else, which this client does not know.
    Other,
}

impl Refusal {
    /// Returns what `reason` refuses; `None` if the close is no refusal.
    pub(crate) fn of(reason: &CloseReason) -> Option<Self> {
        let text = reason.text.as_str();
        match reason.code {
            code::ACCESS_REFUSED if text.starts_with("ACCESS_REFUSED - Login was refused") => Some(Self::Credentials),
            code::ACCESS_REFUSED if reason.method == MethodId::CONNECTION_OPEN => Some(Self::AccessRefused),
            code::NOT_ALLOWED => Some(text.strip_prefix("NOT_ALLOWED - ").map_or(Self::Other, not_allowed)),
            code::INVALID_PATH | code::ACCESS_REFUSED => Some(Self::Other),
            _ => None,
        }
    }

    /// Whether the virtual host that does not exist has an empty name.
    pub(crate) fn names_no_vhost(reason: &CloseReason) -> bool {
        ["NOT_ALLOWED - vhost  not found", "NOT_ALLOWED - vhost '' not found"].contains(&reason.text.as_str())
    }

    /// Whether the same attempt may succeed later although nothing is reconfigured: the connections that reached a
    /// limit may be dead ones, which the broker still counts.
    pub(crate) fn is_transient(self) -> bool {
        self == Self::ConnectionLimit
    }
}

/// Reads one of RabbitMQ's texts for code 530:
///
/// - `vhost V not found`
/// - `access to vhost 'V' refused for user 'U'`, and the same with `: connection limit (N) is reached`
/// - `connection refused for user 'U': user connection limit (N) is reached`
/// - `connection refused: node connection limit (N) is reached`
///
/// Names are chosen by people and may contain any words, quotes too. So a text is known by its start, which no name
/// can change, and a limit by what follows the last quote: a text that ends with a name ends with that name's quote.
fn not_allowed(text: &str) -> Refusal {
    let after_names = text.rsplit_once('\'').map_or(text, |(_, after)| after);
    if text.starts_with("vhost ") && text.ends_with(" not found") {
        Refusal::VhostMissing
    } else if text.starts_with("access to vhost '") {
        if is_limit(after_names) { Refusal::ConnectionLimit } else { Refusal::AccessRefused }
    } else if text.starts_with("connection refused for user '") {
        if is_limit(after_names) { Refusal::ConnectionLimit } else { Refusal::Other }
    } else if is_limit(text.strip_prefix("connection refused").unwrap_or(text)) {
        Refusal::ConnectionLimit
    } else {
        Refusal::Other
    }
}

/// Whether `text` is `connection limit (N) is reached`, with a colon and the owner of the limit before it or not.
fn is_limit(text: &str) -> bool {
    let text = text.strip_prefix(": ").unwrap_or(text);
    let text = ["node ", "vhost ", "user "].iter().find_map(|owner| text.strip_prefix(owner)).unwrap_or(text);
    let count = text.strip_prefix("connection limit (").and_then(|text| text.strip_suffix(") is reached"));
    count.is_some_and(|count| !count.is_empty() && count.bytes().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: u16, text: &str) -> Option<Refusal> {
        Refusal::of(&CloseReason { code, text: text.to_owned(), method: MethodId::CONNECTION_OPEN })
    }

    #[test]
    fn each_text_of_rabbitmq_is_known() {
        let texts = [
            ("vhost shop not found", Refusal::VhostMissing),
            ("access to vhost '/' refused for user 'guest'", Refusal::AccessRefused),
            ("access to vhost '/' refused for user 'guest': connection limit (5) is reached", Refusal::ConnectionLimit),
            (
                "access to vhost '/' refused for user 'a': vhost connection limit (0) is reached",
                Refusal::ConnectionLimit,
            ),
            ("connection refused for user 'a': user connection limit (10) is reached", Refusal::ConnectionLimit),
            ("connection refused: node connection limit (1000) is reached", Refusal::ConnectionLimit),
            ("connection limit (1) is reached", Refusal::ConnectionLimit),
            ("something new", Refusal::Other),
        ];
        for (text, expected) in texts {
            assert_eq!(refusal(530, &format!("NOT_ALLOWED - {text}")), Some(expected), "{text}");
        }
        assert_eq!(refusal(530, "no dash"), Some(Refusal::Other));
        assert_eq!(refusal(403, "ACCESS_REFUSED - Login was refused using PLAIN"), Some(Refusal::Credentials));
        assert_eq!(refusal(403, "ACCESS_REFUSED - connection limit (1) is reached"), Some(Refusal::AccessRefused));
        assert_eq!(refusal(320, "CONNECTION_FORCED - connection limit (1) is reached"), None);
        assert_eq!(refusal(541, "INTERNAL_ERROR - vhost '/' is down"), None);
    }

    #[test]
    fn a_name_that_reads_like_a_limit_is_no_limit() {
        let names = [
            "hopmq-limited",
            "connection limit",
            "connection limit (1) is reached",
            "': connection limit (1) is reached",
            "x': user connection limit (1) is reached",
            "x not found",
        ];
        for name in names {
            let refused = format!("NOT_ALLOWED - access to vhost '{name}' refused for user '{name}'");
            assert_eq!(refusal(530, &refused), Some(Refusal::AccessRefused), "{name}");
            let missing = format!("NOT_ALLOWED - vhost {name} not found");
            assert_eq!(refusal(530, &missing), Some(Refusal::VhostMissing), "{name}");
            let unknown = format!("NOT_ALLOWED - user '{name}' is asleep");
            assert_eq!(refusal(530, &unknown), Some(Refusal::Other), "{name}");
        }
    }
}
