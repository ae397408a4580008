//! Tokens that other libraries have accepted wrongly: each is refused, with the reason.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::error::AuthError;
use super::jwt::Verifier;
use super::{clock, jwks};
use crate::config;
use crate::testing::tokens::{SECRET, auth, claims, claims_with, sign, sign_texts};

const POLICY: &str = "consume = [\"#\"]";

fn reason(token: &str) -> Option<String> {
    auth(POLICY).token(token).err().map(|error| error.to_string())
}

#[track_caller]
fn is_refused(token: &str, expected: &str) {
    let reason = reason(token).unwrap_or_else(|| panic!("accepted, in place of: {expected}"));
    assert!(reason.contains(expected), "{reason} does not contain: {expected}");
}

#[test]
fn times_far_off_are_refused() {
    let now = clock::now();
    assert_eq!(reason(&sign(&claims("alice"))), None);
    let with = |name: &str, value: Value| sign(&claims_with(&json!({ name: value })));
    for exp in [json!(u64::MAX), json!(u64::MAX - 5), json!(1e19), json!(1e17), json!(300_000_000_000_u64)] {
        is_refused(&with("exp", exp), "time that is out of range (exp)");
    }
    for exp in
        [json!(-1), json!(1e300), json!(-1e300), json!("9999999999"), json!([now + 600]), json!(true), Value::Null]
    {
        assert!(reason(&with("exp", exp.clone())).is_some(), "{exp}");
    }
    is_refused(&with("exp", json!(now - 60)), "has expired");
    is_refused(&with("exp", json!(0)), "has expired");
    is_refused(&with("nbf", json!(now + 3600)), "not valid yet");
    is_refused(&with("nbf", json!(u64::MAX)), "(nbf)");
    assert!(reason(&with("nbf", json!("soon"))).is_some());
    is_refused(&with("iat", json!(now + 3600)), "issued in the future");
    is_refused(&with("iat", json!(u64::MAX)), "(iat)");
    is_refused(&with("iat", json!("yesterday")), "(iat)");
    is_refused(&with("iat", json!(-5)), "(iat)");
    assert_eq!(reason(&with("iat", json!(now as f64 - 0.5))), None);
    assert_eq!(reason(&with("exp", json!(253_402_300_799_u64))), None);
    // JSON numbers that fit into no type, and a claim that is there twice.
    let rest = "\"sub\":\"alice\",\"iss\":\"https://issuer.example\",\"aud\":\"chat\"";
    let header = r#"{"alg":"HS256"}"#;
    for exp in ["1e999", "184467440737095516150000", "-0.0", "1e-400"] {
        assert!(reason(&sign_texts(header, &format!("{{{rest},\"exp\":{exp}}}"))).is_some(), "{exp}");
    }
    assert!(reason(&sign_texts(header, &format!("{{{rest},\"exp\":{},\"exp\":1}}", now + 600))).is_some());
    let twice = format!("{{{rest},\"sub\":\"admin\",\"exp\":{}}}", now + 600);
    assert!(reason(&sign_texts(header, &twice)).is_some());
}

