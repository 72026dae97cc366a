//! A file in a bucket, read in blocks or in order.

use super::super::error::StoreError;
use super::super::silence::Silence;
use super::super::wait::wait;
use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub(super) type NextBytes = Box<dyn FnMut() -> io::Result<Option<Bytes>> + Send>;

/// An object as a blocking stream.
pub(super) struct Streamed {
    pub(super) next: NextBytes,
    pub(super) held: Bytes,
}

impl Read for Streamed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.held.is_empty() {
            match (self.next)()? {
                Some(bytes) => self.held = bytes,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.held.len());
        buffer[..count].copy_from_slice(&self.held.split_to(count));
        Ok(count)
    }
}

/// An object read in ranges.
#[derive(Clone, Debug)]
pub(in crate::store) struct RemoteFile(pub(super) Arc<Blocks>);

#[derive(Debug)]
pub(super) struct Blocks {
    pub(super) objects: Arc<dyn ObjectStore>,
    /// Or why there is none.
    pub(super) path: Result<Path, String>,
    pub(super) location: String,
    /// Why the store gave nothing, when it was asked last in vain.
    pub(super) trouble: Mutex<Option<StoreError>>,
    pub(super) size: u64,
    /// Bytes of a block.
    pub(super) block: u64,
    /// Bytes read so far.
    pub(super) count: Arc<AtomicU64>,
    /// Blocks by number, the one used last at the end.
    pub(super) kept: Mutex<Vec<(u64, Bytes)>>,
    pub(super) silence: Arc<Silence>,
}

impl RemoteFile {
    pub(in crate::store) fn len(&self) -> u64 {
        self.0.size
    }

    pub(in crate::store) fn block(&self, number: u64) -> io::Result<Bytes> {
        let mut kept = self.0.kept.lock().expect("no holder of the blocks panics");
        if let Some(place) = kept.iter().position(|(held, _)| *held == number) {
            let block = kept.remove(place);
            kept.push(block.clone());
            return Ok(block.1);
        }
        let start = number * self.0.block;
        let end = self.0.size.min(start + self.0.block);
        let path = self.0.path.as_ref();
        let path = path.map_err(|told| io::Error::other(told.as_str()))?;
        let bytes = self.0.objects.get_range(path, start..end);
        let bytes = match wait(self.0.silence.ask(bytes)) {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => {
                return Err(self.in_trouble(StoreError::remote("read", &self.0.location, error)));
            }
            Err(error) => {
                return Err(self.in_trouble(StoreError::io("read", &self.0.location, error)));
            }
        };
        let received = u64::try_from(bytes.len()).unwrap_or(0);
        self.0.count.fetch_add(received, Ordering::Relaxed);
        if kept.len() >= BLOCKS_KEPT {
            kept.remove(0);
        }
        kept.push((number, bytes.clone()));
        Ok(bytes)
    }

    /// Whoever reads a format tells only the text of an error, and takes it for what is in the file.
    pub(in crate::store) fn in_trouble(&self, error: StoreError) -> io::Error {
        let told = io::Error::other(error.to_string());
        *self.0.trouble.lock().expect("no holder of it panics") = Some(error);
        told
    }

    pub(in crate::store) fn trouble(&self) -> Option<StoreError> {
        self.0
            .trouble
            .lock()
            .expect("no holder of it panics")
            .take()
    }

    pub(in crate::store) fn range(&self, start: u64, length: usize) -> io::Result<Bytes> {
        let early_end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let end = start + u64::try_from(length).map_err(io::Error::other)?;
        if end > self.0.size {
            return Err(early_end());
        }
        let mut gathered = BytesMut::with_capacity(length);
        let mut position = start;
        while position < end {
            let block = self.block(position / self.0.block)?;
            let from = usize::try_from(position % self.0.block).map_err(io::Error::other)?;
            let wanted = usize::try_from(end - position).map_err(io::Error::other)?;
            let to = block.len().min(from.saturating_add(wanted));
            let part = block
                .get(from..to)
                .filter(|part| !part.is_empty())
                .ok_or_else(early_end)?;
            if part.len() == length {
                return Ok(block.slice(from..to));
            }
            gathered.extend_from_slice(part);
            position += u64::try_from(part.len()).map_err(io::Error::other)?;
        }
        Ok(gathered.freeze())
    }

    pub(in crate::store) fn read_from(&self, position: u64) -> impl Read + use<> {
        RemoteRead {
            file: self.clone(),
            position,
        }
    }
}

pub(super) struct RemoteRead {
    pub(super) file: RemoteFile,
    pub(super) position: u64,
}

impl Read for RemoteRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.file.len().saturating_sub(self.position);
        let block_left = self.file.0.block - self.position % self.file.0.block;
        let count = buffer
            .len()
            .min(usize::try_from(left.min(block_left)).unwrap_or(usize::MAX));
        if count == 0 {
            return Ok(0);
        }
        let bytes = self.file.range(self.position, count)?;
        buffer[..count].copy_from_slice(&bytes);
        self.position += u64::try_from(count).map_err(io::Error::other)?;
        Ok(count)
    }
}

pub(super) const BLOCKS_KEPT: usize = 16;
