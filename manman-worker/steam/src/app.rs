//! What SteamCMD has to fetch, checked.

use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};

use manman_common::GameId;
use manman_common::spec::{Platform, RunSpec, SteamLogin};

use crate::beneath;
use crate::class::Classes;
use crate::error::{Failure, SteamError};

/// An app of Steam on one branch and for one platform, with what a server wants of it.
#[derive(Clone, Debug)]
pub struct App {
    id: u32,
    branch: Option<String>,
    platform: Platform,
    login: SteamLogin,
    validate: bool,
    expect: Vec<PathBuf>,
    classes: Classes,
}

impl App {
    /// The app of a spec. A branch goes to SteamCMD's command line and into a directory's name, so
    /// it is letters, digits and `._-` alone.
    pub fn of(run: &RunSpec) -> Result<Self, SteamError> {
        let GameId::Steamcmd(id) = run.game_id else {
            return Err(SteamError::new(Failure::MissingConfiguration, format!("`{}` is no app of Steam", run.game_id)));
        };
        let steam = crate::steam_spec(run);
        let mut app = Self::new(id, steam.branch)?;
        app.platform = steam.platform;
        app.login = steam.login;
        app.validate = steam.app_validate;
        app.expect = steam.expect.iter().map(|path| inside(path)).collect::<Result<_, _>>()?;
        app.classes = Classes::of(run);
        Ok(app)
    }

    /// An app by its number, anonymous and for Linux.
    pub fn new(id: u32, branch: Option<String>) -> Result<Self, SteamError> {
        let branch = branch.filter(|branch| branch != "public");
        if let Some(branch) = &branch {
            let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            if branch.is_empty() || branch.len() > 64 || branch.starts_with(['.', '-']) || !branch.bytes().all(is_sound) {
                let what = format!("`{}` is not the name of a branch", branch.escape_debug());
                return Err(
                    SteamError::new(Failure::MissingConfiguration, what).hint("a branch has up to 64 letters, digits, `.`, `_` and `-`")
                );
            }
        }
        Ok(Self {
            id,
            branch,
            platform: Platform::Linux,
            login: SteamLogin::Anonymous,
            validate: false,
            expect: Vec::new(),
            classes: Classes::default(),
        })
    }

    #[must_use]
    pub fn with_login(mut self, login: SteamLogin) -> Self {
        self.login = login;
        self
    }

    #[must_use]
    pub fn with_platform(mut self, platform: Platform) -> Self {
        self.platform = platform;
        self
    }

    /// `896660-public-linux`: the directory's name as well.
    #[must_use]
    pub fn key(&self) -> String {
        let platform = match self.platform {
            Platform::Linux => "linux",
            Platform::WindowsProton => "windows",
        };
        format!("{}-{}-{platform}", self.id, self.branch())
    }

    pub(crate) const fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn branch(&self) -> &str {
        self.branch.as_deref().unwrap_or("public")
    }

    pub(crate) const fn platform(&self) -> Platform {
        self.platform
    }

    pub(crate) const fn login(&self) -> SteamLogin {
        self.login
    }

    pub(crate) const fn validate(&self) -> bool {
        self.validate
    }

    pub(crate) const fn classes(&self) -> &Classes {
        &self.classes
    }

    /// The arguments of `app_update`.
    pub(crate) fn update_arguments(&self, validate: bool) -> Vec<String> {
        let mut arguments = vec!["+app_update".to_owned(), self.id.to_string()];
        if let Some(branch) = &self.branch {
            arguments.extend(["-beta".to_owned(), branch.clone()]);
        }
        if validate {
            arguments.push("validate".to_owned());
        }
        arguments
    }

    /// The first expected file that is not there.
    pub(crate) fn missing(&self, directory: impl AsFd) -> Option<&Path> {
        self.expect.iter().find(|path| !beneath::exists(directory.as_fd(), path)).map(PathBuf::as_path)
    }
}

/// A relative path without `..`: one that can not lead out by itself.
fn inside(text: &str) -> Result<PathBuf, SteamError> {
    let mut path = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(SteamError::new(
                    Failure::Outside,
                    format!("the expected file `{}` leads out of the install", text.escape_debug()),
                ));
            }
        }
    }
    if path.as_os_str().is_empty() || text.contains('\0') {
        return Err(SteamError::new(Failure::Outside, format!("`{}` is not a file to expect", text.escape_debug())));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_app_branch_and_platform() {
        assert_eq!(App::new(896_660, None).expect("an app").key(), "896660-public-linux");
        assert_eq!(App::new(896_660, Some("public".to_owned())).expect("an app").key(), "896660-public-linux");
        let beta = App::new(1, Some("public-test".to_owned())).expect("an app").with_platform(Platform::WindowsProton);
        assert_eq!(beta.key(), "1-public-test-windows");
        assert_eq!(beta.update_arguments(true), ["+app_update", "1", "-beta", "public-test", "validate"]);
    }

    #[test]
    fn a_branch_is_no_path_and_no_option() {
        for bad in ["", "../x", "a b", "-x", "a/b", "a\"b", "+quit", ".", &"x".repeat(65)] {
            assert!(App::new(1, Some(bad.to_owned())).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_expected_file_stays_inside() {
        for bad in ["../x", "/etc/passwd", "a/../../b", "", ".", "a\0b"] {
            assert_eq!(inside(bad).expect_err(bad).failure, Failure::Outside);
        }
        assert_eq!(inside("./a/./b").expect("inside"), Path::new("a/b"));
    }
}
