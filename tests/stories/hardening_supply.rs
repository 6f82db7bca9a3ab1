//! What comes in and what goes out: unsafe code where it is listed, images that are not root.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use manman_e2e::{Context, Home, Result, binary, docker, ensure, story};
use tokio::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap_or_default()
}

/// Every file below that ends so, without what a build or a registry has made.
fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !path.is_symlink() {
            if !matches!(name, "target" | ".git" | "node_modules") {
                files(&path, ending, found)?;
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    Ok(())
}

/// The code of a file without its comments and what stands in quotes, as far as one line tells.
fn code(line: &str) -> String {
    let line = line.split("//").next().unwrap_or_default();
    line.split('"').step_by(2).collect()
}

#[test]
fn unsafe_code_stands_where_architecture_lists_it() -> Result<()> {
    let root = root();
    let listed = std::fs::read_to_string(root.join("ARCHITECTURE.md"))?;
    let (mut sources, mut with_unsafe) = (Vec::new(), BTreeSet::new());
    files(&root, ".rs", &mut sources)?;
    ensure!(sources.len() > 300, "only {} files were looked at", sources.len());
    for path in &sources {
        let text = std::fs::read_to_string(path)?;
        let is_word = |line: &str| code(line).split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
        if text.lines().any(is_word) {
            with_unsafe.insert(path.strip_prefix(&root)?.display().to_string());
        }
    }
    ensure!(!with_unsafe.is_empty(), "the search finds nothing any more");
    let unlisted: Vec<_> = with_unsafe.iter().filter(|path| !listed.contains(&format!("`{path}`"))).collect();
    ensure!(unlisted.is_empty(), "unsafe code that ARCHITECTURE.md does not list: {unlisted:?}");

    // Whoever lifts the ban does so in a manifest or an attribute: those are counted as well.
    let (mut manifests, mut lifted) = (Vec::new(), Vec::new());
    files(&root, "Cargo.toml", &mut manifests)?;
    for path in manifests {
        let text = std::fs::read_to_string(&path)?;
        let forbids = text.contains("unsafe_code = \"forbid\"") || text.contains("[lints]\nworkspace = true");
        // The fuzz targets are a workspace of their own; that they have none is seen above.
        if text.contains("[package]") && !forbids && !path.starts_with(root.join("tests/fuzz")) {
            lifted.push(path.parent().unwrap_or(&path).strip_prefix(&root)?.display().to_string());
        }
    }
    let unlisted: Vec<_> =
        lifted.iter().filter(|package| !with_unsafe.iter().any(|path| path.starts_with(&format!("{package}/")))).collect();
    ensure!(unlisted.is_empty(), "packages that allow unsafe code and have none: {unlisted:?}");
    Ok(())
}

/// What the last `USER` of a Dockerfile says.
fn user_of(dockerfile: &str) -> Option<&str> {
    dockerfile.lines().filter_map(|line| line.strip_prefix("USER ")).next_back().map(str::trim)
}

fn is_root(user: &str) -> bool {
    let user = user.split(':').next().unwrap_or_default();
    user.is_empty() || user == "root" || user.parse() == Ok(0)
}

#[test]
fn no_image_of_ours_is_root() -> Result<()> {
    let mut dockerfiles = Vec::new();
    files(&root().join("docker"), "Dockerfile", &mut dockerfiles)?;
    ensure!(dockerfiles.len() >= 8, "{dockerfiles:?}");
    for path in dockerfiles {
        let text = std::fs::read_to_string(&path)?;
        let user = user_of(&text).with_context(|| format!("{} sets no USER", path.display()))?;
        ensure!(!is_root(user), "{} is {user}", path.display());
    }
    let compose = std::fs::read_to_string(root().join("docker/compose.yaml"))?;
    for line in compose.lines().map(str::trim) {
        ensure!(!line.starts_with("user:") && !line.starts_with("privileged:") && !line.starts_with("pid:"), "compose: {line}");
    }
    let ours = compose.matches("image: manman-").count();
    ensure!(ours == 2 && compose.matches("cap_drop: [ALL]").count() == ours, "each of our services drops what it has");
    let unit = std::fs::read_to_string(root().join("docker/systemd/manman-host.service"))?;
    ensure!(unit.contains("\nUser=manman\n") && unit.contains("\nNoNewPrivileges=yes\n"), "{unit}");
    Ok(())
}

/// The images as they are built, around the programs of this build.
#[test]
fn the_images_run_without_root() -> Result<()> {
    story(async {
        // Only for a folder that goes with the test.
        let home = Home::empty()?;
        for (image, program) in [("host", "manman-host"), ("worker", "manman-worker")] {
            let context = home.data().join(image);
            std::fs::create_dir_all(context.join("target/release"))?;
            std::fs::copy(binary(program)?, context.join("target/release").join(program))?;
            let _ = Command::new("strip").arg(context.join("target/release").join(program)).status().await;
            std::fs::copy(root().join("docker").join(image).join("Dockerfile"), context.join("Dockerfile"))?;
            let tag = format!("manman-e2e/{program}");
            let built = Command::new("docker")
                .args(["build", "-q", "--network", "host", "-t", &tag])
                .arg(&context)
                .env("DOCKER_BUILDKIT", "0")
                .output()
                .await?;
            ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
            let looked = async {
                let user = docker(&["inspect", "--format", "{{.Config.User}}", &tag]).await?;
                ensure!(!is_root(user.trim()), "{tag} is {user:?}");
                let run = [
                    "run",
                    "--rm",
                    "--network",
                    "none",
                    "--cap-drop",
                    "ALL",
                    "--cap-add",
                    "CHOWN",
                    "--cap-add",
                    "DAC_OVERRIDE",
                    "--cap-add",
                    "FOWNER",
                ];
                let version = docker(&[&run[..], &[&tag, "--version"]].concat()).await?;
                ensure!(version.starts_with(program), "{version}");
                let who = docker(&[&run[..], &["--entrypoint", "id", &tag, "-u"]].concat()).await?;
                ensure!(who.trim() == "10001", "{who}");
                if image == "worker" {
                    // What else it finds of this machine, a full disk say, is not the image's doing.
                    let ask = format!("{program} doctor || true");
                    let run =
                        [&run[..], &["-v", "/var/run/docker.sock:/var/run/docker.sock", "--entrypoint", "sh", &tag, "-c", &ask]].concat();
                    let looked = docker(&run).await?;
                    ensure!(looked.contains("✓ data directory") && looked.contains("✓ docker: engine"), "{looked}");
                }
                Ok(())
            }
            .await;
            docker(&["rmi", "-f", &tag]).await.ok();
            looked?;
        }
        Ok(())
    })
}
