//! How an archive lies on the disk, and how it is read.
//!
//! ```text
//! zstd frames   tar: the data of all entries, in the manifest's order
//! zstd frame    tar: the manifest, and the end
//! zstd frame to be skipped (the footer): how long those two are
//! ```
//! All together it is what `tar --zstd` reads. The footer comes last, so an archive that was cut, or
//! had something added, is known by its last bytes; and what it holds is known by reading its end.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{BackupError, Result};
use crate::header;
use crate::manifest::{Entry, Fault, Hash, Kind, Manifest, VERSION};
use crate::pattern::Patterns;

/// A frame that zstd skips: its magic number, then its length.
pub(crate) const SKIP: [u8; 4] = 0x184D_2A5B_u32.to_le_bytes();
const MAGIC: [u8; 8] = *b"manman-1";
/// Skip magic, length, our magic, data, manifest, manifest's JSON, hash of the manifest's frame.
pub(crate) const FOOTER: u64 = 4 + 4 + 8 + 8 + 8 + 8 + 32;
/// Greatest length of a manifest: a million entries of 256 bytes.
const MAX_JSON: u64 = 256 * 1024 * 1024;
/// The window that a frame may ask memory for: 8 MiB; ours ask for 2.
const WINDOW_LOG: u32 = 23;
pub(crate) const CHUNK: usize = 128 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Compressed lengths.
    pub data: u64,
    pub manifest: u64,
    pub json: u64,
    pub hash: Hash,
}

impl Layout {
    pub(crate) fn footer(&self) -> Vec<u8> {
        let rest = u32::try_from(FOOTER - 8).unwrap_or(0).to_le_bytes();
        let numbers = [self.data, self.manifest, self.json].map(u64::to_le_bytes).concat();
        [&SKIP[..], &rest, &MAGIC, &numbers, &self.hash.0].concat()
    }

    fn read(bytes: &[u8; FOOTER as usize]) -> Option<Self> {
        let number = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let layout = Self { data: number(16)?, manifest: number(24)?, json: number(32)?, hash: Hash(bytes[40..].try_into().ok()?) };
        (layout.footer() == bytes).then_some(layout)
    }
}

/// Why the bytes are no sound archive.
#[derive(Debug)]
pub(crate) enum Unsound {
    NotABackup(&'static str),
    Newer(u32),
    Damaged(String),
    Hostile(Fault),
    Read(io::Error),
    Cancelled,
    /// Whoever takes what is read could not.
    Sink(BackupError),
}

impl Unsound {
    pub(crate) fn of(self, archive: &Path) -> BackupError {
        let archive = archive.to_owned();
        match self {
            Self::NotABackup(fault) => BackupError::NotABackup { archive, fault },
            Self::Newer(version) => BackupError::Newer { archive, version },
            Self::Damaged(fault) => BackupError::Damaged { archive, fault },
            Self::Hostile((path, fault)) => BackupError::Hostile { archive, path, fault },
            Self::Read(source) => BackupError::Io { doing: "read", path: archive.display().to_string(), source },
            Self::Cancelled => BackupError::Cancelled,
            Self::Sink(error) => error,
        }
    }
}

/// Takes what is in an archive, in its order.
pub(crate) trait Sink {
    fn begin(&mut self, entry: &Entry) -> Result<()>;
    /// Of the file that was begun last; a sparse one's pieces follow each other.
    fn data(&mut self, bytes: &[u8]) -> Result<()>;
    /// All of the file was there, and its hash is right.
    fn end(&mut self, entry: &Entry) -> Result<()>;
}

/// An archive whose manifest was read and is harmless; its data was not looked at.
#[derive(Debug)]
pub(crate) struct Archive<R> {
    reader: R,
    layout: Layout,
    pub manifest: Manifest,
}

impl<R: Read + Seek> Archive<R> {
    pub(crate) fn open(mut reader: R) -> Result<(Self, Patterns), Unsound> {
        let (layout, json) = read_manifest(&mut reader)?;
        let manifest: Manifest =
            serde_json::from_slice(&json).map_err(|error| Unsound::Damaged(format!("its manifest can not be read: {error}")))?;
        let patterns = manifest.check().map_err(Unsound::Hostile)?;
        Ok((Self { reader, layout, manifest }, patterns))
    }

