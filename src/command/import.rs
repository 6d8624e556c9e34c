//! `import`: rules and files of other programs as a configuration.

use super::{eprint_line, eprint_lines, exit, print_text};
use crate::import::{self, ImportError, MAX_BYTES};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Prints a configuration. Lines that it does not say are comments in it, and make the exit status 1.
pub fn run(file: Option<&Path>) -> u8 {
    let name = match file {
        Some(path) if path.as_os_str() != "-" => format!("'{}'", path.display()),
        _ => "standard input".to_owned(),
    };
    let bytes = match read(file) {
        Ok(bytes) => bytes,
        Err(error) => {
            eprint_line(format_args!("{name} can't be read: {error}"));
            return exit::FAILED;
        }
    };
    let text = String::from_utf8(bytes).map_err(|_| ImportError::Binary);
    match text.and_then(|text| import::import(&text)) {
        Ok(imported) => match (print_text(&imported.text), imported.refused) {
            (exit::OK, 0) => exit::OK,
            (exit::OK, refused) => {
                eprint_line(format_args!("{refused} of the lines are not in the configuration; its comments say why"));
                exit::FAILED
            }
            (failed, _) => failed,
        },
        Err(error) => {
            eprint_lines(format_args!("{name}: {error}"));
            exit::FAILED
        }
    }
}

/// One byte more than is taken, so that what is longer is noticed.
fn read(file: Option<&Path>) -> io::Result<Vec<u8>> {
    let limit = MAX_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    match file {
        Some(path) if path.as_os_str() != "-" => File::open(path)?.take(limit).read_to_end(&mut bytes)?,
        _ => io::stdin().lock().take(limit).read_to_end(&mut bytes)?,
    };
    Ok(bytes)
}
