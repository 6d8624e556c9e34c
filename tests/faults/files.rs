//! The files of the configuration, in every way that somebody writes them.

use crate::config::Ladder;
use crate::gateway::CampaignGateway;
use crate::random::Random;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};

/// The directory of the configuration.
const DIRECTORY: &str = "/run/lab";
const FRAGMENT: &str = "50-list.yaml";

impl CampaignGateway<'_> {
    /// Does something to the files.
    pub fn in_files<T: Send>(&self, work: impl FnOnce(&'static str) -> io::Result<T> + Send) -> T {
        let path = self.agent.config_path();
        self.view.enter(|| work(path)).expect("a file of the configuration")
    }

    /// Writes over what was there.
    pub fn write(&mut self, text: &str) {
        self.make_plain();
        self.agent.configure(text);
    }

    /// Gives a new file the name of the old one.
    pub fn replace(&mut self, text: &str) {
        self.remove_fragment();
        self.in_files(|path| {
            let new = format!("{DIRECTORY}/.new");
            fs::write(&new, text)?;
            let _ = fs::remove_dir(path);
            fs::rename(&new, path)
        });
    }

    /// Makes the name a link to a file of a new directory; returns that file's path.
    pub fn link(&mut self, random: &mut Random, text: &str) -> String {
        self.remove_fragment();
        let version = format!("/run/versions/{:x}", random.seed());
        self.in_files(|path| {
            let (file, new) = (format!("{version}/config.yaml"), format!("{DIRECTORY}/.link"));
            fs::create_dir_all(&version)?;
            fs::write(&file, text)?;
            symlink(&file, &new)?;
            let _ = fs::remove_dir(path);
            fs::rename(&new, path)?;
            Ok(file)
        })
    }

    /// Writes the file of `config.d`.
    pub fn add_fragment(&self, text: &str) {
        self.agent.add_file(FRAGMENT, text);
    }

    /// Whatever is at the place of the file, now it is a plain file, and the only one.
    pub fn make_plain(&mut self) {
        self.remove_fragment();
        self.in_files(|path| {
            match fs::symlink_metadata(path) {
                Ok(file) if file.is_file() => return fs::set_permissions(path, fs::Permissions::from_mode(0o644)),
                Ok(file) if file.is_dir() => fs::remove_dir(path)?,
                Ok(_) => fs::remove_file(path)?,
                Err(_) => {}
            }
            Ok(())
        });
    }

    fn remove_fragment(&mut self) {
        let fragment = format!("{DIRECTORY}/config.d/{FRAGMENT}");
        if self.in_files(|_| fs::exists(&fragment)) {
            // Its list was the ladder: without it, and with the main file of before, there is none.
            let mut without = (*self.before).clone();
            without.ladder = Ladder::default();
            self.may_also(&[Some(&without.into())]);
            self.in_files(|_| fs::remove_file(&fragment));
        }
    }
}
