//! Writes an archive: see [`archive`](crate::archive) for how it lies.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::archive::Layout;
use crate::header;
use crate::manifest::{Entry, Hash, Manifest};

/// Fast, and near to what more patience would give on worlds, which mostly are pressed already.
const LEVEL: i32 = 3;

pub(crate) struct Writer {
    file: Arc<File>,
    frame: Option<zstd::Encoder<'static, Arc<File>>>,
}

/// A place to come back to.
#[derive(Clone, Copy)]
pub(crate) struct Mark(u64);

impl Writer {
    pub(crate) fn new(file: File) -> Self {
        Self { file: Arc::new(file), frame: None }
    }

    fn frame(&mut self) -> io::Result<&mut zstd::Encoder<'static, Arc<File>>> {
        if self.frame.is_none() {
            let mut encoder = zstd::Encoder::new(Arc::clone(&self.file), LEVEL)?;
            encoder.include_checksum(true)?;
            self.frame = Some(encoder);
        }
        self.frame.as_mut().ok_or_else(|| io::Error::other("no frame was begun"))
    }

    fn end_frame(&mut self) -> io::Result<u64> {
        if let Some(frame) = self.frame.take() {
            frame.finish()?;
        }
        (&*self.file).stream_position()
    }

    /// What is written from here on can be taken back.
    pub(crate) fn mark(&mut self) -> io::Result<Mark> {
        self.end_frame().map(Mark)
    }

    pub(crate) fn back_to(&mut self, mark: Mark) -> io::Result<()> {
        self.frame = None;
        self.file.set_len(mark.0)?;
        (&*self.file).seek(SeekFrom::Start(mark.0)).map(drop)
    }

    pub(crate) fn header(&mut self, entry: &Entry) -> io::Result<()> {
        self.frame()?.write_all(&header::of_entry(entry))
    }

    pub(crate) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.frame()?.write_all(bytes)
    }

    pub(crate) fn pad(&mut self, length: u64) -> io::Result<()> {
        self.frame()?.write_all(&vec![0; usize::try_from(header::padding(length)).unwrap_or(0)])
    }

    /// The archive is whole and on the disk after this; it only has no name yet.
    pub(crate) fn finish(mut self, manifest: &Manifest) -> io::Result<u64> {
        let json = serde_json::to_vec(manifest)?;
        let data = self.end_frame()?;
        let mut frame = zstd::Encoder::new(Vec::new(), LEVEL)?;
        frame.include_checksum(true)?;
        let length = json.len() as u64;
        frame.write_all(&header::of_manifest(length))?;
        frame.write_all(&json)?;
        frame.write_all(&vec![0; usize::try_from(header::padding(length) + header::END).unwrap_or(0)])?;
        let frame = frame.finish()?;
        let layout = Layout { data, manifest: frame.len() as u64, json: length, hash: Hash(Sha256::digest(&frame).into()) };
        let mut file = &*self.file;
        file.write_all(&frame)?;
        file.write_all(&layout.footer())?;
        file.sync_all()?;
        file.stream_position()
    }
}
