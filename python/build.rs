//! Lets the module be linked without Python's library, where that needs a flag (macOS).

fn main() {
    pyo3_build_config::add_extension_module_link_args();
}
