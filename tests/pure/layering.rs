//! The arrows between the rooms point one way. What is read here are the imports and paths of every line of the product,
//! as the compiler's own grammar has them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use syn::visit::{self, Visit};

/// Every room of `src`, and what it may import. A folder inside a room has a row of its own where it may do less.
const ROOMS: &[Room] = &[
    Room { name: "text", may_import: &[], pure: true },
    Room { name: "policy", may_import: &[], pure: true },
    Room { name: "network", may_import: &["policy"], pure: true },
    Room { name: "ruleset", may_import: &["network", "policy"], pure: true },
    Room { name: "sys", may_import: &["network", "policy"], pure: false },
    Room { name: "sys::listing", may_import: &["policy::address", "sys::nfnetlink::message"], pure: true },
    Room { name: "config", may_import: &["policy", "ruleset", "text"], pure: false },
    Room { name: "import", may_import: &["config", "policy", "text"], pure: true },
    Room { name: "backend", may_import: &["config", "policy", "ruleset", "sys"], pure: false },
    Room {
        name: "backend::iptables::rules",
        may_import: &["backend::drift", "policy", "ruleset", "sys::nfnetlink::ipset"],
        pure: true,
    },
    Room { name: "backend::nftables::rules", may_import: &["backend::drift", "policy", "ruleset"], pure: true },
    Room {
        name: "backend::nftables::wire",
        may_import: &["backend::error", "backend::nftables::rules", "policy", "ruleset", "sys::nfnetlink"],
        pure: true,
    },
    Room { name: "agent", may_import: &["backend", "config", "network", "policy", "ruleset", "text"], pure: true },
    Room {
        name: "service",
        may_import: &["agent", "backend", "config", "network", "policy", "ruleset", "sys", "text"],
        pure: false,
    },
    Room { name: "cli", may_import: &["config", "policy"], pure: true },
    Room {
        name: "command",
        may_import: &[
            "agent", "backend", "cli", "config", "import", "network", "policy", "ruleset", "service", "sys", "text",
        ],
        pure: false,
    },
    Room { name: "main", may_import: &["cli", "command", "config", "sys::child"], pure: false },
    Room { name: "lib", may_import: &[], pure: true },
];

struct Room {
    name: &'static str,
    may_import: &'static [&'static str],
    /// Decides and does nothing: none of [`DOING`].
    pure: bool,
}

/// What reads or changes the world.
const DOING: &[&str] = &[
    "libc::getpid",
    "libc::syscall",
    "nix",
    "rustix",
    "signal_hook",
    "socket2",
    "std::env",
    "std::fs",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant::now",
    "Instant::now",
    "std::time::SystemTime",
    "eprint!",
    "eprintln!",
    "print!",
    "println!",
    ".canonicalize",
    ".exists",
    ".is_dir",
    ".is_file",
    ".metadata",
    ".read_dir",
    ".read_link",
    ".symlink_metadata",
    ".try_exists",
];

/// What nobody does on purpose.
const PANICS: &[&str] = &["panic!", "todo!", "unimplemented!", "unreachable!", ".expect"];

/// A path that a file names, and the line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    path: Vec<String>,
    line: usize,
}

/// Collects what a file names; what is compiled for tests only is passed over.
#[derive(Default)]
struct Reader {
    /// The module in which the visitor is.
    here: Vec<String>,
    named: Vec<Named>,
    /// What other crates have, by the name that it was given here: `io` is `std::io`.
    called: BTreeMap<String, Vec<String>>,
}

fn only_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Meta>().is_ok_and(|meta| meta.path().is_ident("test"))
    })
}

impl Reader {
    /// The path from the crate's root, where it is one of ours; as it is written where it is another crate's.
    fn absolute(&self, mut path: Vec<String>) -> Vec<String> {
        let mut from = match path.first().map(String::as_str) {
            Some("crate" | "ip_masq_agent") => Vec::new(),
            Some("self" | "super") => self.here.clone(),
            _ => return path,
        };
        while let Some(first) =
            path.first().filter(|word| ["crate", "ip_masq_agent", "self", "super"].contains(&word.as_str()))
        {
            if first == "super" {
                from.pop();
            }
            path.remove(0);
        }
        ["crate".to_owned()].into_iter().chain(from).chain(path).collect()
    }

    fn name(&mut self, path: Vec<String>, line: usize) {
        let path = self.absolute(path);
        self.named.push(Named { path, line });
    }

