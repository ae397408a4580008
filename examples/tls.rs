//! TLS: trusted certificates, and logging in with a certificate in place of a password.
//!
//! ```sh
//! cargo xtask rabbitmq start                  # once: a broker with certificates
//! export $(cargo xtask rabbitmq env)
//! cargo run --example tls
//! ```
//!
//! `AMQPS_URL` names the broker, and `HOPMQ_TLS_DIR` a folder with `ca.pem`, `client.pem` and `client.key`.

use std::path::PathBuf;

use hopmq::sasl::External;
use hopmq::tls::Tls;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let variable = |name: &str| {
        std::env::var(name).map_err(|_| {
            format!("{name} is not set: `cargo xtask rabbitmq start`, then `export $(cargo xtask rabbitmq env)`")
        })
    };
    let url = variable("AMQPS_URL")?;
    let folder = PathBuf::from(variable("HOPMQ_TLS_DIR")?);
    smol::block_on(async {
        // An `amqps` URI is enough if the system trusts the broker's certificate. It does not trust this one, so the
        // connect fails.
        match hopmq::Connection::open(&url).await {
            Err(error) => println!("refused:        {error}"),
            Ok(connection) => connection.close().await?,
        }

        // Trust our own root certificate, and no other.
        let tls = Tls::new().root_file(folder.join("ca.pem"));
        let connection = hopmq::Connection::builder().uri(&url).tls(tls.clone()).open().await?;
        println!("by password:    connected");
        connection.close().await?;

        // Present a client certificate, which contains the user name.
        let tls = tls.client_certificate_files(folder.join("client.pem"), folder.join("client.key"));
        let connection = hopmq::Connection::builder().uri(&url).tls(tls).mechanism(External).open().await?;
        println!("by certificate: connected");
        connection.close().await?;
        Ok(())
    })
}
