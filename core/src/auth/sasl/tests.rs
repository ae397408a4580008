use futures_lite::future::block_on;

use super::*;

fn list(names: &[&str]) -> Vec<Arc<dyn Sasl>> {
    names.iter().map(|name| built_in(name).unwrap().1).collect()
}

#[test]
fn plain_separates_user_and_password_by_zero_bytes() {
    let response = |name, password| Plain.initial(&Credentials::new(name, password));
    assert_eq!(response("guest", "guest").unwrap(), b"\0guest\0guest");
    assert_eq!(response("", "").unwrap(), b"\0\0");
    assert_eq!(response("", "to:k.en").unwrap(), b"\0\0to:k.en");
    assert_eq!(response("ä", "€").unwrap(), "\0ä\0€".as_bytes());
}

#[test]
fn plain_refuses_zero_bytes_without_printing_the_password() {
    for (name, password) in [("a\0hidden", "b"), ("a", "hidden\0")] {
        let error = Plain.initial(&Credentials::new(name, password)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(!format!("{error} {error:?}").contains("hidden"));
    }
}

#[test]
fn amqplain_is_a_table_without_its_length() {
    let response = AmqPlain.initial(&Credentials::new("me", "secret")).unwrap();
    assert_eq!(response, b"\x05LOGINS\0\0\0\x02me\x08PASSWORDS\0\0\0\x06secret");
    let response = AmqPlain.initial(&Credentials::new("", "")).unwrap();
    assert_eq!(response, b"\x05LOGINS\0\0\0\0\x08PASSWORDS\0\0\0\0");
}

#[test]
fn external_and_anonymous_send_no_credentials() {
    let credentials = Credentials::new("me", "secret");
    assert_eq!(External.initial(&credentials).unwrap(), b"");
    assert_eq!(Anonymous.initial(&credentials).unwrap(), b"");
}

#[test]
fn a_challenge_to_a_built_in_mechanism_is_an_error() {
    for name in ["plain", "amqplain", "external", "anonymous"] {
        let error = built_in(name).unwrap().1.respond(b"?", &Credentials::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authentication);
        assert!(error.to_string().contains(&name.to_uppercase()), "{error}");
    }
}

#[test]
fn mechanism_names_ignore_case() {
    for (name, found) in [("Plain", "PLAIN"), ("EXTERNAL", "EXTERNAL"), ("amqPlain", "AMQPLAIN")] {
        let (constant, mechanism) = built_in(name).unwrap();
        assert_eq!((constant, mechanism.name()), (found, found));
    }
    assert!(built_in("").is_none());
    assert!(built_in("RABBIT-CR-DEMO").is_none());
}

#[test]
fn the_clients_preference_selects_the_mechanism() {
    let chosen = |names: &[&str], offered| select(&list(names), offered).map(|found| found.name().to_owned());
    assert_eq!(chosen(&["plain", "amqplain"], "AMQPLAIN PLAIN").unwrap(), "PLAIN");
    assert_eq!(chosen(&["external", "plain"], "AMQPLAIN PLAIN").unwrap(), "PLAIN");
    assert_eq!(chosen(&["external", "plain"], "plain  EXTERNAL ").unwrap(), "EXTERNAL");
    assert_eq!(chosen(&["amqplain"], "PLAIN AMQPLAIN").unwrap(), "AMQPLAIN");
}

#[test]
fn without_a_common_mechanism_the_error_lists_both_sides() {
    for (names, offered) in [(&["external", "plain"][..], "RABBIT-CR-DEMO AMQPLAIN"), (&["plain"], ""), (&[], "PLAIN")]
    {
        let error = select(&list(names), offered).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Authentication);
        let text = error.to_string();
        assert!(text.contains(&format!("{offered:?}")), "{text}");
        assert!(text.contains(&format!("{:?}", names.join(" ").to_uppercase())), "{text}");
    }
}

#[test]
fn a_partial_mechanism_name_does_not_match() {
    assert!(select(&list(&["plain"]), "AMQPLAIN PLAIN2").is_err());
}

#[test]
fn debug_hides_the_password() {
    let text = format!("{:?} {:#?}", Credentials::new("me", "secret"), Credentials::new("me", "secret"));
    assert!(text.contains("me") && !text.contains("secret"), "{text}");
}

#[test]
fn credentials_and_closures_are_providers() {
    let fixed: Arc<dyn CredentialsProvider> = Arc::new(Credentials::new("me", "fixed"));
    assert_eq!(block_on(fixed.fetch()).unwrap().password(), "fixed");

    let count = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let fresh: Arc<dyn CredentialsProvider> = Arc::new(move || {
        let count = Arc::clone(&count);
        async move {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(Credentials::new("me", format!("token {number}")))
        }
    });
    assert_eq!(block_on(fresh.fetch()).unwrap().password(), "token 0");
    assert_eq!(block_on(fresh.fetch()).unwrap().password(), "token 1");

    let failing = || async { Err(Error::new(ErrorKind::Authentication, "the vault is closed")) };
    assert_eq!(block_on(failing.fetch()).unwrap_err().kind(), ErrorKind::Authentication);
}
