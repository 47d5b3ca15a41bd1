//! The source's configuration in the restored directory: what it held stays in force, what would
//! steer the restored cluster elsewhere is taken out.
//!
//! Files that lay outside the data directory (Debian keeps them in `/etc`) are put below
//! [`SOURCE_FOLDER`] as they were, for the operator; what was in force of them is copied into
//! `postgresql.conf` and `pg_hba.conf`, because a restored cluster stands alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use pg::recovery::{LEFTOVER_SETTINGS, TARGET_SETTINGS};
use repository::root::Root;
use stdx::durable;

use crate::Error;
use crate::conf_line::{decode, encode, parse};
use crate::ground::Ground;
use crate::owner::Owner;

/// Folder in the data directory with the source's configuration as it was.
pub(crate) const SOURCE_FOLDER: &str = "rollforward.source-config";

/// Settings that name other places than the restored directory; a restored copy that followed them
/// would read or write the original's files.
const PLACE_SETTINGS: [&str; 5] =
    ["data_directory", "config_file", "hba_file", "ident_file", "external_pid_file"];

/// How deep files may include each other. PostgreSQL: `CONF_FILE_MAX_DEPTH`, guc-file.l.
const DEPTH_MAX: usize = 10;

/// Who may connect when the source's rules are not in the backup: the server's own user.
const CLOSED_HBA: &str =
    "# Written by rollforward: the source's rules are not in the backup.\nlocal all all peer\n";

/// Writes the configuration of one restored cluster.
pub(crate) struct Configuration<'a> {
    ground: &'a Ground,
    directory: &'a Path,
    /// The source's data directory.
    source: PathBuf,
    /// Files that lay outside of it, by absolute path.
    outside: BTreeMap<PathBuf, &'a [u8]>,
    mode: u32,
    taken_out: Vec<String>,
    /// Included files in the data directory that were looked through.
    done: BTreeSet<PathBuf>,
}

/// A file that is being read.
struct Reading {
    /// For messages: relative to the data directory, or absolute when it lay outside.
    name: String,
    /// Where it lay on the source; what it includes is relative to that.
    folder: PathBuf,
    /// Whether it stays where it is, so that what it includes by a relative path does too.
    stays: bool,
    depth: usize,
}

impl<'a> Configuration<'a> {
    pub(crate) fn new(
        ground: &'a Ground,
        directory: &'a Path,
        root: &Root,
        outside: &'a BTreeMap<Vec<u8>, Vec<u8>>,
        mode: u32,
    ) -> Self {
        let source = root.details.settings.get("data_directory").map(PathBuf::from);
        let outside = outside
            .iter()
            .map(|(path, content)| (PathBuf::from(OsStr::from_bytes(path)), content.as_slice()));
        Self {
            ground,
            directory,
            source: source.unwrap_or_else(|| directory.to_owned()),
            outside: outside.collect(),
            mode,
            taken_out: Vec::new(),
            done: BTreeSet::new(),
        }
    }

    /// Writes it all but the quarantine's block; returns the text that goes before that block, and
    /// what was taken out of effect.
    pub(crate) fn write(mut self, root: &Root) -> Result<(String, Vec<String>), Error> {
        self.keep_source()?;
        let (reading, text) = self.main_file(root)?;
        let mut main = self.render(&reading, &text)?;
        for (setting, name) in [("hba_file", "pg_hba.conf"), ("ident_file", "pg_ident.conf")] {
            let named = root.details.settings.get(setting).map(PathBuf::from);
            if let Some(line) = self.authentication(setting, name, named.as_deref())? {
                main.push_str(&line);
            }
        }
        self.put("postgresql.conf", &encode(&main))?;
        let auto = Reading {
            name: "postgresql.auto.conf".into(),
            folder: self.source.clone(),
            stays: true,
            depth: 0,
        };
        let text = self.ground.read(b"postgresql.auto.conf")?.unwrap_or_default();
        let auto = self.render(&auto, &decode(&text))?;
        Ok((auto, self.taken_out))
    }

