//! Which RabbitMQ a command is about. Each has a folder of its own, so that both can run at once.

use std::fmt::{self, Display};
use std::path::PathBuf;

use clap::ValueEnum;

use crate::shell;

/// The variable that names the release for the commands that the tests run, such as `kill`.
pub(super) const VARIABLE: &str = "HOPMQ_RABBITMQ_RELEASE";

/// Which RabbitMQ to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Release {
    /// The one of this machine, 3.10.8 on Debian 12; installs Debian's package if there is none
    Installed,
    /// RabbitMQ 4.0; unpacks Debian 13's packages under target/ if the machine's own is another
    #[value(name = "4.0")]
    V4_0,
}

impl Release {
    /// The folder of its node.
    pub(super) fn folder(self) -> PathBuf {
        shell::root().join(match self {
            Self::Installed => "target/rabbitmq",
            Self::V4_0 => "target/rabbitmq-4",
        })
    }

    /// The folder of its cluster's nodes.
    pub(super) fn cluster_folder(self) -> PathBuf {
        shell::root().join(match self {
            Self::Installed => "target/rabbitmq-cluster",
            Self::V4_0 => "target/rabbitmq-4-cluster",
        })
    }

    /// The options that choose it on the command line, for advice.
    pub(super) fn option(self) -> &'static str {
        match self {
            Self::Installed => "",
            Self::V4_0 => " --release 4.0",
        }
    }
}

impl Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no value is skipped");
        f.write_str(value.get_name())
    }
}
