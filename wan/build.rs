//! Lets this package's tests and benches find the libtorch that they were linked with.
//! The plugin itself needs no such path: its host has opened libtorch already.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
