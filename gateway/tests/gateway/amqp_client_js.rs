//! A client that is not ours, as it is on npm: @cloudamqp/amqp-client. It is installed into `target/foreign-gateway`.
//! Where there is no Node, the test says so, unless this is CI, which has one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::Served;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign");

/// Runs a command, and returns what it printed.
fn output(command: &mut Command) -> Result<String, String> {
    let line = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{line} does not start: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text) } else { Err(format!("{line} failed: {}\n{text}", output.status)) }
}

/// The folder with the client, installed unless it was before.
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
async fn amqp_client_js_works_as_it_is() {
    let served = Served::start("").await;
    let folder = match tokio::task::spawn_blocking(install).await.unwrap() {
        Ok(folder) => folder,
        Err(why) if std::env::var_os("CI").is_none() => return eprintln!("not run: {why}"),
        Err(why) => panic!("{why}"),
    };
    let mut node = Command::new("node");
    // Node has a WebSocket from 22 on; before, it has to be asked for.
    node.current_dir(folder).args(["--experimental-websocket", "amqp_client.mjs"]).arg(served.url());
    let said = tokio::task::spawn_blocking(move || output(&mut node)).await.unwrap().unwrap();
    assert!(said.contains("done"), "{said}");
    served.is_empty().await;
}
