//! Connecting on tokio.

use super::Builder;
use crate::io::dial::{AnyTransport, HostConnector};
use crate::io::tokio::TokioTimer;
use crate::{Connection, Driver, Result};

impl Builder {
    /// Connects on tokio's reactor and spawns the driver as a tokio task. Must be called in a runtime with I/O and time
    /// enabled.
    ///
    /// Dropping the future ends the attempt.
    ///
    /// # Errors
    /// The errors of `open`.
    pub async fn open_tokio(&self) -> Result<Connection> {
        let (connection, driver) = self.connect_tokio().await?;
        tokio::spawn(driver);
        Ok(connection)
    }

    /// Connects on tokio's reactor, and returns the connection with its driver, which the caller spawns or polls.
    ///
    /// # Errors
    /// The errors of `open`.
    pub async fn connect_tokio(&self) -> Result<(Connection, Driver<AnyTransport, TokioTimer, HostConnector>)> {
        let connector =
            HostConnector::new(self.target(), |target, host| async move { target.connect_tokio_to(&host).await });
        self.connect_with(connector, TokioTimer::default()).await
    }
}