    /// Names what is imported, and keeps what it is called from here on.
    fn call(&mut self, name: Option<&String>, path: Vec<String>, line: usize) {
        let is_others = !["crate", "ip_masq_agent", "self", "super"].contains(&path[0].as_str());
        if let Some(name) = name.filter(|name| is_others && (path.len() > 1 || **name != path[0])) {
            self.called.insert(name.clone(), path.clone());
        }
        self.name(path, line);
    }

    /// The same paths from the root of the crate that has what they name.
    fn resolve(&mut self) -> Vec<Named> {
        let mut named = std::mem::take(&mut self.named);
        for Named { path, .. } in &mut named {
            let called = self.called.get(&path[0]).filter(|called| path.len() > 1 && !path.starts_with(called));
            called.into_iter().for_each(|called| _ = path.splice(..1, called.iter().cloned()));
        }
        named
    }

    fn tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |ident: &syn::Ident| before.iter().cloned().chain([ident.to_string()]).collect::<Vec<_>>();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) if name.ident == "self" => {
                self.call(before.last(), before.to_vec(), name.ident.span().start().line);
            }
            syn::UseTree::Name(name) => {
                let path = with(&name.ident);
                self.call(path.last(), path.clone(), name.ident.span().start().line);
            }
            syn::UseTree::Rename(rename) => {
                let path = if rename.ident == "self" { before.to_vec() } else { with(&rename.ident) };
                self.call(Some(&rename.rename.to_string()), path, rename.ident.span().start().line);
            }
            syn::UseTree::Glob(glob) => {
                self.name([before, &["*".to_owned()]].concat(), glob.star_token.spans[0].start().line);
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(before, tree)),
        }
    }

    /// A macro's tokens are no syntax tree: every path in them counts.
    fn tokens(&mut self, tokens: proc_macro2::TokenStream) {
        let (mut path, mut line) = (Vec::new(), 0);
        let mut colons = 0;
        for token in tokens {
            match token {
                proc_macro2::TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.flush(&mut path, line);
                    }
                    (line, colons) = (ident.span().start().line, 0);
                    path.push(ident.to_string());
                }
                proc_macro2::TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                proc_macro2::TokenTree::Punct(punct) if punct.as_char() == '$' => {}
                proc_macro2::TokenTree::Group(group) => {
                    self.flush(&mut path, line);
                    self.tokens(group.stream());
                    colons = 0;
                }
                _ => {
                    self.flush(&mut path, line);
                    colons = 0;
                }
            }
        }
        self.flush(&mut path, line);
    }

    fn flush(&mut self, path: &mut Vec<String>, line: usize) {
        if path.len() > 1 {
            self.name(std::mem::take(path), line);
        }
        path.clear();
    }
}

impl<'a> Visit<'a> for Reader {
    fn visit_item(&mut self, item: &'a syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Struct(item) => &item.attrs,
            syn::Item::Enum(item) => &item.attrs,
            syn::Item::Const(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !only_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        self.here.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.here.pop();
    }

    fn visit_impl_item_fn(&mut self, function: &'a syn::ImplItemFn) {
        if !only_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        self.tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let words = path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>();
        if let Some(first) = path.segments.first() {
            self.name(words, first.ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, one: &'a syn::Macro) {
        if let Some(last) = one.path.segments.last() {
            self.name(vec![format!("{}!", last.ident)], last.ident.span().start().line);
        }
        self.tokens(one.tokens.clone());
        visit::visit_macro(self, one);
    }

    fn visit_expr_method_call(&mut self, call: &'a syn::ExprMethodCall) {
        self.name(vec![format!(".{}", call.method)], call.method.span().start().line);
        visit::visit_expr_method_call(self, call);
    }
}

/// A file of the product.
struct Source {
    path: PathBuf,
    /// The module that it is, without `crate`.
    module: Vec<String>,
    named: Vec<Named>,
    /// The modules that it declares with `#[cfg(test)]`.
    for_tests: Vec<Vec<String>>,
    /// What others may name as if it were here, and where it is.
    reexported: Vec<(Vec<String>, Vec<String>)>,
}

static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(source(&root, &path));
        }
    }
    let mut reexported: BTreeMap<_, _> = found.iter().flat_map(|source| source.reexported.clone()).collect();
    // A function may be called as its module.
    found.iter().for_each(|source| _ = reexported.remove(&[&["crate".to_owned()][..], &source.module].concat()));
    for named in found.iter_mut().flat_map(|source| &mut source.named) {
        named.path = where_it_is(std::mem::take(&mut named.path), &reexported);
    }
    let for_tests: Vec<Vec<String>> = found.iter().flat_map(|source| source.for_tests.clone()).collect();
    found.retain(|source| !for_tests.contains(&source.module));
    found
});

