//! `cargo xtask tidy`: rules of this repository that rustfmt and clippy do not check. Each finding names a line and
//! says what to do.

mod links;
mod rust;
mod test_names;
mod text;
mod width;
mod words;

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use crate::shell::{self, Result};

/// A violation of a rule, on a line of a file.
#[derive(Debug, PartialEq)]
struct Finding {
    file: String,
    line: usize,
    what: String,
}

impl Finding {
    fn new(file: &str, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

pub(crate) fn run() -> Result {
    let files = files()?;
    let generated = generated(&files)?;
    let mut findings = Vec::new();
    for file in &files {
        let path = shell::root().join(file);
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if !generated.contains(file) {
            findings.extend(check(file, &text));
        }
    }
    for finding in &findings {
        println!("{finding}");
    }
    println!("{} files, {} generated, {} findings", files.len(), generated.len(), findings.len());
    if findings.is_empty() { Ok(()) } else { Err(format!("tidy: {} findings", findings.len()).into()) }
}

/// Applies the rules to a file.
fn check(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = text::check(file, text);
    findings.extend(width::check(file, text));
    findings.extend(words::check(file, text));
    if file.ends_with(".rs") {
        findings.extend(rust::check(file, text));
    }
    if file.ends_with(".md") {
        let folder = shell::root().join(Path::new(file).parent().unwrap_or(Path::new("")));
        let read = |target: &str| std::fs::read_to_string(folder.join(target)).ok();
        findings.extend(links::check(file, text, &|target| folder.join(target).exists(), &read));
        findings.extend(test_names::check(file, text, &read));
    }
    findings
}

/// The files of the repository, untracked ones included unless git ignores them.
fn files() -> Result<Vec<String>> {
    let mut command = shell::program("git");
    let list = shell::output(command.args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]))?;
    Ok(list.split('\0').filter(|file| !file.is_empty()).map(ToOwned::to_owned).collect())
}

/// The files that `.gitattributes` marks as generated.
fn generated(files: &[String]) -> Result<BTreeSet<String>> {
    let mut command = shell::program("git");
    command.args(["check-attr", "--stdin", "-z", "linguist-generated"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("cannot start git: {error}"))?;
    let mut input = child.stdin.take().expect("the input is piped");
    let list = files.join("\0");
    let writer = std::thread::spawn(move || input.write_all(list.as_bytes()));
    let output = child.wait_with_output()?;
    writer.join().expect("the writer does not panic")?;
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    let fields: Vec<&str> = answer.split('\0').collect();
    let set = fields.chunks_exact(3).filter(|field| !["unspecified", "unset", "false"].contains(&field[2]));
    Ok(set.map(|field| field[0].to_owned()).collect())
}
