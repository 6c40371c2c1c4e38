//! The product's source files, and which of them imports which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A source file of the product.
pub(crate) struct Source {
    /// Path below `src/`.
    pub(crate) file: String,
    /// Path of the module, `server::http1` say; empty for `lib.rs` and `main.rs`.
    pub(crate) module: String,
    /// The whole text.
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn new(file: &str, text: &str) -> Self {
        let stem = file.trim_end_matches(".rs");
        let module = stem.trim_end_matches("/mod").replace('/', "::");
        let module = if ["lib", "main", "mod"].contains(&module.as_str()) { String::new() } else { module };
        Self { file: file.to_owned(), module, text: text.to_owned() }
    }

    /// The first part of the module's path: the part of the program that the file belongs to.
    pub(crate) fn part(&self) -> &str {
        self.module.split("::").next().unwrap_or_default()
    }

    /// The code alone: without comments, and without the tests at the end.
    pub(crate) fn code(&self) -> String {
        let code = self.text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The first paragraph of the module's documentation.
    pub(crate) fn subject(&self) -> String {
        let lines = self.text.lines().take_while(|line| line.starts_with("//!"));
        let paragraph = lines.map(|line| line.trim_start_matches("//!").trim()).take_while(|line| !line.is_empty());
        paragraph.collect::<Vec<_>>().join(" ")
    }
}

/// All source files of the product, in the order of their paths.
pub(crate) fn sources() -> Vec<Source> {
    let folder = root().join("src");
    let mut files = Vec::new();
    collect(&folder, &mut files);
    files.sort();
    let read = |path: &PathBuf| {
        let file = path.strip_prefix(&folder).expect("below src").display().to_string();
        Source::new(&file, &std::fs::read_to_string(path).expect("a source file"))
    };
    files.iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Which module imports which: an edge from each file to every file whose items it names.
pub(crate) struct ImportGraph(BTreeMap<String, BTreeSet<String>>);

impl ImportGraph {
    /// Reads the imports of all files. The root (`lib.rs`, `main.rs`) is left out: it only declares modules.
    pub(crate) fn new(sources: &[Source]) -> Self {
        let modules: BTreeSet<&str> = sources.iter().map(|source| source.module.as_str()).collect();
        let files = sources.iter().filter(|source| !source.module.is_empty());
        let edges = files.map(|source| {
            let imported =
                paths(&source.code()).into_iter().filter_map(|path| resolve(&source.module, &path, &modules));
            (source.module.clone(), imported.filter(|module| *module != source.module).collect())
        });
        Self(edges.collect())
    }

    /// What a module imports.
    pub(crate) fn imports(&self, module: &str) -> impl Iterator<Item = &str> {
        self.0.get(module).into_iter().flatten().map(String::as_str)
    }

    /// Returns a cycle, if there is one; the first module is repeated at its end.
    pub(crate) fn cycle(&self) -> Option<Vec<String>> {
        let mut done = BTreeSet::new();
        self.0.keys().find_map(|module| self.cycle_from(module, &mut Vec::new(), &mut done))
    }

    fn cycle_from(&self, module: &str, path: &mut Vec<String>, done: &mut BTreeSet<String>) -> Option<Vec<String>> {
        if let Some(at) = path.iter().position(|known| known == module) {
            return Some(path[at..].iter().cloned().chain([module.to_owned()]).collect());
        }
        if !done.insert(module.to_owned()) && !path.is_empty() {
            return None;
        }
        path.push(module.to_owned());
        let cycle = self.imports(module).find_map(|imported| self.cycle_from(imported, path, done));
        path.pop();
        cycle
    }
}

/// All paths in code that may name a module: `use` trees, expanded, and paths in expressions and types. A visibility
/// such as `pub(in crate::legacy)` imports nothing.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let code = code.replace("pub(in crate::", "pub(in ");
    let mut rest = code.as_str();
    while let Some(at) = rest.find(|c: char| c.is_alphabetic() || c == '_') {
        let word_start = &rest[at..];
        let tree = path_tree(word_start);
        if tree.contains("::") {
            expand(tree, &[], &mut paths);
        }
        rest = &word_start[tree.len()..];
    }
    paths
}

/// The text of a path at the beginning of `text`, with the braces of a `use` tree.
fn path_tree(text: &str) -> &str {
    let mut end = 0;
    loop {
        let word = text[end..].find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len() - end);
        end += word;
        if !text[end..].starts_with("::") {
            return &text[..end];
        }
        let next = text[end + 2..].chars().next();
        if next == Some('{') {
            let mut depth = 0;
            for (at, c) in text[end + 2..].char_indices() {
                depth += i32::from(c == '{') - i32::from(c == '}');
                if depth == 0 {
                    return &text[..=end + 2 + at];
                }
            }
            return text;
        }
        if !next.is_some_and(|c| c.is_alphabetic() || c == '_') {
            return &text[..end];
        }
        end += 2;
    }
}

/// Adds every path of a tree such as `a::{b, c::{d, e}}`.
fn expand(tree: &str, prefix: &[String], paths: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let (head, group) = match tree.find('{') {
        Some(at) => (tree[..at].trim_end_matches("::"), Some(tree[at + 1..].trim_end().trim_end_matches('}'))),
        None => (tree, None),
    };
    let head = head.split_whitespace().next().unwrap_or_default();
    let segments = head.split("::").filter(|segment| !segment.is_empty()).map(str::to_owned);
    let path: Vec<String> = prefix.iter().cloned().chain(segments).collect();
    let Some(group) = group else {
        paths.push(path);
        return;
    };
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == ',' && depth == 0 {
            expand(&group[start..at], &path, paths);
            start = at + 1;
        }
    }
    if !group[start..].trim().is_empty() {
        expand(&format!("{}{}", &group[start..], "}".repeat(usize::try_from(depth).unwrap_or(0))), &path, paths);
    }
}

/// The module that a path in `module` leads into: the longest beginning of it that is a module.
fn resolve(module: &str, path: &[String], modules: &BTreeSet<&str>) -> Option<String> {
    let current: Vec<&str> = module.split("::").collect();
    let first = path.first()?.as_str();
    let absolute: Vec<&str> = match first {
        "crate" => path[1..].iter().map(String::as_str).collect(),
        "self" => current.into_iter().chain(path[1..].iter().map(String::as_str)).collect(),
        "super" => {
            let ups = path.iter().take_while(|segment| *segment == "super").count();
            let kept = current.len().checked_sub(ups)?;
            current[..kept].iter().copied().chain(path[ups..].iter().map(String::as_str)).collect()
        }
        child if modules.contains(format!("{module}::{child}").as_str()) => {
            current.into_iter().chain(path.iter().map(String::as_str)).collect()
        }
        _ => return None,
    };
    let found = (1..=absolute.len()).rev().map(|length| absolute[..length].join("::"));
    found.into_iter().find(|candidate| modules.contains(candidate.as_str()))
}