    /// The file that the source was started with. Its settings matter: memory, workers, libraries.
    fn main_file(&mut self, root: &Root) -> Result<(Reading, String), Error> {
        let named = root.details.settings.get("config_file").map(PathBuf::from);
        let named = named.unwrap_or_else(|| self.source.join("postgresql.conf"));
        let folder = named.parent().unwrap_or(&self.source).to_owned();
        let reading =
            |name: String, stays| Reading { name, folder: folder.clone(), stays, depth: 0 };
        if let Some(content) = self.outside.get(&named) {
            if self.ground.read(b"postgresql.conf")?.is_some() {
                let reason = format!("postgresql.conf: '{}' was in force", named.display());
                self.taken_out.push(reason);
            }
            return Ok((reading(named.display().to_string(), false), decode(content)));
        }
        let inside = named.strip_prefix(&self.source).map_or(Path::new("postgresql.conf"), |it| it);
        match self.ground.read(inside.as_os_str().as_bytes())? {
            Some(content) => {
                let stays = inside == Path::new("postgresql.conf");
                Ok((reading(inside.display().to_string(), stays), decode(&content)))
            }
            None => {
                self.taken_out.push(format!("'{}': not in the backup", named.display()));
                let text = format!(
                    "# Written by rollforward: '{}' is not in the backup.\n",
                    decode(named.as_os_str().as_bytes())
                );
                Ok((reading("postgresql.conf".into(), true), text))
            }
        }
    }

    /// Puts the rules where the restored cluster finds them; a line for `postgresql.conf` when that
    /// is not the usual place.
    fn authentication(
        &mut self,
        setting: &str,
        name: &str,
        named: Option<&Path>,
    ) -> Result<Option<String>, Error> {
        if let Some(content) = named.and_then(|path| self.outside.get(path)).copied() {
            self.put(name, content)?;
            return Ok(None);
        }
        let inside = named.and_then(|path| path.strip_prefix(&self.source).ok());
        if let Some(inside) = inside.filter(|inside| *inside != Path::new(name))
            && self.ground.read(inside.as_os_str().as_bytes())?.is_some()
        {
            // A relative path would be looked for where the server happens to be started.
            let value = decode(self.directory.join(inside).as_os_str().as_bytes());
            return Ok(pg::recovery::quote(&value).map(|value| format!("{setting} = {value}\n")));
        }
        if setting == "hba_file" && self.ground.read(name.as_bytes())?.is_none() {
            self.taken_out
                .push(format!("{name}: not in the backup, only the server's user may enter"));
            self.put(name, CLOSED_HBA.as_bytes())?;
        }
        Ok(None)
    }

