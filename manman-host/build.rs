//! Files that the binary carries: a new one must be noticed, which the macros can not do by
//! themselves; and the console's are pressed here, so that no host spends its time on it.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../migrations");
    println!("cargo:rerun-if-changed=games");
    println!("cargo:rerun-if-changed=web");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    console(Path::new("web"), &out)
}

/// Writes `web.rs`: every file of the console as it is, and as brotli and gzip have it where that
/// is smaller. `index.html` names the others beneath the hash of them all, so that a browser may
/// keep those for ever.
fn console(web: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut names = Vec::new();
    list(&web.join("assets"), "assets", &mut names)?;
    names.sort();
    let mut files = Vec::new();
    for name in names {
        let content = fs::read(web.join(&name))?;
        files.push((name, content));
    }
    let mut whole = Sha256::new();
    for (name, content) in &files {
        whole.update(name);
        whole.update(Sha256::digest(content));
    }
    let hash = hex(&whole.finalize());
    let index = fs::read_to_string(web.join("index.html"))?.replace("\"/assets/", &format!("\"/assets/{hash}/"));
    files.push(("index.html".to_owned(), index.into_bytes()));

    let pressed = out.join("web");
    fs::create_dir_all(&pressed)?;
    let mut code = format!("const HASH: &str = {hash:?};\nstatic FILES: &[File] = &[\n");
    for (name, content) in &files {
        let tag = hex(&Sha256::digest(content));
        // By content: what was pressed before is not pressed again.
        let at = |form: &str| pressed.join(format!("{tag}.{form}"));
        if !at("raw").exists() {
            fs::write(at("br"), brotli(content)?)?;
            fs::write(at("gz"), gzip(content)?)?;
            fs::write(at("raw"), content)?;
        }
        let form = |form: &str| -> Result<String, Box<dyn Error>> {
            let smaller = fs::metadata(at(form))?.len() < content.len() as u64;
            Ok(if smaller { format!("Some(include_bytes!({:?}))", at(form)) } else { "None".to_owned() })
        };
        writeln!(
            code,
            "File {{ path: {name:?}, tag: {tag:?}, plain: include_bytes!({:?}), brotli: {}, gzip: {} }},",
            at("raw"),
            form("br")?,
            form("gz")?
        )?;
    }
    code.push_str("];\n");
    fs::write(out.join("web.rs"), code)?;
    Ok(())
}

/// All files beneath a folder, by their path with slashes. What begins with a dot is an editor's.
fn list(folder: &Path, name: &str, into: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let own = entry.file_name().into_string().map_err(|name| format!("{} is no text", name.display()))?;
        if own.starts_with('.') {
            continue;
        }
        let path = format!("{name}/{own}");
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &path, into)?;
        } else {
            into.push(path);
        }
    }
    Ok(())
}

fn brotli(content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut writer = brotli::CompressorWriter::new(Vec::new(), 64 * 1024, 11, 22);
    writer.write_all(content)?;
    Ok(writer.into_inner())
}

fn gzip(content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(content)?;
    writer.finish()
}

fn hex(digest: &[u8]) -> String {
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
