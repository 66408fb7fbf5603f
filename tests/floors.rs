//! Holds the code to the floors of ARCHITECTURE.md: a module uses only modules on lower floors.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn modules_use_only_lower_floors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let floors = floors(&fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap());
    let library = fs::read_to_string(root.join("src/lib.rs")).unwrap();
    let declared: Vec<&str> =
        library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    for module in &declared {
        assert!(floors.contains_key(*module), "ARCHITECTURE.md does not say on which floor `{module}` is");
    }
    assert_eq!(floors.len(), declared.len(), "ARCHITECTURE.md names a module that is not there: {floors:?}");

    let mut uses = 0;
    for module in declared {
        for file in files_of(root, module) {
            let text = fs::read_to_string(&file).unwrap();
            for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
                for used in modules_used(line) {
                    let Some(floor) = floors.get(used) else { continue };
                    uses += 1;
                    assert!(
                        used == module || *floor < floors[module],
                        "{}:{}: `{module}` (floor {}) uses `{used}` (floor {floor})",
                        file.display(),
                        number + 1,
                        floors[module],
                    );
                }
            }
        }
    }
    assert!(uses > 100, "only {uses} uses were found: does this test still read the code?");
}

/// The modules in a line's `crate::module` and `crate::{module, other::Item}`.
fn modules_used(line: &str) -> impl Iterator<Item = &str> {
    let name = |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    line.split("crate::").skip(1).flat_map(move |rest| {
        let listed = rest.strip_prefix('{').map(|list| list.split('}').next().unwrap().split(", "));
        listed
            .into_iter()
            .flatten()
            .chain((!rest.starts_with('{')).then_some(rest))
            .map(move |text| &text[..name(text)])
    })
}

/// Module to floor, from the rows `| 4 | `ledger` | …`.
fn floors(architecture: &str) -> BTreeMap<String, u32> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let floor = cells.next()?.parse().ok()?;
        let module = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        Some((module.to_owned(), floor))
    };
    architecture.lines().filter_map(row).collect()
}

/// The module's own file and those of its folder.
fn files_of(root: &Path, module: &str) -> Vec<PathBuf> {
    let folder = root.join("src").join(module);
    let mut files = if folder.is_dir() { files_under(&folder) } else { Vec::new() };
    files.extend(Some(folder.with_extension("rs")).filter(|file| file.is_file()));
    files
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_under(&path) } else { vec![path] }).collect()
}
