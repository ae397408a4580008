//! The programs of the project as processes, and what the system says about their memory.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Result;

/// A running program. Dropping it kills the process.
#[derive(Debug)]
pub struct Program(Child);

impl Program {
    /// Starts a program of the workspace, with its output piped and its log in the output of the test.
    ///
    /// # Errors
    /// If the program is not there or does not start.
    pub fn start(name: &str, prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        let path = find(name)?;
        let mut command = Command::new(&path);
        command.stdin(Stdio::null());
        prepare(&mut command);
        let child = command.spawn().map_err(|error| format!("cannot start {}: {error}", path.display()))?;
        Ok(Self(child))
    }

    /// Reads the program's piped output up to a line with `text`. The rest is read and dropped.
    ///
    /// # Errors
    /// If the program ends before.
    pub fn line_with(&mut self, text: &str) -> Result<String> {
        let stdout = self.0.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn std::io::Read + Send>);
        let output = stdout.or(self.0.stderr.take().map(|pipe| Box::new(pipe) as _)).ok_or("no output is piped")?;
        let mut lines = BufReader::new(output).lines().map_while(std::io::Result::ok);
        let found = lines.find(|line| line.contains(text)).ok_or("the program ended before it was ready")?;
        std::thread::spawn(move || lines.for_each(drop));
        Ok(found)
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// If the program does not end with success.
    pub fn terminate(mut self) -> Result {
        Command::new("sh").args(["-c", &format!("kill -TERM {}", self.0.id())]).status()?;
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the program ended with {status}").into()) }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the path of a program that cargo builds beside this one.
fn find(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.exists());
    found.ok_or_else(|| {
        let build = "cargo build -p hopmq-broker -p hopmq-gateway --features hopmq-broker/server";
        format!("{name} is not beside {}: build it with `{build}`, or run `cargo xtask test`", own.display()).into()
    })
}

/// Returns a figure of a process in MiB, such as `VmRSS` or `VmHWM`; `None` on systems without `/proc`.
pub fn resident(process: u32, figure: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kibibytes >> 10)
}

/// A folder that is removed when this is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Creates a folder.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("hopmq-hostile-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A test has failed already if it cannot be removed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
