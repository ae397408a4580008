//! A third-party client, @cloudamqp/amqp-client, from npm. It is installed into `target/foreign-gateway`. Without Node,
//! the test prints that it did not run; in CI, it fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::Served;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign");

/// Runs a command and returns its output.
fn output(command: &mut Command) -> Result<String, String> {
    let line = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("cannot start {line}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text) } else { Err(format!("{line} failed: {}\n{text}", output.status)) }
}

/// Installs the client unless it is installed, and returns its folder.
fn install() -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = target.parent().unwrap_or(target).join("foreign-gateway");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for file in ["package.json", "amqp_client.mjs"] {
        std::fs::copy(Path::new(SCRIPTS).join(file), folder.join(file)).map_err(|error| format!("{file}: {error}"))?;
    }
    if !folder.join("node_modules/@cloudamqp/amqp-client/package.json").exists() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]);
        output(npm.current_dir(&folder))?;
    }
    Ok(folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn amqp_client_js_works_unchanged() {
    let served = Served::start("").await;
    let folder = match tokio::task::spawn_blocking(install).await.unwrap() {
        Ok(folder) => folder,
        Err(reason) if std::env::var_os("CI").is_none() => return eprintln!("not run: {reason}"),
        Err(reason) => panic!("{reason}"),
    };
    let mut node = Command::new("node");
    // Before version 22, Node has a WebSocket only with this flag.
    node.current_dir(folder).args(["--experimental-websocket", "amqp_client.mjs"]).arg(served.url());
    let printed = tokio::task::spawn_blocking(move || output(&mut node)).await.unwrap().unwrap();
    assert!(printed.contains("done"), "{printed}");
    served.is_empty().await;
}
