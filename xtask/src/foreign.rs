//! What the sessions of clients in other languages need (`tests/foreign`): Python with pip, a C compiler, and
//! librabbitmq. The tests themselves install the packages for Python and Node.

use std::process::Command;

use crate::rabbitmq::install;
use crate::shell::Result;

/// Checks that Python with pip, and a C compiler with librabbitmq, can be used. Installs Debian's packages where they
/// can't. Node is needed as well, see [`crate::browser::require_node`].
pub(crate) fn require() -> Result {
    let missing: Vec<String> =
        [python(), librabbitmq()].into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
    if missing.is_empty() { Ok(()) } else { Err(missing.join("\n").into()) }
}

fn python() -> Result {
    const BY_HAND: &str = "install Python 3.10 or later with pip (Debian: apt install python3-pip)";
    install::provide("Python with pip", "python3-pip", BY_HAND, || {
        Command::new("python3").args(["-m", "pip", "--version"]).output().is_ok_and(|output| output.status.success())
    })
}

fn librabbitmq() -> Result {
    const BY_HAND: &str = "install a C compiler and librabbitmq (Debian: apt install gcc librabbitmq-dev)";
    install::provide("librabbitmq, the client in C,", "librabbitmq-dev", BY_HAND, has_librabbitmq)
}

/// Whether a C compiler finds librabbitmq's header.
pub(crate) fn has_librabbitmq() -> bool {
    let mut compile = c_compiler();
    compile.args(["-fsyntax-only", "-include", "amqp.h", "-x", "c", "/dev/null"]);
    compile.output().is_ok_and(|output| output.status.success())
}

pub(crate) fn c_compiler() -> Command {
    Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
}
