//! `cargo xtask ci`: every check that a change must pass. The cheapest run first.

use crate::shell::{self, Result};
use crate::steps::{Outcome, Steps, skip_outside_ci};
use crate::toolchain::{self, WASM};
use crate::{bench, browser, codegen, deps, foreign, fuzz, packages, python, rabbitmq, shuttle, test, tidy};

pub(crate) fn run() -> Result {
    let mut steps = Steps::new();
    steps.require(&[
        browser::require_node,
        toolchain::require_components,
        toolchain::require_wasm,
        toolchain::require_make,
        bench::codec::require,
        foreign::require,
        python::require,
        rabbitmq::require,
        browser::require,
    ]);
    steps.run("formatting", || cargo("fmt --all --check"));
    steps.run("tidy", tidy::run);
    steps.run("generated code is current", || codegen::run(true));
    steps.run("dependencies", deps::run);
    steps.run("clippy, default features", || {
        cargo("clippy -p hopmq-proto -p hopmq -p hopmq-blocking --all-targets -- -D warnings")
    });
    steps.run("clippy, no default features", || {
        cargo("clippy -p hopmq --no-default-features -- -D warnings")?;
        cargo("clippy -p hopmq-app --no-default-features -- -D warnings")?;
        cargo("clippy -p hopmq-app --no-default-features --features json -- -D warnings")
    });
    steps.run("clippy, tokio without async-io", || {
        cargo("clippy -p hopmq --no-default-features --features tokio,tls,websocket,unix -- -D warnings")
    });
    steps.run("clippy, a broker without a disk", || {
        cargo("clippy -p hopmq-broker --all-targets --no-default-features -- -D warnings")
    });
    steps.run("clippy, all features", || cargo("clippy --workspace --all-targets --all-features -- -D warnings"));
    steps.run("documentation", || {
        shell::run(shell::cargo().env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--no-deps", "--workspace"]))
    });
    steps.step("WebAssembly", wasm);
    steps.run("instructions of the codec", bench::codec::check);
    steps.run("benchmarks: clippy, tests, a run of each client", bench::check);
    steps.run("fuzz targets replay their corpora", fuzz::replay);
    steps.run("interleavings of threads", || shuttle::run(&shuttle::Arguments::default()));
    steps.run("test", || test::run(&test::Arguments::default()));
    steps.run("packages", packages::run);
    steps.finish("ci")
}

fn cargo(words: &str) -> Result {
    shell::run(shell::cargo().args(words.split(' ')))
}

/// Checks that protocol, core and the browser's crate compile for WebAssembly. Skipped outside CI where rustup is
/// missing.
fn wasm() -> Result<Outcome> {
    if let Err(reason) = toolchain::require_wasm() {
        return skip_outside_ci(reason);
    }
    cargo(&format!("check -p hopmq-proto -p hopmq --no-default-features --target {WASM}"))?;
    cargo(&format!("check -p hopmq-app --no-default-features --features json --target {WASM}"))?;
    cargo(&format!("clippy -p hopmq-wasm --features npm --target {WASM} -- -D warnings"))?;
    Ok(Outcome::Passed)
}
