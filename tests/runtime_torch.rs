//! libtorch missing, wrong, damaged and whole, and the plugin on it.

use std::fs;
use std::path::{Path, PathBuf};

use krea::runtime::torch::{Libtorch, Plugin, PluginSearch, Search, TorchError, VERSION};

/// A search that sees nothing but this folder.
fn only(folder: &Path) -> Search {
    Search { folders: vec![folder.to_path_buf()], ..Search::default() }
}

/// The libtorch of `.deps`, if it is there.
fn real(test: &str) -> Option<Libtorch> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf();
    let found = Search { roots: vec![root], ..Search::default() }.find();
    if found.is_err() {
        skip(test, "no libtorch in .deps (`.ci/deps torch` puts it there)");
    }
    found.ok()
}

fn skip(test: &str, reason: &str) {
    eprintln!("SKIP {test}: {reason}");
    assert_ne!(std::env::var("KREA_TEST_REQUIRE").as_deref(), Ok("all"), "{test} was skipped: {reason}");
}

/// A folder that looks like a wheel's `torch` of some version, with these libraries.
fn wheel(version: &str, libraries: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("lib")).unwrap();
    fs::write(folder.path().join("version.py"), format!("from typing import Optional\n__version__ = '{version}'\n"))
        .unwrap();
    for (name, data) in libraries {
        fs::write(folder.path().join("lib").join(name), data).unwrap();
    }
    folder
}

#[test]
fn missing_says_where_it_looked_and_what_to_do() {
    let empty = tempfile::tempdir().unwrap();
    for search in [only(empty.path()), Search { explicit: Some(empty.path().into()), ..Search::default() }] {
        let error = search.find().unwrap_err();
        assert!(matches!(error, TorchError::NotFound { .. }));
        let text = error.to_string();
        assert!(
            text.contains(empty.path().to_str().unwrap())
                && text.contains("pip install torch==")
                && text.contains("KREA_LIBTORCH"),
            "{text}"
        );
    }
}

#[test]
fn a_wrong_version_is_refused_before_it_is_loaded() {
    let old = wheel("2.9.1+cu128", &[("libc10.so", b"never opened"), ("libtorch_cpu.so", b"never opened")]);
    let error = only(old.path()).find().unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, TorchError::WrongVersion { .. }) && text.contains("2.9.1+cu128") && text.contains(VERSION),
        "{text}"
    );

    let zip = wheel("x", &[("libc10.so", b""), ("libtorch_cpu.so", b"")]);
    fs::remove_file(zip.path().join("version.py")).unwrap();
    assert!(only(zip.path()).find().unwrap_err().to_string().contains("unknown version"));
    fs::write(zip.path().join("build-version"), "2.1.30\n").unwrap();
    assert!(only(zip.path()).find().unwrap_err().to_string().contains("libtorch 2.1.30"), "2.1.30 is not 2.13.0");
}

#[test]
fn a_damaged_library_is_named_and_not_opened() {
    let version = format!("{VERSION}.0+cpu");
    let page: &[u8] = b"<html>404</html>";
    for (c10, reason) in [(&b""[..], "not a 64-bit"), (page, "not a 64-bit"), (&b"\x7fELF\x02\x01"[..], "not a 64-bit")]
    {
        let folder = wheel(&version, &[("libc10.so", c10), ("libtorch_cpu.so", b"")]);
        let error = only(folder.path()).find().unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, TorchError::Damaged { .. }) && text.contains("libc10.so") && text.contains(reason),
            "{text}"
        );
    }
    let Some(real) = real("a_damaged_library_is_named_and_not_opened") else { return };
    let whole = fs::read(real.lib.join("libc10.so")).unwrap();
    let missing = wheel(&version, &[("libc10.so", &whole)]);
    let text = only(missing.path()).find().unwrap_err().to_string();
    assert!(text.contains("libtorch_cpu.so is damaged"), "{text}");
    // A download that broke off: the headers are good, the rest is not there.
    let cut = wheel(&version, &[("libc10.so", &whole[..whole.len() / 2]), ("libtorch_cpu.so", &whole)]);
    let text = only(cut.path()).find().unwrap_err().to_string();
    assert!(text.contains("libc10.so") && text.contains("bytes are needed"), "{text}");
}

#[test]
fn a_better_one_further_on_is_taken() {
    let Some(real) = real("a_better_one_further_on_is_taken") else { return };
    let old = wheel("2.9.1", &[("libc10.so", b""), ("libtorch_cpu.so", b"")]);
    let search = Search { folders: vec![old.path().into(), real.lib.clone()], ..Search::default() };
    assert_eq!(search.find().unwrap(), real);
    // But not in the place of one that the user named.
    let search = Search { explicit: Some(old.path().into()), ..search };
    assert!(matches!(search.find(), Err(TorchError::WrongVersion { .. })));
    // Both the folder and its `lib` are good names.
    for folder in [real.lib.parent().unwrap(), &real.lib] {
        assert_eq!(Search { explicit: Some(folder.into()), ..Search::default() }.find().unwrap(), real);
    }
}

#[test]
fn a_missing_plugin_says_where_it_looked() {
    let empty = tempfile::tempdir().unwrap();
    let text = PluginSearch { explicit: None, folders: vec![empty.path().into()] }.find().unwrap_err().to_string();
    assert!(text.contains(empty.path().to_str().unwrap()) && text.contains("KREA_WAN_PLUGIN"), "{text}");
}

#[test]
fn the_plugin_opens_on_libtorch_and_something_else_does_not() {
    let name = "the_plugin_opens_on_libtorch_and_something_else_does_not";
    let Some(real) = real(name) else { return };
    let c10 = real.lib.join("libc10.so");
    let cuda = real.cuda;
    let open = real.open(true).unwrap();
    assert_eq!(open.without_cuda.is_none(), cuda, "{:?}", open.without_cuda);

    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("libkrea_wan.so");
    fs::write(&broken, b"not a library").unwrap();
    assert!(Plugin::open(broken, &open).unwrap_err().to_string().contains("not a 64-bit"));
    // A library without the interface.
    assert!(Plugin::open(c10, &open).unwrap_err().to_string().contains("krea_wan_abi_version"));

    let Some(file) = built_plugin() else { return skip(name, "libkrea_wan.so is not built (cargo build -p krea-wan)") };
    let plugin = Plugin::open(file, &open).unwrap();
    // SAFETY: closing null is allowed, with this signature.
    unsafe { plugin.symbol::<unsafe extern "C" fn(*mut u8)>("krea_wan_session_close").unwrap()(std::ptr::null_mut()) };
    // SAFETY: the symbol is not called, since it is not there.
    assert!(unsafe { plugin.symbol::<unsafe extern "C" fn()>("krea_wan_absent") }.is_err());
}

/// The plugin of the build that this test belongs to, or of a release build beside it.
fn built_plugin() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let profile = exe.parent()?.parent()?;
    let target = profile.parent()?;
    [profile.to_path_buf(), target.join("release"), target.join("debug")]
        .into_iter()
        .map(|folder| folder.join("libkrea_wan.so"))
        .find(|file| file.is_file())
}
