//! `bindgen INPUT.wasm FOLDER`: splits the compiler's output into WebAssembly and its JavaScript glue.
//!
//! This crate is outside the workspace, so that only a build of the npm package compiles wasm-bindgen's tools.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, folder] = &arguments[..] else {
        eprintln!("usage: bindgen INPUT.wasm FOLDER");
        return ExitCode::FAILURE;
    };
    let result = wasm_bindgen_cli_support::Bindgen::new()
        .input_path(input)
        .out_name("hopmq")
        .web(true)
        .and_then(|bindgen| {
            bindgen.typescript(true).remove_name_section(false).omit_default_module_path(true).generate(folder)
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bindgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}
