//! Tells the program the commit that it is built from.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=POINTSD_COMMIT");
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let given = std::env::var("POINTSD_COMMIT").ok();
    if let Some(commit) = given.or_else(commit_of_checkout).filter(|commit| !commit.is_empty()) {
        println!("cargo:rustc-env=POINTSD_BUILT_FROM={version} ({commit})");
        println!("cargo:rustc-env=POINTSD_BUILT_FROM_COMMIT={commit}");
    }
}

/// The commit of the checkout, for release builds. A development build would be built anew after each commit.
fn commit_of_checkout() -> Option<String> {
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return None;
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    // A source archive inside another project's checkout is not that project's commit.
    let folder = git(&["rev-parse", "--show-toplevel"])?;
    if std::fs::canonicalize(folder).ok() != std::env::current_dir().ok() {
        return None;
    }
    for name in ["HEAD", "logs/HEAD"] {
        println!("cargo:rerun-if-changed={}", git(&["rev-parse", "--git-path", name])?);
    }
    git(&["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])
}
