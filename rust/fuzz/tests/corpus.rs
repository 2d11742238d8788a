//! Everything that fuzzing has found worth keeping, once more through the same code.

use std::fs;
use std::path::PathBuf;
use wgengine_fuzz::{Run, TARGETS};

fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target)
}

fn replay(name: &str, run: Run) -> usize {
    let files = fs::read_dir(folder(name)).unwrap_or_else(|error| panic!("{name}: no corpus: {error}"));
    let paths: Vec<_> = files.map(|entry| entry.expect("a file").path()).collect();
    for path in &paths {
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // Said on failure only: which of them it was.
        println!("{name}: {}", path.display());
        run(&bytes);
    }
    paths.len()
}

#[test]
fn the_corpus_breaks_nothing() {
    for (name, run) in TARGETS {
        assert!(replay(name, *run) > 0, "{name}: an empty corpus shows nothing");
    }
}

#[test]
fn every_corpus_and_every_binary_has_its_target() {
    let mut known: Vec<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    known.sort();
    let names = |folder: PathBuf| {
        let stem = |entry: fs::DirEntry| entry.path().file_stem().expect("a name").to_string_lossy().into_owned();
        let mut names: Vec<_> =
            fs::read_dir(folder).expect("a folder").map(|entry| stem(entry.expect("one"))).collect();
        names.sort();
        names
    };
    assert_eq!(names(folder("")), known, "what is replayed");
    assert_eq!(names(folder("").join("../fuzz_targets")), known, "what `cargo fuzz` runs");
}

#[test]
fn short_inputs_break_nothing() {
    for (_, run) in TARGETS {
        for length in 0..64 {
            for fill in [0, 1, 4, 0x45, 0x60, 0xff] {
                run(&vec![fill; length]);
            }
        }
    }
}
