//! The project's own commands: `cargo xtask help`.
//!
//! Everything that a person would otherwise have to remember is a command here. A new one is a module with a
//! `pub(crate) fn run(arguments: &[String]) -> Result` and a line in [`COMMANDS`].

mod bench;
mod browser;
mod ci;
mod codegen;
mod deps;
mod process;
mod rabbitmq;
mod shell;
mod soak;
mod steps;
mod test;
mod tidy;
mod wasm;

use std::process::ExitCode;

use shell::Result;

/// One line of `cargo xtask help`, and what it runs.
struct Command {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result,
}

/// Every command, in the order in which help shows them.
static COMMANDS: &[Command] = &[
    Command {
        name: "rabbitmq",
        arguments: "start | stop | kill | resume | status | env | ctl ARGS… | cluster …",
        about: "a real RabbitMQ of this folder's own, under target/rabbitmq (start installs it where it is missing), \
                or a cluster of three",
        run: rabbitmq::run,
    },
    Command {
        name: "test",
        arguments: "[FILTER…]",
        about: "every test, or those whose names contain a filter, against RabbitMQ (started and stopped if need be)",
        run: test::run,
    },
    Command {
        name: "soak",
        arguments: "[--seeds N] [--kills N] [--rounds N] [--minutes N]",
        about: "what takes long: many seeds of the simulation, a broker that is killed many times, many rounds of \
                faults, and a soak with a flat memory",
        run: soak::run,
    },
    Command { name: "ci", arguments: "", about: "all that a change must pass; what .ci/run runs", run: ci::run },
    Command { name: "tidy", arguments: "", about: "what rustfmt and clippy do not look at", run: tidy::run },
    Command { name: "deps", arguments: "", about: "how many crates hopmq brings, held below a limit", run: deps::run },
    Command {
        name: "codegen",
        arguments: "[--check]",
        about: "write the methods of AMQP 0-9-1 from the specification, or check that they are current",
        run: |arguments| codegen::run(arguments == ["--check"]),
    },
    Command {
        name: "bench",
        arguments: "[--quick] [--check] [--filter TEXT] [--clients A,B] [--against counterpart|rabbitmq|both] \
                    [--runs N] | codec [--check | --update] | browser [--quick] [--check] [--runs=N] [--filter=TEXT] \
                    | broker [--quick] | gateway [--quick] | recovery [--quick | --rounds N]",
        about: "HopMQ and its peers, measured against a bare counterpart and against RabbitMQ (minutes); codec counts \
                instructions; browser measures the npm package, broker our broker beside RabbitMQ, gateway the \
                gateway, recovery how long clients take to come back",
        run: bench::run,
    },
    Command {
        name: "wasm",
        arguments: "[--quick] [--examples]",
        about: "the npm package in wasm/npm, ready for `npm pack` (quick: without making it small), and the example \
                pages",
        run: wasm::run,
    },
    Command { name: "help", arguments: "", about: "this list", run: help },
];

fn help(_: &[String]) -> Result {
    let mut text = String::from("The project's own commands. Usage: cargo xtask COMMAND\n\n");
    for Command { name, arguments, about, .. } in COMMANDS {
        text += &format!("  {}\n", folded(&format!("{name} {arguments}"), 8));
        text += &format!("      {}\n", folded(about, 6));
    }
    shell::print(&text);
    Ok(())
}

/// `text` in lines of 100 characters at the most, where words allow it; those after the first are indented.
fn folded(text: &str, indent: usize) -> String {
    let (mut out, mut width) = (String::new(), indent);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if width > indent && width + 1 + length > 100 {
            out += &format!("\n{:indent$}", "");
            width = indent;
        } else if width > indent {
            out.push(' ');
            width += 1;
        }
        out += word;
        width += length;
    }
    out
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        None => help(&[]),
        Some((name, _)) if name == "--help" || name == "-h" => help(&[]),
        Some((name, rest)) => match COMMANDS.iter().find(|command| command.name == name) {
            Some(command) => (command.run)(rest),
            None => Err(format!("there is no command `{name}`; `cargo xtask help` lists them").into()),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_folded_between_words() {
        let text = folded(&"word ".repeat(40), 6);
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("      word")), "{text}");
        assert_eq!(text.split_whitespace().count(), 40);
        assert_eq!(folded("", 6), "");
    }
}
