//! Login: users, virtual hosts, mechanisms and TLS.

use super::prelude::*;
use crate::api::sasl::{AmqPlain, Credentials, External, Plain, Sasl};
use crate::api::tls::Tls;

/// TLS settings that trust the root certificate of the broker.
fn own_root() -> Tls {
    Tls::new().root_file(format!("{}/ca.pem", broker().tls))
}

/// Checks that the connection works, by using a queue.
#[either]
async fn works(t: &Test, connection: &Connection) -> Outcome {
    let channel = connection.channel().await?;
    let queue = t.queue_with(&channel, &["in"]).await?;
    t.expect_ready(&channel, queue.name(), 1).await?;
    Ok(connection.close().await?)
}

#[scenario]
async fn a_wrong_password_fails_with_403_and_is_not_shown(t: Test) -> Outcome {
    let error = refused(t.open(&t.builder().credentials("guest", "pa55word")).await)?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::Authentication, Some(403)), "{error}");
    assert!(!format!("{error} {error:?}").contains("pa55word"), "{error:?}");
    assert!(error.to_string().contains("a wrong user name or password"), "{error}");
    Ok(())
}

#[scenario]
async fn a_missing_virtual_host_fails_with_530(t: Test) -> Outcome {
    let error = refused(t.open(&t.builder().vhost("nowhere")).await)?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::ConnectionClosed, Some(530)), "{error}");
    Ok(())
}

#[scenario]
async fn an_empty_virtual_host_hints_at_the_encoded_slash(t: Test) -> Outcome {
    let error = refused(t.open(&t.builder().vhost("")).await)?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::ConnectionClosed, Some(530)), "{error}");
    assert!(error.to_string().contains("amqp://host/%2f"), "{error}");
    Ok(())
}

#[scenario]
async fn a_secret_that_is_too_long_for_the_broker_is_named_by_its_size(t: Test) -> Outcome {
    let builder = t.builder().credentials("guest", &"x".repeat(20_000));
    let error = refused(t.open(&builder).await)?;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("the secret has 20007 bytes"), "{error}");
    // Brokers take 4,096 or 8,192 bytes by default, and close the socket.
    let error = refused(t.open(&builder.initial_frame_max(32_768)).await)?;
    let text = error.to_string();
    assert!(text.contains("the secret has 20007 bytes") && text.contains("initial_frame_max"), "{text}");
    Ok(())
}

#[scenario]
async fn virtual_hosts_are_isolated_from_each_other(t: Test) -> Outcome {
    let name = t.name("queue");
    let there = t.open(&t.builder().vhost("hopmq-other")).await?;
    there.channel().await?.queue(&name).exclusive().declare().await?;
    let error = refused(t.channel().await?.queue(&name).declare_passive().await)?;
    assert_eq!(error.code(), Some(404), "{error}");
    let stranger = t.builder().vhost("hopmq-other").credentials("hopmq-limited", "limited");
    assert_eq!(refused(t.open(&stranger).await)?.code(), Some(530));
    Ok(())
}

#[scenario]
async fn a_missing_permission_fails_with_403_and_closes_only_the_channel(t: Test) -> Outcome {
    let connection = t.open(&t.builder().credentials("hopmq-limited", "limited")).await?;
    let allowed = connection.channel().await?;
    let name = t.name("hopmq-limited-queue");
    allowed.queue(&name).durable().declare().await?;
    let channel = connection.channel().await?;
    let error = refused(channel.queue(&t.name("queue")).durable().declare().await)?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(403)), "{error}");
    let channel = connection.channel().await?;
    let error = refused(channel.publish("amq.fanout", "", "").confirm().await)?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(403)), "{error}");
    assert_eq!(allowed.queue(&name).declare_passive().await?.message_count(), 0);
    Ok(())
}

#[scenario]
async fn amqplain_logs_in_like_plain(t: Test) -> Outcome {
    works(&t, &t.open(&t.builder().mechanism(AmqPlain)).await?).await?;
    works(&t, &t.open(&t.builder().mechanism(Plain)).await?).await
}

/// A mechanism that no broker offers.
struct UnheardOf;

impl Sasl for UnheardOf {
    fn name(&self) -> &str {
        "X-UNHEARD-OF"
    }

    fn initial(&self, _: &Credentials) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
}

#[scenario]
async fn a_mechanism_that_the_broker_does_not_offer_is_reported(t: Test) -> Outcome {
    let error = refused(t.open(&t.builder().mechanism(UnheardOf)).await)?;
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    assert!(error.to_string().contains("PLAIN") && error.to_string().contains("X-UNHEARD-OF"), "{error}");
    works(&t, &t.open(&t.builder().mechanism(UnheardOf).mechanism(Plain)).await?).await
}

#[scenario]
async fn a_client_certificate_logs_its_owner_in(t: Test) -> Outcome {
    let folder = &broker().tls;
    let tls = own_root().client_certificate_files(format!("{folder}/client.pem"), format!("{folder}/client.key"));
    works(&t, &t.open(&t.builder().uri(&broker().amqps).tls(tls).mechanism(External)).await?).await?;
    let unauthenticated = t.builder().uri(&broker().amqps).tls(own_root()).mechanism(External);
    let error = refused(t.open(&unauthenticated).await)?;
    assert_eq!((error.kind(), error.code()), (ErrorKind::Authentication, Some(403)), "{error}");
    Ok(())
}

#[scenario]
async fn tls_with_the_root_certificate_of_the_broker_carries_large_messages(t: Test) -> Outcome {
    let connection = t.open(&t.builder().uri(&broker().amqps).tls(own_root())).await?;
    let channel = connection.channel().await?;
    let queue = t.queue_with(&channel, &[]).await?;
    let large = vec![9; 3_000_000];
    queue.publish(&large[..]).confirm().await?;
    let delivery = queue.get().await?.expect("the message is confirmed");
    assert!(delivery.body()[..] == large);
    delivery.ack()?;
    Ok(connection.close().await?)
}

#[scenario]
async fn tls_settings_may_be_part_of_the_uri(t: Test) -> Outcome {
    let folder = &broker().tls;
    let trusting = format!("{}?cacertfile={folder}/ca.pem", broker().amqps);
    works(&t, &t.open(&Connection::builder().uri(&trusting)).await?).await?;
    let blind = format!("{}?verify=verify_none", broker().amqps);
    works(&t, &t.open(&Connection::builder().uri(&blind)).await?).await
}

#[scenario]
async fn a_root_that_did_not_sign_the_brokers_certificate_is_refused(t: Test) -> Outcome {
    let stranger = Tls::new().root_file(format!("{}/client.pem", broker().tls));
    for tls in [stranger, Tls::new()] {
        let error = refused(t.open(&t.builder().uri(&broker().amqps).tls(tls)).await)?;
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    }
    Ok(())
}

#[scenario]
async fn a_certificate_for_another_name_is_refused(t: Test) -> Outcome {
    let error = refused(t.open(&t.builder().uri(&broker().amqps).tls(own_root().server_name("example.com"))).await)?;
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    assert!(error.to_string().contains("example.com"), "{error}");
    Ok(())
}

#[scenario]
async fn tls_on_a_plain_port_and_plain_text_on_a_tls_port_are_reported(t: Test) -> Outcome {
    let error = refused(t.open(&t.builder().tls(own_root())).await)?;
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    let error = refused(t.open(&t.builder().host(broker().tls_address())).await)?;
    assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Protocol), "{error}");
    Ok(())
}
