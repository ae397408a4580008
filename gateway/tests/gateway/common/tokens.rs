//! Tokens and tickets, valid and invalid.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

pub(crate) const SECRET: &str = "a secret of at least 32 bytes, for tests";

/// Returns the seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970").as_secs()
}

/// Returns the claims of a valid token for alice.
pub(crate) fn claims() -> Value {
    json!({"sub": "alice", "iss": "https://issuer.example", "aud": "chat", "exp": now() + 600, "role": "user"})
}

/// Returns the claims with one changed, or removed by null.
pub(crate) fn claims_with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    let value = value.into();
    let object = claims.as_object_mut().expect("the claims are an object");
    if value.is_null() {
        object.remove(name)
    } else {
        object.insert(name.to_owned(), value)
    };
    claims
}

/// Returns a token with these claims.
pub(crate) fn sign(claims: &Value) -> String {
    sign_by(Algorithm::HS256, SECRET, claims)
}

pub(crate) fn sign_by(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes()))
        .expect("the claims can be signed")
}

/// Returns a ticket for alice that is valid for this many seconds.
pub(crate) fn ticket(seconds: u64) -> String {
    sign(&json!({"sub": "alice", "aud": "hopmq-gateway", "iat": now(), "exp": now() + seconds, "role": "user"}))
}

/// Returns settings with tokens, tickets, and a policy for the role `user`.
pub(crate) fn settings(policy: &str) -> String {
    format!(
        r#"
        [auth.jwt]
        secret = "{SECRET}"
        issuer = "https://issuer.example"
        audience = "chat"
        leeway = "0s"
        [auth.ticket]
        secret = "{SECRET}"
        [[auth.policy]]
        when = {{ role = "user" }}
        username = "guest"
        password = "guest"
        {policy}
        "#
    )
}