    /// The text with everything out of effect that steers elsewhere.
    fn render(&mut self, reading: &Reading, text: &str) -> Result<String, Error> {
        let name = &reading.name;
        let text = pg::recovery::strip_block(text)
            .map_err(|error| Error::Settings { reason: format!("{name}: {error}") })?;
        let names: Vec<&str> = TARGET_SETTINGS
            .iter()
            .chain(&LEFTOVER_SETTINGS)
            .chain(&PLACE_SETTINGS)
            .copied()
            .collect();
        let mut rendered = String::with_capacity(text.len());
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let value = parse(line).map(|(name, value)| (name.to_ascii_lowercase(), value));
            match value {
                Some((directive, value)) if directive.starts_with("include") => {
                    let included = self.include(reading, index + 1, &directive, &value, line)?;
                    rendered.push_str(&included);
                }
                _ => {
                    let neutral = pg::recovery::neutralise(line, &names);
                    let taken = neutral.taken_out.iter();
                    let taken = taken.map(|out| format!("{name}:{} {}", index + 1, out.name));
                    self.taken_out.extend(taken);
                    rendered.push_str(&neutral.text);
                }
            }
        }
        if !rendered.is_empty() && !rendered.ends_with('\n') {
            rendered.push('\n');
        }
        Ok(rendered)
    }

    /// What stands in the place of a line that includes others.
    fn include(
        &mut self,
        reading: &Reading,
        number: usize,
        directive: &str,
        value: &str,
        line: &str,
    ) -> Result<String, Error> {
        let depth = reading.depth + 1;
        if depth > DEPTH_MAX {
            let reason = format!("{}:{number} includes more than {DEPTH_MAX} deep", reading.name);
            return Err(Error::Settings { reason });
        }
        let value = OsStr::from_bytes(&encode(value)).to_owned();
        let path = normal(&reading.folder.join(&value));
        let stays =
            reading.stays && path.starts_with(&self.source) && Path::new(&value).is_relative();
        let found = match directive {
            "include_dir" => self.files_in(&path)?,
            "include" | "include_if_exists" => Some(vec![path]),
            _ => return Ok(line.to_owned()),
        };
        let mut texts = Vec::new();
        let mut missing = found.is_none();
        for file in found.unwrap_or_default() {
            let folder = file.parent().unwrap_or(&file).to_owned();
            match self.content(&file)? {
                Some(text) => {
                    let name = match file.strip_prefix(&self.source) {
                        Ok(inside) => inside.display().to_string(),
                        Err(_) => file.display().to_string(),
                    };
                    texts.push((file, Reading { name, folder, stays, depth }, text));
                }
                None => missing |= directive == "include",
            }
        }
        if missing {
            // The server would not start.
            self.taken_out.push(format!("{}:{number} {directive}", reading.name));
            return Ok(format!("# rollforward: {line}"));
        }
        if stays {
            for (file, reading, text) in texts {
                if self.done.insert(file) {
                    let rendered = self.render(&reading, &text)?;
                    self.put(&reading.name, &encode(&rendered))?;
                }
            }
            return Ok(line.to_owned());
        }
        let mut here = format!("# rollforward: {}\n", line.trim_end());
        for (file, reading, text) in texts {
            let path = decode(file.as_os_str().as_bytes());
            here.push_str(&format!("# rollforward: from '{path}'\n"));
            here.push_str(&self.render(&reading, &text)?);
        }
        Ok(here)
    }

    /// The files that `include_dir` takes, in PostgreSQL's order. PostgreSQL:
    /// `GetConfFilesInDir`, src/backend/utils/misc/conffiles.c.
    fn files_in(&self, folder: &Path) -> Result<Option<Vec<PathBuf>>, Error> {
        let mut found: Vec<PathBuf> = match folder.strip_prefix(&self.source) {
            Ok(inside) => {
                let here = self.directory.join(inside);
                if !is_real_folder(self.directory, inside) {
                    return Ok(None);
                }
                let entries = fs::read_dir(&here);
                let entries =
                    entries.map_err(|error| Error::file("read directory", &here, error))?;
                entries.flatten().map(|entry| folder.join(entry.file_name())).collect()
            }
            Err(_) => {
                self.outside.keys().filter(|path| path.parent() == Some(folder)).cloned().collect()
            }
        };
        found.retain(|path| {
            let name = path.file_name().unwrap_or_default().as_bytes();
            name.ends_with(b".conf") && !name.starts_with(b".")
        });
        found.sort();
        // Outside, an empty folder cannot be told from one that is not in the backup; both give
        // nothing.
        Ok(Some(found))
    }

    fn content(&self, file: &Path) -> Result<Option<String>, Error> {
        let bytes = match file.strip_prefix(&self.source) {
            Ok(inside) => self.ground.read(inside.as_os_str().as_bytes())?,
            Err(_) => self.outside.get(file).map(|bytes| bytes.to_vec()),
        };
        Ok(bytes.map(|bytes| decode(&bytes)))
    }

    /// Files that lay outside, as they were.
    fn keep_source(&self) -> Result<(), Error> {
        for (path, content) in &self.outside {
            let mut folder = self.directory.join(SOURCE_FOLDER);
            let mut inside = PathBuf::from(SOURCE_FOLDER);
            make_folder(&folder, self.ground.owner)?;
            let names = path.components().filter_map(|part| match part {
                Component::Normal(name) => Some(name),
                _ => None,
            });
            let names: Vec<&OsStr> = names.collect();
            let Some((file, folders)) = names.split_last() else { continue };
            for name in folders {
                folder.push(name);
                inside.push(name);
                make_folder(&folder, self.ground.owner)?;
            }
            inside.push(file);
            put(&self.directory.join(inside), content, self.mode, self.ground.owner)?;
        }
        Ok(())
    }

    fn put(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        put(&self.directory.join(name), content, self.mode, self.ground.owner)
    }
}

/// Replaces a file, or a link, by a file.
pub(crate) fn put(path: &Path, content: &[u8], mode: u32, owner: Owner) -> Result<(), Error> {
    durable::write_atomic(path, content, mode)
        .map_err(|error| Error::file("write", path, error))?;
    owner.give_path(path).map_err(|error| Error::file("hand over", path, error))
}

fn make_folder(folder: &Path, owner: Owner) -> Result<(), Error> {
    match fs::symlink_metadata(folder) {
        Ok(meta) if meta.is_dir() => return Ok(()),
        Ok(_) => {
            let reason = "it stands where the source's configuration goes";
            let path = folder.display().to_string();
            return Err(Error::Entry { path, reason: reason.into() });
        }
        Err(_) => {}
    }
    let made = DirBuilder::new().mode(0o700).create(folder);
    made.map_err(|error| Error::file("create directory", folder, error))?;
    owner.give_path(folder).map_err(|error| Error::file("hand over", folder, error))
}

/// Whether every part of the path is a directory and no link.
fn is_real_folder(directory: &Path, inside: &Path) -> bool {
    let mut here = directory.to_owned();
    inside.components().all(|part| {
        here.push(part);
        fs::symlink_metadata(&here).is_ok_and(|meta| meta.is_dir())
    })
}

/// Without `.` and `..`, links not resolved: the files are on another machine.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}