    /// Reads all of it, and hands over what is in it. `step` is told of every piece, and ends it by
    /// saying `false`.
    pub(crate) fn read(&mut self, sink: &mut dyn Sink, step: &mut dyn FnMut(&Entry, u64) -> bool) -> Result<(), Unsound> {
        self.reader.seek(SeekFrom::Start(0)).map_err(Unsound::Read)?;
        let mut data = Stream::new((&mut self.reader).take(self.layout.data))?;
        let mut buffer = vec![0; CHUNK];
        for entry in &self.manifest.entries {
            let damaged = |fault: &str| Unsound::Damaged(format!("{} `{}`", fault, entry.path));
            data.expect(&header::of_entry(entry))
                .map_err(|error| error.into_unsound(|| damaged("another header than its manifest's for")))?;
            sink.begin(entry).map_err(Unsound::Sink)?;
            if let Kind::File(content) = &entry.kind {
                let mut hash = Sha256::new();
                let mut left = content.kept();
                while left > 0 {
                    let length = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
                    data.fill(&mut buffer[..length]).map_err(|error| error.into_unsound(|| damaged("it ends within")))?;
                    hash.update(&buffer[..length]);
                    sink.data(&buffer[..length]).map_err(Unsound::Sink)?;
                    left -= length as u64;
                    if !step(entry, length as u64) {
                        return Err(Unsound::Cancelled);
                    }
                }
                if hash.finalize()[..] != content.sha256.0 {
                    return Err(damaged("the hash is wrong of"));
                }
                data.zeros(header::padding(content.kept())).map_err(|error| error.into_unsound(|| damaged("there is data behind")))?;
            }
            sink.end(entry).map_err(Unsound::Sink)?;
            if !step(entry, 0) {
                return Err(Unsound::Cancelled);
            }
        }
        data.finish().map_err(|error| error.into_unsound(|| Unsound::Damaged("there is data behind its last entry".into())))
    }
}

/// The manifest's own bytes, which fit what the footer says.
pub(crate) fn read_manifest<R: Read + Seek>(reader: &mut R) -> Result<(Layout, Vec<u8>), Unsound> {
    const CUT: &str = "it was cut short, or something was added to it";
    let length = reader.seek(SeekFrom::End(0)).map_err(Unsound::Read)?;
    let start = length.checked_sub(FOOTER).ok_or(Unsound::NotABackup("it is too short"))?;
    let mut footer = [0; FOOTER as usize];
    reader.seek(SeekFrom::Start(start)).map_err(Unsound::Read)?;
    reader.read_exact(&mut footer).map_err(Unsound::Read)?;
    let layout = Layout::read(&footer).ok_or(Unsound::NotABackup("it does not end as one: it was cut short, or never was one"))?;
    if layout.data.checked_add(layout.manifest) != Some(start) {
        return Err(Unsound::Damaged(CUT.into()));
    }
    if layout.json > MAX_JSON || layout.manifest > MAX_JSON {
        return Err(Unsound::Hostile(("the manifest".into(), "is larger than 256 MiB")));
    }
    reader.seek(SeekFrom::Start(layout.data)).map_err(Unsound::Read)?;
    let hash = hash_of(&mut (&mut *reader).take(layout.manifest)).map_err(Unsound::Read)?;
    if hash != layout.hash {
        return Err(Unsound::Damaged("the hash of its manifest is wrong".into()));
    }
    reader.seek(SeekFrom::Start(layout.data)).map_err(Unsound::Read)?;
    let mut frame = Stream::new((&mut *reader).take(layout.manifest))?;
    let odd = || Unsound::Damaged("its manifest is not where its footer says".into());
    frame.expect(&header::of_manifest(layout.json)).map_err(|error| error.into_unsound(odd))?;
    let mut json = Vec::new();
    (&mut frame.0).take(layout.json).read_to_end(&mut json).map_err(|error| Bad::from(error).into_unsound(odd))?;
    frame.zeros(header::padding(layout.json) + header::END).map_err(|error| error.into_unsound(odd))?;
    frame.finish().map_err(|error| error.into_unsound(odd))?;
    let version = serde_json::from_slice::<Version>(&json).map_err(|_| odd())?.version;
    if version > VERSION {
        return Err(Unsound::Newer(version));
    }
    Ok((layout, json))
}

#[derive(serde::Deserialize)]
struct Version {
    version: u32,
}

fn hash_of(reader: &mut impl Read) -> io::Result<Hash> {
    let mut hash = Sha256::new();
    io::copy(reader, &mut hash)?;
    Ok(Hash(hash.finalize().into()))
}

/// What a frame holds, and what it does not.
struct Stream<'a, R: Read>(zstd::Decoder<'a, io::BufReader<R>>);

enum Bad {
    /// Other bytes than there must be.
    Other,
    /// What the disk, or the decoder, said.
    Read(io::Error),
}

impl From<io::Error> for Bad {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Other } else { Self::Read(error) }
    }
}

impl Bad {
    fn into_unsound(self, other: impl FnOnce() -> Unsound) -> Unsound {
        match self {
            Self::Other => other(),
            // The disk's errors have a number, the decoder's do not.
            Self::Read(error) if error.raw_os_error().is_some() => Unsound::Read(error),
            Self::Read(error) => Unsound::Damaged(error.to_string()),
        }
    }
}

impl<R: Read> Stream<'_, R> {
    fn new(reader: R) -> Result<Self, Unsound> {
        let mut decoder = zstd::Decoder::new(reader).map_err(Unsound::Read)?;
        decoder.window_log_max(WINDOW_LOG).map_err(Unsound::Read)?;
        Ok(Self(decoder))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Bad> {
        Ok(self.0.read_exact(buffer)?)
    }

    fn expect(&mut self, bytes: &[u8]) -> Result<(), Bad> {
        let mut buffer = [0; 512];
        for expected in bytes.chunks(buffer.len()) {
            let found = &mut buffer[..expected.len()];
            self.fill(found)?;
            if found != expected {
                return Err(Bad::Other);
            }
        }
        Ok(())
    }

    fn zeros(&mut self, mut count: u64) -> Result<(), Bad> {
        while count > 0 {
            let length = count.min(512);
            self.expect(&[0; 512][..usize::try_from(length).unwrap_or(512)])?;
            count -= length;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Bad> {
        if self.0.read(&mut [0])? == 0 { Ok(()) } else { Err(Bad::Other) }
    }
}