/// A path with the module that has what it names in the place of those that only pass it on.
fn where_it_is(mut path: Vec<String>, reexported: &BTreeMap<Vec<String>, Vec<String>>) -> Vec<String> {
    while let Some((length, there)) =
        (1..=path.len()).rev().find_map(|length| Some((length, reexported.get(&path[..length])?)))
    {
        path.splice(..length, there.iter().cloned());
    }
    path
}

/// The names that a tree of imports makes, and the paths behind them.
fn names(before: &[String], tree: &syn::UseTree) -> Vec<(String, Vec<String>)> {
    let with = |ident: &syn::Ident| before.iter().cloned().chain([ident.to_string()]).collect::<Vec<_>>();
    match tree {
        syn::UseTree::Path(path) => names(&with(&path.ident), &path.tree),
        syn::UseTree::Name(name) => vec![(name.ident.to_string(), with(&name.ident))],
        syn::UseTree::Rename(rename) => vec![(rename.rename.to_string(), with(&rename.ident))],
        syn::UseTree::Glob(_) => panic!("what {before:?} passes on is not named"),
        syn::UseTree::Group(group) => group.items.iter().flat_map(|tree| names(before, tree)).collect(),
    }
}

fn source(root: &Path, path: &Path) -> Source {
    let relative = path.strip_prefix(root).unwrap().with_extension("");
    let mut module: Vec<String> = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    let file = syn::parse_file(&fs::read_to_string(path).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let here = if module == ["lib"] || module == ["main"] { Vec::new() } else { module.clone() };
    let mut reader = Reader { here, ..Reader::default() };
    reader.visit_file(&file);
    let mut named = reader.resolve();
    let declared = file.items.iter().filter_map(|item| match item {
        syn::Item::Mod(item) if item.content.is_none() => Some(item),
        _ => None,
    });
    let for_tests = declared.clone().filter(|item| only_for_tests(&item.attrs));
    let for_tests = for_tests.map(|item| module.iter().cloned().chain([item.ident.to_string()]).collect()).collect();
    // `use child::x` of a module that is declared here.
    let children: Vec<String> = declared.map(|item| item.ident.to_string()).collect();
    let own = |path: Vec<String>| -> Vec<String> {
        let before = ["crate".to_owned()].into_iter().chain(reader.here.iter().cloned());
        before.chain(path).collect()
    };
    let of_child = |path: &[String]| path.first().is_some_and(|first| children.contains(first));
    for named in named.iter_mut().filter(|named| of_child(&named.path)) {
        named.path = own(std::mem::take(&mut named.path));
    }
    let passed_on = file.items.iter().filter_map(|item| match item {
        syn::Item::Use(item) if !matches!(item.vis, syn::Visibility::Inherited) => Some(&item.tree),
        _ => None,
    });
    let passed_on = passed_on.flat_map(|tree| names(&[], tree)).map(|(name, path)| {
        let path = if of_child(&path) { own(path) } else { reader.absolute(path) };
        (own(vec![name]), path)
    });
    let reexported = passed_on.filter(|(name, path)| path[0] == "crate" && name != path).collect();
    Source { path: path.to_owned(), module, named, for_tests, reexported }
}

/// The room that a module is in: the row with the longest name that it begins with.
fn room(module: &[String]) -> Option<&'static Room> {
    let is_in = |room: &&Room| {
        let name: Vec<&str> = room.name.split("::").collect();
        module.len() >= name.len() && name.iter().zip(module).all(|(a, b)| a == b)
    };
    ROOMS.iter().filter(is_in).max_by_key(|room| room.name.len())
}

/// What of ours a file names, as module and line: the longest module that is there.
fn imports<'a>(source: &'a Source, modules: &'a BTreeMap<Vec<String>, usize>) -> Vec<(Vec<String>, usize)> {
    let ours = source.named.iter().filter(|named| named.path.first().is_some_and(|first| first == "crate"));
    ours.filter_map(|named| {
        let path = &named.path[1..];
        let longest = (1..=path.len()).rev().find(|length| modules.contains_key(&path[..*length]))?;
        Some((path[..longest].to_vec(), named.line))
    })
    .filter(|(module, _)| *module != source.module)
    .collect()
}

fn modules(sources: &[Source]) -> BTreeMap<Vec<String>, usize> {
    sources.iter().enumerate().map(|(number, source)| (source.module.clone(), number)).collect()
}

#[test]
fn every_file_is_in_a_room_and_every_room_has_a_file() {
    let sources = &*SOURCES;
    for source in sources {
        assert!(room(&source.module).is_some(), "{} is in no room of the table", source.path.display());
    }
    for row in ROOMS {
        let used = sources.iter().any(|source| room(&source.module).is_some_and(|room| room.name == row.name));
        assert!(used, "there is no room '{}'", row.name);
    }
}