#[test]
fn headers_that_change_how_a_token_is_read_are_refused() {
    let claims = claims("alice").to_string();
    assert_eq!(reason(&sign_texts(r#"{"alg":"HS256","typ":"JWT","x":1}"#, &claims)), None);
    for (header, expected) in [
        (r#"{"alg":"HS256","crit":["exp"]}"#, "crit"),
        (r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, "crit"),
        (r#"{"alg":"HS256","crit":[]}"#, "crit"),
        (r#"{"alg":"HS256","b64":false}"#, "b64"),
        (r#"{"alg":"HS256","zip":"DEF"}"#, "zip"),
        (r#"{"alg":"HS256","enc":"A128GCM"}"#, "enc"),
        (r#"{"alg":"none"}"#, "not signed"),
        (r#"{"alg":"NONE"}"#, "not a readable"),
        (r#"{"alg":"RS256"}"#, "RS256"),
        (r#"{"alg":"HS512"}"#, "HS512"),
        (r#"{"alg":"HS256","alg":"none"}"#, ""),
        (r#"{}"#, "not a readable"),
    ] {
        is_refused(&sign_texts(header, &claims), expected);
    }
    // A key in the header is not used.
    let other = EncodingKey::from_secret(b"another secret of at least 32 bytes");
    let secret = URL_SAFE_NO_PAD.encode(b"another secret of at least 32 bytes");
    let jwk = serde_json::from_value(json!({"kty": "oct", "k": secret})).ok();
    let header = Header { jwk, ..Header::default() };
    assert!(header.jwk.is_some());
    is_refused(&encode(&header, &json!({}), &other).unwrap(), "signature");
}

#[test]
fn oversized_and_misshapen_tokens_are_refused() {
    let large = claims_with(&json!({"more": "x".repeat(20_000)}));
    is_refused(&sign(&large), "longer than");
    let good = sign(&claims("alice"));
    for token in [format!("{good}."), format!("{good}="), format!(" {good}"), good.replace('.', ".."), "..".to_owned()]
    {
        assert!(reason(&token).is_some(), "{token}");
    }
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    assert!(reason(&sign_texts(r#"{"alg":"HS256"}"#, &deep)).is_some());
}

/// A verifier with these public keys, and the private key of the first.
fn verifier(keys: &Value) -> Verifier {
    let config = config::Jwt {
        jwks_url: Some("http://127.0.0.1:9/never-fetched".to_owned()),
        issuer: "https://issuer.example".to_owned(),
        audience: "chat".to_owned(),
        algorithms: vec!["EdDSA".to_owned()],
        ..Default::default()
    };
    let verifier = Verifier::new(&config).unwrap();
    verifier.set_keys(jwks::parse(&json!({ "keys": keys }).to_string()).unwrap());
    verifier
}

#[test]
fn only_a_key_for_signatures_of_the_tokens_algorithm_verifies() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let jwk = |changes: Value| {
        let mut key =
            json!({"kty": "OKP", "crv": "Ed25519", "kid": "one", "x": URL_SAFE_NO_PAD.encode(pair.public_key_raw())});
        for (name, value) in changes.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    };
    let token = |kid: Option<&str>| {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = kid.map(str::to_owned);
        encode(&header, &claims("alice"), &EncodingKey::from_ed_der(&pair.serialize_der())).unwrap()
    };
    let by = |keys: Value, kid| verifier(&keys).verify(&token(kid)).map(drop);
    let other = json!({"kty": "oct", "kid": "two", "k": URL_SAFE_NO_PAD.encode(SECRET.as_bytes())});
    for good in [json!({}), json!({"use": "sig", "alg": "EdDSA", "key_ops": ["verify"]})] {
        assert_eq!(by(json!([jwk(good)]), Some("one")), Ok(()));
    }
    assert_eq!(by(json!([jwk(json!({}))]), None), Ok(()));
    for unfit in [json!({"use": "enc"}), json!({"use": "tls"}), json!({"key_ops": ["sign"]}), json!({"key_ops": []})] {
        assert_eq!(by(json!([jwk(unfit.clone())]), Some("one")), Err(AuthError::KeyUnusable), "{unfit}");
        assert_eq!(by(json!([jwk(unfit.clone())]), None), Err(AuthError::KeyUnusable), "{unfit}");
        // Besides one for encryption, the key for signatures is found.
        assert_eq!(by(json!([jwk(unfit), jwk(json!({}))]), Some("one")), Ok(()));
    }
    for alg in ["ES256", "HS256", "RSA-OAEP", "unheard-of"] {
        assert_eq!(by(json!([jwk(json!({"alg": alg}))]), Some("one")), Err(AuthError::KeyOfOtherAlgorithm), "{alg}");
    }
    let shared = json!({"kty": "oct", "kid": "one", "k": URL_SAFE_NO_PAD.encode(pair.public_key_raw())});
    assert_eq!(by(json!([shared]), Some("one")), Err(AuthError::KeyOfOtherAlgorithm));
    assert_eq!(by(json!([jwk(json!({})), jwk(json!({}))]), Some("one")), Err(AuthError::KeyAmbiguous));
    assert_eq!(by(json!([jwk(json!({})), jwk(json!({"kid": "two"}))]), None), Err(AuthError::KeyNotNamed));
    assert_eq!(by(json!([jwk(json!({})), other]), None), Ok(()));
    assert_eq!(by(json!([jwk(json!({}))]), Some("two")), Err(AuthError::KeyUnknown));
}

#[test]
fn a_jwks_has_a_largest_number_of_keys() {
    let keys = |count: usize| {
        let key = json!({"kty": "oct", "k": "AAAA"});
        jwks::parse(&json!({ "keys": vec![key; count] }).to_string())
    };
    assert!(keys(256).is_ok());
    let error = keys(257).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("more than 256 keys"), "{error}");
}
