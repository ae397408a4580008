//! The fuzz targets in `fuzz/`: each replays its stored corpus, `fuzz/seeds/TARGET`, without a nightly compiler.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{self, Result};

/// Builds all targets, and runs each with its corpus.
pub(crate) fn replay() -> Result {
    let folder = shell::root().join("fuzz");
    let targets = targets(&folder)?;
    let mut cargo = shell::cargo();
    shell::run(cargo.current_dir(&folder).env_remove("CARGO_TARGET_DIR").args(["build", "--bins"]))?;
    for (target, corpus) in targets {
        let program = folder.join("target/debug").join(&target);
        if !program.exists() {
            return Err(format!("fuzz/Cargo.toml has no [[bin]] for fuzz_targets/{target}.rs: add it").into());
        }
        // Files, unlike a folder, are run once each, and need no instrumented program.
        shell::run(Command::new(program).current_dir(&folder).arg("-timeout=10").args(corpus))?;
    }
    Ok(())
}

/// Returns the name and the corpus of each target.
///
/// # Errors
/// If a target has no corpus, or a corpus no target.
fn targets(folder: &Path) -> Result<Vec<(String, Vec<PathBuf>)>> {
    let names: BTreeSet<String> = stems(&folder.join("fuzz_targets"))?;
    if let Some(orphan) = stems(&folder.join("seeds"))?.difference(&names).next() {
        return Err(format!("fuzz/seeds/{orphan} has no target fuzz_targets/{orphan}.rs: rename or remove it").into());
    }
    let with_corpus = |name: String| {
        let seeds = folder.join("seeds").join(&name);
        let mut corpus = Vec::new();
        if seeds.exists() {
            for entry in fs::read_dir(&seeds)? {
                corpus.push(entry?.path());
            }
        }
        corpus.sort();
        match corpus.is_empty() {
            true => Err(format!("fuzz target {name} has no corpus: store inputs in fuzz/seeds/{name}").into()),
            false => Ok((name, corpus)),
        }
    };
    names.into_iter().map(with_corpus).collect()
}

/// Returns the names of a folder's entries, without extensions.
fn stems(folder: &Path) -> Result<BTreeSet<String>> {
    let mut stems = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let path = PathBuf::from(entry?.file_name());
        stems.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    Ok(stems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fuzz_target_has_a_corpus() {
        let targets = targets(&shell::root().join("fuzz")).expect("each target has a corpus");
        assert!(targets.iter().all(|(_, corpus)| !corpus.is_empty()));
    }

    #[test]
    fn a_target_without_a_corpus_and_a_corpus_without_a_target_are_refused() {
        let folder = std::env::temp_dir().join(format!("hopmq-xtask-fuzz-{}", std::process::id()));
        for file in ["fuzz_targets/known.rs", "fuzz_targets/bare.rs", "seeds/known/a", "seeds/lost/a"] {
            shell::write(&folder.join(file), "").expect("the folder can be written");
        }
        let refusal = || targets(&folder).expect_err("it is refused").to_string();
        assert!(refusal().contains("fuzz/seeds/lost has no target"), "{}", refusal());
        shell::remove_folder(&folder.join("seeds/lost")).expect("the folder can be removed");
        assert!(refusal().contains("fuzz target bare has no corpus"), "{}", refusal());
        shell::write(&folder.join("seeds/bare/a"), "").expect("the folder can be written");
        let names = targets(&folder).expect("each has a corpus").into_iter().map(|(name, _)| name);
        assert_eq!(names.collect::<Vec<_>>(), ["bare", "known"]);
        shell::remove_folder(&folder).expect("the folder can be removed");
    }
}
