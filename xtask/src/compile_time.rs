//! `cargo xtask compile-time`: how much longer a program takes to compile with one more handler.
//!
//! Programs of 10 and of 110 routes are generated and compiled in turn, after everything that they depend on; the
//! difference, divided by 100, is the time of a route. Each route has a payload of its own, and reading it by serde is
//! the larger part of the time. Other work on the machine counts as well, so measure alone.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::shell::{self, Result};

const FEW: usize = 10;
const MANY: usize = 110;
/// The time of a route in a debug build must stay below this.
const LIMIT: Duration = Duration::from_millis(60);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How often each program is compiled; the fastest run counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: usize,
}

pub(crate) fn run(arguments: &Arguments) -> Result {
    let folder = shell::root().join("target/compile-time");
    shell::write(&folder.join("Cargo.toml"), &manifest())?;
    std::fs::copy(shell::root().join("Cargo.lock"), folder.join("Cargo.lock"))?;
    for routes in [FEW, MANY] {
        shell::write(&folder.join(format!("src/bin/routes_{routes}.rs")), &program(routes))?;
        compile(&folder, routes)?;
    }
    let fastest = |routes| -> Result<Duration> {
        let runs = (0..arguments.runs.max(1)).map(|_| compile(&folder, routes)).collect::<Result<Vec<_>>>()?;
        Ok(runs.into_iter().min().unwrap_or_default())
    };
    let (few, many) = (fastest(FEW)?, fastest(MANY)?);
    let each = many.saturating_sub(few) / (MANY - FEW) as u32;
    println!("{FEW} routes: {few:.0?}, {MANY} routes: {many:.0?}, each route: {each:.1?} (less than {LIMIT:?})");
    if each < LIMIT { Ok(()) } else { Err(format!("a route takes {each:.1?} to compile").into()) }
}

/// Compiles a program again, without the parts of an earlier build. Returns the time.
fn compile(folder: &Path, routes: usize) -> Result<Duration> {
    let name = format!("routes_{routes}");
    let source = folder.join(format!("src/bin/{name}.rs"));
    shell::write(&source, &shell::read(&source)?)?;
    let mut command = shell::cargo();
    command.current_dir(folder).env("CARGO_INCREMENTAL", "0").args(["build", "--quiet", "--bin", &name]);
    let began = Instant::now();
    shell::output(&mut command)?;
    Ok(began.elapsed())
}

fn manifest() -> String {
    r#"[package]
name = "compile-time"
version = "0.0.0"
edition = "2024"
publish = false

[workspace]

[dependencies]
hopmq = { path = "../../core", default-features = false }
hopmq-app = { path = "../../app" }
serde = { version = "1", features = ["derive"] }
"#
    .to_owned()
}

fn program(routes: usize) -> String {
    let mut text = String::from(
        r#"use hopmq_app::{Ack, App, Attempt, Json, Out, State, consumer, routes};

#[derive(Clone)]
struct Shop;

#[derive(serde::Serialize)]
struct Receipt {
    id: u64,
}
"#,
    );
    let mut with = String::new();
    for route in 0..routes {
        let _ = write!(
            text,
            r#"
#[derive(serde::Deserialize)]
struct Order{route} {{
    id: u64,
    name: String,
}}

#[consumer(queue = "orders-{route}", bind = "shop/order.*.{route}", quorum, concurrency = 4, prefetch = 8,
           retry(first = "1s", factor = 5, max = "5m", attempts = 4))]
async fn on_order_{route}(
    Json(order): Json<Order{route}>,
    State(_shop): State<Shop>,
    Attempt(attempt): Attempt,
    out: Out<Receipt>,
) -> Result<Ack, hopmq::Error> {{
    println!("{{}} {{}} {{attempt}}", order.id, order.name);
    out.publish_to("shop", "receipt", &Receipt {{ id: order.id }}).await?;
    Ok(Ack)
}}
"#
        );
        let _ = writeln!(with, "        .with(routes![on_order_{route}])");
    }
    let _ =
        write!(text, "\nfn main() {{\n    let app = App::new(Shop)\n{with}    ;\n    println!(\"{{app:?}}\");\n}}\n");
    text
}
