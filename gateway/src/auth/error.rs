//! Reasons to refuse a token or a ticket.

use std::fmt;

use jsonwebtoken::Algorithm;
use jsonwebtoken::errors::ErrorKind;

/// The two kinds of credentials that the gateway verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    Token,
    Ticket,
}

/// The reason that a token or a ticket is refused. It holds nothing of the credential except names of claims.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AuthError {
    /// The URL has no ticket, and no tokens are accepted.
    TicketMissing { parameter: String },
    /// The client sent a token, and only tickets are accepted.
    TokensNotAccepted,
    /// The login mechanism is not PLAIN, or has no password.
    NotPlain,
    /// The token is not UTF-8.
    NotText,
    /// The signature, a claim or the format is not valid.
    Flawed(Credential, Flaw),
    /// The algorithm is not in the settings.
    AlgorithmNotAccepted { algorithm: Algorithm, accepted: Vec<Algorithm> },
    /// The token does not name its key, and the issuer has several keys.
    KeyNotNamed,
    /// The issuer has no key of this name.
    KeyUnknown,
    /// Several keys of the issuer have this name and fit the algorithm.
    KeyAmbiguous,
    /// The key is for another algorithm.
    KeyOfOtherAlgorithm,
    /// The key has a type that cannot verify signatures.
    KeyUnusable,
    /// The token is longer than any that is read.
    TooLong { limit: usize },
    /// The header of the token has a field that changes how the token must be read.
    HeaderNotAccepted { field: &'static str },
    /// The ticket has no `iat`.
    IssueTimeMissing,
    /// `iat` is later than now.
    IssuedInFuture,
    /// `exp` is too long after `iat`.
    LifetimeTooLong { seconds: u64 },
    /// No policy matches the claims.
    NoPolicy,
    /// A setting of the policy refers to a claim that the token lacks.
    PolicyClaimMissing { setting: &'static str },
    /// A claim cannot be filled into a setting of the policy.
    ClaimUnfit { setting: &'static str, claim: String, flaw: &'static str },
    /// `connection.update-secret` brought a token of another subject, RabbitMQ user or virtual host.
    OtherBearer,
    /// A page on another machine logs in as a user of `auth.loopback_users`.
    LoopbackUser { user: String },
    /// A page on another machine logs in by a mechanism that does not show the user.
    UserUnknown { mechanism: String },
}

/// What is wrong with a JSON Web Token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    Expired,
    NotYetValid,
    Audience,
    Issuer,
    Signature,
    AlgorithmOfOtherKey,
    ClaimMissing(String),
    /// The claim is not a time, or one that no clock will show.
    Time(String),
    Unsigned,
    Unreadable,
}

impl From<&ErrorKind> for Flaw {
    fn from(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::NotYetValid,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidSignature => Self::Signature,
            ErrorKind::InvalidAlgorithm => Self::AlgorithmOfOtherKey,
            ErrorKind::MissingRequiredClaim(claim) => Self::ClaimMissing(claim.clone()),
            ErrorKind::InvalidClaimFormat(claim) => Self::Time(claim.clone()),
            // The library has no kind of its own for the algorithm `none`.
            ErrorKind::Json(error) if error.to_string().contains("`none`") => Self::Unsigned,
            _ => Self::Unreadable,
        }
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "token",
            Self::Ticket => "ticket",
        })
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "has expired",
            Self::NotYetValid => "is not valid yet (nbf)",
            Self::Audience => "is not for this service (aud)",
            Self::Issuer => "is from another issuer (iss)",
            Self::Signature => "has a wrong signature",
            Self::AlgorithmOfOtherKey => "is signed with an algorithm that does not fit its key",
            Self::ClaimMissing(claim) => return write!(f, "lacks the claim {claim}"),
            Self::Time(claim) => return write!(f, "has a time that is out of range ({claim})"),
            Self::Unsigned => "is not signed (none)",
            Self::Unreadable => "is not a readable JSON Web Token",
        })
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TicketMissing { parameter } => {
                write!(f, "a ticket is required; put one into the URL as the parameter {parameter}")
            }
            Self::TokensNotAccepted => f.write_str("tokens are not accepted here; send a ticket"),
            Self::NotPlain => f.write_str("the token must come as the password of PLAIN"),
            Self::NotText => f.write_str("the token is not UTF-8 text"),
            Self::Flawed(credential, flaw) => write!(f, "the {credential} {flaw}"),
            Self::AlgorithmNotAccepted { algorithm, accepted } => {
                write!(f, "the token is signed with {algorithm:?}; accepted are {accepted:?}")
            }
            Self::KeyNotNamed => f.write_str("the token does not name its key (kid), and the issuer has several"),
            Self::KeyAmbiguous => f.write_str("the issuer has several keys of the name (kid) that the token has"),
            Self::KeyUnknown => f.write_str("the token is signed with an unknown key (kid)"),
            Self::KeyOfOtherAlgorithm => f.write_str("the token and its key are for different algorithms"),
            Self::KeyUnusable => f.write_str("the token's key cannot verify signatures"),
            Self::TooLong { limit } => write!(f, "the token is longer than {limit} bytes"),
            Self::HeaderNotAccepted { field } => {
                write!(f, "the token's header has the field {field}, which is not accepted")
            }
            Self::IssueTimeMissing => f.write_str("the ticket lacks the claim iat"),
            Self::IssuedInFuture => f.write_str("the token or ticket was issued in the future (iat); check the clocks"),
            Self::LifetimeTooLong { seconds } => write!(f, "the ticket is valid for more than {seconds} s"),
            Self::NoPolicy => f.write_str("no policy matches the claims of the token"),
            Self::PolicyClaimMissing { setting } => {
                write!(f, "the token lacks a claim that the {setting} of its policy needs")
            }
            Self::ClaimUnfit { setting, claim, flaw } => {
                write!(f, "the claim {claim} of the token {flaw}; {setting} cannot use it")
            }
            Self::LoopbackUser { user } => write!(
                f,
                "user '{user}' may log in from the gateway's own machine only; log in as another user, or take it out \
                 of auth.loopback_users"
            ),
            Self::UserUnknown { mechanism } => {
                write!(f, "the login by {mechanism} shows no user; log in by PLAIN or AMQPLAIN")
            }
            Self::OtherBearer => {
                f.write_str("the new token is for another subject, user or virtual host; connect again with it")
            }
        }
    }
}

impl std::error::Error for AuthError {}