#[test]
fn every_import_between_rooms_is_in_the_table() {
    let sources = &*SOURCES;
    let modules = modules(sources);
    let mut wrong = BTreeSet::new();
    let mut unused: BTreeSet<_> =
        ROOMS.iter().flat_map(|room| room.may_import.iter().map(|may| (room.name, *may))).collect();
    for source in sources {
        let here = room(&source.module).unwrap();
        for (module, line) in imports(source, &modules) {
            let there = room(&module).unwrap();
            let name = module.join("::");
            let allowed = |may: &str| name == may || name.starts_with(&format!("{may}::"));
            unused.retain(|(room, may)| *room != here.name || !allowed(may));
            if here.name != there.name && !here.may_import.iter().any(|may| allowed(may)) && !is_part(here, there) {
                wrong.insert(format!("{}:{line}: {} may not import {name}", source.path.display(), here.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", Vec::from_iter(wrong).join("\n"));
    assert!(unused.is_empty(), "nobody needs these: {unused:?}");
}

/// A room may use the folders inside it that have a row of their own.
fn is_part(room: &Room, part: &Room) -> bool {
    part.name.starts_with(&format!("{}::", room.name))
}

#[test]
fn the_pure_rooms_do_nothing() {
    let mut wrong = BTreeSet::new();
    for source in SOURCES.iter().filter(|source| room(&source.module).is_some_and(|room| room.pure)) {
        for named in &source.named {
            let name = named.path.join("::");
            let has_all = |word: &str| name.strip_suffix('*').is_some_and(|path| word.starts_with(path));
            let does = |word: &&&str| name == **word || name.starts_with(&format!("{word}::")) || has_all(word);
            if let Some(word) = DOING.iter().find(does) {
                wrong.insert(format!("{}:{}: {word}", source.path.display(), named.line));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", Vec::from_iter(wrong).join("\n"));
}

#[test]
fn nobody_panics_on_purpose() {
    let mut wrong = BTreeSet::new();
    for source in &*SOURCES {
        for named in source.named.iter().filter(|named| PANICS.contains(&named.path.join("::").as_str())) {
            wrong.insert(format!("{}:{}: {}", source.path.display(), named.line, named.path.join("::")));
        }
    }
    assert!(wrong.is_empty(), "{}", Vec::from_iter(wrong).join("\n"));
}

/// A folder's `mod.rs` and the files in it are one: what they share stands in it, or is passed on there. Between all others
/// there is no way back.
#[test]
fn no_two_files_import_each_other_however_many_are_in_between() {
    let sources = &*SOURCES;
    let modules = modules(sources);
    let mut arrows: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (number, source) in sources.iter().enumerate() {
        for (module, _) in imports(source, &modules) {
            let is_parent = |a: &[String], b: &[String]| b.len() == a.len() + 1 && b.starts_with(a);
            if !is_parent(&module, &source.module) && module != ["lib"] {
                arrows.entry(number).or_default().insert(modules[&module]);
            }
        }
    }
    let reach = |from: usize| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(one) = open.pop() {
            open.extend(arrows.get(&one).into_iter().flatten().filter(|next| seen.insert(**next)));
        }
        seen
    };
    let circles: Vec<String> = (0..sources.len())
        .filter(|number| reach(*number).contains(number))
        .map(|number| sources[number].module.join("::"))
        .collect();
    assert!(circles.is_empty(), "these are in a circle:\n{}", circles.join("\n"));
}

#[test]
fn the_map_in_lib_draws_the_arrows_that_exist_and_no_other() {
    let sources = &*SOURCES;
    let modules = modules(sources);
    let mut drawn: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in include_str!("../../src/lib.rs").lines().filter_map(|line| line.strip_prefix("//! | [`")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let imports = match cells[2] {
            "all above" => drawn.keys().copied().collect(),
            named => named.split(", ").filter(|room| !room.is_empty()).collect(),
        };
        drawn.insert(cells[0].trim_end_matches("`]"), imports);
    }
    let mut exist: BTreeMap<&str, BTreeSet<&str>> = drawn.keys().map(|room| (*room, BTreeSet::new())).collect();
    for source in sources.iter().filter(|source| !["lib", "main"].contains(&source.module[0].as_str())) {
        for (module, _) in imports(source, &modules).into_iter().filter(|(there, _)| there[0] != source.module[0]) {
            let there = sources[modules[&module]].module[0].as_str();
            exist.entry(source.module[0].as_str()).or_default().insert(there);
        }
    }
    assert_eq!(drawn, exist);
}
