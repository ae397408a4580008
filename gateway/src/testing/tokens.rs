//! Settings with tokens and tickets, and tokens for them.

use std::sync::Arc;

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::auth::{Auth, clock};
use crate::config::Config;

pub(crate) const SECRET: &str = "a secret of at least 32 bytes, for tests";

/// Returns settings with tokens, tickets and this policy.
pub(crate) fn config(policy: &str) -> Config {
    let text = format!(
        r#"
        [auth.jwt]
        secret = "{SECRET}"
        issuer = "https://issuer.example"
        audience = "chat"
        [auth.ticket]
        secret = "{SECRET}"
        [[auth.policy]]
        username = "web"
        password = "upstream password"
        {policy}
        "#
    );
    Config::read(&text, "test", []).expect("the settings are valid")
}

/// Returns the authentication of settings with this policy.
pub(crate) fn auth(policy: &str) -> Arc<Auth> {
    Arc::new(Auth::new(&config(policy)).expect("the settings can be used").expect("there is a policy"))
}

/// Returns the claims of a valid token for this subject.
pub(crate) fn claims(subject: &str) -> Value {
    json!({"sub": subject, "iss": "https://issuer.example", "aud": "chat", "exp": clock::now() + 600})
}

/// Returns the claims for this subject with some replaced, or removed by null.
pub(crate) fn claims_of(subject: &str, changes: &Value) -> Value {
    let mut claims = claims(subject);
    for (name, value) in changes.as_object().expect("the changes are an object") {
        claims[name] = value.clone();
    }
    claims.as_object_mut().expect("the claims are an object").retain(|_, value| !value.is_null());
    claims
}

/// Returns alice's claims with some replaced, or removed by null.
#[cfg(test)]
pub(crate) fn claims_with(changes: &Value) -> Value {
    claims_of("alice", changes)
}

/// Returns a signed token with these claims.
pub(crate) fn sign(claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("the claims can be signed")
}

/// Returns a token whose header and claims are these texts.
#[cfg(test)]
pub(crate) fn sign_texts(header: &str, claims: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let message =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.as_bytes()), URL_SAFE_NO_PAD.encode(claims.as_bytes()));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256);
    format!("{message}.{}", signature.expect("the message can be signed"))
}

/// Returns a ticket for alice.
pub(crate) fn ticket() -> String {
    let now = clock::now();
    sign(&json!({"sub": "alice", "aud": "hopmq-gateway", "iat": now, "exp": now + 30}))
}
